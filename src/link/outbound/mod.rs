//! The sending half of a link, behind a cheap handle.
//!
//! Whatever is sent goes through [`Stream`], under its lock: budgets, number, place in the queue and
//! the wait for an answer are one step. The link's task takes the frames out.

mod budget;
mod pending;
mod phase;
mod request;
mod stream;
mod wait;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use futures::task::AtomicWaker;
use semver::Version;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

pub(super) use pending::Outcome;
use pending::{Limit, Pending};
pub(super) use phase::Class;
use phase::{Goodbye, Phase};
pub(super) use request::RequestFuture;
pub(super) use stream::Refused;
use stream::{HANDED_ON, Of, Stream, Wake};

use super::config::Config;
use super::refusal::error_response;
use super::state::{Ignored, LinkState};
use crate::close::{CloseCode, Closed, Reason};
use crate::error::{Delivery, EventError, RequestError, SendError};
use crate::handshake::{Hold, Peer};
use crate::message::Role;
use crate::session::{AckError, Receiving, Sending};
use crate::transport::Outgoing;
use crate::wire::{Dialect, Draft, EncodeError, Heartbeat, Text};

/// A link as all of its parts see it: cheap to clone, all clones are the same link.
#[derive(Clone, Debug)]
pub(crate) struct Handle(Arc<Outbound>);

#[derive(Debug)]
struct Outbound {
    us: Role,
    peer: Peer,
    version: Version,
    dialect: Dialect,
    config: Config,
    stream: Mutex<Stream>,
    pending: Pending,
    state: watch::Sender<LinkState>,
    /// Wakes the link's task: there is something to write, or the link shall close.
    driver: AtomicWaker,
    /// How many requests of the peer are being handled; the link's task keeps it.
    answers_owed: AtomicUsize,
}

/// What the link's task has to write next.
#[derive(Debug)]
pub(super) enum Next<const N: usize> {
    /// The next frames, as many as there are or `N`; it has to be said when they are
    /// [written](Handle::wrote).
    Frames([Option<Text>; N]),
    /// The close frame, and nothing behind it.
    Close(CloseCode, Reason),
    /// Nothing; this side wants to close.
    Asked,
    Nothing,
}

impl Handle {
    pub(super) fn new(
        us: Role,
        peer: Peer,
        version: Version,
        config: Config,
        sending: Sending,
        hold: Option<Hold>,
    ) -> Self {
        Self(Arc::new(Outbound {
            us,
            peer,
            version,
            dialect: *sending.dialect(),
            stream: Mutex::new(Stream::new(sending, hold, &config)),
            config,
            pending: Pending::default(),
            state: watch::Sender::new(LinkState::Connected),
            driver: AtomicWaker::new(),
            answers_owed: AtomicUsize::new(0),
        }))
    }

    pub(super) fn us(&self) -> Role {
        self.0.us
    }

    pub(super) fn peer(&self) -> &Peer {
        &self.0.peer
    }

    pub(super) fn version(&self) -> &Version {
        &self.0.version
    }

    pub(super) fn config(&self) -> &Config {
        &self.0.config
    }

    pub(super) fn dialect(&self) -> &Dialect {
        &self.0.dialect
    }

    pub(super) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// The peer, for logs and errors.
    pub(super) fn describe_peer(&self) -> String {
        match self.peer().id {
            Some(id) => format!("{} {id}", self.peer().role),
            None => self.peer().role.to_string(),
        }
    }

    /// Changes the stream, and wakes whoever that concerns when its lock has been let go.
    fn with<T>(&self, change: impl FnOnce(&mut Stream, &mut Wake) -> T) -> T {
        let mut wake = Wake::default();
        let changed = {
            // Nothing panics while the lock is held.
            let mut stream = self.0.stream.lock().unwrap_or_else(PoisonError::into_inner);
            change(&mut stream, &mut wake)
        };
        wake.tasks.into_iter().for_each(Waker::wake);
        if wake.driver {
            self.wake();
        }
        changed
    }
}

/// Sending.
impl Handle {
    pub(super) async fn event(&self, draft: &Draft) -> Result<(), EventError> {
        self.fits(draft).map_err(SendError::from)?;
        let queued = match self.try_send(draft, self.message()) {
            // In a box, because it is rare, and callers would find room for it in each of theirs.
            Err(Refused::Full) => Box::pin(self.event_in_turn(draft)).await,
            queued => queued,
        };
        queued.map_err(|_| EventError::Closed(self.why_closed()))
    }

    async fn event_in_turn(&self, draft: &Draft) -> Result<(), Refused> {
        let room = self.permits(Of::Room, draft.bytes()).await?;
        room.spend();
        self.with(|stream, wake| stream.send(draft, self.message(), wake).map(drop))
    }

