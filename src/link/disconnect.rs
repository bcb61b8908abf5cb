//! The graceful end of a link: both sides finish what they have begun, then it is closed.

use std::time::Duration;

use tokio::time::timeout;

use super::outbound::{Handle, prepare_disconnect};
use crate::close::Closed;
use crate::message::Empty;
use crate::wire::{EncodedMessage, PREPARE_DISCONNECT};

/// Waits until both sides have finished, at most for `limit`, then begins to close. If the future
/// is dropped, the link closes at once.
pub(super) async fn disconnect(handle: &Handle, limit: Duration, closed: Closed) {
    let _close = CloseAtEnd { handle, closed };
    let both = async { tokio::join!(prepare(handle), handle.drained()) };
    if timeout(limit, both).await.is_err() {
        let (peer, pending) = (handle.peer(), handle.pending());
        tracing::warn!(%peer, ?limit, pending, "not drained in time, closing all the same");
    }
}

/// Closes the link when it is dropped, also with an unfinished future.
struct CloseAtEnd<'a> {
    handle: &'a Handle,
    closed: Closed,
}

impl Drop for CloseAtEnd<'_> {
    fn drop(&mut self) {
        self.handle.ask_close(self.closed.clone());
    }
}

/// Asks a peer that speaks sessions to finish, and waits for its answer.
async fn prepare(handle: &Handle) {
    if !handle.dialect().resumes() {
        // Plain has no such request: only this side refuses what is new.
        return handle.drain(false, false);
    }
    // Frames keep their order: with the answer, all that was queued before has been received.
    if let Ok(question) = EncodedMessage::request(PREPARE_DISCONNECT, &Empty {}) {
        prepare_disconnect(handle, &question).await;
    }
}
