//! What any holder of a link may do.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use semver::Version;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::pending::{Limit, Pending, ResponseResult};
use super::phase::{CloseFrame, Phase, SendClass};
use super::send_state::{BudgetKind, HANDED_ON, LockedSendState, SendRefused, SendState, Wake};
use crate::close::{CloseCode, Closed, Reason};
use crate::error::{Delivery, EventError, RequestError, SendError};
use crate::handshake::ResumeInfo;
use crate::link::config::Config;
use crate::link::memory::Share;
use crate::link::refusal::error_response;
use crate::link::state::{Ignored, LinkState};
use crate::message::{Direction, Peer, Role, Since};
use crate::session::{AckError, Receiving, Sending};
use crate::transport::Outgoing;
use crate::trust::Claims;
use crate::wire::{Dialect, EncodeError, EncodedMessage, HeartbeatMessage, Text};

/// A link as all of its parts see it: cheap to clone, all clones are the same link.
#[derive(Clone, Debug)]
pub(in crate::link) struct Handle(pub(super) Arc<Outbound>);

#[derive(Debug)]
pub(super) struct Outbound {
    number: u64,
    us: Role,
    peer: Peer,
    claims: Claims,
    version: Version,
    dialect: Dialect,
    config: Config,
    pub(super) send_state: LockedSendState,
    pub(super) pending: Pending,
    pub(super) link_state: watch::Sender<LinkState>,
    /// The number of the peer's requests that are being handled; the link's task keeps it.
    pub(super) answers_owed: AtomicUsize,
}

impl Handle {
    pub(in crate::link) fn new(
        us: Role,
        peer: Peer,
        claims: Claims,
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
            claims,
            version,
            dialect: *sending.dialect(),
            send_state: LockedSendState::new(SendState::new(sending, resume_info, &config)),
            config,
            pending: Pending::default(),
            link_state: watch::Sender::new(LinkState::Connected),
            answers_owed: AtomicUsize::new(0),
        }))
    }

    /// Counts the link's bytes in `share` from now on.
    pub(in crate::link) fn count_in(&self, share: Share) {
        self.with(|state, _| state.share = share);
    }

    pub(in crate::link) fn us(&self) -> Role {
        self.0.us
    }

    pub(in crate::link) fn peer(&self) -> &Peer {
        &self.0.peer
    }

    pub(in crate::link) fn claims(&self) -> &Claims {
        &self.0.claims
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

    /// Checks whether messages of this type may be sent over this link.
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

    pub(super) fn with<T>(&self, change: impl FnOnce(&mut SendState, &mut Wake) -> T) -> T {
        self.0.send_state.with(change)
    }
}

/// Sending.
impl Handle {
    pub(in crate::link) async fn event(&self, message: &EncodedMessage) -> Result<(), EventError> {
        self.fits(message).map_err(SendError::from)?;
        let queued = match self.try_send(message, self.message_class()) {
            // Boxed, because it is rare: the future of every caller would reserve room for it.
            Err(SendRefused::Full) => Box::pin(self.event_in_turn(message)).await,
            queued => queued,
        };
        queued.map_err(|_| EventError::Closed(self.why_closed()))
    }

    async fn event_in_turn(&self, message: &EncodedMessage) -> Result<(), SendRefused> {
        let room = self.0.send_state.permits(BudgetKind::Room, message.bytes()).await?;
        // `send` has it now, and gives it back if it refuses the frame.
        room.spend();
        self.with(|state, wake| state.send(message, self.message_class(), wake).map(drop))
    }

