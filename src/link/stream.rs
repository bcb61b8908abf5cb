//! The sending side of a link: its session, how much room there is, and what may still be sent.

use super::config::Config;
use super::gate::Gate;
use crate::close::Closed;
use crate::session::{NumberError, Sending};
use crate::wire::{Close, Draft};

#[derive(Debug)]
pub(super) struct Stream {
    pub(super) session: Sending,
    /// One permit for each request that may still be made.
    pub(super) slots: Gate,
    /// One permit for each byte that may still be queued.
    pub(super) room: Gate,
    admits: Admits,
}

/// What may still be sent. A link only ever goes down this list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Admits {
    Everything,
    /// One side prepares to disconnect: answers, and what handlers of the peer's requests send
    /// for them.
    WhatIsNeeded,
    /// This side has told the peer that it is ready: answers only.
    Answers,
    /// The last word is queued.
    Nothing,
}

/// What a frame is to the end of its link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    /// A request or an event; `needed` when the peer waits for an answer that it may be part of.
    Message {
        needed: bool,
    },
    Answer,
    /// `prepare_disconnect_request`.
    Parting,
}

/// Why a frame was not queued.
#[derive(Debug)]
pub(crate) enum Refused {
    /// The link is closing or has ended.
    Closed,
    Unnumbered(NumberError),
    /// There is no room now, or others wait for it.
    Full,
}

impl From<NumberError> for Refused {
    fn from(error: NumberError) -> Self {
        Self::Unnumbered(error)
    }
}

impl Stream {
    pub(super) fn new(session: Sending, config: &Config) -> Self {
        let (slots, room) = (Gate::new(config.requests_in_flight), Gate::new(config.outbox));
        Self { session, slots, room, admits: Admits::Everything }
    }

    /// Whether frames of this sort may still be sent.
    pub(super) fn may_send(&self, sort: Sort) -> Result<(), Refused> {
        let admitted = match sort {
            Sort::Message { needed: true } => self.admits <= Admits::WhatIsNeeded,
            Sort::Message { needed: false } => self.admits == Admits::Everything,
            Sort::Answer | Sort::Parting => self.admits <= Admits::Answers,
        };
        if admitted { Ok(()) } else { Err(Refused::Closed) }
    }

    /// Numbers and queues a frame for which there is room. Says its number, and whether nothing else
    /// waits to be written.
    pub(super) fn send(&mut self, draft: &Draft, sort: Sort) -> Result<(u64, bool), Refused> {
        self.may_send(sort)?;
        let was_idle = self.session.is_idle();
        Ok((self.session.send(draft)?, was_idle))
    }

    /// From now on nothing but `admits` is sent.
    pub(super) fn admit_only(&mut self, admits: Admits) {
        self.admits = self.admits.max(admits);
    }

    /// Lets nothing more be sent; the `close` message goes last, where the dialect has one and
    /// this side closes.
    pub(super) fn finish(&mut self, closed: &Closed, say: bool) {
        if say && self.admits < Admits::Nothing && self.session.dialect().close_message {
            let close = Close { reason: closed.reason.as_str().to_owned() };
            if let Ok(draft) = Draft::protocol(Close::TYPE, &close) {
                // Without a number left for it, the close frame says the reason alone.
                let _ = self.session.send(&draft);
            }
        }
        self.admits = Admits::Nothing;
    }
}
