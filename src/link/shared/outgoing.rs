//! The ways into a link's outbox.

use std::sync::MutexGuard;
use std::sync::atomic::Ordering;

use tokio::time::timeout_at;

use super::Shared;
use crate::close::{CloseCode, Closed};
use crate::error::{EventError, RequestError, SendError};
use crate::link::error_response;
use crate::link::gate::{Gate, Queue};
use crate::link::pending::{Limit, Wait};
use crate::link::stream::{Refused, Sort, Stream};
use crate::wire::{Draft, EncodeError};

/// Permits that are given back when this is dropped.
#[derive(Debug)]
pub(in crate::link) struct Permits<'a> {
    shared: &'a Shared,
    of: Of,
    count: usize,
}

/// Which permits.
#[derive(Clone, Copy, Debug)]
enum Of {
    Slots,
    Room,
}

impl Permits<'_> {
    /// They are used up: others give them back.
    pub(in crate::link) fn spend(mut self) {
        self.count = 0;
    }
}

impl Drop for Permits<'_> {
    fn drop(&mut self) {
        let queue = self.shared.queue_of(self.of);
        if self.count > 0 && queue.give_back(self.count) {
            self.shared.stream().gate(self.of).collect(queue);
        }
    }
}

/// Somebody waits for permits.
struct Waits<'a>(&'a Shared, Of);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        let Self(shared, of) = *self;
        shared.stream().gate(of).leave(shared.queue_of(of));
    }
}

impl Stream {
    fn gate(&mut self, of: Of) -> &mut Gate {
        match of {
            Of::Slots => &mut self.slots,
            Of::Room => &mut self.room,
        }
    }
}

impl Shared {
    /// Numbers and queues a request, if there is a slot and room for it. The slot is the caller's to
    /// [free](Self::free_slot).
    pub(in crate::link) fn try_ask(&self, draft: &Draft, limit: Limit) -> Result<Wait, Refused> {
        let sort = self.message();
        let mut stream = self.stream();
        stream.may_send(sort)?;
        if !stream.slots.try_take(1, &self.slots) {
            return Err(Refused::Full);
        }
        if !stream.room.try_take(draft.bytes(), &self.room) {
            stream.slots.give(1, &self.slots);
            return Err(Refused::Full);
        }
        let wait = self.ask_in(stream, draft, sort, limit);
        if wait.is_err() {
            self.free_slot();
        }
        wait
    }

    /// A request has ended that took a slot.
    pub(in crate::link) fn free_slot(&self) {
        drop(Permits { shared: self, of: Of::Slots, count: 1 });
    }

