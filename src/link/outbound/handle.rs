//! What everybody may do who holds a link.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use semver::Version;
use tokio::sync::{oneshot, watch};

use super::pending::{Limit, Pending, ResponseResult};
use super::phase::{Phase, SendClass};
use super::send_state::{BudgetKind, HANDED_ON, LockedSendState, SendRefused, SendState, Wake};
use crate::close::{CloseCode, Closed};
use crate::error::{Delivery, EventError, RequestError, SendError};
use crate::handshake::{Peer, ResumeInfo};
use crate::link::config::Config;
use crate::link::refusal::error_response;
use crate::link::state::{Ignored, LinkState};
use crate::message::{Direction, Role, Since};
use crate::session::Sending;
use crate::wire::{Dialect, EncodeError, EncodedMessage};

/// A link as all of its parts see it: cheap to clone, all clones are the same link.
#[derive(Clone, Debug)]
pub(in crate::link) struct Handle(pub(super) Arc<Outbound>);

#[derive(Debug)]
pub(super) struct Outbound {
    number: u64,
    us: Role,
    peer: Peer,
    version: Version,
    dialect: Dialect,
    config: Config,
    pub(super) send_state: LockedSendState,
    pub(super) pending: Pending,
    pub(super) link_state: watch::Sender<LinkState>,
    /// How many requests of the peer are being handled; the link's task keeps it.
    pub(super) answers_owed: AtomicUsize,
}

impl Handle {
    pub(in crate::link) fn new(
        us: Role,
        peer: Peer,
        version: Version,
        config: Config,
        sending: Sending,
        resume_info: Option<ResumeInfo>,
    ) -> Self {
        static LINKS: AtomicU64 = AtomicU64::new(1);
        Self(Arc::new(Outbound {
            number: LINKS.fetch_add(1, Ordering::Relaxed),
            us,
            peer,
            version,
            dialect: *sending.dialect(),
            send_state: LockedSendState::new(SendState::new(sending, resume_info, &config)),
            config,
            pending: Pending::default(),
            link_state: watch::Sender::new(LinkState::Connected),
            answers_owed: AtomicUsize::new(0),
        }))
    }

    pub(in crate::link) fn us(&self) -> Role {
        self.0.us
    }

    pub(in crate::link) fn peer(&self) -> &Peer {
        &self.0.peer
    }

    pub(in crate::link) fn version(&self) -> &Version {
        &self.0.version
    }

    pub(in crate::link) fn config(&self) -> &Config {
        &self.0.config
    }

    pub(in crate::link) fn dialect(&self) -> &Dialect {
        &self.0.dialect
    }

    pub(in crate::link) fn number(&self) -> u64 {
        self.0.number
    }

    /// Whether messages of this type go over this link.
    pub(in crate::link) fn may_send(
        &self,
        name: &'static str,
        to: Direction,
        since: Since,
    ) -> Result<(), SendError> {
        let (us, peer) = (self.us(), self.peer().role);
        if !to.allows(us, peer) {
            return Err(SendError::Direction { name, allowed: to, from: us, to: peer });
        }
        let negotiated = self.version();
        if since > (negotiated.major, negotiated.minor, negotiated.patch) {
            return Err(SendError::Version { name, since, negotiated: negotiated.clone() });
        }
        Ok(())
    }

    /// The peer, for logs and errors.
    pub(in crate::link) fn describe_peer(&self) -> String {
        self.peer().to_string()
    }

    pub(super) fn with<T>(&self, change: impl FnOnce(&mut SendState, &mut Wake) -> T) -> T {
        self.0.send_state.with(change)
    }
}

/// Sending.
impl Handle {
    pub(in crate::link) async fn event(&self, message: &EncodedMessage) -> Result<(), EventError> {
        self.fits(message).map_err(SendError::from)?;
        let queued = match self.try_send(message, self.message_class()) {
            // In a box, because it is rare, and callers would find room for it in each of theirs.
            Err(SendRefused::Full) => Box::pin(self.event_in_turn(message)).await,
            queued => queued,
        };
        queued.map_err(|_| EventError::Closed(self.why_closed()))
    }

    async fn event_in_turn(&self, message: &EncodedMessage) -> Result<(), SendRefused> {
        let room = self.0.send_state.permits(BudgetKind::Room, message.bytes()).await?;
        room.spend();
        self.with(|state, wake| state.send(message, self.message_class(), wake).map(drop))
    }

    /// Queues an event that is handed on, behind those that wait for room already. Waits for nothing.
    pub(in crate::link) fn hand_on(&self, message: &EncodedMessage) {
        let most = self.config().outbox;
        let full = self.with(|state, wake| {
            let Err(SendRefused::Full) = state.try_send(message, HANDED_ON, wake) else {
                return false;
            };
            let full = state.room.frame_bytes() + message.bytes() > most;
            if !full {
                state.room.join_frame(message.clone());
            }
            full
        });
        if full {
            let reason = "The outbox is full: events come faster than they are read";
            self.ask_close(Closed::local(CloseCode::POLICY, reason));
        }
    }

    /// Queues a frame now, if there is room for it.
    pub(in crate::link) fn try_send(
        &self,
        message: &EncodedMessage,
        class: SendClass,
    ) -> Result<(), SendRefused> {
        self.with(|state, wake| state.try_send(message, class, wake))
    }

