//! The receiving half of a link: what a frame is, and which handler gets it.

mod handlers;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::FutureExt as _;
use tokio::sync::oneshot;
use tokio::time::Instant;

pub(crate) use handlers::Routes;
pub(super) use handlers::{Call, EventRoute, Handled, RequestRoute};
use handlers::{Handlers, Request};

use super::outbound::{Handle, ResponseResult, SendClass, SendRefused, agree_to_disconnect};
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

/// What a link has received, from the number of a frame to the end of its handler.
#[derive(Debug)]
pub(super) struct Inbound {
    handle: Handle,
    routes: Arc<Routes>,
    receiving: Receiving,
    handlers: Handlers,
    /// Answers that were read, for the callers that wait for them: see [`deliver`](Self::deliver).
    answers: Vec<(oneshot::Sender<ResponseResult>, ResponseResult)>,
    /// When the first request of this poll was read: the deadlines of its requests count from here.
    now: Option<Instant>,
    /// Requests are dropped: nothing can be answered any more.
    closing: bool,
}

impl Inbound {
    pub(super) fn new(handle: Handle, routes: Arc<Routes>, receiving: Receiving) -> Self {
        let (handlers, answers) = (Handlers::default(), Vec::new());
        Self { handle, routes, receiving, handlers, answers, now: None, closing: false }
    }

    pub(super) fn receiving(&mut self) -> &mut Receiving {
        &mut self.receiving
    }

    /// From here on responses and events are handled, and requests dropped.
    pub(super) fn close(&mut self) {
        self.closing = true;
    }

    /// Whether nothing waits to be handled.
    pub(super) fn is_empty(&self) -> bool {
        self.handlers.is_empty()
    }

    /// Returns the bytes of what waits to be handled, and of the link's own answers that wait.
    pub(super) fn bytes(&self) -> usize {
        self.handlers.bytes()
    }

    /// Begins a poll: other tasks may have run since the last one.
    pub(super) fn begin_poll(&mut self) {
        self.now = None;
    }

    /// Tells the sending half how many answers it owes.
    pub(super) fn end_poll(&mut self) {
        self.handle.set_answers_owed(self.handlers.running());
    }

    /// Hands the answers that were read to the callers that wait for them.
    pub(super) fn deliver(&mut self) {
        // All together, when everything at hand is read: each may wake a task on another thread,
        // which asks anew while this one still reads, and the batches break up. That is worth 12 to
        // 28 % on the multi-thread runtime.
        for (waiting, outcome) in self.answers.drain(..) {
            // The caller has gone since the answer was read.
            if waiting.send(outcome).is_err() {
                self.handle.ignore_response();
            }
        }
    }

    /// Polls the handlers until one has ended. Never ready if there are none.
    pub(super) fn poll_handlers(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.handlers.has_event() && self.start_next_event() && !self.handlers.has_event() {
            // None of the queued events could be read: no handler may be left to wake the task, so
            // the caller has to look again.
            return Poll::Ready(());
        }
        self.handlers.poll(cx).map(|panicked| self.tell_panic(panicked))
    }

    /// Takes what came. An error tells why the link does not go on.
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

    /// Returns how the link ends while its socket works.
    pub(super) fn end_with(&mut self, halt: Halt) -> Closed {
        match halt {
            // The frame is skipped, by taking its number: the link is not resumed, and what comes
            // behind the frame may be an answer.
            Halt::NoRoom(closed, seq, bytes) => {
                let _ = self.receiving.receive(seq, bytes);
                closed
            }
            Halt::End(closed) => closed,
        }
    }

