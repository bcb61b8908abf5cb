//! What a link does with a message.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt as _;
use tokio::time::Instant;

use super::inbox::{Asked, panic_text};
use super::pending::{Answer, Proof};
use super::stream::{Refused, Sort};
use super::work::{Halt, Stage, Work, malformed};
use super::{LinkState, error_response};
use crate::close::{CloseCode, Closed};
use crate::error::RemoteError;
use crate::printable::Printable;
use crate::session::Taken;
use crate::wire::{
    Class, Close, Frame, Heartbeat, PREPARE_DISCONNECT, Response, Text, decode, is_name,
};

/// A frame that was only skimmed led to nothing: what it really is must be read.
struct Doubt;

/// Why no handler of the application's works on a request.
enum Unhandled {
    /// Nothing can be answered any more.
    Dropped,
    /// The link answers it itself.
    Own,
    Refused(String),
    /// The handler panicked before it began.
    Panicked,
}

impl Work {
    /// A frame's data is looked at once, by the reader of its own type. When that stumbles, or when
    /// nobody reads it, the frame is read again as a whole to see whether it is one.
    ///
    /// What takes a number is handled, or the link ends with its reason: a frame for which there is
    /// no room is refused before it is numbered, and whatever is found out after that ends the link
    /// or is answered.
    pub(super) fn message(&mut self, text: &Text) -> Option<Halt> {
        self.message_in(text).err()
    }

    fn message_in(&mut self, text: &Text) -> Result<(), Halt> {
        let ends = |end: Option<Closed>| end.map_or(Ok(()), |closed| Err(Halt::End(closed)));
        let mut known = None;
        // A heartbeat is outside of the numbers, also one that brings a number along.
        if let Some(frame) = Frame::skim(text.as_str()).filter(|it| it.kind != Heartbeat::TYPE) {
            let Some(seq) = self.number(&frame, text)? else { return Ok(()) };
            match self.take(text, &frame, seq, Proof::Skimmed) {
                Ok(end) => return ends(end),
                Err(Doubt) => known = Some(seq),
            }
        }
        let frame = Frame::read(text.as_str()).map_err(malformed)?;
        if known.is_none() && self.link.shared().resumes() {
            if frame.kind == Heartbeat::TYPE {
                return ends(self.heartbeat(&frame));
            }
            if frame.kind == Close::TYPE && frame.seq.is_none() {
                return Err(self.handshake_given_up(&frame).into());
            }
        }
        let seq = match known {
            Some(seq) => seq,
            None => match self.number(&frame, text)? {
                Some(seq) => seq,
                None => return Ok(()),
            },
        };
        ends(self.take(text, &frame, seq, Proof::Read).unwrap_or(None))
    }

    /// The client has given the handshake up while `ready` or `continue` was on its way. Without
    /// `ready` it knows no session; with a session to go on with, it dials again.
    fn handshake_given_up(&mut self, frame: &Frame<'_>) -> Closed {
        if matches!(*self.link.shared().states().borrow(), LinkState::Connected) {
            self.stage = Stage::Disconnecting;
        }
        self.close(frame)
    }

    /// The frame's number, `None` for one that came before.
    fn number(&mut self, frame: &Frame<'_>, text: &Text) -> Result<Option<u64>, Halt> {
        let seq = frame.numbered().map_err(malformed)?;
        if let Some(reason) = self.no_room(frame, text.len()) {
            return Err(Halt::NoRoom(Closed::local(CloseCode::POLICY, reason)));
        }
        match self.receiving.receive(seq, text.len()).map_err(malformed)? {
            Taken::New => Ok(Some(seq)),
            Taken::Again => Ok(None),
        }
    }

