/// Read buffer of a busy socket: as fast as any. 128 KiB, the WebSocket library's default, is what
/// 10,000 links cannot afford.
pub(super) const READ_BUFFER: usize = 8 * 1024;
/// Read buffer of a socket with little to say, all of which the WebSocket library writes to at each
/// look at the socket.
pub(super) const CALM_READ_BUFFER: usize = 1024;
/// Messages of a heartbeat's interval that make a socket busy.
const BUSY: u32 = 16;

/// How large the buffers below are and may be.
///
/// Those of the WebSocket library never shrink: one large message would be kept room for as long as
/// its socket lives. They are given up and made anew at a moment when they hold nothing.
#[derive(Debug)]
pub(super) struct Pace {
    /// The size of the read buffer when it was made.
    pub(super) buffer: usize,
    /// The longest message since then, either way.
    longest: usize,
    /// Messages received since [`rest`](Self::rest) was called last.
    messages: u32,
    /// Next to nothing was received between the last two of these calls.
    is_calm: bool,
    /// Bytes of the messages that were given out, heads included. `None` where that tells nothing
    /// of what was received: a client's socket has also received the answer to its upgrade.
    given_out: Option<u64>,
}

impl Pace {
    pub(super) fn new(buffer: usize, given_out: Option<u64>) -> Self {
        Self { buffer, longest: 0, messages: 0, is_calm: false, given_out }
    }

    /// Takes note of a message of `bytes` from a client.
    pub(super) fn give_out(&mut self, bytes: usize) {
        self.carry(bytes);
        self.messages = self.messages.saturating_add(1);
        let length: u64 = match bytes {
            ..126 => 2,
            126..65_536 => 4,
            _ => 10,
        };
        // A message in several frames, or with a longer head than it needs, takes more than this:
        // then the buffers are never taken for empty.
        if let Some(given_out) = &mut self.given_out {
            *given_out += length + 4 + bytes as u64;
        }
    }

    /// The read buffer that fits what goes on, when it is another than there is.
    pub(super) fn other_buffer(&self) -> Option<usize> {
        self.given_out?;
        let small = self.buffer == CALM_READ_BUFFER;
        if small && self.messages >= BUSY {
            Some(READ_BUFFER)
        } else if self.is_calm && !small {
            Some(CALM_READ_BUFFER)
        } else {
            (self.longest > 4 * READ_BUFFER).then_some(self.buffer)
        }
    }

    /// Takes note of a message of `bytes`, either way.
    pub(super) fn carry(&mut self, bytes: usize) {
        self.longest = self.longest.max(bytes);
    }

    /// Whether all of the bytes received so far have been given out as messages.
    pub(super) fn accounts_for(&self, received: u64) -> bool {
        self.given_out == Some(received)
    }

    /// The buffers have been made anew, the one for reading of `bytes`.
    pub(super) fn begin(&mut self, bytes: usize) {
        self.buffer = bytes;
        self.longest = 0;
        self.is_calm = false;
    }

    /// A heartbeat's interval is over.
    pub(super) fn rest(&mut self) {
        self.is_calm = self.messages < BUSY;
        self.messages = 0;
    }
}
