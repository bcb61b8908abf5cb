//! The graceful end of a link: both sides finish what they have begun, then it is closed.

use std::time::Duration;

use tokio::time::timeout;

use super::Link;
use super::outbound::Handle;
use crate::close::{CloseCode, Closed};
use crate::message::Empty;
use crate::wire::{Draft, PREPARE_DISCONNECT};

impl Link {
    /// Ends the link when everything that was begun on it has come to its end: both sides finish
    /// their requests, then the reason is said and the socket closed.
    ///
    /// New requests and events of this side are refused from here on, as not delivered, but for
    /// those that handlers make while the peer waits for their answer. A peer that speaks sessions
    /// is asked with `prepare_disconnect_request` to do the same; it answers when none of its
    /// requests waits any more. What both had queued until then has been received.
    ///
    /// All this takes at most [`Config::disconnect_timeout`](super::Config); then the link is
    /// closed as by [`close`](Self::close), which takes at most
    /// [`Config::close_timeout`](super::Config) more. So a peer that never answers cannot hold
    /// this up. A client whose link ends registers anew; to stop it, use
    /// [`Client::close`](crate::Client::close).
    ///
    /// # Cancel safety
    ///
    /// Dropped half-way, the link is closed at once.
    pub async fn disconnect(&self, reason: impl AsRef<str>) -> Closed {
        let limit = self.handle().config().disconnect_timeout;
        self.disconnect_within(limit, CloseCode::NORMAL, reason.as_ref()).await
    }

    pub(crate) async fn disconnect_within(
        &self,
        limit: Duration,
        code: CloseCode,
        reason: &str,
    ) -> Closed {
        let handle = self.handle();
        let close = CloseAtEnd { handle, closed: Closed::local(code, reason) };
        let both = async { tokio::join!(prepare(handle), handle.drained()) };
        if timeout(limit, both).await.is_err() {
            let (peer, pending) = (self.describe_peer(), self.pending());
            tracing::warn!(%peer, ?limit, pending, "not drained in time, closing all the same");
        }
        drop(close);
        self.closed().await
    }
}

/// Closes the link when dropped, also half-way.
struct CloseAtEnd<'a> {
    handle: &'a Handle,
    closed: Closed,
}

impl Drop for CloseAtEnd<'_> {
    fn drop(&mut self) {
        self.handle.ask_close(self.closed.clone());
    }
}

/// Asks the peer to finish, where it knows the question, and waits for its answer.
async fn prepare(handle: &Handle) {
    if !handle.dialect().resumes() {
        return handle.drain(false, false);
    }
    // What is sent before the question has been received when it is answered.
    if let Ok(question) = Draft::request(PREPARE_DISCONNECT, &Empty {}) {
        handle.prepare_disconnect(&question).await;
    }
}
