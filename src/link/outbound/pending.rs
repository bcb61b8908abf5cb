//! The requests that wait for an answer. Only this module knows where their senders are kept.
//!
//! Five operations: insert, take, expire, forget, close. Each entry leaves through exactly one of
//! the last four.

use std::hash::{BuildHasherDefault, Hasher};
use std::sync::OnceLock;
use std::time::Duration;

use dashmap::DashMap;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::error::RequestError;
use crate::wire::Answer;

/// Shards of the map of one link.
// A link has one socket, so more than two threads rarely meet here; and the default number takes up
// to 32 KiB per link on a large machine.
const SHARDS: usize = 2;

/// What a waiting request is told.
// The error is boxed, because every waiting request reserves room for one of these.
pub(in crate::link) type ResponseResult = Result<Answer, Box<RequestError>>;

/// A request that waits, and its time limit.
#[derive(Debug)]
struct PendingRequest {
    sender: oneshot::Sender<ResponseResult>,
    limit: Limit,
}

/// How long a request waits, and when that is over: never if `Instant` cannot represent it.
#[derive(Clone, Copy, Debug)]
pub(in crate::link) struct Limit {
    pub(super) after: Duration,
    pub(super) deadline: Option<Instant>,
}

impl Limit {
    /// Returns a time limit that begins now.
    pub(super) fn new(after: Duration) -> Self {
        Self { after, deadline: Instant::now().checked_add(after) }
    }
}

/// When the waiting requests have to be scanned for expired time limits.
#[derive(Debug)]
pub(super) struct Deadlines {
    /// The earliest time limit, or an earlier one whose request has ended in the meantime.
    earliest: Option<Instant>,
    /// The earliest time of the next scan.
    // A scan visits each waiting request, so at most one starts in as many microseconds as there
    // are. That bounds its cost to a few hundredths of a core. With the usual 1,024 in flight a
    // time limit is late by a millisecond, and timers are no more exact than that anyway.
    rested: Instant,
}

impl Deadlines {
    pub(super) fn new() -> Self {
        Self { earliest: None, rested: Instant::now() }
    }

    /// Returns when to scan next.
    pub(super) fn next(&self) -> Option<Instant> {
        self.earliest.map(|earliest| earliest.max(self.rested))
    }

    /// Adds the time limit of a request. Returns whether it is before all others.
    pub(super) fn add(&mut self, deadline: Option<Instant>) -> bool {
        let Some(deadline) = deadline else { return false };
        let first = self.earliest.is_none_or(|earliest| deadline < earliest);
        if first {
            self.earliest = Some(deadline);
        }
        first
    }

    /// Begins a scan.
    pub(super) fn begin_scan(&mut self) {
        // Cleared before the scan: a request that it misses sets this again.
        self.earliest = None;
    }

    /// Ends a scan of `waiting` requests, of which `next` is the earliest time limit.
    pub(super) fn end_scan(&mut self, now: Instant, next: Option<Instant>, waiting: usize) {
        // Not assigned: a request that came during the scan may end earlier.
        self.add(next);
        let rest = Duration::from_micros(waiting as u64);
        self.rested = now.checked_add(rest).unwrap_or(now);
    }
}

type Map = DashMap<u64, PendingRequest, BuildHasherDefault<SeqHasher>>;

/// Spreads sequence numbers over the map.
// This side assigns them, so a peer cannot choose numbers that collide.
#[derive(Debug, Default)]
struct SeqHasher(u64);

