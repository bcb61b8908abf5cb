/// The largest read buffer: as fast as any. 128 KiB, the WebSocket library's default, is what
/// 10,000 links cannot afford.
pub(super) const LARGEST: usize = 8 * 1024;
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

/// The read buffer for bursts of so many bytes: twice as large, within the bounds.
fn fitting(burst: u64) -> usize {
    let burst = usize::try_from(burst).unwrap_or(LARGEST).min(LARGEST);
    (2 * burst).next_power_of_two().clamp(SMALLEST, LARGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A socket's pace, fed with bursts, whose buffers can be made anew at once.
    struct Socket {
        pace: Pace,
        received: u64,
        renewals: usize,
    }

    impl Socket {
        fn new() -> Self {
            Self { pace: Pace::new(SMALLEST), received: 0, renewals: 0 }
        }

        /// The size of the read buffer after these bursts.
        fn after(&mut self, bursts: impl IntoIterator<Item = u64>) -> usize {
            for burst in bursts {
                self.received += burst;
                if let Some(bytes) = self.pace.pause(self.received) {
                    self.pace.begin(bytes);
                    self.renewals += 1;
                }
            }
            self.pace.buffer
        }
    }

    fn times(bursts: usize, bytes: u64) -> impl Iterator<Item = u64> {
        std::iter::repeat_n(bytes, bursts)
    }

    /// In requests of 248 bytes: one at a time, four, and 64.
    #[test]
    fn the_buffer_is_twice_what_comes_at_once() {
        for (burst, buffer) in [(1, 1024), (250, 1024), (512, 1024), (513, 2048), (992, 2048)] {
            assert_eq!(Socket::new().after(times(1000, burst)), buffer, "{burst}");
        }
        for (burst, buffer) in [(1024, 2048), (2048, 4096), (2049, 8192), (16_000, 8192)] {
            assert_eq!(Socket::new().after(times(1000, burst)), buffer, "{burst}");
        }
        assert_eq!(Socket::new().after(times(1000, u64::MAX >> 10)), LARGEST);
    }

    #[test]
    fn a_few_large_bursts_make_it_grow_once() {
        let mut socket = Socket::new();
        assert_eq!(socket.after(times(3, 16_000)), SMALLEST);
        assert_eq!(socket.after(times(1, 16_000)), LARGEST);
        assert_eq!(socket.after(times(10_000, 16_000)), LARGEST);
        assert_eq!(socket.renewals, 1);
    }

    /// Looks between bursts are none, and do not make it busy.
    #[test]
    fn looks_that_follow_nothing_do_not_count() {
        let mut socket = Socket::new();
        socket.after([16_000; 3]);
        socket.after(times(1000, 0));
        assert_eq!(socket.after([16_000]), LARGEST);
        socket.pace.rest();
        socket.after(times(1000, 0));
        socket.pace.rest();
        assert_eq!(socket.after([0]), SMALLEST);
    }

    #[test]
    fn it_shrinks_when_64_bursts_in_a_row_had_room_in_less() {
        let mut socket = Socket::new();
        socket.after(times(4, 16_000));
        assert_eq!(socket.after(times(63, 250)), LARGEST);
        assert_eq!(socket.after([250]), SMALLEST);
        socket.after(times(4, 16_000));
        assert_eq!(socket.after(times(64, 992)), 2048);
        assert_eq!(socket.renewals, 4);
    }

    /// One renewal at the start, however the bursts are mixed, or none.
    #[test]
    fn mixed_bursts_keep_one_buffer() {
        let mixes: [&[u64]; 5] =
            [&[250, 16_000], &[250; 40], &[16_000, 60, 60, 60], &[400, 600], &[600, 992, 90]];
        for mix in mixes {
            let mut socket = Socket::new();
            socket.after(mix.iter().copied().cycle().take(100_000));
            assert!(socket.renewals <= 1, "{mix:?} renewed {} times", socket.renewals);
        }
        // One in 60 keeps a large buffer; one in 100 does not make a small one grow.
        for small in [60, 100] {
            let mut socket = Socket::new();
            let mix = times(small - 1, 250).chain([16_000]).collect::<Vec<_>>();
            socket.after(mix.into_iter().cycle().take(100_000));
            assert!(socket.renewals <= 1, "one in {small} renewed {} times", socket.renewals);
        }
    }

    /// Nobody is calm between two heartbeats who was busy, and all are in the end.
    #[test]
    fn a_calm_socket_comes_down_at_a_heartbeat() {
        let mut socket = Socket::new();
        socket.after(times(16, 16_000));
        socket.pace.rest();
        assert_eq!(socket.after(times(15, 16_000)), LARGEST);
        socket.pace.rest();
        assert_eq!(socket.after([1]), SMALLEST);
    }

    /// The buffers hold room for the longest message until they are made anew.
    #[test]
    fn a_long_message_either_way_has_them_made_anew_once() {
        let mut socket = Socket::new();
        let give_out = |socket: &mut Socket, bytes| socket.pace.give_out(bytes);
        let carry = |socket: &mut Socket, bytes| socket.pace.carry(bytes);
        for (renewals, carried) in [(1, give_out as fn(&mut Socket, usize)), (2, carry)] {
            carried(&mut socket, 4 * LARGEST);
            socket.after([60]);
            assert_eq!(socket.renewals, renewals - 1);
            carried(&mut socket, 4 * LARGEST + 1);
            socket.after([60, 60, 0]);
            assert_eq!((socket.renewals, socket.pace.buffer), (renewals, SMALLEST));
        }
    }
}