    /// Why a frame of `bytes` cannot be taken now: an event needs room in the inbox, and a request
    /// room for an answer of the link's own, should it be refused.
    fn no_room(&self, frame: &Frame<'_>, bytes: usize) -> Option<&'static str> {
        let config = self.link.shared().config();
        match frame.class() {
            Class::Event(name) if !self.inbox.has_room(bytes, config.inbox) => self
                .wants(name)
                .then_some("The inbox is full: events come faster than they are handled"),
            Class::Request(_) if self.inbox.waiting_bytes() > config.outbox => {
                Some("The outbox is full: the peer asks and does not read the answers")
            }
            _ => None,
        }
    }

    /// Whether there is a handler for what this peer sends as the event `name`.
    fn wants(&self, name: &str) -> bool {
        let (peer, us) = (self.link.shared().peer().role, self.link.shared().us());
        self.routes.event(name).is_some_and(|route| route.direction.allows(peer, us))
    }

    /// Takes a frame; says how the link ends if it does.
    fn take(
        &mut self,
        text: &Text,
        frame: &Frame<'_>,
        seq: u64,
        proof: Proof,
    ) -> Result<Option<Closed>, Doubt> {
        match frame.class() {
            Class::Response(_) => self.response(text, frame, proof)?,
            Class::Event(name) => return self.event(name, text, frame, proof),
            Class::Request(name) => return self.request(name, seq, frame, text.len(), proof),
            Class::Protocol(_) if proof == Proof::Skimmed => return Err(Doubt),
            Class::Protocol(Close::TYPE) => {
                self.stage = Stage::Disconnecting;
                return Ok(Some(self.close(frame)));
            }
            Class::Protocol(kind) => {
                return Ok(Some(malformed(format_args!("unexpected type {kind:?} after ready"))));
            }
        }
        Ok(None)
    }

    fn heartbeat(&mut self, frame: &Frame<'_>) -> Option<Closed> {
        let fault = match decode::<Heartbeat>(frame.data) {
            Ok(heartbeat) => match self.link.shared().acknowledged(heartbeat.seq) {
                Ok(()) => return None,
                Err(error) => error.to_string(),
            },
            Err(error) => error.to_string(),
        };
        Some(Closed::local(CloseCode::PROTOCOL, format!("Invalid heartbeat: {fault}")))
    }

    fn response(&mut self, text: &Text, frame: &Frame<'_>, proof: Proof) -> Result<(), Doubt> {
        let shared = self.link.shared();
        if proof == Proof::Skimmed {
            let seq = Response::skim(frame.data).ok_or(Doubt)?;
            let answer = Answer::new(text, frame.data, proof);
            return if shared.complete(seq, Ok(answer)) { Ok(()) } else { Err(Doubt) };
        }
        match Response::read(frame.data) {
            Ok(response) => {
                let outcome = match response.error() {
                    Some(error) => Err(RemoteError::new(&error)),
                    None => Ok(Answer::new(text, frame.data, proof)),
                };
                if !shared.complete(response.seq, outcome) {
                    shared.ignore_response();
                }
            }
            Err(error) => {
                let kind = Printable::new(&frame.kind);
                tracing::debug!(?kind, %error, "ignored a response to nothing");
                shared.ignore_response();
            }
        }
        Ok(())
    }

    fn request(
        &mut self,
        name: &str,
        seq: u64,
        frame: &Frame<'_>,
        bytes: usize,
        proof: Proof,
    ) -> Result<Option<Closed>, Doubt> {
        let error = match self.start_request(name, seq, frame, bytes) {
            Ok(()) => return Ok(None),
            // The data has been read before.
            Err(Unhandled::Panicked) => panic_text(name),
            Err(_) if proof == Proof::Skimmed => return Err(Doubt),
            Err(Unhandled::Dropped) => return Ok(None),
            Err(Unhandled::Own) => {
                self.prepare_disconnect(seq, bytes);
                return Ok(None);
            }
            Err(Unhandled::Refused(_)) if !is_name(name) => {
                return Ok(Some(malformed("a request type that no response type fits")));
            }
            Err(Unhandled::Refused(error)) => error,
        };
        let text = Printable::new(&error);
        tracing::debug!(name = ?Printable::new(name), error = ?text, "answered with an error");
        self.refuse(name, seq, &error);
        Ok(None)
    }

    /// The peer wants to end the link gracefully: whatever close comes now is meant.
    fn prepare_disconnect(&mut self, seq: u64, bytes: usize) {
        self.stage = Stage::Disconnecting;
        let answer = Arc::clone(self.link.shared()).agree_to_disconnect(seq);
        self.inbox.add_answer(answer.boxed(), bytes);
    }

    /// Answers a request with an error: at once, or when there is room.
    fn refuse(&mut self, name: &str, seq: u64, error: &str) {
        let shared = Arc::clone(self.link.shared());
        let Ok(draft) = error_response(name, seq, error) else { return };
        let Err(Refused::Full) = shared.try_queue(&draft, Sort::Answer) else { return };
        let (name, bytes) = (name.to_owned(), draft.bytes());
        let response = async move { shared.respond(&name, seq, Ok(draft)).await };
        self.inbox.add_answer(response.boxed(), bytes);
    }

    fn start_request(
        &mut self,
        name: &str,
        seq: u64,
        frame: &Frame<'_>,
        bytes: usize,
    ) -> Result<(), Unhandled> {
        let link = &self.link;
        let shared = link.shared();
        if self.stage == Stage::Closing {
            return Err(Unhandled::Dropped);
        }
        if name == PREPARE_DISCONNECT && shared.resumes() {
            return Err(Unhandled::Own);
        }
        let (peer, us) = (shared.peer().role, shared.us());
        let refused = |error: String| Err(Unhandled::Refused(error));
        let Some(route) = self.routes.request(name) else {
            return refused(format!("No handler for {name}_request on this {us}"));
        };
        if !route.direction.allows(peer, us) {
            let allowed = route.direction;
            return refused(format!(
                "{name}_request goes {allowed}, and this link goes {peer}→{us}"
            ));
        }
        let config = shared.config();
        let running = self.inbox.running();
        // Short: where much is refused, these texts wait in as many bytes as the outbox has.
        if running >= config.handlers {
            return refused(format!("busy: all {running} `handlers` are at work"));
        }
        if !self.inbox.has_room(bytes, config.inbox) {
            return refused(format!("busy: `inbox` of {} bytes is full", config.inbox));
        }
        let now = *self.now.get_or_insert_with(Instant::now);
        let deadline = now.checked_add(route.timeout.unwrap_or(config.request_timeout));
        let call = || (route.call)(link.clone(), deadline, seq, frame.data);
        match std::panic::catch_unwind(AssertUnwindSafe(call)) {
            Ok(Ok(handler)) => {
                self.inbox.add_request(handler, Asked { name: route.name, seq }, bytes);
                Ok(())
            }
            Ok(Err(error)) => refused(format!("Validation failed for {name}_request: {error}")),
            Err(_) => Err(Unhandled::Panicked),
        }
    }

    fn event(
        &mut self,
        name: &str,
        text: &Text,
        frame: &Frame<'_>,
        proof: Proof,
    ) -> Result<Option<Closed>, Doubt> {
        let shared = self.link.shared();
        let wanted = self.wants(name);
        if wanted && self.inbox.is_free_for_event() {
            match self.inbox.start_event(&self.link, &self.routes, name, frame.data, text.len()) {
                Ok(()) => return Ok(None),
                Err(_) if proof == Proof::Skimmed => return Err(Doubt),
                Err(error) => tracing::debug!(name, %error, "ignored an event with wrong data"),
            }
        } else if proof == Proof::Skimmed {
            return Err(Doubt);
        } else if wanted {
            self.inbox.add_event(name, text, frame.data);
            return Ok(None);
        } else {
            self.routes.warn_of_event(name, shared.peer());
        }
        shared.ignore_event();
        Ok(None)
    }

    fn close(&self, frame: &Frame<'_>) -> Closed {
        match decode::<Close>(frame.data) {
            Ok(close) => Closed::remote(CloseCode::NO_STATUS, close.reason),
            Err(_) => malformed("`close` without a reason"),
        }
    }
}
