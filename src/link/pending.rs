//! The requests that wait for an answer. Nothing else knows where their senders are kept.
//!
//! Six verbs: insert, complete, expire, forget, close, count. Each entry leaves through exactly one
//! of the middle four.

use std::hash::{BuildHasherDefault, Hasher};
use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::error::{DecodeError, RemoteError, RequestError};
use crate::wire::{Frame, FrameError, Response, Text};

/// Shards per link. A link is one socket: more than two threads rarely meet here, and the default
/// takes up to 32 KiB per link on a large machine.
const SHARDS: usize = 2;

/// Answers of up to so many bytes are copied: cheaper than a new read buffer.
const COPIED: usize = 1024;

/// An answer as it came: the frame, and where its `data` stands.
#[derive(Debug)]
pub(crate) struct Answer {
    text: Text,
    data: Range<usize>,
    proof: Proof,
}

impl Answer {
    pub(crate) fn new(text: &Text, data: &str, proof: Proof) -> Self {
        // A part of the read buffer would keep all of it, and another would have to be made for
        // what comes next.
        let own = if text.len() <= COPIED { text.detached() } else { text.clone() };
        Self { text: own, data: text.range_of(data), proof }
    }

    /// Reads the data with `read`. When that fails and nobody has looked at all of the frame yet,
    /// what it really is: another answer, a remote error, or no frame at all, which is the end of
    /// the link.
    pub(crate) fn read<T>(
        &self,
        read: impl Fn(&str) -> Result<T, DecodeError>,
        malformed: impl FnOnce(FrameError),
    ) -> Result<T, RequestError> {
        let error = match read(self.text.part(self.data.clone())) {
            Ok(value) => return Ok(value),
            Err(error) => RequestError::Decode(error),
        };
        if self.proof == Proof::Read {
            return Err(error);
        }
        let whole = Frame::read(self.text.as_str())
            .and_then(|frame| Ok((frame.data, Response::read(frame.data)?.error())));
        match whole {
            Ok((_, Some(error))) => Err(RequestError::Remote(RemoteError::new(&error))),
            Ok((data, None)) => read(data).map_err(RequestError::Decode),
            Err(fault) => {
                malformed(fault);
                Err(error)
            }
        }
    }
}

/// How much is known of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proof {
    /// Its head: see [`Frame::skim`].
    Skimmed,
    /// That all of it is JSON.
    Read,
}

/// Small, because every waiting request takes its room.
pub(crate) type Outcome = Result<Answer, Box<RequestError>>;

/// Somebody who waits, and until when.
#[derive(Debug)]
struct Entry {
    sender: oneshot::Sender<Outcome>,
    /// In microseconds since the map's start; [`NEVER`] for no limit.
    deadline: u64,
    after: Duration,
}

const NEVER: u64 = u64::MAX;

type Map = DashMap<u64, Entry, BuildHasherDefault<SeqHasher>>;

/// Spreads sequence numbers over the map. They are this side's own, so nobody can choose them.
#[derive(Debug, Default)]
struct SeqHasher(u64);

impl Hasher for SeqHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        // 2⁶⁴ divided by the golden ratio.
        self.0 = (self.0 ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// The waiting requests of one link, by the number of their frame.
#[derive(Debug)]
pub(crate) struct Pending {
    // Made at the first request: many links never ask anything.
    map: OnceLock<Map>,
    closed: AtomicBool,
    start: Instant,
    /// The earliest deadline, or one before it whose request has ended in the meantime.
    earliest: AtomicU64,
    /// When all may be looked at again: a look takes its time for each request that waits, so it
    /// comes at most once in as many microseconds as there are. That bounds its cost to a few
    /// hundredths of a core, and no time limit is that late where it would be noticed: with the
    /// usual 1,024 in flight, a millisecond, which is what timers are exact to anyway.
    rested: AtomicU64,
    /// The number of this side's `prepare_disconnect_request`; 0 for none.
    parting: AtomicU64,
    /// Somebody waits in [`drained`](Self::drained).
    draining: AtomicBool,
    left: Notify,
}

impl Default for Pending {
    fn default() -> Self {
        Self {
            map: OnceLock::new(),
            closed: AtomicBool::new(false),
            start: Instant::now(),
            earliest: AtomicU64::new(NEVER),
            rested: AtomicU64::new(0),
            parting: AtomicU64::new(0),
            draining: AtomicBool::new(false),
            left: Notify::new(),
        }
    }
}

/// A wait that has begun.
#[derive(Debug)]
pub(crate) struct Wait {
    pub(crate) seq: u64,
    pub(crate) answer: oneshot::Receiver<Outcome>,
}

/// When a wait ends, and how long it was to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limit {
    deadline: u64,
    pub(crate) after: Duration,
}

impl Pending {
    /// From now on so long.
    pub(crate) fn limit(&self, after: Duration) -> Limit {
        let end = self.start.elapsed().saturating_add(after).as_micros();
        Limit { deadline: u64::try_from(end).unwrap_or(NEVER), after }
    }

