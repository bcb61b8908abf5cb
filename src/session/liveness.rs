/// Notices a peer that has fallen silent, or that no longer reads.
///
/// Called once per heartbeat interval. A peer that moves no byte for two whole intervals is given
/// up, so a dead one is noticed after two to three intervals. Bytes count, not frames: a large
/// frame on a slow line is a sign of life while it arrives, and so is one that the peer takes.
#[derive(Debug, Default)]
pub struct Liveness {
    received: Progress,
    sent: Progress,
}

/// What to do at a heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The peer is alive: ask for the next sign of life.
    Ask,
    /// No byte came for two intervals.
    Silent,
    /// Something waits to be written, and the peer took no byte of it for two intervals.
    Stuck,
}

/// One direction: its bytes so far, and the number of intervals without a further one.
#[derive(Debug, Default)]
struct Progress {
    bytes: u64,
    still: u32,
}

/// Intervals without a byte after which a peer is given up.
const PATIENCE: u32 = 2;

impl Liveness {
    /// Judges the interval that has passed. The byte counts are totals since the socket opened;
    /// `writing` tells whether anything waits to be written.
    pub fn beat(&mut self, received: u64, sent: u64, writing: bool) -> Verdict {
        let stuck = self.sent.step(sent, writing);
        // The peer's answer stands behind what it still takes, so silence is no fault until then.
        let taking = writing && self.sent.still == 0;
        let silent = self.received.step(received, !taking);
        match (silent, stuck) {
            (true, _) => Verdict::Silent,
            (_, true) => Verdict::Stuck,
            _ => Verdict::Ask,
        }
    }
}

impl Progress {
    fn step(&mut self, bytes: u64, expected: bool) -> bool {
        if bytes == self.bytes && expected {
            self.still += 1;
        } else {
            self.still = 0;
        }
        self.bytes = bytes;
        self.still >= PATIENCE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_silent_intervals_end_it_and_one_byte_starts_anew() {
        let mut life = Liveness::default();
        assert_eq!(life.beat(10, 0, false), Verdict::Ask);
        assert_eq!(life.beat(10, 0, false), Verdict::Ask);
        assert_eq!(life.beat(11, 0, false), Verdict::Ask);
        assert_eq!(life.beat(11, 0, false), Verdict::Ask);
        assert_eq!(life.beat(11, 0, false), Verdict::Silent);
    }

    #[test]
    fn a_peer_that_talks_and_does_not_read_is_stuck() {
        let mut life = Liveness::default();
        assert_eq!(life.beat(1, 5, true), Verdict::Ask);
        assert_eq!(life.beat(2, 5, true), Verdict::Ask);
        assert_eq!(life.beat(3, 6, true), Verdict::Ask);
        assert_eq!(life.beat(4, 6, true), Verdict::Ask);
        assert_eq!(life.beat(5, 6, true), Verdict::Stuck);
    }

    #[test]
    fn a_peer_that_takes_what_is_written_has_no_time_to_answer() {
        let mut life = Liveness::default();
        for bytes in 1..100 {
            assert_eq!(life.beat(10, bytes, true), Verdict::Ask);
        }
        assert_eq!(life.beat(10, 99, false), Verdict::Ask);
        assert_eq!(life.beat(10, 99, false), Verdict::Silent);
    }

    #[test]
    fn nothing_to_write_is_not_stuck() {
        let mut life = Liveness::default();
        for bytes in 1..100 {
            assert_eq!(life.beat(bytes, 5, false), Verdict::Ask);
        }
    }
}
