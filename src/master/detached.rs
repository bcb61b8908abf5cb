//! Sessions that are held without a socket. A client that has been let in can cut as many as it likes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// Those that there are, by when they lost their socket.
#[derive(Debug)]
pub(super) struct Detached {
    most: usize,
    sessions: Mutex<Sessions>,
}

#[derive(Debug, Default)]
struct Sessions {
    next: u64,
    waiting: BTreeMap<u64, oneshot::Sender<()>>,
}

/// One of them, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    detached: Arc<Detached>,
    number: u64,
    evicted: oneshot::Receiver<()>,
}

impl Detached {
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, sessions: Mutex::default() })
    }

    /// One more, for which the one that has waited for the longest may have to go.
    pub(super) fn enter(self: &Arc<Self>) -> Place {
        let (evict, evicted) = oneshot::channel();
        let mut sessions = self.sessions();
        let number = sessions.next;
        sessions.next += 1;
        sessions.waiting.insert(number, evict);
        if sessions.waiting.len() > self.most
            && let Some((_, oldest)) = sessions.waiting.pop_first()
        {
            // An error means that it goes on at this moment.
            let _ = oldest.send(());
        }
        Place { detached: Arc::clone(self), number, evicted }
    }

    pub(super) fn most(&self) -> usize {
        self.most
    }

    fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Waits until the session has to go. Cancel safe.
    pub(super) async fn evicted(&mut self) {
        if (&mut self.evicted).await.is_err() {
            // Without a word it is still held, which its owner knows best.
            std::future::pending().await
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.detached.sessions().waiting.remove(&self.number);
    }
}