    /// Queues an event that is handed on or broadcast, behind all that already wait for room. Does not
    /// wait: a link for which too much waits is closed, and one that is closing gets nothing.
    pub(in crate::link) fn hand_on(&self, message: &EncodedMessage) {
        let most = self.config().outbox;
        let full = self.with(|state, wake| {
            let Err(SendRefused::Full) = state.try_send(message, HANDED_ON, wake) else {
                return false;
            };
            // A handler must not wait here: the link that the event came from would fill its inbox
            // and end, for a fault of the target. So the event waits, and the target ends instead.
            let full = state.room.frame_bytes() + message.bytes() > most;
            if !full {
                state.room.join_frame(message.clone());
            }
            full
        });
        // Outside of `with`, because `ask_close` takes the lock itself.
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

    /// Queues the response that `write` makes, at once or when there is room for it. Of all answers
    /// that wait, only one is written as JSON at a time.
    pub(in crate::link) async fn answer(
        &self,
        name: &str,
        to: u64,
        write: impl Fn() -> Result<EncodedMessage, EncodeError>,
    ) {
        // While no answer waits there is most likely room, and `write` is not called in vain.
        if self.with(|state, _| state.turn.has(1)) {
            let Some(message) = self.sendable(name, to, write()) else { return };
            let Err(SendRefused::Full) = self.try_send(&message, SendClass::Answer) else { return };
        }
        if let Ok(_turn) = self.0.send_state.permits(BudgetKind::Turn, 1).await {
            self.respond(name, to, write()).await;
        }
    }

    /// Queues a response when there is room for it. If the link ends meanwhile, none is sent.
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

    /// Returns the response, or an error response that tells why it cannot be sent.
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

    /// Returns the class of a request or an event that is sent now.
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
        // The task has to set its timer anew.
        wake.driver |= state.deadlines.add(limit.deadline);
        // Still under the lock: the entry is there before the frame can be written, and the end of
        // the link either refuses this request or finds the entry.
        Ok((seq, self.0.pending.insert(seq, limit)))
    }

    /// Returns the number of requests of this side that wait for an answer.
    pub(in crate::link) fn pending(&self) -> usize {
        self.0.pending.len()
    }
}

/// What is under way.
impl Handle {
    pub(in crate::link) fn resume_info(&self) -> Option<ResumeInfo> {
        self.with(|state, _| state.resume_info.clone())
    }

    /// Returns the number of frames that are held for the peer.
    pub(in crate::link) fn held(&self) -> usize {
        self.with(|state, _| state.session.held())
    }

    /// Returns the bytes of all messages that the link holds, in either direction.
    pub(in crate::link) fn bytes(&self) -> usize {
        self.with(|state, _| state.bytes())
    }

    /// Returns the number of the peer's requests that are being handled.
    pub(super) fn answers_owed(&self) -> usize {
        self.0.answers_owed.load(Ordering::SeqCst)
    }

    fn is_drained(&self, state: &SendState) -> bool {
        // The question of this side is answered only after that, so it does not count.
        let prepare = state.prepare.is_some_and(|seq| self.0.pending.contains(seq));
        self.0.pending.len() == usize::from(prepare) && self.answers_owed() == 0
    }

    /// Wakes the tasks in [`drained`](Self::drained) if no request is under way any more.
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
    /// only answers once this side has told the peer that it is `ready`.
    pub(in crate::link) fn drain(&self, ready: bool, by_peer: bool) {
        self.with(|state, _| state.phase.drain(ready, by_peer));
    }