    /// Queues the response that `write` makes, when there is room for it: at once, or else in turn,
    /// so that of all answers that wait no more than one is written as JSON.
    pub(in crate::link) async fn answer(
        &self,
        name: &str,
        to: u64,
        write: impl Fn() -> Result<EncodedMessage, EncodeError>,
    ) {
        // While the turn is free there is most likely room.
        if self.with(|state, _| state.turn.has(1)) {
            let Some(message) = self.sendable(name, to, write()) else { return };
            let Err(SendRefused::Full) = self.try_send(&message, SendClass::Answer) else { return };
        }
        if let Ok(_turn) = self.0.send_state.permits(BudgetKind::Turn, 1).await {
            self.respond(name, to, write()).await;
        }
    }

    /// Queues a response, when there is room for it. A link that ends meanwhile needs none.
    pub(in crate::link) async fn respond(
        &self,
        name: &str,
        to: u64,
        response: Result<EncodedMessage, EncodeError>,
    ) {
        if let Some(message) = self.sendable(name, to, response)
            && let Ok(room) = self.0.send_state.permits(BudgetKind::Room, message.bytes()).await
        {
            room.spend();
            let _ = self.with(|state, wake| state.send(&message, SendClass::Answer, wake));
        }
    }

    /// The response, or an error that says why it cannot be sent.
    fn sendable(
        &self,
        name: &str,
        to: u64,
        response: Result<EncodedMessage, EncodeError>,
    ) -> Option<EncodedMessage> {
        let checked = response.and_then(|message| self.fits(&message).map(|()| message));
        let message = checked.or_else(|error| {
            tracing::error!(name, %error, "an answer cannot be sent");
            let error = format!("The answer to {name}_request cannot be sent: {error}");
            error_response(name, to, &error)
        });
        message.ok()
    }

    pub(in crate::link) fn fits(&self, message: &EncodedMessage) -> Result<(), EncodeError> {
        let (bytes, most) = (message.bytes(), self.config().max_frame);
        let limit = "`max_frame`";
        if bytes > most { Err(EncodeError::TooLong { bytes, limit, most }) } else { Ok(()) }
    }

    /// What a request or an event is, at this moment.
    pub(super) fn message_class(&self) -> SendClass {
        SendClass::Message { needed: self.answers_owed() > 0 }
    }
}

/// Requests that wait for their answers.
impl Handle {
    /// Numbers and queues a request that has a slot and room; the wait for its answer begins before
    /// its frame can be written.
    pub(super) fn begin(
        &self,
        state: &mut SendState,
        message: &EncodedMessage,
        class: SendClass,
        limit: Limit,
        wake: &mut Wake,
    ) -> Result<(u64, oneshot::Receiver<ResponseResult>), SendRefused> {
        let seq = state.send(message, class, wake)?;
        if class == SendClass::Prepare {
            state.prepare = Some(seq);
        }
        // Its timer is to be set.
        wake.driver |= state.deadlines.add(limit.deadline);
        Ok((seq, self.0.pending.insert(seq, limit)))
    }

    /// How many requests of this side wait for an answer.
    pub(in crate::link) fn pending(&self) -> usize {
        self.0.pending.len()
    }
}

/// What the link's task does with the stream.
impl Handle {
    pub(in crate::link) fn resume_info(&self) -> Option<ResumeInfo> {
        self.with(|state, _| state.resume_info.clone())
    }

    /// How many frames are held for the peer.
    pub(in crate::link) fn held(&self) -> usize {
        self.with(|state, _| state.session.held())
    }

    /// How many requests of the peer are being handled.
    pub(super) fn answers_owed(&self) -> usize {
        self.0.answers_owed.load(Ordering::SeqCst)
    }

    fn is_drained(&self, state: &SendState) -> bool {
        let prepare = state.prepare.is_some_and(|seq| self.0.pending.contains(seq));
        self.0.pending.len() == usize::from(prepare) && self.answers_owed() == 0
    }

    /// Wakes those in [`drained`](Self::drained) if what they wait for has come about.
    pub(super) fn wake_drained(&self, state: &mut SendState, wake: &mut Wake) {
        if !state.drains.is_empty() && self.is_drained(state) {
            wake.tasks.append(&mut state.drains);
        }
    }

    pub(in crate::link) fn ignored(&self) -> Ignored {
        self.with(|state, _| state.ignored)
    }
}

/// The end.
impl Handle {
    pub(in crate::link) fn states(&self) -> watch::Receiver<LinkState> {
        self.0.link_state.subscribe()
    }

    pub(in crate::link) fn state(&self) -> watch::Ref<'_, LinkState> {
        self.0.link_state.borrow()
    }

    /// One side prepares to disconnect: from now on only what is needed for answers is sent, and
    /// only answers when this side has said that it is `ready`.
    pub(in crate::link) fn drain(&self, ready: bool, by_peer: bool) {
        self.with(|state, _| state.phase.drain(ready, by_peer));
    }

    /// Waits until no request waits for an answer, in either direction, `prepare_disconnect` apart,
    /// or the link has ended. While messages are admitted that is a passing state.
    pub(in crate::link) async fn drained(&self) {
        std::future::poll_fn(|cx: &mut Context<'_>| {
            self.with(|state, _| {
                if self.is_drained(state) || matches!(state.phase, Phase::Ended(_)) {
                    return Poll::Ready(());
                }
                state.drains.push(cx.waker().clone());
                Poll::Pending
            })
        })
        .await;
    }

    /// Asks the link's task to close. Only the first call counts.
    pub(in crate::link) fn ask_close(&self, closed: Closed) {
        self.with(|state, wake| wake.driver |= state.phase.ask(closed));
    }

    fn why_closed(&self) -> Closed {
        let known = self.with(|state, _| state.phase.why().cloned());
        known.unwrap_or_else(|| Closed::lost("The link is closing"))
    }

    pub(super) fn lost(&self, delivery: Delivery) -> RequestError {
        RequestError::Closed { delivery, closed: self.why_closed() }
    }
}
