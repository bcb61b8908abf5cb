//! What the handles of a link and its driver share.

use std::future::poll_fn;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use futures::task::AtomicWaker;
use semver::Version;
use tokio::sync::{AcquireError, Semaphore, SemaphorePermit, TryAcquireError, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::config::Config;
use super::pending::{Answer, Pending, Waiting};
use super::stream::{Admits, Refused, Sort, Stream};
use super::{Ignored, LinkState, error_response};
use crate::close::{CloseCode, Closed};
use crate::error::{Delivery, EventError, RemoteError, RequestError};
use crate::handshake::{Agreement, Hold, Peer};
use crate::message::Role;
use crate::session::{AckError, Session};
use crate::transport::Outgoing;
use crate::wire::{Draft, EncodeError, Heartbeat, Text};

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
    /// One permit for each request that may still be made.
    slots: Semaphore,
    /// One permit for each byte that may still be queued.
    room: Semaphore,
    /// Taken by the one answer that may be written as JSON and wait for room: handlers that are
    /// done would otherwise hold all of theirs.
    answering: Semaphore,
    /// Wakes the driver: there is something to write, or the link shall close.
    driver: AtomicWaker,
    close_asked: OnceLock<Closed>,
    end: OnceLock<Closed>,
    ended: CancellationToken,
    /// How many requests of the peer are being handled; the driver keeps it.
    handling: AtomicUsize,
    ignored_events: AtomicU64,
    ignored_responses: AtomicU64,
}

impl Shared {
    pub(crate) fn new(agreement: Agreement, us: Role, config: Config) -> Self {
        let Agreement { session, peer, version, hold, .. } = agreement;
        Self {
            us,
            peer,
            version,
            resumes: session.dialect().resumes(),
            stream: Mutex::new(Stream::new(session)),
            hold: Mutex::new(hold),
            state: watch::Sender::new(LinkState::Connected),
            pending: Pending::default(),
            slots: Semaphore::new(config.requests_in_flight),
            room: Semaphore::new(config.outbox),
            answering: Semaphore::new(1),
            config,
            driver: AtomicWaker::new(),
            close_asked: OnceLock::new(),
            end: OnceLock::new(),
            ended: CancellationToken::new(),
            handling: AtomicUsize::new(0),
            ignored_events: AtomicU64::new(0),
            ignored_responses: AtomicU64::new(0),
        }
    }

    pub(crate) async fn request(
        &self,
        draft: Draft,
        limit: Option<Duration>,
    ) -> Result<Answer, RequestError> {
        let after = limit.unwrap_or(self.config.request_timeout);
        match timeout(after, self.exchange(draft)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(RequestError::Timeout { after }),
        }
    }

    async fn exchange(&self, draft: Draft) -> Result<Answer, RequestError> {
        self.fits(&draft).map_err(crate::error::SendError::from)?;
        let _slot = permits(&self.slots, 1).await.map_err(|_| self.undelivered())?;
        let room = self.room_for(&draft).await.map_err(|_| self.undelivered())?;
        let sort = Sort::Message { needed: self.handling() > 0 };
        let waiting = self.ask(draft, room, sort).ok_or_else(|| self.undelivered())?;
        match waiting.outcome().await {
            Some(outcome) => outcome,
            // The driver was dropped in the middle, with its runtime.
            None => Err(self.lost(Delivery::Unknown)),
        }
    }