    /// Queues an event that is handed on, behind those that wait for room already. Waits for nothing.
    pub(super) fn hand_on(&self, draft: &Draft) {
        let most = self.config().outbox;
        let full = self.with(|stream, wake| {
            if stream.may_send(HANDED_ON).is_err() {
                return false;
            }
            if stream.room.try_take(draft.bytes()) {
                let _ = stream.send(draft, HANDED_ON, wake);
                return false;
            }
            let full = stream.room.frame_bytes() + draft.bytes() > most;
            if !full {
                stream.room.join_frame(draft.clone());
            }
            full
        });
        if full {
            let reason = "The outbox is full: events come faster than they are read";
            self.ask_close(Closed::local(CloseCode::POLICY, reason));
        }
    }

    /// Queues a frame now, if there is room for it.
    pub(super) fn try_send(&self, draft: &Draft, class: Class) -> Result<(), Refused> {
        self.with(|stream, wake| {
            stream.may_send(class)?;
            if !stream.room.try_take(draft.bytes()) {
                return Err(Refused::Full);
            }
            stream.send(draft, class, wake).map(drop)
        })
    }

    /// Queues the response that `write` makes, when there is room for it: at once, or else, so that
    /// no more than one answer that waits is kept as JSON, in turn.
    pub(super) async fn answer(
        &self,
        name: &str,
        to: u64,
        write: impl Fn() -> Result<Draft, EncodeError>,
    ) {
        let Some(draft) = self.sendable(name, to, write()) else { return };
        let Err(Refused::Full) = self.try_send(&draft, Class::Answer) else { return };
        drop(draft);
        if let Ok(_turn) = self.permits(Of::Turn, 1).await {
            self.respond(name, to, write()).await;
        }
    }

    /// Queues a response, when there is room for it. A link that ends meanwhile needs none.
    pub(super) async fn respond(&self, name: &str, to: u64, response: Result<Draft, EncodeError>) {
        if let Some(draft) = self.sendable(name, to, response)
            && let Ok(room) = self.permits(Of::Room, draft.bytes()).await
        {
            room.spend();
            let _ = self.with(|stream, wake| stream.send(&draft, Class::Answer, wake));
        }
    }

    /// The response, or an error that says why it cannot be sent.
    fn sendable(&self, name: &str, to: u64, response: Result<Draft, EncodeError>) -> Option<Draft> {
        let checked = response.and_then(|draft| self.fits(&draft).map(|()| draft));
        let draft = checked.or_else(|error| {
            tracing::error!(name, %error, "an answer cannot be sent");
            let error = format!("The answer to {name}_request cannot be sent: {error}");
            error_response(name, to, &error)
        });
        draft.ok()
    }

    pub(super) fn fits(&self, draft: &Draft) -> Result<(), EncodeError> {
        let (bytes, most) = (draft.bytes(), self.config().max_frame);
        let limit = "`max_frame`";
        if bytes > most { Err(EncodeError::TooLong { bytes, limit, most }) } else { Ok(()) }
    }

    /// What a request or an event is, at this moment.
    fn message(&self) -> Class {
        Class::Message { needed: self.answers_owed() > 0 }
    }
}

/// Requests that wait for their answers.
impl Handle {
    /// Numbers and queues a request that has a slot and room; the wait for its answer begins before
    /// its frame can be written.
    fn begin(
        &self,
        stream: &mut Stream,
        draft: &Draft,
        class: Class,
        limit: Limit,
        wake: &mut Wake,
    ) -> Result<(u64, oneshot::Receiver<Outcome>), Refused> {
        let seq = stream.send(draft, class, wake)?;
        if class == Class::Prepare {
            stream.prepare = Some(seq);
        }
        // Its timer is to be set.
        wake.driver |= stream.deadlines.add(limit.deadline);
        Ok((seq, self.0.pending.insert(seq, limit)))
    }

    /// How many requests of this side wait for an answer.
    pub(super) fn pending(&self) -> usize {
        self.0.pending.len()
    }

    /// Who waits for the answer to `seq`, and does so no longer.
    pub(super) fn take_pending(&self, seq: u64) -> Option<oneshot::Sender<Outcome>> {
        self.0.pending.take(seq)
    }

    /// When [`expire`](Self::expire) has to be called next.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.with(|stream, _| stream.deadlines.next())
    }

    /// Ends every wait whose time is over.
    pub(super) fn expire(&self, now: Instant) {
        // A request that comes meanwhile is either seen below or makes itself known here.
        self.with(|stream, _| stream.deadlines.begin_look());
        let next = self.0.pending.expire(now);
        let waiting = self.pending();
        self.with(|stream, _| stream.deadlines.end_look(now, next, waiting));
    }
}

