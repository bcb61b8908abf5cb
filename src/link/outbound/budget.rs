//! Permits, and the queue of those that wait for some.

use std::collections::VecDeque;
use std::task::Waker;

use crate::wire::EncodedMessage;

/// A number of permits, granted in the order of the waits. The owner keeps it under a lock, and
/// wakes the tasks whose wakers the methods return when it has released the lock.
// No semaphore: measured, one beside the owner's lock gains nothing.
#[derive(Debug)]
pub(super) struct Budget {
    permits: usize,
    free: usize,
    waiters: VecDeque<Waiter>,
    /// Bytes of the frames among the waiters.
    frame_bytes: usize,
    next_ticket: u64,
}

#[derive(Debug)]
struct Waiter {
    permits: usize,
    kind: WaiterKind,
}

#[derive(Debug)]
enum WaiterKind {
    /// A task, which asks again with its ticket.
    Task(u64, Waker),
    /// A frame that is handed on: no task waits for it.
    Frame(EncodedMessage),
}

/// The waiter to which permits were granted.
#[derive(Debug)]
pub(super) enum Granted {
    Task(Waker),
    Frame(EncodedMessage),
}

impl Budget {
    pub(super) fn new(permits: usize) -> Self {
        let waiters = VecDeque::new();
        Self { permits, free: permits, waiters, frame_bytes: 0, next_ticket: 0 }
    }

    /// Takes that many permits, unless there are too few or others wait.
    pub(super) fn try_take(&mut self, permits: usize) -> bool {
        let enough = self.has(permits);
        if enough {
            self.free -= permits;
        }
        enough
    }

    /// Returns how many are taken.
    pub(super) fn taken(&self) -> usize {
        // One that is given back and was never taken is a bug that the tests look for.
        self.permits.saturating_sub(self.free)
    }

    /// Whether that many can be taken now.
    pub(super) fn has(&self, permits: usize) -> bool {
        // If small frames could overtake, a large one might never find enough at once.
        self.waiters.is_empty() && self.free >= permits
    }

    /// Counts none as taken from now on.
    pub(super) fn forget_taken(&mut self) {
        self.free = self.permits;
    }

    /// Gives permits back. The caller has to [grant](Self::grant) them.
    pub(super) fn give(&mut self, permits: usize) {
        self.free += permits;
    }

    /// Grants the first waiter its permits, if there are enough now.
    pub(super) fn grant(&mut self) -> Option<Granted> {
        self.waiters.front().filter(|waiter| waiter.permits <= self.free)?;
        let Waiter { permits, kind } = self.waiters.pop_front()?;
        // Taken now and not when the task runs: it has left the queue, and others may come first.
        self.free -= permits;
        Some(match kind {
            WaiterKind::Task(_, waker) => Granted::Task(waker),
            WaiterKind::Frame(frame) => {
                self.frame_bytes -= permits;
                Granted::Frame(frame)
            }
        })
    }

    /// Joins the queue for permits, behind all others. Returns the ticket of the wait.
    pub(super) fn join(&mut self, permits: usize, waker: &Waker) -> u64 {
        self.next_ticket += 1;
        let kind = WaiterKind::Task(self.next_ticket, waker.clone());
        self.waiters.push_back(Waiter { permits, kind });
        self.next_ticket
    }

    /// Lets a frame wait for room of its bytes, behind all others.
    pub(super) fn join_frame(&mut self, frame: EncodedMessage) {
        let permits = frame.bytes();
        self.frame_bytes += permits;
        self.waiters.push_back(Waiter { permits, kind: WaiterKind::Frame(frame) });
    }

    /// Returns the bytes of the frames that wait.
    pub(super) fn frame_bytes(&self) -> usize {
        self.frame_bytes
    }

    /// Whether the wait of `ticket` still lasts; from now on `waker` is woken at its end.
    pub(super) fn still_waits(&mut self, ticket: u64, waker: &Waker) -> bool {
        let mine = self.waiters.iter_mut().find_map(|waiter| match &mut waiter.kind {
            WaiterKind::Task(known, waker) if *known == ticket => Some(waker),
            _ => None,
        });
        mine.is_some_and(|mine| {
            // The future may have moved to another task since its last poll.
            mine.clone_from(waker);
            true
        })
    }

    /// Ends the wait of `ticket`. Permits that were granted to it and not fetched are given back;
    /// the caller has to [grant](Self::grant) them.
    pub(super) fn leave(&mut self, ticket: u64, permits: usize) {
        let mine =
            |waiter: &Waiter| matches!(waiter.kind, WaiterKind::Task(known, _) if known == ticket);
        match self.waiters.iter().position(mine) {
            Some(at) => drop(self.waiters.remove(at)),
            // It has left the queue: its permits were granted and not fetched.
            None => self.give(permits),
        }
    }

    /// Empties the queue. Returns the wakers of its tasks, and drops its frames.
    pub(super) fn close(&mut self) -> Vec<Waker> {
        self.frame_bytes = 0;
        let waiters = self.waiters.drain(..);
        let wakers = waiters.filter_map(|waiter| match waiter.kind {
            WaiterKind::Task(_, waker) => Some(waker),
            WaiterKind::Frame(_) => None,
        });
        wakers.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn granted(budget: &mut Budget) -> usize {
        std::iter::from_fn(|| budget.grant()).count()
    }

    #[test]
    fn permits_are_handed_out_in_turn() {
        let mut budget = Budget::new(3);
        let waker = Waker::noop();
        assert!(budget.try_take(2) && !budget.try_take(2));
        let (large, small) = (budget.join(3, waker), budget.join(1, waker));
        assert!(!budget.try_take(1), "others wait");
        assert_eq!(granted(&mut budget), 0, "the first of them comes first");
        budget.give(2);
        assert_eq!(granted(&mut budget), 1);
        assert!(!budget.still_waits(large, waker) && budget.still_waits(small, waker));
        budget.give(3);
        assert_eq!(granted(&mut budget), 1);
        assert!(budget.try_take(2) && !budget.try_take(1));
    }

    #[test]
    fn who_leaves_takes_nothing_along() {
        let mut budget = Budget::new(2);
        let waker = Waker::noop();
        assert!(budget.try_take(2));
        let (first, second) = (budget.join(2, waker), budget.join(1, waker));
        budget.leave(first, 2);
        budget.give(1);
        assert_eq!(granted(&mut budget), 1, "the second is the first now");
        // It has not fetched what was granted.
        budget.leave(second, 1);
        assert!(budget.try_take(1) && !budget.try_take(1));
    }

    #[test]
    fn who_came_back_is_woken_where_it_is_now() {
        let mut budget = Budget::new(0);
        let waker = futures::task::noop_waker();
        let ticket = budget.join(1, Waker::noop());
        assert!(budget.still_waits(ticket, &waker));
        budget.give(1);
        let Some(Granted::Task(granted)) = budget.grant() else { panic!("it waits") };
        assert!(granted.will_wake(&waker) && !granted.will_wake(Waker::noop()));
    }

    #[test]
    fn at_the_end_all_tasks_are_woken() {
        let mut budget = Budget::new(0);
        budget.join(1, Waker::noop());
        budget.join_frame(EncodedMessage::event("tick", &crate::message::Empty {}).unwrap());
        assert!(budget.frame_bytes() > 0);
        assert_eq!((budget.close().len(), budget.frame_bytes()), (1, 0));
    }
}
