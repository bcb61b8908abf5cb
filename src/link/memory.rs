//! What the messages of all links of a master take together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// The total over many links, and its limit.
#[derive(Debug)]
pub(crate) struct Memory {
    most: usize,
    held: AtomicUsize,
    exceeded: Notify,
}

/// What one link has told of its bytes; given back when it is dropped.
#[derive(Debug, Default)]
pub(crate) struct Share {
    /// `None` for a link that nothing counts.
    memory: Option<Arc<Memory>>,
    told: usize,
}

/// A link tells of its bytes in steps of so many, and is up to twice that behind.
// Otherwise each message would change a counter that all threads share.
const STEP: usize = 4 * 1024;

impl Memory {
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, held: AtomicUsize::new(0), exceeded: Notify::new() })
    }

    /// Returns the share of a new link.
    pub(crate) fn share(self: &Arc<Self>) -> Share {
        Share { memory: Some(Arc::clone(self)), told: 0 }
    }

    /// Returns how many bytes there are too many.
    pub(crate) fn excess(&self) -> usize {
        self.held.load(Ordering::Relaxed).saturating_sub(self.most)
    }

    pub(crate) fn most(&self) -> usize {
        self.most
    }

    /// Waits until the limit is exceeded by more than before. Cancel safe.
    pub(crate) async fn exceeded(&self) {
        self.exceeded.notified().await;
    }
}

impl Share {
    /// The link holds `bytes` now.
    #[inline]
    pub(super) fn set(&mut self, bytes: usize) {
        if bytes >= self.told + 2 * STEP || bytes + 2 * STEP <= self.told {
            self.tell(bytes);
        }
    }

    fn tell(&mut self, bytes: usize) {
        let Some(memory) = &self.memory else { return };
        if bytes > self.told {
            let more = bytes - self.told;
            let before = memory.held.fetch_add(more, Ordering::Relaxed);
            if before + more > memory.most {
                memory.exceeded.notify_one();
            }
        } else {
            memory.held.fetch_sub(self.told - bytes, Ordering::Relaxed);
        }
        self.told = bytes;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.tell(0);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn shares_are_counted_in_steps_and_given_back() {
        let memory = Memory::new(100_000);
        let (mut one, mut two) = (memory.share(), memory.share());
        let held = || memory.held.load(Ordering::Relaxed);
        one.set(STEP);
        assert_eq!(held(), 0, "too little to tell of");
        one.set(50_000);
        two.set(50_000);
        assert_eq!((held(), memory.excess()), (100_000, 0));
        assert!(memory.exceeded().now_or_never().is_none());
        one.set(50_000 + STEP);
        assert_eq!(held(), 100_000);
        two.set(60_000);
        assert_eq!((held(), memory.excess()), (110_000, 10_000));
        assert!(memory.exceeded().now_or_never().is_some());
        two.set(0);
        assert_eq!(held(), 50_000);
        assert!(memory.exceeded().now_or_never().is_none());
        drop(one);
        assert_eq!(held(), 0);
    }
}
