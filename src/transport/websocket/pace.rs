/// The largest read buffer: as fast as any. 128 KiB, the WebSocket library's default, is what
/// 10,000 links cannot afford.
const LARGEST: usize = 8 * 1024;
/// The smallest read buffer, with which a socket begins. The WebSocket library writes to all of it
/// at each look at the socket.
pub(super) const SMALLEST: usize = 1024;
/// After so many bursts that were too large for the read buffer it grows.
const UNFIT: u8 = 4;
/// So many bursts in a row must have had room in a smaller one before it shrinks.
const WINDOW: u8 = 64;
/// Bursts of a heartbeat's interval that keep a socket from being calm.
const BUSY: u32 = 16;

/// How large the buffers below are and may be.
///
/// What counts are bursts: the bytes that come between two looks at the socket that find nothing.
/// The WebSocket library fills its read buffer to the end before it begins it again, so a burst
/// that is as long as the buffer is hardly ever read at once.
///
/// The library's buffers never shrink: one large message would be kept room for as long as its
/// socket lives. They are given up and made anew at a moment when they hold nothing.
#[derive(Debug)]
pub(super) struct Pace {
    /// The size of the read buffer when it was made.
    pub(super) buffer: usize,
    /// The size that it should have.
    wanted: usize,
    /// The longest message since it was made, either way.
    longest: usize,
    /// Bytes received up to the last look that found nothing.
    received: u64,
    /// The largest of the bursts counted below.
    largest: u64,
    bursts: u8,
    /// How many of them were too large for the buffer.
    unfit: u8,
    /// Bursts since [`rest`](Self::rest) was called last.
    since_rest: u32,
    /// Messages and control frames that were given out.
    pub(super) given_out: u64,
}

fn num() -> u64 { static N: std::sync::LazyLock<u64> = std::sync::LazyLock::new(|| std::env::var("PACE_NUM").map_or(4, |v| v.parse().unwrap())); *N }

impl Pace {
    pub(super) fn new(buffer: usize) -> Self {
        Self {
            buffer,
            wanted: buffer,
            longest: 0,
            received: 0,
            largest: 0,
            bursts: 0,
            unfit: 0,
            since_rest: 0,
            given_out: 0,
        }
    }

    /// Takes note of a message of `bytes` that is given out.
    pub(super) fn give_out(&mut self, bytes: usize) {
        self.carry(bytes);
        self.given_out += 1;
    }

    /// Takes note of a message of `bytes`, either way.
    pub(super) fn carry(&mut self, bytes: usize) {
        self.longest = self.longest.max(bytes);
    }

    /// A look at the socket found nothing, after so many bytes in all. Says which read buffer
    /// should be made in place of the one there is, if any.
    pub(super) fn pause(&mut self, received: u64) -> Option<usize> {
        let burst = received - self.received;
        if burst > 0 {
            self.received = received;
            self.count(burst);
        }
        let is_bloated = self.longest > 4 * LARGEST;
        (self.wanted != self.buffer || is_bloated).then_some(self.wanted)
    }

    fn count(&mut self, burst: u64) {
        self.since_rest = self.since_rest.saturating_add(1);
        self.largest = self.largest.max(burst);
        self.bursts += 1;
        self.unfit += u8::from(self.buffer < LARGEST && fitting(burst) > self.buffer);
        if self.unfit == UNFIT {
            self.want(fitting(self.largest));
        } else if self.bursts == WINDOW {
            self.want(fitting(self.largest).min(self.buffer));
        }
    }

    fn want(&mut self, buffer: usize) {
        self.wanted = buffer;
        (self.largest, self.bursts, self.unfit) = (0, 0, 0);
    }

    /// The buffers have been made anew, the one for reading of `bytes`.
    pub(super) fn begin(&mut self, bytes: usize) {
        self.buffer = bytes;
        self.longest = 0;
    }

    /// A heartbeat's interval is over.
    pub(super) fn rest(&mut self) {
        if self.since_rest < BUSY {
            self.want(SMALLEST);
        }
        self.since_rest = 0;
    }
}

/// The read buffer for bursts of so many bytes.
fn fitting(burst: u64) -> usize {
    let mut size = SMALLEST;
    while size < LARGEST && burst * 8 > size as u64 * num() {
        size *= 2;
    }
    size
}
