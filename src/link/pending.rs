//! The requests that wait for an answer. Nothing else knows where their senders are kept.
//!
//! Five verbs: insert, complete, forget (the guard's drop), close, count. Each entry leaves through
//! exactly one of the middle three.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use dashmap::DashMap;
use tokio::sync::{Notify, oneshot};

use crate::error::RequestError;
use crate::wire::Text;

/// Shards per link. A link is one socket: more than two threads rarely meet here, and the default
/// takes up to 32 KiB per link on a large machine.
const SHARDS: usize = 2;

/// An answer as it came: the frame, and where its `data` stands.
#[derive(Debug)]
pub(crate) struct Answer {
    text: Text,
    data: std::ops::Range<usize>,
}

impl Answer {
    pub(crate) fn new(text: &Text, data: &str) -> Self {
        Self { text: text.clone(), data: text.range_of(data) }
    }

    pub(crate) fn data(&self) -> &str {
        self.text.part(self.data.clone())
    }
}

pub(crate) type Outcome = Result<Answer, RequestError>;

/// The waiting requests of one link, by the number of their frame.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    // Made at the first request: many links never ask anything.
    map: OnceLock<DashMap<u64, oneshot::Sender<Outcome>>>,
    closed: AtomicBool,
    /// The number of this side's `prepare_disconnect_request`; 0 for none.
    parting: AtomicU64,
    /// Somebody waits in [`drained`](Self::drained).
    draining: AtomicBool,
    left: Notify,
}

impl Pending {
    /// Starts to wait for the answer to the frame numbered `seq`; `None` when the link has ended.
    ///
    /// The check follows the insertion. The other way round, an insertion between a check that
    /// still says open and the drain at the end would wait for ever.
    pub(crate) fn insert(&self, seq: u64) -> Option<Waiting<'_>> {
        let (sender, receiver) = oneshot::channel();
        let map = self.map.get_or_init(|| DashMap::with_shard_amount(SHARDS));
        map.insert(seq, sender);
        let waiting = Waiting { pending: self, seq, receiver };
        (!self.closed.load(Ordering::SeqCst)).then_some(waiting)
    }

    /// The same for `prepare_disconnect_request`, for which a link that drains does not wait: both
    /// sides may ask at once.
    pub(crate) fn insert_parting(&self, seq: u64) -> Option<Waiting<'_>> {
        self.parting.store(seq, Ordering::SeqCst);
        self.insert(seq)
    }

    /// Waits until nobody waits for an answer and `also` holds.
    pub(crate) async fn drained(&self, also: impl Fn() -> bool) {
        self.draining.store(true, Ordering::SeqCst);
        loop {
            let left = self.left.notified();
            let mut left = std::pin::pin!(left);
            left.as_mut().enable();
            let parting = self.parting.load(Ordering::SeqCst);
            let asked = |map: &DashMap<u64, _>| usize::from(map.contains_key(&parting));
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
            Some((_, sender)) => sender.send(outcome).is_ok(),
            None => false,
        }
    }

    /// Ends every wait, and lets no new one begin.
    pub(crate) fn close(&self, mut error: impl FnMut(u64) -> RequestError) {
        self.closed.store(true, Ordering::SeqCst);
        let Some(map) = self.map.get() else { return };
        let waiting: Vec<u64> = map.iter().map(|entry| *entry.key()).collect();
        for seq in waiting {
            self.complete(seq, Err(error(seq)));
        }
    }

    /// How many requests wait.
    pub(crate) fn count(&self) -> usize {
        self.map.get().map_or(0, DashMap::len)
    }
}

/// One wait. Exists before the frame is queued, so a caller that goes away at any later point
/// takes its entry along.
#[derive(Debug)]
pub(crate) struct Waiting<'a> {
    pending: &'a Pending,
    seq: u64,
    receiver: oneshot::Receiver<Outcome>,
}

impl Waiting<'_> {
    /// The answer, or why there is none; `None` when the link ended without a word.
    pub(crate) async fn outcome(mut self) -> Option<Outcome> {
        (&mut self.receiver).await.ok()
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(map) = self.pending.map.get() {
            map.remove(&self.seq);
        }
        self.pending.look_again();
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
        Ok(Answer::new(&Text::from("{}"), ""))
    }

    #[test]
    fn a_million_answers_leave_nothing_behind() {
        let pending = Pending::default();
        for seq in 0..1_000_000 {
            let waiting = pending.insert(seq).unwrap();
            assert!(pending.complete(seq, answer()));
            assert!(waiting.outcome().now_or_never().is_some());
        }
        assert_eq!(pending.count(), 0);
        // Flat, and not merely empty: the map has not grown with the number of requests.
        let room = pending.map.get().map_or(0, DashMap::capacity);
        assert!(room < 100, "room for {room}");
    }

    #[test]
    fn a_wait_that_is_given_up_leaves_nothing_behind() {
        let pending = Pending::default();
        drop(pending.insert(1));
        assert_eq!(pending.count(), 0);
        assert!(!pending.complete(1, answer()), "nobody waits");
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
                let waiting = pending.insert(1);
                barrier.wait();
                // Either it was not let in, or the end has told it.
                let told = waiting.map(|waiting| waiting.outcome().now_or_never());
                left += usize::from(told.is_some_and(|told| told.is_none()));
            }
        });
        assert_eq!(left, 0, "of {ROUNDS} would wait for ever");
        assert!(rounds.iter().all(|pending| pending.count() == 0));
    }
}
