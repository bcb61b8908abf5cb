/// The longest head of a frame, its mask apart.
const LONGEST_HEAD: usize = 10;
/// Opcodes from this one on are those of control frames, which may stand inside a message.
const CONTROL: u8 = 8;

/// Follows the frames in a stream of bytes, as far as to tell where a message ends. It reads no
/// payload and judges nothing: that is the WebSocket library's task.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// The head of the next frame, as far as it has come.
    head: [u8; LONGEST_HEAD],
    head_bytes: u8,
    /// The last frame with a part of a message was not its end.
    is_open: bool,
    /// What is missing of the frame whose head came last, mask included.
    missing: u64,
    /// Messages and control frames whose last head has come.
    messages: u64,
}

impl Frames {
    /// These bytes come next.
    pub(super) fn pass(&mut self, mut bytes: &[u8]) {
        loop {
            let skipped = usize::try_from(self.missing).unwrap_or(usize::MAX).min(bytes.len());
            self.missing -= skipped as u64;
            bytes = &bytes[skipped..];
            let Some((&byte, rest)) = bytes.split_first() else { return };
            bytes = rest;
            self.head[usize::from(self.head_bytes)] = byte;
            self.head_bytes += 1;
            if let Some(payload) = self.payload() {
                self.begin(payload);
            }
        }
    }

    /// Whether all that has passed is this many whole messages and control frames.
    pub(super) fn are_messages(&self, messages: u64) -> bool {
        self.messages == messages && self.missing == 0 && self.head_bytes == 0 && !self.is_open
    }

    /// The length of the payload, once the head is there.
    fn payload(&self) -> Option<u64> {
        match (self.head_bytes, self.head[1] & 0x7f) {
            (..2, _) => None,
            (4, 126) => Some(u16::from_be_bytes([self.head[2], self.head[3]]).into()),
            (10, 127) => {
                let [_, _, length @ ..] = self.head;
                Some(u64::from_be_bytes(length))
            }
            (_, 126 | 127) => None,
            (_, short) => Some(short.into()),
        }
    }

    fn begin(&mut self, payload: u64) {
        let is_masked = self.head[1] & 0x80 != 0;
        let is_last = self.head[0] & 0x80 != 0;
        self.missing = payload.saturating_add(if is_masked { 4 } else { 0 });
        self.messages += u64::from(is_last);
        if self.head[0] & 0x0f < CONTROL {
            self.is_open = !is_last;
        }
        self.head_bytes = 0;
    }
}