    /// Takes a text message. Its data is read once, by the reader of its own type. If that fails,
    /// or nothing reads the data, the frame is read again as a whole to see whether it is one.
    ///
    /// A frame whose number was accepted is handled, or the link ends with a reason: one without
    /// room is refused before, and what is found out later is answered or ends the link.
    fn message(&mut self, text: &Text, cx: &mut Context<'_>) -> Result<(), Halt> {
        let mut known = None;
        // A heartbeat is not part of the numbering, even if it carries a number.
        if let Some(frame) =
            Frame::parse_fast(text.as_str()).filter(|it| it.kind != HeartbeatMessage::TYPE)
        {
            let Some(seq) = self.number(&frame, text)? else { return Ok(()) };
            match self.take(text, &frame, seq, Parse::Fast, cx) {
                Ok(taken) => return taken,
                // The number stays accepted: the second reading must not take it for a duplicate.
                Err(NeedsFullParse) => known = Some(seq),
            }
        }
        let frame = Frame::parse(text.as_str()).map_err(Closed::malformed)?;
        if known.is_none() && self.handle.dialect().resumes() {
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
        // With `Parse::Full` there is no second reading to ask for.
        self.take(text, &frame, seq, Parse::Full, cx).unwrap_or(Ok(()))
    }

    /// Returns how the link ends when the client has given up the handshake while `ready` or
    /// `continue` was on its way.
    fn handshake_given_up(&mut self, frame: &Frame<'_>) -> Closed {
        // Without `ready` the client knows no session, so its close is intended. With a session,
        // which was resumed, it dials again.
        if matches!(*self.handle.state(), LinkState::Connected) {
            self.handle.drain(false, true);
        }
        close_of(frame)
    }

    /// Accepts the frame's number. Returns `None` for a duplicate.
    fn number(&mut self, frame: &Frame<'_>, text: &Text) -> Result<Option<u64>, Halt> {
        let seq = frame.numbered().map_err(Closed::malformed)?;
        // Room comes before the number: the peer drops what is acknowledged, so a frame that was
        // numbered and then refused would be lost silently. A link that closes is not resumed:
        // there the answers behind a frame without room count more. A duplicate needs no room.
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

    /// Returns why a frame of `bytes` cannot be taken now: an event needs room in the inbox, and a
    /// request room for an answer of the link's own, in case it is refused.
    fn no_room(&self, frame: &Frame<'_>, bytes: usize) -> Option<&'static str> {
        let config = self.handle.config();
        match frame.class() {
            // An event without a handler is counted and dropped, and needs no room.
            MessageClass::Event(name) if !self.handlers.has_room(bytes, config.inbox) => self
                .wants(name)
                .then_some("The inbox is full: events come faster than they are handled"),
            MessageClass::Request(_) if self.handlers.answer_bytes() > config.outbox => {
                Some("The outbox is full: the peer asks and does not read the answers")
            }
            _ => None,
        }
    }

    /// Handles a frame whose number was accepted.
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
            // It ends the link, whatever it is, so the reason has to come from a full reading.
            MessageClass::Protocol(_) if parse == Parse::Fast => return Err(NeedsFullParse),
            MessageClass::Protocol(Close::TYPE) => {
                self.handle.drain(false, true);
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
            Ok(heartbeat) => match self.handle.acknowledged(heartbeat.seq) {
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
                    self.handle.ignore_response();
                    return Ok(());
                }
            },
        };
        match self.handle.take_pending(seq) {
            Some(waiting) => {
                let outcome = match error {
                    Some(error) => Err(Box::new(RequestError::Remote(RemoteError::new(&error)))),
                    None => Ok(Answer::new(text, frame.data, parse)),
                };
                self.answers.push((waiting, outcome));
            }
            // No caller reads the data, so it may still be no JSON at all.
            None if parse == Parse::Fast => return Err(NeedsFullParse),
            None => self.handle.ignore_response(),
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
            // The handler's own type has read the data, so it need not be read again.
            Err(Unhandled::Panicked) => panicked(name),
            Err(_) if parse == Parse::Fast => return Err(NeedsFullParse),
            Err(Unhandled::Dropped) => return Ok(Ok(())),
            Err(Unhandled::Own) => {
                self.prepare_disconnect(seq, bytes);
                return Ok(Ok(()));
            }
            // Not even an error response could be sent under such a name.
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
        // It could not be answered any more, and no resume would send it again.
        if self.closing {
            return Err(Unhandled::Dropped);
        }
        if name == PREPARE_DISCONNECT && self.handle.dialect().resumes() {
            return Err(Unhandled::Own);
        }
        let (peer, us) = (self.handle.peer().role, self.handle.us());
        let route = self.routes.request(name, peer, us).map_err(Unhandled::Refused)?;
        let refused = |error: String| Err(Unhandled::Refused(error));
        let config = self.handle.config();
        let running = self.handlers.running();
        // Short: where many are refused, these texts wait in as many bytes as the outbox has.
        if running >= config.handlers {
            return refused(format!("busy: all {running} `handlers` are at work"));
        }
        if !self.handlers.has_room(bytes, config.inbox) {
            return refused(format!("busy: `inbox` of {} bytes is full", config.inbox));
        }
        // One look at the clock serves all requests that are read in this poll.
        let now = *self.now.get_or_insert_with(Instant::now);
        let deadline = now.checked_add(route.timeout.unwrap_or(config.request_timeout));
        let call = Call { deadline, seq, data: frame.data };
        // The application's code: its panic becomes an error response and must not end the link.
        let handler = catch_unwind(AssertUnwindSafe(|| (route.handler)(self.handle.clone(), call)));
        match handler {
            Ok(Ok(handler)) => {
                let request = Request { name: route.name, seq };
                // Before its first poll: what it sends there may be needed for its answer.
                self.handle.set_answers_owed(running + 1);
                let panicked = self.handlers.start_request(handler, request, bytes, cx);
                self.tell_panic(panicked);
                Ok(())
            }
            Ok(Err(error)) => refused(format!("Validation failed for {name}_request: {error}")),
            Err(_) => Err(Unhandled::Panicked),
        }
    }

    /// Answers a request whose handler has panicked.
    fn tell_panic(&mut self, request: Option<Request>) {
        if let Some(Request { name, seq }) = request {
            let (handle, response) =
                (self.handle.clone(), error_response(name, seq, &panicked(name)));
            let answer = async move { handle.respond(name, seq, response).await };
            self.handlers.start_answer(answer.boxed(), MAX_ERROR);
        }
    }

    /// The peer wants to end the link gracefully: a close that comes now is intended.
    fn prepare_disconnect(&mut self, seq: u64, bytes: usize) {
        self.handle.drain(false, true);
        let answer = agree_to_disconnect(self.handle.clone(), seq);
        self.handlers.start_answer(answer.boxed(), bytes);
    }

    /// Answers a request with an error: at once, or when there is room.
    fn refuse(&mut self, name: &str, seq: u64, error: &str) {
        let Ok(message) = error_response(name, seq, error) else { return };
        let Err(SendRefused::Full) = self.handle.try_send(&message, SendClass::Answer) else {
            return;
        };
        let (handle, name, bytes) = (self.handle.clone(), name.to_owned(), message.bytes());
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
        let has_room = self.handlers.has_room(text.len(), self.handle.config().inbox);
        // `number` lets an event without room pass only on a link that closes.
        let wanted = self.wants(name) && has_room;
        // Started from the frame itself: only an event that has to wait is copied.
        if wanted && self.handlers.is_free_for_event() {
            match self.start_event(name, seq, frame.data, text.len()) {
                Ok(()) => return Ok(()),
                Err(_) if parse == Parse::Fast => return Err(NeedsFullParse),
                Err(error) => tracing::debug!(name, %error, "ignored an event with wrong data"),
            }
        } else if parse == Parse::Fast {
            // Nothing reads the data now, so only a full reading shows whether it is JSON.
            return Err(NeedsFullParse);
        } else if wanted {
            self.handlers.queue_event(name, seq, text, frame.data);
            return Ok(());
        } else if has_room {
            self.routes.warn_of_event(name, self.handle.peer());
        }
        self.handle.ignore_event();
        Ok(())
    }

    /// Whether there is a handler for what this peer sends as the event `name`.
    fn wants(&self, name: &str) -> bool {
        let (peer, us) = (self.handle.peer().role, self.handle.us());
        self.routes.event(name, peer, us).is_some()
    }

    fn start_event(
        &mut self,
        name: &str,
        seq: u64,
        data: &str,
        bytes: usize,
    ) -> Result<(), DecodeError> {
        let (peer, us) = (self.handle.peer().role, self.handle.us());
        let Some(route) = self.routes.event(name, peer, us) else { return Ok(()) };
        let call = Call { deadline: None, seq, data };
        let handler = catch_unwind(AssertUnwindSafe(|| (route.handler)(self.handle.clone(), call)));
        match handler {
            Ok(Ok(work)) => self.handlers.start_event(work, bytes),
            Ok(Err(error)) => return Err(error),
            Err(_) => tracing::error!(name, "the handler of an event panicked"),
        }
        Ok(())
    }

    /// Starts the handler of the next queued event whose data can be read. Returns whether any
    /// event was queued.
    fn start_next_event(&mut self) -> bool {
        let mut any = false;
        while !self.handlers.has_event()
            && let Some(event) = self.handlers.next_event()
        {
            any = true;
            let (name, seq, bytes) = (event.name(), event.seq, event.bytes());
            if let Err(error) = self.start_event(name, seq, event.data(), bytes) {
                tracing::debug!(name, %error, "ignored an event with wrong data");
                self.handle.ignore_event();
            }
        }
        any
    }
}

/// Why a link does not go on after what was received.
#[derive(Debug)]
pub(in crate::link) enum Halt {
    /// There is no room for the frame of this number and length. Its number was not accepted, so it
    /// comes again after a resume; without one, the link ends with this reason.
    NoRoom(Closed, u64, usize),
    /// The link ends.
    End(Closed),
}

impl From<Closed> for Halt {
    fn from(closed: Closed) -> Self {
        Self::End(closed)
    }
}

/// A frame of which only the head was parsed led to nothing: it has to be parsed in full.
struct NeedsFullParse;

/// Why no handler of the application handles a request.
enum Unhandled {
    /// The link closes and answers nothing any more.
    Dropped,
    /// The link answers it itself.
    Own,
    Refused(String),
    /// The handler panicked before it began.
    Panicked,
}

/// Returns how the peer's `close` message ends the link.
fn close_of(frame: &Frame<'_>) -> Closed {
    match decode::<Close>(frame.data) {
        Ok(close) => Closed::remote(CloseCode::NO_STATUS, close.reason),
        Err(_) => Closed::malformed("`close` without a reason"),
    }
}