impl Hasher for SeqHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        // 2⁶⁴ divided by the golden ratio puts consecutive numbers far apart.
        self.0 = (self.0 ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// The waiting requests of one link, by the number of their frame.
#[derive(Debug, Default)]
pub(super) struct Pending {
    // Made at the first request: many links never send one.
    map: OnceLock<Map>,
}

impl Pending {
    /// Starts to wait for the answer to the frame numbered `seq`, before that can be written. A
    /// caller that gives up the wait has to [`forget`](Self::forget) it.
    pub(super) fn insert(&self, seq: u64, limit: Limit) -> oneshot::Receiver<ResponseResult> {
        let (sender, answer) = oneshot::channel();
        let map =
            self.map.get_or_init(|| Map::with_hasher_and_shard_amount(<_>::default(), SHARDS));
        map.insert(seq, PendingRequest { sender, limit });
        answer
    }

    /// Ends the wait for `seq`. Returns the sender that has to tell the caller.
    pub(super) fn take(&self, seq: u64) -> Option<oneshot::Sender<ResponseResult>> {
        self.map.get()?.remove(&seq).map(|(_, entry)| entry.sender)
    }

    /// Ends the wait for `seq` without telling the caller.
    pub(super) fn forget(&self, seq: u64) {
        drop(self.take(seq));
    }

    /// Ends every wait whose time is over. Returns the earliest time limit of the others.
    pub(super) fn expire(&self, now: Instant) -> Option<Instant> {
        // Collected first: `end` locks the shard that the iteration holds.
        let (mut over, mut next) = (Vec::new(), None::<Instant>);
        for entry in self.map.get()? {
            match entry.limit.deadline {
                Some(deadline) if deadline <= now => over.push((*entry.key(), entry.limit.after)),
                Some(deadline) => next = Some(next.map_or(deadline, |next| next.min(deadline))),
                None => {}
            }
        }
        for (seq, after) in over {
            self.end(seq, RequestError::Timeout { after });
        }
        next
    }

    /// Ends every wait. Nothing may be inserted any more.
    pub(super) fn close(&self, mut error: impl FnMut(u64) -> RequestError) {
        let Some(map) = self.map.get() else { return };
        // Collected first, so that no shard is locked while `error` takes the lock of the send
        // state: `insert` locks a shard under that one.
        let waiting: Vec<u64> = map.iter().map(|entry| *entry.key()).collect();
        for seq in waiting {
            self.end(seq, error(seq));
        }
    }

    /// Returns the number of requests that wait.
    pub(super) fn len(&self) -> usize {
        self.map.get().map_or(0, DashMap::len)
    }

    /// Whether the request numbered `seq` waits.
    pub(super) fn contains(&self, seq: u64) -> bool {
        self.map.get().is_some_and(|map| map.contains_key(&seq))
    }

    fn end(&self, seq: u64, error: RequestError) {
        if let Some(sender) = self.take(seq) {
            // The caller may have gone in the meantime.
            let _ = sender.send(Err(Box::new(error)));
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    fn insert(pending: &Pending, seq: u64) -> oneshot::Receiver<ResponseResult> {
        pending.insert(seq, Limit::new(Duration::MAX))
    }

    #[test]
    fn a_million_answers_leave_nothing_behind() {
        let pending = Pending::default();
        for seq in 0..1_000_000 {
            let waiting = insert(&pending, seq);
            let error = RequestError::Timeout { after: Duration::ZERO };
            assert!(pending.take(seq).unwrap().send(Err(Box::new(error))).is_ok());
            assert!(waiting.now_or_never().is_some());
        }
        assert_eq!(pending.len(), 0);
        // Flat, and not merely empty: the map has not grown with the number of requests.
        let room = pending.map.get().map_or(0, DashMap::capacity);
        assert!(room < 100, "room for {room}");
    }

    #[test]
    fn a_wait_that_is_given_up_leaves_nothing_behind() {
        let pending = Pending::default();
        let _answer = insert(&pending, 1);
        pending.forget(1);
        assert_eq!(pending.len(), 0);
        assert!(pending.take(1).is_none(), "nobody waits");
    }

    /// Each at its time, however they were made.
    #[tokio::test(start_paused = true)]
    async fn waits_end_at_their_time() {
        let (pending, start) = (Pending::default(), Instant::now());
        let wait = |seq, ms| (pending.insert(seq, Limit::new(Duration::from_millis(ms))), ms);
        let mut waits = [wait(2, 100), wait(1, 500), wait(3, 900)];
        let mut expected = [Some(500), Some(900), None].into_iter();
        for (answer, ms) in &mut waits {
            let end = start + Duration::from_millis(*ms);
            pending.expire(end - Duration::from_millis(1));
            assert!(answer.try_recv().is_err(), "not yet");
            let next = pending.expire(end).map(|next| (next - start).as_millis());
            assert_eq!(next, expected.next().unwrap());
            let error = answer.try_recv().expect("now").unwrap_err();
            let RequestError::Timeout { after } = *error else { panic!("{error}") };
            assert_eq!(after.as_millis(), u128::from(*ms));
        }
        assert_eq!(pending.len(), 0);
    }

    #[test]
    fn the_earliest_deadline_is_looked_at_and_not_too_often() {
        let start = Instant::now();
        let at = |ms| Some(start + Duration::from_millis(ms));
        let mut deadlines = Deadlines { earliest: None, rested: start };
        assert!(!deadlines.add(None) && deadlines.next().is_none());
        assert!(deadlines.add(at(500)) && !deadlines.add(at(900)) && deadlines.add(at(300)));
        assert_eq!(deadlines.next(), at(300));
        deadlines.begin_scan();
        assert_eq!(deadlines.next(), None);
        deadlines.end_scan(start + Duration::from_millis(300), at(500), 2);
        assert_eq!(deadlines.next(), at(500));
        // The scan has not seen a request that comes during it.
        deadlines.begin_scan();
        assert!(deadlines.add(at(600)));
        deadlines.end_scan(start + Duration::from_millis(500), at(900), 2);
        assert_eq!(deadlines.next(), at(600));
        // Each of those that wait takes a microsecond.
        deadlines.begin_scan();
        deadlines.end_scan(start + Duration::from_millis(600), at(601), 5000);
        assert_eq!(deadlines.next(), at(605));
    }
}
