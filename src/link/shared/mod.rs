//! What the handles of a link and its driver share.

mod outgoing;

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Poll, Waker};

use futures::task::AtomicWaker;
use semver::Version;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use super::config::Config;
use super::forward::Backlog;
use super::gate::Queue;
use super::pending::{Answer, Pending};
use super::stream::{Admits, Stream};
use super::work::malformed;
use super::{Ignored, LinkState};
use crate::close::Closed;
use crate::error::{DecodeError, Delivery, RemoteError, RequestError};
use crate::handshake::{Agreement, Hold, Peer};
use crate::message::Role;
use crate::session::{AckError, Receiving, Sending, Session};
use crate::transport::Outgoing;
use crate::wire::{Draft, Heartbeat, Text};

#[derive(Debug)]
pub(crate) struct Shared {
    us: Role,
    peer: Peer,
    version: Version,
    config: Config,
    stream: Mutex<Stream>,
    /// The stream's dialect outlives its socket.
    resumes: bool,
    /// How the link outlives its socket; `None` where it does not.
    hold: Mutex<Option<Hold>>,
    state: watch::Sender<LinkState>,
    pending: Pending,
    /// Those who wait until another request may be made.
    slots: Queue,
    /// Those who wait for room in the outbox.
    room: Queue,
    /// Taken by the one answer that may be written as JSON and wait for room: handlers that are
    /// done would otherwise hold all of theirs.
    answering: Semaphore,
    /// Events that were handed on to this link and wait for room.
    backlog: Backlog,
    /// Where the link's task runs: what moves the backlog runs there too, whoever hands on.
    runtime: Handle,
    /// Wakes the driver: there is something to write, or the link shall close.
    driver: Arc<AtomicWaker>,
    /// The driver is at work, and looks for frames before it rests: it need not be woken for them.
    /// Ordered by the stream's lock, under which it is taken back.
    attends: AtomicBool,
    close_asked: OnceLock<Closed>,
    end: OnceLock<Closed>,
    ended: CancellationToken,
    /// How many requests of the peer are being handled; the driver keeps it.
    handling: AtomicUsize,
    ignored_events: AtomicU64,
    ignored_responses: AtomicU64,
}

impl Shared {
    pub(crate) fn new(agreement: Agreement, us: Role, config: Config) -> (Self, Receiving) {
        let Agreement { session, peer, version, hold, .. } = agreement;
        let Session { sending, receiving } = session;
        let shared = Self {
            us,
            peer,
            version,
            resumes: sending.dialect().resumes(),
            stream: Mutex::new(Stream::new(sending, &config)),
            hold: Mutex::new(hold),
            state: watch::Sender::new(LinkState::Connected),
            pending: Pending::default(),
            slots: Queue::new(),
            room: Queue::new(),
            answering: Semaphore::new(1),
            backlog: Backlog::default(),
            runtime: Handle::current(),
            config,
            driver: Arc::default(),
            attends: AtomicBool::new(false),
            close_asked: OnceLock::new(),
            end: OnceLock::new(),
            ended: CancellationToken::new(),
            handling: AtomicUsize::new(0),
            ignored_events: AtomicU64::new(0),
            ignored_responses: AtomicU64::new(0),
        };
        (shared, receiving)
    }

    /// The driver begins to work, and looks for what is [`unwritten`](Self::unwritten) before it
    /// rests.
    pub(in crate::link) fn attend(&self) {
        self.attends.store(true, Ordering::Relaxed);
    }

    /// The next frames for the socket; it has to be said when they are [`wrote`](Self::wrote).
    pub(crate) fn unwritten<const N: usize>(&self) -> [Option<Text>; N] {
        let stream = self.stream();
        self.goes_on_attending(&stream);
        stream.session.unwritten()
    }

    /// So many of the next frames are with the socket; in plain their room is free again. Says
    /// whether there are more.
    pub(crate) fn wrote(&self, frames: usize) -> bool {
        let stream = &mut *self.stream();
        let room = stream.session.wrote(frames);
        stream.room.give(room, &self.room);
        self.goes_on_attending(stream)
    }

    /// Lets the driver rest when there is nothing to write: it has to be woken for what comes next.
    /// Says whether there is anything.
    fn goes_on_attending(&self, stream: &Stream) -> bool {
        let idle = stream.session.is_idle();
        if idle {
            self.attends.store(false, Ordering::Relaxed);
        }
        !idle
    }

    /// Lets go of memory that is only of use to a link that has much to say.
    pub(in crate::link) fn rest(&self) {
        self.stream().session.rest();
    }

    /// What shows the peer that this side lives.
    pub(crate) fn sign_of_life(&self, receiving: &mut Receiving) -> Outgoing {
        if !self.resumes {
            return Outgoing::Ping;
        }
        let heartbeat = Heartbeat { seq: receiving.acknowledge() };
        // Without a text for it, a ping shows life as well, and the next heartbeat acknowledges.
        let text = Draft::protocol(Heartbeat::TYPE, &heartbeat).ok();
        text.and_then(|draft| draft.number(None).ok()).map_or(Outgoing::Ping, Outgoing::Text)
    }

    /// The peer has all frames up to `seq`.
    pub(crate) fn acknowledged(&self, seq: Option<u64>) -> Result<(), AckError> {
        let stream = &mut *self.stream();
        let room = stream.session.acknowledged(seq)?;
        stream.room.give(room, &self.room);
        Ok(())
    }