    /// Waits until no request waits for an answer, in either direction, `prepare_disconnect` apart,
    /// or the link has ended. While new messages are admitted, that state may not last.
    pub(in crate::link) async fn drained(&self) {
        std::future::poll_fn(|cx: &mut Context<'_>| {
            self.with(|state, _| {
                if self.is_drained(state) || matches!(state.phase, Phase::Ended(_)) {
                    return Poll::Ready(());
                }
                // Under the lock of the check, so that no wake is lost in between.
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

    /// Asks the link's task to close at once; what is queued is dropped. After another close that was
    /// asked for it does nothing.
    pub(in crate::link) fn abort(&self, closed: Closed) {
        self.with(|state, wake| state.abort(closed, wake));
    }

    /// Whether an abort was asked for, until [`begin_close`](Self::begin_close).
    pub(in crate::link) fn is_abort(&self) -> bool {
        self.with(|state, _| state.phase.is_abort())
    }

    pub(in crate::link) fn is_closing(&self) -> bool {
        self.with(|state, _| state.phase.why().is_some())
    }

    fn why_closed(&self) -> Closed {
        let known = self.with(|state, _| state.phase.why().cloned());
        known.unwrap_or_else(|| Closed::lost("The link is closing"))
    }

    pub(super) fn lost(&self, delivery: Delivery) -> RequestError {
        RequestError::Closed { delivery, closed: self.why_closed() }
    }
}

/// What the link's task has to write next.
#[derive(Debug)]
pub(in crate::link) enum NextWrite<const N: usize> {
    /// The next frames, at most `N`. The task calls [`wrote`](Handle::wrote) when they are written.
    Frames([Option<Text>; N]),
    /// The close frame, and nothing behind it. The task calls
    /// [`sent_close_frame`](Handle::sent_close_frame) when it is written.
    Close(CloseCode, Reason),
    /// Nothing, because this side wants to close for that reason.
    Asked(Closed),
    Nothing,
}

/// What only the link's task does.
impl Handle {
    /// Ends the wait for the answer to `seq`. Returns the sender that has to tell the caller.
    pub(in crate::link) fn take_pending(
        &self,
        seq: u64,
    ) -> Option<oneshot::Sender<ResponseResult>> {
        self.0.pending.take(seq)
    }

    /// Returns when [`expire`](Self::expire) has to be called next.
    pub(in crate::link) fn next_deadline(&self) -> Option<Instant> {
        self.with(|state, _| state.deadlines.next())
    }

    /// Ends every wait whose time is over.
    pub(in crate::link) fn expire(&self, now: Instant) {
        // The scan runs without the lock, because it visits every request. One that comes meanwhile
        // is either seen by it or adds its own time limit.
        self.with(|state, _| state.deadlines.begin_scan());
        let next = self.0.pending.expire(now);
        let waiting = self.pending();
        self.with(|state, _| state.deadlines.end_scan(now, next, waiting));
    }

    /// Returns what to write next.
    pub(in crate::link) fn next<const N: usize>(&self) -> NextWrite<N> {
        self.with(|state, _| {
            // Before the frames: the task has to queue the `close` message behind them first.
            if let Some(closed) = state.phase.asked() {
                return NextWrite::Asked(closed.clone());
            }
            if !state.session.is_idle() {
                return NextWrite::Frames(state.session.unwritten());
            }
            match &state.phase {
                Phase::Closing(_, CloseFrame::Due(code, reason)) => {
                    NextWrite::Close(*code, reason.clone())
                }
                _ => NextWrite::Nothing,
            }
        })
    }

    /// Notes that the socket has the close frame: nothing follows it.
    pub(in crate::link) fn sent_close_frame(&self) {
        self.with(|state, _| {
            if let Phase::Closing(_, close_frame) = &mut state.phase {
                *close_frame = CloseFrame::Sent;
            }
        });
    }

    /// Notes that the socket has the next `frames`; in plain their room is free again.
    pub(in crate::link) fn wrote(&self, frames: usize) {
        self.with(|state, wake| {
            let room = state.session.wrote(frames);
            state.give(BudgetKind::Room, room, wake);
            // The task, which calls this, looks for frames again anyway.
            wake.frames = false;
        });
    }

    /// Whether nothing waits to be written.
    pub(in crate::link) fn is_idle(&self) -> bool {
        self.with(|state, _| state.session.is_idle())
    }

    /// Returns the message that shows the peer that this side is alive.
    pub(in crate::link) fn sign_of_life(&self, receiving: &mut Receiving) -> Outgoing {
        if !self.dialect().resumes() {
            return Outgoing::Ping;
        }
        let heartbeat = HeartbeatMessage { seq: receiving.acknowledge() };
        // If it cannot be written, a ping shows life too, and the next heartbeat acknowledges.
        let text = EncodedMessage::protocol(HeartbeatMessage::TYPE, &heartbeat).ok();
        text.and_then(|message| message.to_frame(None).ok()).map_or(Outgoing::Ping, Outgoing::Text)
    }

    /// Drops the frames up to `seq`, which the peer has.
    pub(in crate::link) fn acknowledged(&self, seq: Option<u64>) -> Result<(), AckError> {
        self.with(|state, wake| {
            let room = state.session.acknowledged(seq)?;
            state.give(BudgetKind::Room, room, wake);
            Ok(())
        })
    }

    /// Resumes the session over a new socket; the peer has all frames up to `seq`. Returns how many
    /// frames are sent again.
    pub(in crate::link) fn resumed(
        &self,
        seq: Option<u64>,
        resume_info: ResumeInfo,
    ) -> Result<usize, AckError> {
        self.with(|state, wake| {
            let (room, again) = state.session.resumed(seq)?;
            state.give(BudgetKind::Room, room, wake);
            state.resume_info = Some(resume_info);
            Ok(again)
        })
    }

    /// Releases memory that only a busy link needs.
    pub(in crate::link) fn shrink(&self) {
        self.with(|state, _| state.session.shrink());
    }

    /// Begins to read and handle: the task will look for what is [next](Self::next) by itself.
    pub(in crate::link) fn begin_look(&self) {
        self.0.send_state.set_looks(true);
    }

    /// The opposite: from here on the task has to be woken for new frames.
    pub(in crate::link) fn end_look(&self) {
        self.0.send_state.set_looks(false);
    }

    /// Registers the waker of the link's task.
    pub(in crate::link) fn register(&self, waker: &Waker) {
        self.0.send_state.register(waker);
    }

    pub(in crate::link) fn set_answers_owed(&self, requests: usize) {
        // Most often it is unchanged, and the store costs more than the load.
        if self.answers_owed() != requests {
            self.0.answers_owed.store(requests, Ordering::SeqCst);
        }
    }

    /// Ends a poll of the task, which holds `received` bytes of messages. Wakes the tasks in
    /// [`drained`](Self::drained) if no request is under way any more.
    pub(in crate::link) fn end_poll(&self, received: usize) {
        self.with(|state, wake| {
            state.received = received;
            self.wake_drained(state, wake);
        });
    }

    pub(in crate::link) fn ignore_event(&self) {
        self.with(|state, _| state.ignored.events += 1);
    }

    pub(in crate::link) fn ignore_response(&self) {
        self.with(|state, _| state.ignored.responses += 1);
    }

    pub(in crate::link) fn set_state(&self, state: LinkState) {
        self.0.link_state.send_replace(state);
    }

    /// Returns the close that this side has asked for.
    pub(in crate::link) fn close_asked(&self) -> Option<Closed> {
        self.with(|state, _| state.phase.asked().cloned())
    }

    /// Whether the peer has announced its close: one that comes now is intended.
    pub(in crate::link) fn is_meant(&self) -> bool {
        self.with(|state, _| state.phase.is_meant())
    }

    /// Begins to close: only what is queued, the `close` message and the close frame with `code`
    /// are sent from here on.
    pub(in crate::link) fn begin_close(&self, closed: &Closed, code: CloseCode) {
        let close_frame = CloseFrame::Due(code, closed.reason.clone());
        self.with(|state, wake| state.begin_close(closed, close_frame, wake));
    }

    /// Ends the link: every waiting caller is told, once.
    pub(in crate::link) fn end(&self, closed: Closed) {
        let ended = self.with(|state, wake| {
            if matches!(state.phase, Phase::Ended(_)) {
                return false;
            }
            state.phase = Phase::Ended(closed.clone());
            state.end_waits(wake);
            true
        });
        if !ended {
            return;
        }
        // No request slips in between: `begin` inserts under the same lock, and is refused by now.
        self.0.pending.close(|seq| {
            let written = self.with(|state, _| state.session.was_written(seq));
            self.lost(if written { Delivery::Unknown } else { Delivery::NotDelivered })
        });
        // The application may keep its handles of the link for long.
        self.with(|state, _| state.discard());
        self.set_state(LinkState::of_end(closed));
    }
}