    /// When `limit` is over; `None` for a time that the clock cannot hold.
    pub(crate) fn end_of(&self, limit: Limit) -> Option<Instant> {
        self.start.checked_add(Duration::from_micros(limit.deadline))
    }

    /// When [`expire`](Self::expire) has to be called next.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        match self.earliest.load(Ordering::SeqCst) {
            NEVER => None,
            earliest => {
                let next = earliest.max(self.rested.load(Ordering::SeqCst));
                self.start.checked_add(Duration::from_micros(next))
            }
        }
    }

    /// Starts to wait for the answer to the frame numbered `seq`, before that can be written; `None`
    /// when the link has ended. Says too whether [`next_deadline`](Self::next_deadline) is another
    /// now. Who gives up the wait has to [`forget`](Self::forget) it.
    ///
    /// The check follows the insertion. The other way round, an insertion between a check that
    /// still says open and the drain at the end would wait for ever.
    pub(crate) fn insert(&self, seq: u64, limit: Limit) -> (Option<Wait>, bool) {
        let (sender, answer) = oneshot::channel();
        let map =
            self.map.get_or_init(|| Map::with_hasher_and_shard_amount(<_>::default(), SHARDS));
        let Limit { deadline, after } = limit;
        map.insert(seq, Entry { sender, deadline, after });
        if self.closed.load(Ordering::SeqCst) {
            self.forget(seq);
            return (None, false);
        }
        let first = deadline < self.earliest.load(Ordering::SeqCst)
            && deadline < self.earliest.fetch_min(deadline, Ordering::SeqCst);
        (Some(Wait { seq, answer }), first)
    }

    /// Ends the wait for `seq`, without a word.
    pub(crate) fn forget(&self, seq: u64) {
        if let Some(map) = self.map.get() {
            map.remove(&seq);
        }
        self.look_again();
    }

    /// Ends every wait whose time is over.
    pub(crate) fn expire(&self, now: Instant) {
        let now = u64::try_from(now.duration_since(self.start).as_micros()).unwrap_or(NEVER);
        // A request that comes meanwhile is either seen below or makes itself known here.
        self.earliest.store(NEVER, Ordering::SeqCst);
        let Some(map) = self.map.get() else { return };
        let mut over = Vec::new();
        for entry in map {
            if entry.deadline <= now {
                over.push((*entry.key(), entry.after));
            } else {
                self.earliest.fetch_min(entry.deadline, Ordering::SeqCst);
            }
        }
        for (seq, after) in over {
            self.complete(seq, Err(Box::new(RequestError::Timeout { after })));
        }
        self.rested.store(now.saturating_add(map.len() as u64), Ordering::SeqCst);
    }

    /// The next request inserted is `prepare_disconnect_request` numbered `seq`, for which a link
    /// that drains does not wait: both sides may ask at once.
    pub(crate) fn set_parting(&self, seq: u64) {
        self.parting.store(seq, Ordering::SeqCst);
    }

    /// Waits until nobody waits for an answer and `also` holds.
    pub(crate) async fn drained(&self, also: impl Fn() -> bool) {
        self.draining.store(true, Ordering::SeqCst);
        loop {
            let left = self.left.notified();
            let mut left = std::pin::pin!(left);
            left.as_mut().enable();
            let parting = self.parting.load(Ordering::SeqCst);
            let asked = |map: &Map| usize::from(map.contains_key(&parting));
            if self.map.get().is_none_or(|map| map.len() == asked(map)) && also() {
                return;
            }
            left.await;
        }
    }

    /// What somebody in [`drained`](Self::drained) waits for may have come about.
    pub(crate) fn look_again(&self) {
        if self.draining.load(Ordering::SeqCst) {
            self.left.notify_waiters();
        }
    }

    /// Hands the answer to whoever waits for `seq`. Says whether anybody did.
    pub(crate) fn complete(&self, seq: u64, outcome: Outcome) -> bool {
        let entry = self.map.get().and_then(|map| map.remove(&seq));
        self.look_again();
        match entry {
            Some((_, entry)) => entry.sender.send(outcome).is_ok(),
            None => false,
        }
    }

    /// Ends every wait, and lets no new one begin.
    pub(crate) fn close(&self, mut error: impl FnMut(u64) -> RequestError) {
        self.closed.store(true, Ordering::SeqCst);
        let Some(map) = self.map.get() else { return };
        let waiting: Vec<u64> = map.iter().map(|entry| *entry.key()).collect();
        for seq in waiting {
            self.complete(seq, Err(Box::new(error(seq))));
        }
    }

    /// How many requests wait.
    pub(crate) fn count(&self) -> usize {
        self.map.get().map_or(0, DashMap::len)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::thread;

    use futures::FutureExt as _;

    use super::*;
    use crate::close::Closed;
    use crate::error::Delivery;

    fn lost(_: u64) -> RequestError {
        let (delivery, closed) = (Delivery::Unknown, Closed::lost("cut"));
        RequestError::Closed { delivery, closed }
    }

    fn answer() -> Outcome {
        Ok(Answer::new(&Text::from("{}"), "", Proof::Read))
    }

    fn insert(pending: &Pending, seq: u64) -> Option<Wait> {
        pending.insert(seq, pending.limit(Duration::MAX)).0
    }

    #[test]
    fn a_million_answers_leave_nothing_behind() {
        let pending = Pending::default();
        for seq in 0..1_000_000 {
            let waiting = insert(&pending, seq).unwrap();
            assert!(pending.complete(seq, answer()));
            assert!(waiting.answer.now_or_never().is_some());
        }
        assert_eq!(pending.count(), 0);
        // Flat, and not merely empty: the map has not grown with the number of requests.
        let room = pending.map.get().map_or(0, DashMap::capacity);
        assert!(room < 100, "room for {room}");
    }

    #[test]
    fn a_wait_that_is_given_up_leaves_nothing_behind() {
        let pending = Pending::default();
        let wait = insert(&pending, 1).unwrap();
        pending.forget(wait.seq);
        assert_eq!(pending.count(), 0);
        assert!(!pending.complete(1, answer()), "nobody waits");
    }

    /// Each at its time, however they were made; and no timer is wanted when nobody waits.
    #[tokio::test(start_paused = true)]
    async fn waits_end_at_their_time() {
        let pending = Pending::default();
        let wait = |seq, ms| pending.insert(seq, pending.limit(Duration::from_millis(ms)));
        let (late, first) = wait(1, 500);
        assert!(first);
        let ((soon, first), (later, not_first)) = (wait(2, 100), wait(3, 900));
        assert!(first && !not_first);
        let mut waits = [(soon, 100), (late, 500), (later, 900)];
        for (wait, ms) in &mut waits {
            let next = pending.next_deadline().unwrap();
            assert_eq!(next.duration_since(pending.start).as_millis(), *ms);
            pending.expire(next - Duration::from_millis(1));
            let mut wait = wait.take().unwrap().answer;
            assert!((&mut wait).now_or_never().is_none(), "not yet");
            pending.expire(next);
            let error = wait.now_or_never().expect("now").unwrap().unwrap_err();
            let RequestError::Timeout { after } = *error else { panic!("{error}") };
            assert_eq!(after.as_millis(), *ms);
        }
        assert_eq!((pending.count(), pending.next_deadline()), (0, None));
    }

    /// A look at all that wait comes so seldom that its cost does not count, and no wait is more
    /// than a microsecond late for each other.
    #[tokio::test(start_paused = true)]
    async fn ending_many_waits_takes_few_looks() {
        const WAITS: u64 = 20_000;
        let pending = Pending::default();
        let wait = |n| pending.insert(n, pending.limit(Duration::from_micros(100 * n)));
        let waits: Vec<_> = (1..=WAITS).map(|n| wait(n).0.unwrap()).collect();
        let (mut looked_at, mut last) = (0, pending.start);
        while let Some(next) = pending.next_deadline() {
            let waiting = pending.count();
            assert!(next > last, "no progress");
            let passed = u64::try_from((next - pending.start).as_micros()).unwrap() / 100;
            let late = waiting as u64 - (WAITS - passed);
            assert!(100 * late <= waiting as u64 + 200, "{late} of {waiting} are late");
            looked_at += waiting;
            pending.expire(next);
            last = next;
        }
        // A hundredth of a microsecond's worth of looks in each microsecond, roughly: with a look
        // for each deadline there would be 200,000,000.
        assert!(looked_at < 3 * 100 * WAITS as usize, "{looked_at}");
        assert!(waits.into_iter().all(|mut wait| wait.answer.try_recv().is_ok()));
    }

    /// Whatever the order of an insertion and the end: nobody waits for ever.
    #[test]
    fn an_insertion_beside_the_end_is_told() {
        const ROUNDS: usize = 20_000;
        let rounds: Vec<Pending> = (0..ROUNDS).map(|_| Pending::default()).collect();
        let barrier = Barrier::new(2);
        let mut left = 0;
        thread::scope(|scope| {
            scope.spawn(|| {
                for pending in &rounds {
                    barrier.wait();
                    pending.close(lost);
                    barrier.wait();
                }
            });
            for pending in &rounds {
                barrier.wait();
                let waiting = insert(pending, 1);
                barrier.wait();
                // Either it was not let in, or the end has told it.
                let told = waiting.map(|waiting| waiting.answer.now_or_never());
                left += usize::from(told.is_some_and(|told| told.is_none()));
            }
        });
        assert_eq!(left, 0, "of {ROUNDS} would wait for ever");
        assert!(rounds.iter().all(|pending| pending.count() == 0));
    }
}