    /// The session goes on over a new socket, and the peer has all frames up to `seq`. Says how
    /// many frames go out again.
    pub(crate) fn resumed(&self, seq: Option<u64>, hold: Hold) -> Result<usize, AckError> {
        let again = {
            let stream = &mut *self.stream();
            let (room, again) = stream.session.resumed(seq)?;
            stream.room.give(room, &self.room);
            again
        };
        *self.hold.lock().unwrap_or_else(PoisonError::into_inner) = Some(hold);
        Ok(again)
    }

    pub(crate) fn hold(&self) -> Option<Hold> {
        self.hold.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_state(&self, state: LinkState) {
        self.state.send_replace(state);
    }

    pub(crate) fn states(&self) -> watch::Receiver<LinkState> {
        self.state.subscribe()
    }

    /// Waits until this side wants to close. For the driver's task only.
    pub(crate) async fn close_wanted(&self) -> Closed {
        poll_fn(|cx| {
            self.driver.register(cx.waker());
            self.close_asked().cloned().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.stream().session.is_idle()
    }

    pub(crate) fn with_session<T>(&self, act: impl FnOnce(&Sending) -> T) -> T {
        act(&self.stream().session)
    }

    /// Lets nothing more be sent; queues the `close` message, where the dialect has one, when this
    /// side closes.
    pub(crate) fn finish(&self, closed: &Closed, say: bool) {
        self.stream().finish(closed, say);
        // Who waits for room or for a slot learns that there will be none.
        self.slots.close();
        self.room.close();
        self.answering.close();
    }

    /// The end: everybody who waits is told, once.
    pub(crate) fn conclude(&self, closed: Closed) {
        self.finish(&closed, false);
        if self.end.set(closed.clone()).is_ok() {
            self.set_state(LinkState::of_end(closed));
        }
        self.pending.close(|seq| {
            let written = self.with_session(|session| session.was_written(seq));
            self.lost(if written { Delivery::Unknown } else { Delivery::NotDelivered })
        });
        // Handlers that go on keep nobody waiting for the end.
        self.pending.look_again();
        self.ended.cancel();
    }

    pub(crate) fn ask_to_close(&self, closed: Closed) {
        if self.close_asked.set(closed).is_ok() {
            self.driver.wake();
        }
    }

    pub(crate) fn close_asked(&self) -> Option<&Closed> {
        self.close_asked.get()
    }

    pub(crate) async fn closed(&self) -> Closed {
        self.ended.cancelled().await;
        self.why_closed()
    }

    pub(crate) fn end(&self) -> Option<&Closed> {
        self.end.get()
    }

    fn why_closed(&self) -> Closed {
        let known = self.end.get().or(self.close_asked.get());
        known.cloned().unwrap_or_else(|| Closed::lost("The link is closing"))
    }

    pub(in crate::link) fn undelivered(&self) -> RequestError {
        self.lost(Delivery::NotDelivered)
    }

    /// The driver was dropped in the middle, with its runtime.
    pub(in crate::link) fn dropped(&self) -> RequestError {
        self.lost(Delivery::Unknown)
    }

    fn lost(&self, delivery: Delivery) -> RequestError {
        RequestError::Closed { delivery, closed: self.why_closed() }
    }

    /// Hands a response to whoever waits for it; says whether anybody does.
    pub(crate) fn complete(&self, seq: u64, outcome: Result<Answer, RemoteError>) -> bool {
        self.pending.complete(seq, outcome.map_err(|error| Box::new(RequestError::Remote(error))))
    }

    /// Reads an answer; one that turns out to be no frame ends the link.
    pub(crate) fn read_answer<T>(
        &self,
        answer: &Answer,
        read: impl Fn(&str) -> Result<T, DecodeError>,
    ) -> Result<T, RequestError> {
        answer.read(read, |fault| self.ask_to_close(malformed(fault)))
    }

    pub(crate) fn ignore_event(&self) {
        self.ignored_events.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn ignore_response(&self) {
        self.ignored_responses.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn ignored(&self) -> Ignored {
        Ignored {
            events: self.ignored_events.load(Ordering::Relaxed),
            responses: self.ignored_responses.load(Ordering::Relaxed),
        }
    }

    pub(crate) fn driver(&self) -> &Arc<AtomicWaker> {
        &self.driver
    }

    pub(crate) fn wake_with(&self, waker: &Waker) {
        self.driver.register(waker);
    }

    pub(crate) fn us(&self) -> Role {
        self.us
    }

    pub(crate) fn peer(&self) -> &Peer {
        &self.peer
    }

    pub(crate) fn version(&self) -> &Version {
        &self.version
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// Whether the link outlives its socket.
    pub(crate) fn resumes(&self) -> bool {
        self.resumes
    }

    pub(in crate::link) fn admit_only(&self, admits: Admits) {
        self.stream().admit_only(admits);
    }

    /// How many requests of the peer are being handled.
    pub(in crate::link) fn handling(&self) -> usize {
        self.handling.load(Ordering::SeqCst)
    }

    pub(in crate::link) fn set_handling(&self, requests: usize) {
        // Only a change is worth a look: who looks runs on the task that calls this.
        if self.handling() != requests {
            self.handling.store(requests, Ordering::SeqCst);
            if requests == 0 {
                self.pending.look_again();
            }
        }
    }

    pub(in crate::link) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    pub(crate) fn backlog(&self) -> &Backlog {
        &self.backlog
    }

    pub(crate) fn pending(&self) -> &Pending {
        &self.pending
    }

    fn stream(&self) -> MutexGuard<'_, Stream> {
        // Nothing panics while the lock is held.
        self.stream.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
