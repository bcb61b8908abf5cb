//! The graceful end of a link: both sides finish what they have begun, then it is closed.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::Link;
use super::asking::Waiting;
use super::shared::Shared;
use super::stream::{Admits, Sort};
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
        let limit = self.shared().config().disconnect_timeout;
        self.disconnect_within(limit, CloseCode::NORMAL, reason.as_ref()).await
    }

    pub(crate) async fn disconnect_within(
        &self,
        limit: Duration,
        code: CloseCode,
        reason: &str,
    ) -> Closed {
        let shared = self.shared();
        let close = CloseAtEnd { link: self, closed: Closed::local(code, reason) };
        let both = async { tokio::join!(shared.prepare(), shared.drained()) };
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
    link: &'a Link,
    closed: Closed,
}

impl Drop for CloseAtEnd<'_> {
    fn drop(&mut self) {
        self.link.shared().ask_to_close(self.closed.clone());
    }
}

impl Shared {
    /// Asks the peer to finish, where it knows the question, and waits for its answer. An error
    /// counts as an answer.
    async fn prepare(self: &Arc<Self>) {
        if !self.resumes() {
            return self.admit_only(Admits::WhatIsNeeded);
        }
        let Ok(draft) = Draft::request(PREPARE_DISCONNECT, &Empty {}) else { return };
        // What is sent before the question has been received when it is answered: nothing but what
        // the answer waits for may follow it.
        let Ok(room) = self.room_for(&draft).await else { return };
        let limit = self.pending().limit(Duration::MAX);
        let wait = self.ask(&draft, room, Sort::Parting, limit);
        self.admit_only(Admits::WhatIsNeeded);
        if let Ok(wait) = wait {
            let _ = Waiting::new(Arc::clone(self), wait, false).await;
        }
    }

    /// Waits until no request waits for an answer, in either direction, `prepare_disconnect`
    /// apart, or the link has ended. While messages are admitted that is a passing state.
    async fn drained(&self) {
        self.pending().drained(|| self.handling() == 0 || self.end().is_some()).await;
    }

    /// The answer to `prepare_disconnect_request` numbered `seq`, when this side has finished or
    /// the time for that is over. Nothing but answers follows it.
    pub(super) async fn agree_to_disconnect(self: Arc<Self>, seq: u64) {
        self.admit_only(Admits::WhatIsNeeded);
        let limit = self.config().disconnect_timeout;
        if timeout(limit, self.drained()).await.is_err() {
            tracing::warn!(peer = %self.peer().role, ?limit, "not drained in time for the peer");
        }
        self.admit_only(Admits::Answers);
        self.respond(PREPARE_DISCONNECT, seq, Draft::response(PREPARE_DISCONNECT, seq, &Empty {}))
            .await;
    }
}
