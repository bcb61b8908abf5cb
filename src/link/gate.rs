//! Permits that cost next to nothing for as long as nobody has to wait for one.

use std::mem;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::{AcquireError, Semaphore};

/// Permits, counted under the lock of whoever owns this. When somebody finds too few, all that are
/// free go to the queue, which hands them out in turn, until nobody waits any more.
#[derive(Debug)]
pub(super) struct Gate {
    free: usize,
    waiting: usize,
}

/// What belongs to a [`Gate`] and lies outside of its lock.
#[derive(Debug)]
pub(super) struct Queue {
    /// Holds the free permits while somebody waits, and none while nobody does.
    semaphore: Semaphore,
    is_waited_in: AtomicBool,
    /// Permits that were given back without the lock and are not counted yet.
    returned: AtomicUsize,
}

impl Gate {
    pub(super) fn new(permits: usize) -> Self {
        Self { free: permits, waiting: 0 }
    }

    /// Takes so many permits, unless there are too few. While somebody waits none are here.
    pub(super) fn try_take(&mut self, count: usize, queue: &Queue) -> bool {
        if self.free < count {
            self.collect(queue);
        }
        let enough = self.free >= count;
        if enough {
            self.free -= count;
        }
        enough
    }

    /// Gives permits back.
    pub(super) fn give(&mut self, count: usize, queue: &Queue) {
        if self.waiting == 0 {
            self.free += count;
        } else if count > 0 {
            queue.semaphore.add_permits(count);
        }
    }

    /// Counts what was given back without the lock.
    pub(super) fn collect(&mut self, queue: &Queue) {
        self.give(queue.returned.swap(0, Ordering::SeqCst), queue);
    }

    /// Somebody begins to wait; [`leave`](Self::leave) has to follow.
    pub(super) fn join(&mut self, queue: &Queue) {
        self.waiting += 1;
        queue.is_waited_in.store(true, Ordering::SeqCst);
        let free = mem::take(&mut self.free);
        self.give(free, queue);
        // Who gives back from here on sees that somebody waits.
        self.collect(queue);
    }

    /// Somebody waits no longer, with what he waited for or without it.
    pub(super) fn leave(&mut self, queue: &Queue) {
        self.waiting -= 1;
        if self.waiting == 0 {
            queue.is_waited_in.store(false, Ordering::SeqCst);
            self.free += queue.semaphore.forget_permits(usize::MAX);
        }
    }
}

impl Queue {
    pub(super) fn new() -> Self {
        let (is_waited_in, returned) = (AtomicBool::new(false), AtomicUsize::new(0));
        Self { semaphore: Semaphore::new(0), is_waited_in, returned }
    }

    /// Waits for so many permits, in turn, between [`Gate::join`] and [`Gate::leave`]. They are the
    /// caller's to give back. Cancel safe.
    pub(super) async fn wait(&self, count: usize) -> Result<(), AcquireError> {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.semaphore.acquire_many(count).await?.forget();
        Ok(())
    }

    /// Gives permits back without the gate's lock. Says whether somebody waits for them: then they
    /// are to be [`collect`](Gate::collect)ed.
    pub(super) fn give_back(&self, count: usize) -> bool {
        self.returned.fetch_add(count, Ordering::SeqCst);
        self.is_waited_in.load(Ordering::SeqCst)
    }

    /// Nobody gets a permit here any more.
    pub(super) fn close(&self) {
        self.semaphore.close();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn permits_are_taken_and_come_back() {
        let (mut gate, queue) = (Gate::new(3), Queue::new());
        assert!(gate.try_take(2, &queue) && !gate.try_take(2, &queue));
        gate.give(1, &queue);
        assert!(!queue.give_back(1), "nobody waits");
        assert!(gate.try_take(3, &queue) && !gate.try_take(1, &queue));
    }

    #[test]
    fn who_waits_is_served_in_turn_and_before_who_comes_later() {
        let (mut gate, queue) = (Gate::new(3), Queue::new());
        assert!(gate.try_take(2, &queue));
        gate.join(&queue);
        gate.join(&queue);
        let (mut large, mut small) = (queue.wait(3).boxed(), queue.wait(1).boxed());
        assert!((&mut large).now_or_never().is_none() && (&mut small).now_or_never().is_none());
        assert!(!gate.try_take(1, &queue), "one is free, and it is not his turn");
        gate.give(1, &queue);
        assert!((&mut large).now_or_never().is_none() && (&mut small).now_or_never().is_none());
        assert!(queue.give_back(1));
        gate.collect(&queue);
        assert!(large.now_or_never().is_some_and(|got| got.is_ok()));
        gate.leave(&queue);
        assert!((&mut small).now_or_never().is_none());
        gate.give(3, &queue);
        assert!(small.now_or_never().is_some_and(|got| got.is_ok()));
        gate.leave(&queue);
        assert!(gate.try_take(2, &queue) && !gate.try_take(1, &queue));
    }

    /// Given back without the lock, after the look for it and before anybody is seen to wait.
    #[test]
    fn what_comes_back_just_before_a_wait_is_found() {
        let (mut gate, queue) = (Gate::new(1), Queue::new());
        assert!(gate.try_take(1, &queue) && !gate.try_take(1, &queue));
        assert!(!queue.give_back(1), "nobody waits");
        gate.join(&queue);
        assert!(queue.wait(1).now_or_never().is_some_and(|got| got.is_ok()));
    }

    #[test]
    fn who_gives_up_waiting_takes_nothing_along() {
        let (mut gate, queue) = (Gate::new(2), Queue::new());
        gate.join(&queue);
        let mut wait = queue.wait(3).boxed();
        assert!((&mut wait).now_or_never().is_none());
        // It holds the two already.
        drop(wait);
        gate.leave(&queue);
        assert!(gate.try_take(2, &queue));
        gate.join(&queue);
        queue.close();
        assert!(queue.wait(1).now_or_never().is_some_and(|got| got.is_err()));
    }

    /// Many who take, wait, give up and give back at the same time: no permit is lost or doubled,
    /// and nobody waits for one that is free.
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn permits_are_neither_lost_nor_doubled() {
        const PERMITS: usize = 5;
        let gate = Arc::new((Mutex::new(Gate::new(PERMITS)), Queue::new(), AtomicUsize::new(0)));
        let worker = |n: usize| {
            let shared = Arc::clone(&gate);
            tokio::spawn(async move {
                let (gate, queue, taken) = &*shared;
                for round in 0..2000 {
                    let count = 1 + (n + round) % 3;
                    if !gate.lock().unwrap().try_take(count, queue) {
                        gate.lock().unwrap().join(queue);
                        let got = if round % 7 == 0 {
                            queue.wait(count).now_or_never().is_some()
                        } else {
                            queue.wait(count).await.is_ok()
                        };
                        gate.lock().unwrap().leave(queue);
                        if !got {
                            continue;
                        }
                    }
                    assert!(taken.fetch_add(count, Ordering::SeqCst) + count <= PERMITS);
                    tokio::task::yield_now().await;
                    taken.fetch_sub(count, Ordering::SeqCst);
                    if round % 2 == 0 {
                        gate.lock().unwrap().give(count, queue);
                    } else if queue.give_back(count) {
                        gate.lock().unwrap().collect(queue);
                    }
                }
            })
        };
        for worker in (0..16).map(worker).collect::<Vec<_>>() {
            worker.await.unwrap();
        }
        let (gate, queue, _) = &*gate;
        assert!(gate.lock().unwrap().try_take(PERMITS, queue), "all are free again");
    }
}
