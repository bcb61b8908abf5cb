//! The link itself: the handle that either side holds, and what works behind it.
//!
//! Three rooms, each of which may use those before it: [`outbound`] sends, [`inbound`] receives, and
//! [`driver`] is the task that owns the socket. This file is the public face of them.

mod config;
mod disconnect;
mod driver;
mod forward;
mod inbound;
mod outbound;
mod refusal;
mod router;
mod state;

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use semver::Version;
use serde_json::value::RawValue;

pub use config::Config;
pub(crate) use driver::{Driver, Lost, Recover, Resumption, Unrecoverable};
pub(crate) use inbound::Routes;
use outbound::{Handle, RequestFuture};
pub use router::{Ctx, Router};
pub use state::{Ignored, LinkState, States};

use crate::close::{CloseCode, Closed};
use crate::error::{DecodeError, EventError, RequestError, SendError};
use crate::handshake::{Agreement, Hold, Peer};
use crate::message::{Direction, Event, Request, Role, Since};
use crate::session::Session;
use crate::transport::Transport;
use crate::wire::{Draft, EncodeError, decode, without_seq};

/// One side's handle of a link. Cheap to clone; all clones are the same link.
///
/// # Behaviour
///
/// - Messages leave in the order in which [`request`](Self::request) and [`event`](Self::event)
///   queue them. For an order between two of them, await the first before the second: calls that
///   are polled side by side are queued as they find room.
/// - Nothing is sent before a call is polled, and nothing is sent twice.
/// - The futures of a link are polled on tokio's runtime, with its clock: a request, an event and a
///   disconnect may have to wait. What is no future, such as [`broadcast`](Self::broadcast) and
///   [`close`](Self::close), may be called from any thread.
/// - When the outbox is full, calls wait for room. A peer that takes no byte for two heartbeat
///   intervals loses the link, so they do not wait for a dead one.
/// - The link does not end when its handles are dropped: the master or client it belongs to holds
///   it. End it with [`close`](Self::close).
#[derive(Clone)]
pub struct Link {
    handle: Handle,
    timeout: Option<Duration>,
}

impl Link {
    fn new(handle: Handle) -> Self {
        Self { handle, timeout: None }
    }

    /// A link over a finished handshake, and the task behind it, which is to be run.
    pub(crate) fn start(
        transport: Box<dyn Transport>,
        agreement: Agreement,
        us: Role,
        config: Config,
        routes: Arc<Routes>,
    ) -> (Self, Driver) {
        let Agreement { first, session, peer, version, hold } = agreement;
        let Session { sending, receiving } = session;
        let handle = Handle::new(us, peer, version, config, sending, hold);
        let driver = Driver::new(transport, first, handle.clone(), receiving, routes);
        (Self::new(handle), driver)
    }

