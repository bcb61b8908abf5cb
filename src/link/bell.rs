//! Wakers that tell a task what it was woken for.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures::task::AtomicWaker;

/// The waker of one of the things that a task waits for: the task looks at it when it was rung,
/// and not each time that another wakes the task.
pub(super) struct Bell {
    rope: Arc<Rope>,
    waker: Waker,
    /// Something was seen: there may be more, though nobody has rung again.
    seen: bool,
}

struct Rope {
    rung: AtomicBool,
    task: Arc<AtomicWaker>,
}

impl Wake for Rope {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::SeqCst);
        self.task.wake();
    }
}

impl Bell {
    /// Wakes the task that `task` was registered with last. It is rung at first.
    pub(super) fn new(task: Arc<AtomicWaker>) -> Self {
        let rope = Arc::new(Rope { rung: AtomicBool::new(true), task });
        Self { waker: Waker::from(Arc::clone(&rope)), rope, seen: false }
    }

    /// As if it was rung by something that does not know it.
    pub(super) fn ring(&self) {
        self.rope.rung.store(true, Ordering::SeqCst);
    }

    /// Looks, by `poll`, when it was rung; it stays rung until there is nothing to be seen.
    pub(super) fn poll<T>(&mut self, poll: impl FnOnce(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
        if self.rope.rung.load(Ordering::SeqCst) {
            // Before the look: who rings from here on has seen something newer.
            self.rope.rung.store(false, Ordering::SeqCst);
        } else if !self.seen {
            return Poll::Pending;
        }
        let polled = poll(&mut Context::from_waker(&self.waker));
        self.seen = polled.is_ready();
        polled
    }
}

impl fmt::Debug for Bell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bell").field("rung", &self.rope.rung).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Task(AtomicUsize);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn it_is_looked_at_when_it_was_rung() {
        let (task, parent) = (Arc::new(Task::default()), Arc::new(AtomicWaker::new()));
        let mut bell = Bell::new(Arc::clone(&parent));
        let looked = AtomicUsize::new(0);
        let waker = std::sync::Mutex::new(None);
        let mut look = |found: Poll<()>| {
            parent.register(&Waker::from(Arc::clone(&task)));
            bell.poll(|cx| {
                looked.fetch_add(1, Ordering::SeqCst);
                *waker.lock().unwrap() = Some(cx.waker().clone());
                found
            })
        };
        assert_eq!(look(Poll::Ready(())), Poll::Ready(()), "at first");
        assert_eq!(look(Poll::Pending), Poll::Pending, "until there is nothing");
        assert_eq!(look(Poll::Ready(())), Poll::Pending, "not rung");
        assert_eq!(looked.load(Ordering::SeqCst), 2);
        waker.lock().unwrap().as_ref().unwrap().wake_by_ref();
        assert_eq!(task.0.load(Ordering::SeqCst), 1, "the task is woken");
        assert_eq!(look(Poll::Ready(())), Poll::Ready(()));
    }
}