/// What the link's task does with the stream.
impl Handle {
    /// The next for the socket.
    pub(super) fn next<const N: usize>(&self) -> Next<N> {
        self.with(|stream, _| {
            if stream.phase.asked().is_some() {
                return Next::Asked;
            }
            if !stream.session.is_idle() {
                return Next::Frames(stream.session.unwritten());
            }
            match &mut stream.phase {
                Phase::Closing(_, goodbye @ Goodbye::Due(..)) => {
                    match std::mem::replace(goodbye, Goodbye::Said) {
                        Goodbye::Due(code, reason) => Next::Close(code, reason),
                        _ => Next::Nothing,
                    }
                }
                _ => Next::Nothing,
            }
        })
    }

    /// So many of the next frames are with the socket; in plain their room is free again.
    pub(super) fn wrote(&self, frames: usize) {
        self.with(|stream, wake| {
            let room = stream.session.wrote(frames);
            stream.give(Of::Room, room, wake);
            // It looks again by itself.
            wake.driver = false;
        });
    }

    /// Whether nothing waits to be written.
    pub(super) fn is_idle(&self) -> bool {
        self.with(|stream, _| stream.session.is_idle())
    }

    /// What shows the peer that this side lives.
    pub(super) fn sign_of_life(&self, receiving: &mut Receiving) -> Outgoing {
        if !self.dialect().resumes() {
            return Outgoing::Ping;
        }
        let heartbeat = Heartbeat { seq: receiving.acknowledge() };
        // Without a text for it, a ping shows life as well, and the next heartbeat acknowledges.
        let text = Draft::protocol(Heartbeat::TYPE, &heartbeat).ok();
        text.and_then(|draft| draft.number(None).ok()).map_or(Outgoing::Ping, Outgoing::Text)
    }

    /// The peer has all frames up to `seq`.
    pub(super) fn acknowledged(&self, seq: Option<u64>) -> Result<(), AckError> {
        self.with(|stream, wake| {
            let room = stream.session.acknowledged(seq)?;
            stream.give(Of::Room, room, wake);
            Ok(())
        })
    }

    /// The session goes on over a new socket, and the peer has all frames up to `seq`. Says how
    /// many frames go out again.
    pub(super) fn resumed(&self, seq: Option<u64>, hold: Hold) -> Result<usize, AckError> {
        self.with(|stream, wake| {
            let (room, again) = stream.session.resumed(seq)?;
            stream.give(Of::Room, room, wake);
            stream.hold = Some(hold);
            Ok(again)
        })
    }

    /// Lets go of memory that is only of use to a link that has much to say.
    pub(super) fn shrink(&self) {
        self.with(|stream, _| stream.session.rest());
    }

    pub(super) fn hold(&self) -> Option<Hold> {
        self.with(|stream, _| stream.hold.clone())
    }

    /// How many frames are held for the peer.
    pub(super) fn held(&self) -> usize {
        self.with(|stream, _| stream.session.held())
    }

    /// For the link's task only.
    pub(super) fn register(&self, waker: &Waker) {
        self.0.driver.register(waker);
    }

    pub(super) fn wake(&self) {
        self.0.driver.wake();
    }

    /// How many requests of the peer are being handled.
    fn answers_owed(&self) -> usize {
        self.0.answers_owed.load(Ordering::SeqCst)
    }

    pub(super) fn set_answers_owed(&self, requests: usize) {
        // Most often it is what it was.
        if self.answers_owed() != requests {
            self.0.answers_owed.store(requests, Ordering::SeqCst);
        }
    }

    /// Wakes those in [`drained`](Self::drained) when what they wait for has come about. The link's
    /// task looks each time that it has worked.
    pub(super) fn check_drained(&self) {
        self.with(|stream, wake| {
            if !stream.drains.is_empty() && self.is_drained(stream) {
                wake.tasks.append(&mut stream.drains);
            }
        });
    }

    fn is_drained(&self, stream: &Stream) -> bool {
        let prepare = stream.prepare.is_some_and(|seq| self.0.pending.contains(seq));
        self.0.pending.len() == usize::from(prepare) && self.answers_owed() == 0
    }

    pub(super) fn ignore_event(&self) {
        self.with(|stream, _| stream.ignored.events += 1);
    }

    pub(super) fn ignore_response(&self) {
        self.with(|stream, _| stream.ignored.responses += 1);
    }

    pub(super) fn ignored(&self) -> Ignored {
        self.with(|stream, _| stream.ignored)
    }
}

/// The end.
impl Handle {
    pub(super) fn set_state(&self, state: LinkState) {
        self.0.state.send_replace(state);
    }

