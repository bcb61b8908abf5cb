//! One side's handle of a link.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use semver::Version;
use serde_json::value::RawValue;

use super::config::Config;
use super::disconnect::disconnect;
use super::driver::Driver;
use super::forward::hand_on;
use super::inbound::Routes;
use super::memory::Share;
use super::outbound::{Handle, RequestFuture};
use super::state::{Ignored, LinkState, States};
use crate::close::{CloseCode, Closed, Reason};
use crate::error::{EventError, RequestError, SendError};
use crate::handshake::{Negotiated, ResumeInfo};
use crate::message::{Event, Peer, Request, Role};
use crate::session::Session;
use crate::transport::Transport;
use crate::trust::Claims;
use crate::wire::{EncodedMessage, decode};

/// One side's handle of a link. Cheap to clone; all clones are the same link.
///
/// # Behaviour
///
/// - Messages leave in the order in which [`request`](Self::request) and [`event`](Self::event)
///   queue them. For an order between two of them, await the first before the second: calls that
///   are polled side by side are queued as they find room.
/// - Nothing is sent before a call is polled, and nothing is sent twice.
/// - The futures of a link have to be polled on a tokio runtime with its clock, because a request,
///   an event and a disconnect may have to wait. Methods that are not futures, such as
///   [`broadcast`](Self::broadcast) and [`close`](Self::close), may be called from any thread.
/// - When the outbox is full, calls wait for room. A peer that takes no byte for two heartbeat
///   intervals loses the link, so calls do not wait for a dead peer.
/// - The link does not end when its handles are dropped: it belongs to its master or client. End it
///   with [`close`](Self::close).
#[derive(Clone)]
pub struct Link {
    handle: Handle,
    timeout: Option<Duration>,
}

impl Link {
    pub(super) fn new(handle: Handle) -> Self {
        Self { handle, timeout: None }
    }

    /// Returns a link over a finished handshake, and its task, which the caller has to run.
    pub(crate) fn start(
        transport: Box<dyn Transport>,
        negotiated: Negotiated,
        us: Role,
        config: Config,
        routes: Arc<Routes>,
    ) -> (Self, Driver) {
        let Negotiated { first, session, peer, version, resume_info, admission } = negotiated;
        let Session { sending, receiving } = session;
        let handle = Handle::new(us, peer, admission.claims, version, config, sending, resume_info);
        (Self::new(handle.clone()), Driver::new(transport, first, handle, receiving, routes))
    }