    /// Numbers and queues a request. The wait for its answer begins before the frame is queued.
    pub(super) fn ask(
        &self,
        draft: Draft,
        room: SemaphorePermit<'_>,
        sort: Sort,
    ) -> Option<Waiting<'_>> {
        let mut stream = self.stream();
        let queued = stream.send(draft, sort);
        let waiting = queued.as_ref().ok().and_then(|(seq, _)| match sort {
            Sort::Parting => self.pending.insert_parting(*seq),
            Sort::Message { .. } | Sort::Answer => self.pending.insert(*seq),
        });
        drop(stream);
        self.queued(queued, room).ok()?;
        waiting
    }

    pub(crate) async fn event(&self, draft: Draft) -> Result<(), EventError> {
        self.fits(&draft).map_err(crate::error::SendError::from)?;
        let closed = || EventError::Closed(self.why_closed());
        let room = self.room_for(&draft).await.map_err(|_| closed())?;
        let sort = Sort::Message { needed: self.handling() > 0 };
        self.queue(draft, room, sort).map_err(|_| closed())
    }

    /// Waits until an answer may be written as JSON; for as long as the permit lives, no other is.
    /// `None` when the link has ended.
    pub(crate) async fn turn_to_answer(&self) -> Option<SemaphorePermit<'_>> {
        permits(&self.answering, 1).await.ok()
    }

    /// Queues a response, when there is room for it. A link that ends meanwhile needs none.
    pub(crate) async fn respond(&self, name: &str, to: u64, response: Result<Draft, EncodeError>) {
        let checked = response.and_then(|draft| self.fits(&draft).map(|()| draft));
        let draft = checked.or_else(|error| {
            let error = format!("The answer to {name}_request cannot be sent: {error}");
            error_response(name, to, &error)
        });
        if let Ok(draft) = draft
            && let Ok(room) = self.room_for(&draft).await
        {
            let _ = self.queue(draft, room, Sort::Answer);
        }
    }

    /// Queues an answer now, when there is room for it; gives it back when there is none. A link
    /// that ends meanwhile needs none.
    pub(crate) fn try_queue(&self, draft: Draft) -> Result<(), Draft> {
        let bytes = u32::try_from(draft.bytes()).unwrap_or(u32::MAX);
        match self.room.try_acquire_many(bytes) {
            Ok(room) => {
                let _ = self.queue(draft, room, Sort::Answer);
                Ok(())
            }
            Err(TryAcquireError::NoPermits) => Err(draft),
            Err(TryAcquireError::Closed) => Ok(()),
        }
    }

    fn queue(&self, draft: Draft, room: SemaphorePermit<'_>, sort: Sort) -> Result<(), Refused> {
        let queued = self.stream().send(draft, sort);
        self.queued(queued, room)
    }

    /// The end of every way into the queue: the room is taken, and the driver is woken once for a
    /// burst.
    fn queued(
        &self,
        queued: Result<(u64, bool), Refused>,
        room: SemaphorePermit<'_>,
    ) -> Result<(), Refused> {
        match queued {
            Ok((_, was_idle)) => {
                room.forget();
                if was_idle {
                    self.driver.wake();
                }
                Ok(())
            }
            Err(refused) => {
                if let Refused::Exhausted = refused {
                    let reason = "Sequence numbers exhausted";
                    self.ask_to_close(Closed::local(CloseCode::INTERNAL, reason));
                }
                Err(refused)
            }
        }
    }

    fn fits(&self, draft: &Draft) -> Result<(), EncodeError> {
        let (bytes, limit) = (draft.bytes(), self.config.longest());
        if bytes > limit { Err(EncodeError::TooLong { bytes, limit }) } else { Ok(()) }
    }

    pub(super) async fn room_for(&self, draft: &Draft) -> Result<SemaphorePermit<'_>, Refused> {
        let bytes = u32::try_from(draft.bytes()).unwrap_or(u32::MAX);
        permits(&self.room, bytes).await.map_err(|_| Refused::Closed)
    }

    /// The next frame for the socket; its room is free again.
    pub(crate) fn next_to_write(&self) -> Option<Text> {
        let (text, room) = self.stream().session.next_to_write()?;
        self.room.add_permits(room);
        Some(text)
    }

    /// What shows the peer that this side lives.
    pub(crate) fn sign_of_life(&self) -> Outgoing {
        let mut stream = self.stream();
        if !self.resumes {
            return Outgoing::Ping;
        }
        let heartbeat = Heartbeat { seq: stream.session.acknowledge() };
        match Draft::protocol(Heartbeat::TYPE, &heartbeat) {
            Ok(draft) => Outgoing::Text(draft.number(None)),
            Err(_) => Outgoing::Ping,
        }
    }

    /// The peer has all frames up to `seq`.
    pub(crate) fn acknowledged(&self, seq: Option<u64>) -> Result<(), AckError> {
        let room = self.with_session(|session| session.acknowledged(seq))?;
        self.room.add_permits(room);
        Ok(())
    }

    /// The session goes on over a new socket, and the peer has all frames up to `seq`. Says how
    /// many frames go out again.
    pub(crate) fn resumed(&self, seq: Option<u64>, hold: Hold) -> Result<usize, AckError> {
        let (room, again) = self.with_session(|session| session.resumed(seq))?;
        self.room.add_permits(room);
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

    pub(crate) fn with_session<T>(&self, act: impl FnOnce(&mut Session) -> T) -> T {
        act(&mut self.stream().session)
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

    fn undelivered(&self) -> RequestError {
        self.lost(Delivery::NotDelivered)
    }

    fn lost(&self, delivery: Delivery) -> RequestError {
        RequestError::Closed { delivery, closed: self.why_closed() }
    }

    /// Hands a response to whoever waits for it.
    pub(crate) fn complete(&self, seq: u64, outcome: Result<Answer, RemoteError>) {
        if !self.pending.complete(seq, outcome.map_err(RequestError::Remote)) {
            self.ignored_responses.fetch_add(1, Ordering::Relaxed);
        }
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

    pub(super) fn admit_only(&self, admits: Admits) {
        self.stream().admit_only(admits);
    }

    /// How many requests of the peer are being handled.
    pub(super) fn handling(&self) -> usize {
        self.handling.load(Ordering::SeqCst)
    }

    pub(super) fn set_handling(&self, requests: usize) {
        self.handling.store(requests, Ordering::SeqCst);
        if requests == 0 {
            self.pending.look_again();
        }
    }

    pub(crate) fn pending(&self) -> &Pending {
        &self.pending
    }

    fn stream(&self) -> MutexGuard<'_, Stream> {
        // Nothing panics while the lock is held.
        self.stream.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes `count` permits, in turn with whoever waits already.
///
/// What is free is taken without waiting: tokio's own wait is also pending when the task has used
/// up its share of time, and a handler that is done would then hold its place for nothing.
async fn permits(from: &Semaphore, count: u32) -> Result<SemaphorePermit<'_>, AcquireError> {
    match from.try_acquire_many(count) {
        Ok(permits) => Ok(permits),
        Err(_) => from.acquire_many(count).await,
    }
}