    /// Waits for a slot and for room, in turn with whoever waits already.
    pub(in crate::link) async fn places(
        &self,
        draft: &Draft,
        limit: Limit,
    ) -> Result<(Permits<'_>, Permits<'_>), RequestError> {
        let places = async {
            let slot = self.permits(Of::Slots, 1).await.map_err(|_| self.undelivered())?;
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

    /// Numbers and queues a request for which there is room.
    pub(in crate::link) fn ask(
        &self,
        draft: &Draft,
        room: Permits<'_>,
        sort: Sort,
        limit: Limit,
    ) -> Result<Wait, Refused> {
        room.spend();
        self.ask_in(self.stream(), draft, sort, limit)
    }

    /// The wait for the answer begins before the frame can be written.
    fn ask_in(
        &self,
        mut stream: MutexGuard<'_, Stream>,
        draft: &Draft,
        sort: Sort,
        limit: Limit,
    ) -> Result<Wait, Refused> {
        let sent = self.send_in(&mut stream, draft, sort);
        let (wait, first) = match &sent {
            Ok((seq, _)) => {
                if sort == Sort::Parting {
                    self.pending.set_parting(*seq);
                }
                self.pending.insert(*seq, limit)
            }
            Err(_) => (None, false),
        };
        drop(stream);
        self.sent(sent)?;
        if first {
            // Its timer is to be set.
            self.driver.wake();
        }
        wait.ok_or(Refused::Closed)
    }

    pub(crate) async fn event(&self, draft: &Draft) -> Result<(), EventError> {
        self.fits(draft).map_err(SendError::from)?;
        let queued = match self.try_queue(draft, self.message()) {
            // In a box, because it is rare, and callers would find room for it in each of theirs.
            Err(Refused::Full) => Box::pin(self.event_in_turn(draft)).await,
            queued => queued,
        };
        queued.map_err(|_| EventError::Closed(self.why_closed()))
    }

    async fn event_in_turn(&self, draft: &Draft) -> Result<(), Refused> {
        let room = self.room_for(draft).await?;
        self.queue(draft, room, self.message())
    }

    /// What a request or an event is, at this moment.
    pub(in crate::link) fn message(&self) -> Sort {
        Sort::Message { needed: self.handling() > 0 }
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
            let Some(draft) = self.sendable(name, to, write()) else { return };
            let Err(Refused::Full) = self.try_queue(&draft, Sort::Answer) else { return };
        }
        // Without waiting where that can be: tokio's wait is also pending when the task has used up
        // its share of time, and a handler that is done would hold its place for nothing.
        let turn = match self.answering.try_acquire() {
            Ok(turn) => Ok(turn),
            Err(_) => self.answering.acquire().await,
        };
        if turn.is_ok() {
            self.respond(name, to, write()).await;
        }
    }

    /// Queues a response, when there is room for it. A link that ends meanwhile needs none.
    pub(crate) async fn respond(&self, name: &str, to: u64, response: Result<Draft, EncodeError>) {
        if let Some(draft) = self.sendable(name, to, response)
            && let Ok(room) = self.room_for(&draft).await
        {
            let _ = self.queue(&draft, room, Sort::Answer);
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

    /// Queues a frame now, if there is room for it.
    pub(in crate::link) fn try_queue(&self, draft: &Draft, sort: Sort) -> Result<(), Refused> {
        let mut stream = self.stream();
        stream.may_send(sort)?;
        if !stream.room.try_take(draft.bytes(), &self.room) {
            return Err(Refused::Full);
        }
        let sent = self.send_in(&mut stream, draft, sort);
        drop(stream);
        self.sent(sent)
    }

    fn queue(&self, draft: &Draft, room: Permits<'_>, sort: Sort) -> Result<(), Refused> {
        room.spend();
        let sent = self.send_in(&mut self.stream(), draft, sort);
        self.sent(sent)
    }

    /// The end of every way into the queue. The room is given back when the frame is refused.
    fn send_in(
        &self,
        stream: &mut Stream,
        draft: &Draft,
        sort: Sort,
    ) -> Result<(u64, bool), Refused> {
        let sent = stream.send(draft, sort);
        if sent.is_err() {
            stream.room.give(draft.bytes(), &self.room);
        }
        sent
    }

    /// What follows when the lock has been let go: the driver is woken once for a burst, unless it
    /// is at work.
    fn sent(&self, sent: Result<(u64, bool), Refused>) -> Result<(), Refused> {
        match sent {
            Ok((_, was_idle)) => {
                if was_idle && !self.attends.load(Ordering::Relaxed) {
                    self.driver.wake();
                }
                Ok(())
            }
            Err(refused) => {
                if let Refused::Unnumbered(error) = refused {
                    self.ask_to_close(Closed::local(CloseCode::INTERNAL, error.to_string()));
                }
                Err(refused)
            }
        }
    }

    pub(crate) fn fits(&self, draft: &Draft) -> Result<(), EncodeError> {
        let (bytes, most) = (draft.bytes(), self.config.max_frame);
        let limit = "`max_frame`";
        if bytes > most { Err(EncodeError::TooLong { bytes, limit, most }) } else { Ok(()) }
    }

    /// Waits for room, in turn with whoever waits already.
    pub(in crate::link) async fn room_for(&self, draft: &Draft) -> Result<Permits<'_>, Refused> {
        self.permits(Of::Room, draft.bytes()).await
    }

    async fn permits(&self, of: Of, count: usize) -> Result<Permits<'_>, Refused> {
        let queue = self.queue_of(of);
        let taken = {
            let mut stream = self.stream();
            let gate = stream.gate(of);
            let taken = gate.try_take(count, queue);
            if !taken {
                gate.join(queue);
            }
            taken
        };
        if !taken {
            let _waits = Waits(self, of);
            queue.wait(count).await.map_err(|_| Refused::Closed)?;
        }
        Ok(Permits { shared: self, of, count })
    }

    fn queue_of(&self, of: Of) -> &Queue {
        match of {
            Of::Slots => &self.slots,
            Of::Room => &self.room,
        }
    }
}