    pub(super) fn states(&self) -> watch::Receiver<LinkState> {
        self.0.state.subscribe()
    }

    pub(super) fn state(&self) -> watch::Ref<'_, LinkState> {
        self.0.state.borrow()
    }

    /// One side prepares to disconnect: from now on only what is needed for answers is sent, and
    /// only answers when this side has said that it is `ready`.
    pub(super) fn drain(&self, ready: bool, by_peer: bool) {
        self.with(|stream, _| stream.phase.drain(ready, by_peer));
    }

    /// Waits until no request waits for an answer, in either direction, `prepare_disconnect` apart,
    /// or the link has ended. While messages are admitted that is a passing state.
    pub(super) async fn drained(&self) {
        std::future::poll_fn(|cx: &mut Context<'_>| {
            self.with(|stream, _| {
                if self.is_drained(stream) || matches!(stream.phase, Phase::Ended(_)) {
                    return Poll::Ready(());
                }
                stream.drains.push(cx.waker().clone());
                Poll::Pending
            })
        })
        .await;
    }

    /// Asks the link's task to close. Only the first call counts.
    pub(super) fn ask_close(&self, closed: Closed) {
        self.with(|stream, wake| wake.driver |= stream.phase.ask(closed));
    }

    /// What this side has asked for.
    pub(super) fn close_asked(&self) -> Option<Closed> {
        self.with(|stream, _| stream.phase.asked().cloned())
    }

    /// Whether the peer has said that whatever close comes is meant.
    pub(super) fn is_meant(&self) -> bool {
        self.with(|stream, _| stream.phase.is_meant())
    }

    /// Nothing new is sent from here on: what is queued, the `close` message and the close frame
    /// with `code`.
    pub(super) fn begin_close(&self, closed: &Closed, code: CloseCode) {
        let goodbye = Goodbye::Due(code, closed.reason.clone());
        self.with(|stream, wake| stream.begin_close(closed, goodbye, wake));
    }

    /// The end: everybody who waits is told, once.
    pub(super) fn end(&self, closed: Closed) {
        let ended = self.with(|stream, wake| {
            if matches!(stream.phase, Phase::Ended(_)) {
                return false;
            }
            stream.end_waits(Phase::Ended(closed.clone()), wake);
            true
        });
        if !ended {
            return;
        }
        // Nothing is inserted any more: that happens under the lock, while the link may send.
        self.0.pending.close(|seq| {
            let written = self.with(|stream, _| stream.session.was_written(seq));
            self.lost(if written { Delivery::Unknown } else { Delivery::NotDelivered })
        });
        self.set_state(LinkState::of_end(closed));
    }

    fn why_closed(&self) -> Closed {
        let known = self.with(|stream, _| stream.phase.why().cloned());
        known.unwrap_or_else(|| Closed::lost("The link is closing"))
    }

    fn lost(&self, delivery: Delivery) -> RequestError {
        RequestError::Closed { delivery, closed: self.why_closed() }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::session::Session;

    /// A link without a task: what is queued stays until a test takes it.
    pub(in crate::link) fn handle(change: impl FnOnce(&mut Config)) -> Handle {
        let mut config = Config::default();
        change(&mut config);
        let (version, agent, role) = (Version::new(2, 0, 0), String::new(), Role::Control);
        let peer = Peer { role, id: None, name: None, agent, version: version.clone() };
        let session = Session::continuing(Dialect::PLAIN, 0);
        Handle::new(Role::Master, peer, version, config, session.sending, None)
    }

    /// Whatever the order of a request and the end: nobody waits for ever.
    #[test]
    fn a_request_beside_the_end_is_told() {
        use futures::FutureExt as _;
        const ROUNDS: usize = 5_000;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _inside = runtime.enter();
        let rounds: Vec<Handle> = (0..ROUNDS).map(|_| handle(|_| {})).collect();
        let barrier = std::sync::Barrier::new(2);
        let mut left = 0;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for handle in &rounds {
                    barrier.wait();
                    handle.end(Closed::lost("cut"));
                    barrier.wait();
                }
            });
            for handle in &rounds {
                let draft = Draft::request("ask", &crate::message::Empty {}).unwrap();
                let mut request = RequestFuture::new(handle.clone(), Ok(draft), None, |_| Ok(()));
                barrier.wait();
                let first = (&mut request).now_or_never();
                barrier.wait();
                // Either it was not let in, or the end has told it.
                left += usize::from(first.is_none() && request.now_or_never().is_none());
            }
        });
        assert_eq!(left, 0, "of {ROUNDS} would wait for ever");
        assert!(rounds.iter().all(|handle| handle.pending() == 0));
    }
}
