//! The receiving half of a link: what a frame is, and who handles it.

mod handlers;
mod routes;
mod verdict;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::FutureExt as _;
use tokio::sync::oneshot;
use tokio::time::Instant;

use handlers::{Handlers, Request};
pub(crate) use routes::Routes;
pub(super) use routes::{Call, EventRoute, Handled, RequestRoute};
pub(super) use verdict::Halt;
use verdict::{NeedsFullParse, Unhandled, close_of};

use super::outbound::{Outlet, ResponseResult, SendClass, SendRefused, agree_to_disconnect};
use super::refusal::{MAX_ERROR, error_response, panicked};
use super::state::LinkState;
use crate::close::{CloseCode, Closed};
use crate::error::{DecodeError, RemoteError, RequestError};
use crate::printable::Printable;
use crate::session::{Receiving, Sequenced};
use crate::transport::Incoming;
use crate::wire::{
    Answer, Close, Frame, HeartbeatMessage, MessageClass, PREPARE_DISCONNECT, Parse, Response,
    Text, decode, is_name,
};

/// What was received of one link, from the number of a frame to the end of its handler.
#[derive(Debug)]
pub(super) struct Inbound {
    outlet: Outlet,
    routes: Arc<Routes>,
    receiving: Receiving,
    handlers: Handlers,
    /// Answers that were read, for those who wait for them: see [`deliver`](Self::deliver).
    answers: Vec<(oneshot::Sender<ResponseResult>, ResponseResult)>,
    /// When the first request of this poll was read: the time of its handlers counts from here.
    now: Option<Instant>,
    /// Requests are dropped: nothing can be answered any more.
    closing: bool,
}

impl Inbound {
    pub(super) fn new(outlet: Outlet, routes: Arc<Routes>, receiving: Receiving) -> Self {
        let (handlers, answers) = (Handlers::default(), Vec::new());
        Self { outlet, routes, receiving, handlers, answers, now: None, closing: false }
    }

    pub(super) fn receiving(&mut self) -> &mut Receiving {
        &mut self.receiving
    }

    /// From here on responses and events are taken, and requests dropped.
    pub(super) fn close(&mut self) {
        self.closing = true;
    }

    /// Nothing waits to be handled.
    pub(super) fn is_empty(&self) -> bool {
        self.handlers.is_empty()
    }

    /// Other tasks have had their turn since the last call.
    pub(super) fn begin_poll(&mut self) {
        self.now = None;
    }

    /// Says to the sending half how many answers it owes.
    pub(super) fn end_poll(&mut self) {
        self.outlet.set_answers_owed(self.handlers.running());
    }

    /// Hands answers to those who wait for them. In one go, when what has come at once is read:
    /// each may wake a task on another thread, which asks anew while this one still reads, and so
    /// the batches break up. That was worth 12 to 28 % on the multi-thread runtime.
    pub(super) fn deliver(&mut self) {
        for (waiting, outcome) in self.answers.drain(..) {
            if waiting.send(outcome).is_err() {
                self.outlet.ignore_response();
            }
        }
    }

    /// Works on the handlers until one has ended. Never ready when there are none.
    pub(super) fn poll_handlers(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.handlers.has_event() && self.start_next_event() && !self.handlers.has_event() {
            // All that was left could not be started: there may be nothing that would wake.
            return Poll::Ready(());
        }
        self.handlers.poll(cx).map(|panicked| self.tell_panic(panicked))
    }

    /// Takes what came; says why the link does not go on if it does not.
    pub(super) fn receive(&mut self, incoming: Incoming, cx: &mut Context<'_>) -> Result<(), Halt> {
        let end = match incoming {
            Incoming::Text(text) => return self.message(&text, cx),
            Incoming::Ping => return Ok(()),
            Incoming::Binary => {
                let reason = "Invalid message: Binary frame, a link carries text";
                Closed::local(CloseCode::UNSUPPORTED, reason)
            }
            Incoming::Close(code, reason) => Closed::remote(code, reason.as_str()),
        };
        Err(end.into())
    }

    /// How the link ends while its socket works. A frame without room is passed over: nobody resumes
    /// the link, and what comes behind that frame may be an answer.
    pub(super) fn end_with(&mut self, halt: Halt) -> Closed {
        match halt {
            Halt::NoRoom(closed, seq, bytes) => {
                let _ = self.receiving.receive(seq, bytes);
                closed
            }
            Halt::End(closed) => closed,
        }
    }

