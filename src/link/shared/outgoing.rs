//! The ways into a link's outbox.

use std::time::Duration;

use tokio::sync::{AcquireError, Semaphore, SemaphorePermit, TryAcquireError};
use tokio::time::timeout_at;

use super::Shared;
use crate::close::{CloseCode, Closed};
use crate::error::{Delivery, EventError, RequestError};
use crate::link::error_response;
use crate::link::pending::{Answer, Limit, Waiting};
use crate::link::stream::{Refused, Sort};
use crate::wire::{Draft, EncodeError};

impl Shared {
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
    pub(in crate::link) fn ask(
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
            let Err(draft) = self.try_queue(self.sendable(name, to, write()), Sort::Answer) else {
                return;
            };
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

    /// Queues a frame now, when there is room for it; gives it back when there is none. A link
    /// that ends meanwhile needs none.
    pub(in crate::link) fn try_queue(&self, draft: Option<Draft>, sort: Sort) -> Result<(), Draft> {
        let Some(draft) = draft else { return Ok(()) };
        let bytes = u32::try_from(draft.bytes()).unwrap_or(u32::MAX);
        match self.room.try_acquire_many(bytes) {
            Ok(room) => {
                let _ = self.queue(draft, room, sort);
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

    pub(crate) fn fits(&self, draft: &Draft) -> Result<(), EncodeError> {
        let (bytes, limit) = (draft.bytes(), self.config.longest());
        if bytes > limit { Err(EncodeError::TooLong { bytes, limit }) } else { Ok(()) }
    }

    pub(in crate::link) async fn room_for(
        &self,
        draft: &Draft,
    ) -> Result<SemaphorePermit<'_>, Refused> {
        let bytes = u32::try_from(draft.bytes()).unwrap_or(u32::MAX);
        permits(&self.room, bytes).await.map_err(|_| Refused::Closed)
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