    /// Sends a request and waits for the peer's answer.
    ///
    /// The time limit is this handle's [`timeout`](Self::with_timeout), else the type's own, else
    /// [`Config::request_timeout`]. It starts with the first poll and includes any wait for room.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the wait and frees its place at once. The request may have been
    /// sent by then; a late answer is dropped.
    ///
    /// # Errors
    ///
    /// See [`RequestError`]. Each call ends exactly once, also when the link does.
    pub fn request<R: Request>(
        &self,
        request: &R,
    ) -> impl Future<Output = Result<R::Response, RequestError>> + Send + 'static + use<R> {
        // Encoded before the first poll: the future borrows nothing, and can be spawned.
        let message = self
            .handle
            .may_send(R::NAME, R::DIRECTION, R::SINCE)
            .and_then(|()| Ok(EncodedMessage::request(R::NAME, request)?));
        let timeout = self.timeout.or(R::TIMEOUT);
        RequestFuture::new(self.handle.clone(), message, timeout, |data| decode(data))
    }

    /// Sends a request that is already JSON: `name` without `_request`, `data` an object. The
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
        let message = EncodedMessage::request(name, data).map_err(SendError::from);
        RequestFuture::raw(self.handle.clone(), message, self.timeout)
    }

    /// Queues an event. `Ok` means queued, not handled: what is queued is lost if the link ends
    /// before the peer has read it.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it is ready, the event was not queued.
    ///
    /// # Errors
    ///
    /// See [`EventError`].
    pub fn event<E: Event>(
        &self,
        event: &E,
    ) -> impl Future<Output = Result<(), EventError>> + Send + 'static + use<E> {
        let message = self
            .handle
            .may_send(E::NAME, E::DIRECTION, E::SINCE)
            .and_then(|()| Ok(EncodedMessage::event(E::NAME, event)?));
        let handle = self.handle.clone();
        async move { handle.event(&message?).await }
    }

    /// Sends one event over many links: it is written as JSON once, and no link waits for another.
    ///
    /// An event without room in a link's outbox waits in front of it, behind everything else that
    /// waits there and in as many bytes again as [`Config::outbox`](super::Config); a link for
    /// which more than that waits is closed with a reason. A link that is closing, that prepares to disconnect or has ended is skipped, and
    /// what still waits for room when a link begins to close is dropped: as
    /// with [`event`](Self::event), success does not tell what arrived.
    ///
    /// # Errors
    ///
    /// If the event cannot be encoded, as for [`event`](Self::event), no link gets it. A
    /// single link to which it cannot be sent, for its direction, version or limits, is skipped,
    /// and the error of the first such link is returned when all others have the event.
    pub fn broadcast<'a, E: Event>(
        event: &E,
        links: impl IntoIterator<Item = &'a Self>,
    ) -> Result<(), SendError> {
        let message = EncodedMessage::event(E::NAME, event)?;
        let mut outcome = Ok(());
        for link in links {
            // `and` evaluates its argument first: an error on one link does not skip the others.
            outcome = outcome.and(hand_on::<E>(&link.handle, &message));
        }
        outcome
    }

    /// Returns a handle of this link with another time limit for the requests made through it.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self { handle: self.handle.clone(), timeout: Some(timeout) }
    }

    /// Starts to close: sends what is queued and the reason, then closes the socket. Returns at
    /// once; [`closed`](Self::closed) waits until it is done. That takes at most
    /// [`Config::close_timeout`], whatever the peer does: what it has not read by then is lost.
    /// Responses and events that come meanwhile are handled; requests are dropped.
    ///
    /// A reason longer than 123 bytes is cut. Only the first call counts. A client whose link ends
    /// registers anew; to stop it, use [`Client::close`](crate::Client::close).
    pub fn close(&self, reason: impl AsRef<str>) {
        self.close_with(CloseCode::NORMAL, reason);
    }

    pub(crate) fn close_with(&self, code: CloseCode, reason: impl AsRef<str>) {
        self.handle.ask_close(Closed::local(code, reason));
    }

    /// Ends the link gracefully: both sides finish their requests, then the reason is sent and the
    /// socket closed.
    ///
    /// From here on new requests and events of this side are refused, as not delivered, except
    /// those that handlers make while the peer waits for their answer. A peer that speaks sessions
    /// is asked with `prepare_disconnect_request` to do the same; it answers when none of its
    /// requests waits any more. What both sides had queued until then has been received; events of a
    /// [`broadcast`](Self::broadcast) are new ones in this sense, wherever it is called. Where the outbox
    /// is full, the question waits for room first, and what is sent until then still goes out.
    ///
    /// All this takes at most [`Config::disconnect_timeout`](super::Config); then the link is
    /// closed as by [`close`](Self::close), which takes at most
    /// [`Config::close_timeout`](super::Config) more, whatever the peer does. A client whose link
    /// ends registers anew; to stop it, use [`Client::close`](crate::Client::close).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the link is closed at once.
    pub async fn disconnect(&self, reason: impl AsRef<str>) -> Closed {
        let limit = self.handle.config().disconnect_timeout;
        self.disconnect_within(limit, CloseCode::NORMAL, reason.as_ref()).await
    }

    pub(crate) async fn disconnect_within(
        &self,
        limit: Duration,
        code: CloseCode,
        reason: &str,
    ) -> Closed {
        disconnect(&self.handle, limit, Closed::local(code, reason)).await;
        self.closed().await
    }

    /// Waits until the link has ended. Returns which side ended it and why.
    ///
    /// # Cancel safety
    ///
    /// May be dropped and called again at any time, from any number of tasks.
    pub async fn closed(&self) -> Closed {
        let mut state = self.handle.states();
        let ended = state.wait_for(|state| state.end().is_some()).await;
        // `wait_for` fails only without a sender, and the handle owns it.
        ended.ok().and_then(|state| state.end().cloned()).unwrap_or_else(|| Closed::lost("Gone"))
    }

    /// Returns the states of the link: the present one and each that follows.
    pub fn states(&self) -> States {
        States::new(self.handle.states())
    }

    /// Whether the link has ended.
    pub fn is_closed(&self) -> bool {
        self.handle.state().end().is_some()
    }

    /// Returns how the link has ended, `None` if it has not.
    pub fn ended(&self) -> Option<Closed> {
        self.handle.state().end().cloned()
    }

    /// Returns the peer at the other end.
    pub fn peer(&self) -> &Peer {
        self.handle.peer()
    }

    /// The number of the link. No other link of this process has the same, and a later link has a
    /// greater one: it tells the links of a slave that comes back apart.
    pub fn number(&self) -> u64 {
        self.handle.number()
    }

    /// What the master's authenticator has admitted the client with, if that is of type `C`. A client
    /// knows nothing of its own claims.
    pub fn claims<C: Any>(&self) -> Option<&C> {
        self.handle.claims().get()
    }

    /// Ends the link, and the session with it, because its client may not be here any more: a credential
    /// was revoked. The client is told `Authentication failed: ` and `reason`, and does not come back by
    /// itself. Otherwise as [`close`](Self::close), but nothing that it still sends is handled. A client
    /// without a socket learns nothing: it registers anew, and it is for the authenticator to refuse it.
    pub fn deny(&self, reason: impl AsRef<str>) {
        self.close_with(CloseCode::AUTHENTICATION, Reason::denied(reason.as_ref()).as_str());
    }

    /// Ends the link at once. What is queued is dropped, so the peer sees the close frame alone.
    pub(crate) fn abort(&self, code: CloseCode, reason: impl AsRef<str>) {
        self.handle.abort(Closed::local(code, reason));
    }

    /// Returns the negotiated protocol version: the lower of both sides', without a pre-release
    /// tag.
    pub fn version(&self) -> &Version {
        self.handle.version()
    }

    /// Returns the number of requests of this side that wait for an answer.
    pub fn pending(&self) -> usize {
        self.handle.pending()
    }

    /// Returns how many received messages led to nothing so far.
    pub fn ignored(&self) -> Ignored {
        self.handle.ignored()
    }

    /// Returns the time limit of the requests made through this handle, if it has one.
    pub(super) fn time_limit(&self) -> Option<Duration> {
        self.timeout
    }

    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Whether both are handles of the same link. A slave that registers anew is a new link of the
    /// same peer.
    pub fn same_link(&self, other: &Self) -> bool {
        self == other
    }

    pub(crate) fn all_claims(&self) -> &Claims {
        self.handle.claims()
    }

    /// Returns how the link outlives its socket, `None` if it does not.
    pub(crate) fn resume_info(&self) -> Option<ResumeInfo> {
        self.handle.resume_info()
    }

    /// Whether the link closes or has ended.
    pub(crate) fn is_closing(&self) -> bool {
        self.handle.is_closing()
    }

    /// Whether the link has lost its socket, and its session is kept.
    pub(crate) fn is_resuming(&self) -> bool {
        matches!(*self.handle.state(), LinkState::Resuming { .. })
    }

    /// Counts the link's bytes in `share` from now on.
    pub(crate) fn count_in(&self, share: Share) {
        self.handle.count_in(share);
    }

    /// Returns the bytes of all messages that the link holds, in either direction.
    pub(crate) fn bytes(&self) -> usize {
        self.handle.bytes()
    }

    /// Whether nothing would be lost if the link ended.
    pub(crate) fn holds_nothing(&self) -> bool {
        self.pending() == 0 && self.handle.held() == 0
    }

    pub(crate) fn renews_token(&self) -> bool {
        self.handle.dialect().renews_token
    }
}

/// Two handles of the same link are equal, whatever time limits they have.
impl PartialEq for Link {
    fn eq(&self, other: &Self) -> bool {
        self.number() == other.number()
    }
}

impl Eq for Link {}

impl Hash for Link {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.number().hash(state);
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
