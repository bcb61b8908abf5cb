//! What the handles of a link and its driver share.

use std::future::poll_fn;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use futures::task::AtomicWaker;
use semver::Version;
use tokio::sync::{AcquireError, Semaphore, SemaphorePermit, TryAcquireError, watch};
use tokio::time::timeout_at;
use tokio_util::sync::CancellationToken;

use super::config::Config;
use super::pending::{Answer, Limit, Pending, Waiting};
use super::stream::{Admits, Refused, Sort, Stream};
use super::work::malformed;
use super::{Ignored, LinkState, error_response};
use crate::close::{CloseCode, Closed};
use crate::error::{DecodeError, Delivery, EventError, RemoteError, RequestError};
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
        self.fits(&draft).map_err(crate::error::SendError::from)?;
        let limit = self.pending.limit(limit.unwrap_or(self.config.request_timeout));
        let bytes = u32::try_from(draft.bytes()).unwrap_or(u32::MAX);
        let free = match (self.slots.try_acquire(), self.room.try_acquire_many(bytes)) {
            (Ok(slot), Ok(room)) => Some((slot, room)),
            _ => None,
        };
        let (_slot, room) = match free {
            Some(places) => places,
            None => self.places(&draft, limit).await?,
        };
        let sort = Sort::Message { needed: self.handling() > 0 };
        let waiting = self.ask(draft, room, sort, limit).ok_or_else(|| self.undelivered())?;
        match waiting.outcome().await {
            Some(outcome) => outcome,
            // The driver was dropped in the middle, with its runtime.
            None => Err(self.lost(Delivery::Unknown)),
        }
    }

    /// Waits for a slot and for room, in turn with whoever waits already.
    async fn places(
        &self,
        draft: &Draft,
        limit: Limit,
    ) -> Result<(SemaphorePermit<'_>, SemaphorePermit<'_>), RequestError> {
        let places = async {
            let slot = permits(&self.slots, 1).await.map_err(|_| self.undelivered())?;
            let room = self.room_for(draft).await.map_err(|_| self.undelivered())?;
            Ok((slot, room))
        };
        match self.pending.end_of(limit) {
            Some(end) => timeout_at(end, places)
                .await
                .unwrap_or(Err(RequestError::Timeout { after: limit.after })),
            None => places.await,
        }
    }

    /// Numbers and queues a request. The wait for its answer begins before the frame is queued.
    pub(super) fn ask(
        &self,
        draft: Draft,
        room: SemaphorePermit<'_>,
        sort: Sort,
        limit: Limit,
    ) -> Option<Waiting<'_>> {
        let mut stream = self.stream();
        let queued = stream.send(draft, sort);
        let (waiting, first) = match &queued {
            Ok((seq, _)) => {
                if sort == Sort::Parting {
                    self.pending.set_parting(*seq);
                }
                self.pending.insert(*seq, limit)
            }
            Err(_) => (None, false),
        };
        drop(stream);
        self.queued(queued, room).ok()?;
        if first {
            // Its timer is to be set.
            self.driver.wake();
        }
        waiting
    }

    pub(crate) async fn event(&self, draft: Draft) -> Result<(), EventError> {
        self.fits(&draft).map_err(crate::error::SendError::from)?;
        let closed = || EventError::Closed(self.why_closed());
        let room = self.room_for(&draft).await.map_err(|_| closed())?;
        let sort = Sort::Message { needed: self.handling() > 0 };
        self.queue(draft, room, sort).map_err(|_| closed())
    }

    /// Queues the response that `write` makes, when there is room for it: at once, or else, so that
    /// no more than one answer that waits is kept as JSON, in turn.
    pub(crate) async fn answer(
        &self,
        name: &str,
        to: u64,
        write: impl Fn() -> Result<Draft, EncodeError>,
    ) {
        // Nobody waits: there is most likely room.
        if self.answering.available_permits() > 0 {
            let Err(draft) = self.try_queue(self.sendable(name, to, write())) else { return };
            drop(draft);
        }
        if let Ok(_turn) = permits(&self.answering, 1).await {
            self.respond(name, to, write()).await;
        }
    }

    /// Queues a response, when there is room for it. A link that ends meanwhile needs none.
    pub(crate) async fn respond(&self, name: &str, to: u64, response: Result<Draft, EncodeError>) {
        if let Some(draft) = self.sendable(name, to, response)
            && let Ok(room) = self.room_for(&draft).await
        {
            let _ = self.queue(draft, room, Sort::Answer);
        }
    }

    /// The response, or an error that says why it cannot be sent.
    fn sendable(&self, name: &str, to: u64, response: Result<Draft, EncodeError>) -> Option<Draft> {
        let checked = response.and_then(|draft| self.fits(&draft).map(|()| draft));
        let draft = checked.or_else(|error| {
            let error = format!("The answer to {name}_request cannot be sent: {error}");
            error_response(name, to, &error)
        });
        draft.ok()
    }

    /// Queues an answer now, when there is room for it; gives it back when there is none. A link
    /// that ends meanwhile needs none.
    pub(crate) fn try_queue(&self, draft: Option<Draft>) -> Result<(), Draft> {
        let Some(draft) = draft else { return Ok(()) };
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

    /// The next frame for the socket; in plain its room is free again.
    pub(crate) fn next_to_write(&self) -> Option<Text> {
        let (text, room) = self.stream().session.next_to_write()?;
        if room > 0 {
            self.room.add_permits(room);
        }
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

    /// Hands a response to whoever waits for it; says whether anybody does.
    pub(crate) fn complete(&self, seq: u64, outcome: Result<Answer, RemoteError>) -> bool {
        self.pending.complete(seq, outcome.map_err(RequestError::Remote))
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
        // Only a change is worth a look: who looks runs on the task that calls this.
        if self.handling.load(Ordering::SeqCst) != requests {
            self.handling.store(requests, Ordering::SeqCst);
            if requests == 0 {
                self.pending.look_again();
            }
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