    /// Asks the peer and waits for its answer.
    ///
    /// The time limit is this handle's [`timeout`](Self::timeout), else the type's own, else
    /// [`Config::request_timeout`]. It starts with the first poll and includes any wait for room.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the wait and frees its place at once. The request may have
    /// been sent by then; a late answer is dropped.
    ///
    /// # Errors
    ///
    /// See [`RequestError`]. Each call ends exactly once, also when the link does.
    pub fn request<R: Request>(
        &self,
        request: &R,
    ) -> impl Future<Output = Result<R::Response, RequestError>> + Send + 'static + use<R> {
        let draft = self
            .may_send(R::NAME, R::DIRECTION, R::SINCE)
            .and_then(|()| Ok(Draft::request(R::NAME, request)?));
        let timeout = self.timeout.or(R::TIMEOUT);
        RequestFuture::new(self.handle.clone(), draft, timeout, |data| decode(data))
    }

    /// Asks with a message that is already JSON: `name` without `_request`, `data` an object. The
    /// answer is the response's data without the protocol's `seq`.
    ///
    /// For programs that hand messages on. Direction and version are not checked on this side.
    ///
    /// # Errors and cancel safety
    ///
    /// As [`request`](Self::request).
    pub fn request_raw(
        &self,
        name: &str,
        data: &RawValue,
    ) -> impl Future<Output = Result<Box<RawValue>, RequestError>> + Send + 'static + use<> {
        self.ask_raw(Draft::request(name, data), self.timeout)
    }

    fn ask_raw(
        &self,
        draft: Result<Draft, EncodeError>,
        timeout: Option<Duration>,
    ) -> RequestFuture<Box<RawValue>> {
        let draft = draft.map_err(SendError::from);
        RequestFuture::new(self.handle.clone(), draft, timeout, |data| {
            without_seq(data).map_err(|error| DecodeError::new(&error))
        })
    }

    /// Queues an event. `Ok` means queued, not handled: what is queued is lost if the link ends
    /// before the peer has read it.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is ready, the event was not queued.
    ///
    /// # Errors
    ///
    /// See [`EventError`].
    pub fn event<E: Event>(
        &self,
        event: &E,
    ) -> impl Future<Output = Result<(), EventError>> + Send + 'static + use<E> {
        let draft = self
            .may_send(E::NAME, E::DIRECTION, E::SINCE)
            .and_then(|()| Ok(Draft::event(E::NAME, event)?));
        let handle = self.handle.clone();
        async move { handle.event(&draft?).await }
    }

    /// This link, with another time limit for the requests made through the returned handle.
    #[must_use]
    pub fn timeout(&self, timeout: Duration) -> Self {
        Self { handle: self.handle.clone(), timeout: Some(timeout) }
    }

    /// Starts to close: what is queued goes out, then the reason, then the socket. Returns at
    /// once; [`closed`](Self::closed) tells when it is done. That is within
    /// [`Config::close_timeout`], whatever the peer does: what it has not read by then is lost.
    /// Responses and events that come meanwhile are taken; requests are dropped.
    ///
    /// A reason longer than 123 bytes is cut. Only the first call counts. A client whose link ends
    /// registers anew; to stop it, use [`Client::close`](crate::Client::close).
    pub fn close(&self, reason: impl AsRef<str>) {
        self.close_with(CloseCode::NORMAL, reason);
    }

    pub(crate) fn close_with(&self, code: CloseCode, reason: impl AsRef<str>) {
        self.handle.ask_close(Closed::local(code, reason));
    }

    /// Waits until the link has ended, and says who ended it and why.
    ///
    /// # Cancel safety
    ///
    /// May be dropped and called again at any time, from any number of tasks.
    pub async fn closed(&self) -> Closed {
        let mut state = self.handle.states();
        let ended = state.wait_for(|state| state.end().is_some()).await;
        // Its sender is in the handle.
        ended.ok().and_then(|state| state.end().cloned()).unwrap_or_else(|| Closed::lost("Gone"))
    }

    /// What state the link is in, and each further one.
    pub fn states(&self) -> States {
        States::new(self.handle.states())
    }

    /// Whether the link has ended.
    pub fn is_closed(&self) -> bool {
        self.handle.state().end().is_some()
    }

    /// How the link has ended, if it has.
    pub fn ended(&self) -> Option<Closed> {
        self.handle.state().end().cloned()
    }

    /// Who is at the other end.
    pub fn peer(&self) -> &Peer {
        self.handle.peer()
    }

    /// The negotiated protocol version: the lower of both sides', without a pre-release tag.
    pub fn version(&self) -> &Version {
        self.handle.version()
    }

    /// How many requests of this side wait for an answer.
    pub fn pending(&self) -> usize {
        self.handle.pending()
    }

    /// What was received so far and led to nothing.
    pub fn ignored(&self) -> Ignored {
        self.handle.ignored()
    }

    fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Whether both are handles of the same link. A slave that registers anew is a new link of the
    /// same peer.
    pub fn is(&self, other: &Self) -> bool {
        self.handle.is_same(&other.handle)
    }

    /// How the link outlives its socket; `None` where it does not.
    pub(crate) fn hold(&self) -> Option<Hold> {
        self.handle.hold()
    }

    /// Whether it has lost its socket, and its session is held.
    pub(crate) fn is_resuming(&self) -> bool {
        matches!(*self.handle.state(), LinkState::Resuming { .. })
    }

    /// Whether nothing would be lost if the link ended.
    pub(crate) fn holds_nothing(&self) -> bool {
        self.pending() == 0 && self.handle.held() == 0
    }

    pub(crate) fn renews_token(&self) -> bool {
        self.handle.dialect().renews_token
    }

    pub(crate) fn describe_peer(&self) -> String {
        self.handle.describe_peer()
    }

    fn may_send(&self, name: &'static str, to: Direction, since: Since) -> Result<(), SendError> {
        let (us, peer) = (self.handle.us(), self.peer().role);
        if !to.allows(us, peer) {
            return Err(SendError::Direction { name, allowed: to, from: us, to: peer });
        }
        let negotiated = self.version();
        if since > (negotiated.major, negotiated.minor, negotiated.patch) {
            return Err(SendError::Version { name, since, negotiated: negotiated.clone() });
        }
        Ok(())
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("peer", self.peer())
            .field("state", &*self.handle.state())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::close::ClosedBy;
    use crate::message::Empty;
    use crate::session::Session;
    use crate::transport::memory;
    use crate::wire::{Dialect, MAX_SEQ};

    #[derive(serde::Serialize, serde::Deserialize)]
    struct Tick {}

    impl Event for Tick {
        const NAME: &'static str = "tick";
    }

    #[derive(serde::Serialize, serde::Deserialize)]
    struct Ask {}

    impl Request for Ask {
        const NAME: &'static str = "ask";
        type Response = Empty;
    }

    /// Both ends of a link whose first frame is numbered `last_sent` and one.
    fn pair(last_sent: u64) -> [Link; 2] {
        let (one, other) = memory::pair();
        let end = |transport, us, role| {
            let agent = String::new();
            let version = Version::new(2, 0, 0);
            let peer = Peer { role, id: None, name: None, agent, version: version.clone() };
            let session = Session::continuing(Dialect::PLAIN, last_sent);
            let agreement = Agreement { first: None, session, peer, version, hold: None };
            let (routes, config) = (Arc::default(), Config::default());
            let (link, driver) = Link::start(Box::new(transport), agreement, us, config, routes);
            tokio::spawn(async move { driver.run(&mut Unrecoverable).await });
            link
        };
        [end(one, Role::Master, Role::Control), end(other, Role::Control, Role::Master)]
    }

    /// The numbers end before they lose precision in a peer's JSON reader, and both sides learn it.
    #[tokio::test(start_paused = true)]
    async fn a_link_whose_numbers_are_used_up_closes_with_a_reason() {
        let [link, peer] = pair(MAX_SEQ - 2);
        link.event(&Tick {}).await.unwrap();
        link.event(&Tick {}).await.unwrap();
        assert!(link.event(&Tick {}).await.is_err(), "there is no number left");
        let error = link.request(&Ask {}).await.unwrap_err();
        assert!(matches!(error, RequestError::Closed { .. }), "{error}");
        let closed = link.closed().await;
        assert_eq!((closed.by, closed.code), (ClosedBy::Local, CloseCode::INTERNAL));
        assert_eq!(closed.reason.as_str(), "Sequence numbers exhausted");
        assert_eq!(peer.closed().await.reason.as_str(), "Sequence numbers exhausted");
        assert_eq!(peer.ignored().events, 2, "what had a number arrived");
    }
}