    /// A frame's data is looked at once, by the reader of its own type. When that stumbles, or when
    /// nobody reads it, the frame is read again as a whole to see whether it is one.
    ///
    /// What takes a number is handled, or the link ends with its reason: a frame for which there is
    /// no room is refused before it is numbered, and whatever is found out after that ends the link
    /// or is answered.
    fn message(&mut self, text: &Text, cx: &mut Context<'_>) -> Result<(), Halt> {
        let mut known = None;
        // A heartbeat is outside of the numbers, also one that brings a number along.
        if let Some(frame) =
            Frame::parse_fast(text.as_str()).filter(|it| it.kind != HeartbeatMessage::TYPE)
        {
            let Some(seq) = self.number(&frame, text)? else { return Ok(()) };
            match self.take(text, &frame, seq, Parse::Fast, cx) {
                Ok(taken) => return taken,
                Err(NeedsFullParse) => known = Some(seq),
            }
        }
        let frame = Frame::parse(text.as_str()).map_err(Closed::malformed)?;
        if known.is_none() && self.outlet.dialect().resumes() {
            if frame.kind == HeartbeatMessage::TYPE {
                return self.heartbeat(&frame);
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
        self.take(text, &frame, seq, Parse::Full, cx).unwrap_or(Ok(()))
    }

    /// The client has given the handshake up while `ready` or `continue` was on its way. Without
    /// `ready` it knows no session; with a session to go on with, it dials again.
    fn handshake_given_up(&mut self, frame: &Frame<'_>) -> Closed {
        if matches!(*self.outlet.state(), LinkState::Connected) {
            self.outlet.drain(false, true);
        }
        close_of(frame)
    }

    /// The frame's number, `None` for one that came before.
    fn number(&mut self, frame: &Frame<'_>, text: &Text) -> Result<Option<u64>, Halt> {
        let seq = frame.numbered().map_err(Closed::malformed)?;
        // A link that closes is not resumed: there the answers behind a frame without room count more.
        if !self.closing
            && let Some(reason) = self.no_room(frame, text.len())
            && self.receiving.peek(seq) == Ok(Sequenced::New)
        {
            let closed = Closed::local(CloseCode::POLICY, reason);
            return Err(Halt::NoRoom(closed, seq, text.len()));
        }
        match self.receiving.receive(seq, text.len()).map_err(Closed::malformed)? {
            Sequenced::New => Ok(Some(seq)),
            Sequenced::Duplicate => Ok(None),
        }
    }

    /// Why a frame of `bytes` cannot be taken now: an event needs room in the inbox, and a request
    /// room for an answer of the link's own, should it be refused.
    fn no_room(&self, frame: &Frame<'_>, bytes: usize) -> Option<&'static str> {
        let config = self.outlet.config();
        match frame.class() {
            MessageClass::Event(name) if !self.handlers.has_room(bytes, config.inbox) => self
                .wants(name)
                .then_some("The inbox is full: events come faster than they are handled"),
            MessageClass::Request(_) if self.handlers.answer_bytes() > config.outbox => {
                Some("The outbox is full: the peer asks and does not read the answers")
            }
            _ => None,
        }
    }

    /// Takes a frame.
    fn take(
        &mut self,
        text: &Text,
        frame: &Frame<'_>,
        seq: u64,
        parse: Parse,
        cx: &mut Context<'_>,
    ) -> Result<Result<(), Halt>, NeedsFullParse> {
        match frame.class() {
            MessageClass::Response(_) => self.response(text, frame, parse)?,
            MessageClass::Event(name) => self.event(name, seq, text, frame, parse)?,
            MessageClass::Request(name) => {
                return self.request(name, seq, frame, text.len(), parse, cx);
            }
            MessageClass::Protocol(_) if parse == Parse::Fast => return Err(NeedsFullParse),
            MessageClass::Protocol(Close::TYPE) => {
                self.outlet.drain(false, true);
                return Ok(Err(close_of(frame).into()));
            }
            MessageClass::Protocol(kind) => {
                let fault = format_args!("unexpected type {kind:?} after ready");
                return Ok(Err(Closed::malformed(fault).into()));
            }
        }
        Ok(Ok(()))
    }

    fn heartbeat(&mut self, frame: &Frame<'_>) -> Result<(), Halt> {
        let fault = match decode::<HeartbeatMessage>(frame.data) {
            Ok(heartbeat) => match self.outlet.acknowledged(heartbeat.seq) {
                Ok(()) => return Ok(()),
                Err(error) => error.to_string(),
            },
            Err(error) => error.to_string(),
        };
        Err(Closed::local(CloseCode::PROTOCOL, format!("Invalid heartbeat: {fault}")).into())
    }

    fn response(
        &mut self,
        text: &Text,
        frame: &Frame<'_>,
        parse: Parse,
    ) -> Result<(), NeedsFullParse> {
        let (seq, error) = match parse {
            Parse::Fast => (Response::parse_fast(frame.data).ok_or(NeedsFullParse)?, None),
            Parse::Full => match Response::parse(frame.data) {
                Ok(response) => (response.seq, response.error()),
                Err(error) => {
                    tracing::debug!(kind = ?Printable::new(&frame.kind), %error, "ignored a response to nothing");
                    self.outlet.ignore_response();
                    return Ok(());
                }
            },
        };
        match self.outlet.take_pending(seq) {
            Some(waiting) => {
                let outcome = match error {
                    Some(error) => Err(Box::new(RequestError::Remote(RemoteError::new(&error)))),
                    None => Ok(Answer::new(text, frame.data, parse)),
                };
                self.answers.push((waiting, outcome));
            }
            None if parse == Parse::Fast => return Err(NeedsFullParse),
            None => self.outlet.ignore_response(),
        }
        Ok(())
    }

    fn request(
        &mut self,
        name: &str,
        seq: u64,
        frame: &Frame<'_>,
        bytes: usize,
        parse: Parse,
        cx: &mut Context<'_>,
    ) -> Result<Result<(), Halt>, NeedsFullParse> {
        let error = match self.start_request(name, seq, frame, bytes, cx) {
            Ok(()) => return Ok(Ok(())),
            // The data has been read before.
            Err(Unhandled::Panicked) => panicked(name),
            Err(_) if parse == Parse::Fast => return Err(NeedsFullParse),
            Err(Unhandled::Dropped) => return Ok(Ok(())),
            Err(Unhandled::Own) => {
                self.prepare_disconnect(seq, bytes);
                return Ok(Ok(()));
            }
            Err(Unhandled::Refused(_)) if !is_name(name) => {
                let fault = "a request type that no response type fits";
                return Ok(Err(Closed::malformed(fault).into()));
            }
            Err(Unhandled::Refused(error)) => error,
        };
        let text = Printable::new(&error);
        tracing::debug!(name = ?Printable::new(name), error = ?text, "answered with an error");
        self.refuse(name, seq, &error);
        Ok(Ok(()))
    }

    fn start_request(
        &mut self,
        name: &str,
        seq: u64,
        frame: &Frame<'_>,
        bytes: usize,
        cx: &mut Context<'_>,
    ) -> Result<(), Unhandled> {
        if self.closing {
            return Err(Unhandled::Dropped);
        }
        if name == PREPARE_DISCONNECT && self.outlet.dialect().resumes() {
            return Err(Unhandled::Own);
        }
        let (peer, us) = (self.outlet.peer().role, self.outlet.us());
        let route = self.routes.request(name, peer, us).map_err(Unhandled::Refused)?;
        let refused = |error: String| Err(Unhandled::Refused(error));
        let config = self.outlet.config();
        let running = self.handlers.running();
        // Short: where much is refused, these texts wait in as many bytes as the outbox has.
        if running >= config.handlers {
            return refused(format!("busy: all {running} `handlers` are at work"));
        }
        if !self.handlers.has_room(bytes, config.inbox) {
            return refused(format!("busy: `inbox` of {} bytes is full", config.inbox));
        }
        let now = *self.now.get_or_insert_with(Instant::now);
        let deadline = now.checked_add(route.timeout.unwrap_or(config.request_timeout));
        let call = Call { deadline, seq, data: frame.data };
        let handler =
            catch_unwind(AssertUnwindSafe(|| (route.handler)(self.outlet.handle().clone(), call)));
        match handler {
            Ok(Ok(handler)) => {
                let request = Request { name: route.name, seq };
                // What it sends before it waits for the first time is needed for its answer too.
                self.outlet.set_answers_owed(running + 1);
                let panicked = self.handlers.start_request(handler, request, bytes, cx);
                self.tell_panic(panicked);
                Ok(())
            }
            Ok(Err(error)) => refused(format!("Validation failed for {name}_request: {error}")),
            Err(_) => Err(Unhandled::Panicked),
        }
    }

    fn tell_panic(&mut self, request: Option<Request>) {
        if let Some(Request { name, seq }) = request {
            let (handle, response) =
                (self.outlet.handle().clone(), error_response(name, seq, &panicked(name)));
            let answer = async move { handle.respond(name, seq, response).await };
            self.handlers.start_answer(answer.boxed(), MAX_ERROR);
        }
    }

    /// The peer wants to end the link gracefully: whatever close comes now is meant.
    fn prepare_disconnect(&mut self, seq: u64, bytes: usize) {
        self.outlet.drain(false, true);
        let answer = agree_to_disconnect(self.outlet.handle().clone(), seq);
        self.handlers.start_answer(answer.boxed(), bytes);
    }

    /// Answers a request with an error: at once, or when there is room.
    fn refuse(&mut self, name: &str, seq: u64, error: &str) {
        let Ok(message) = error_response(name, seq, error) else { return };
        let Err(SendRefused::Full) = self.outlet.try_send(&message, SendClass::Answer) else {
            return;
        };
        let (handle, name, bytes) =
            (self.outlet.handle().clone(), name.to_owned(), message.bytes());
        let response = async move { handle.respond(&name, seq, Ok(message)).await };
        self.handlers.start_answer(response.boxed(), bytes);
    }

    fn event(
        &mut self,
        name: &str,
        seq: u64,
        text: &Text,
        frame: &Frame<'_>,
        parse: Parse,
    ) -> Result<(), NeedsFullParse> {
        let has_room = self.handlers.has_room(text.len(), self.outlet.config().inbox);
        // Without room it has come this far on a link that closes.
        let wanted = self.wants(name) && has_room;
        if wanted && self.handlers.is_free_for_event() {
            match self.start_event(name, seq, frame.data, text.len()) {
                Ok(()) => return Ok(()),
                Err(_) if parse == Parse::Fast => return Err(NeedsFullParse),
                Err(error) => tracing::debug!(name, %error, "ignored an event with wrong data"),
            }
        } else if parse == Parse::Fast {
            return Err(NeedsFullParse);
        } else if wanted {
            self.handlers.queue_event(name, seq, text, frame.data);
            return Ok(());
        } else if has_room {
            self.routes.warn_of_event(name, self.outlet.peer());
        }
        self.outlet.ignore_event();
        Ok(())
    }

    /// Whether there is a handler for what this peer sends as the event `name`.
    fn wants(&self, name: &str) -> bool {
        let (peer, us) = (self.outlet.peer().role, self.outlet.us());
        self.routes.event(name, peer, us).is_some()
    }

    fn start_event(
        &mut self,
        name: &str,
        seq: u64,
        data: &str,
        bytes: usize,
    ) -> Result<(), DecodeError> {
        let (peer, us) = (self.outlet.peer().role, self.outlet.us());
        let Some(route) = self.routes.event(name, peer, us) else { return Ok(()) };
        let call = Call { deadline: None, seq, data };
        let handler =
            catch_unwind(AssertUnwindSafe(|| (route.handler)(self.outlet.handle().clone(), call)));
        match handler {
            Ok(Ok(work)) => self.handlers.start_event(work, bytes),
            Ok(Err(error)) => return Err(error),
            Err(_) => tracing::error!(name, "the handler of an event panicked"),
        }
        Ok(())
    }

    /// Starts the handler of the next event whose data it can read. Says whether there was any.
    fn start_next_event(&mut self) -> bool {
        let mut any = false;
        while !self.handlers.has_event()
            && let Some(event) = self.handlers.next_event()
        {
            any = true;
            let (name, seq, bytes) = (event.name(), event.seq, event.bytes());
            if let Err(error) = self.start_event(name, seq, event.data(), bytes) {
                tracing::debug!(name, %error, "ignored an event with wrong data");
                self.outlet.ignore_event();
            }
        }
        any
    }
}
