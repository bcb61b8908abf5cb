//! What a link does with what comes in, and when it is over.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::time::Instant;

use super::inbox::{Inbox, QueuedEvent};
use super::pending::Answer;
use super::recover::Break;
use super::router::RequestRoute;
use super::socket::{Event, Socket};
use super::{Link, error_response};
use crate::close::{CloseCode, Closed, ClosedBy, Reason};
use crate::error::{RemoteError, TransportError};
use crate::session::{Liveness, Taken, Verdict};
use crate::transport::{Incoming, Transport};
use crate::wire::{
    Class, Close, Frame, Heartbeat, PREPARE_DISCONNECT, Response, Text, decode, is_name,
};

/// A link's state on the driver's side, without the socket.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) link: Link,
    pub(super) inbox: Inbox,
    pub(super) liveness: Liveness,
    pub(super) stage: Stage,
}

/// How near its end a link is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Open,
    /// The peer has said that it closes: the end of the socket is meant.
    Disconnecting,
    /// Requests are dropped: nothing can be answered any more.
    Closing,
}

impl Work {
    pub(super) fn heartbeat_interval(&self) -> Duration {
        let shared = self.link.shared();
        shared.hold().map_or(shared.config().heartbeat_interval, |hold| hold.heartbeat_interval)
    }

    /// Whether the end of a socket is the end of its link.
    pub(super) fn judge<T: Transport>(&mut self, socket: &mut Socket<T>, closed: Closed) -> Break {
        let closed = match closed.by {
            ClosedBy::Lost => self.last_words(socket, closed),
            _ => closed,
        };
        let resumes = self.link.shared().resumes();
        // A `close` message is meant. A close frame alone is not, unless its reason says so or the
        // peer had prepared for it: a proxy may have sent it.
        let meant = match closed.by {
            ClosedBy::Local => true,
            ClosedBy::Lost => false,
            ClosedBy::Remote => {
                self.stage == Stage::Disconnecting
                    || closed.code == CloseCode::AUTHENTICATION
                    || closed.reason.is_final()
            }
        };
        if meant || !resumes { Break::Ended(closed) } else { Break::Cut(closed) }
    }

    pub(super) fn beat<T: Transport>(&mut self, socket: &mut Socket<T>) -> Option<Closed> {
        let shared = self.link.shared();
        let traffic = socket.traffic();
        let every = self.heartbeat_interval();
        let writing = socket.is_writing(shared);
        match self.liveness.beat(traffic.received, traffic.sent, writing) {
            Verdict::Ask => {
                socket.show_life();
                None
            }
            Verdict::Silent => Some(Closed::lost(format!("Not a byte came for {:?}", every * 2))),
            Verdict::Stuck => {
                Some(Closed::lost(format!("The peer took not a byte for {:?}", every * 2)))
            }
        }
    }

    /// Takes what came; says how the link ends if it does.
    pub(super) fn receive(&mut self, incoming: Incoming) -> Option<Closed> {
        match incoming {
            Incoming::Text(text) => self.message(&text),
            Incoming::Control => None,
            Incoming::Binary => {
                let reason = "Invalid message: Binary frame, a link carries text";
                Some(Closed::local(CloseCode::UNSUPPORTED, reason))
            }
            Incoming::Close(code, reason) => Some(Closed::remote(code, reason.as_str())),
        }
    }

    fn message(&mut self, text: &Text) -> Option<Closed> {
        let frame = match Frame::read(text.as_str()) {
            Ok(frame) => frame,
            Err(error) => return Some(malformed(error)),
        };
        let resumes = self.link.shared().resumes();
        if resumes && frame.kind == Heartbeat::TYPE {
            return self.heartbeat(&frame);
        }
        let seq = match frame.numbered() {
            Ok(seq) => seq,
            Err(error) => return Some(malformed(error)),
        };
        let taken = self.link.shared().with_session(|session| session.receive(seq, text.len()));
        match taken {
            Ok(Taken::New) => {}
            Ok(Taken::Again) => return None,
            Err(error) => return Some(malformed(error)),
        }
        match frame.class() {
            Class::Response(_) => self.response(text, &frame),
            Class::Request(_) if self.stage == Stage::Closing => {}
            Class::Request(name) if !is_name(name) => {
                return Some(malformed("a request type that no response type fits"));
            }
            Class::Request(PREPARE_DISCONNECT) if resumes => {
                return self.prepare_disconnect(seq, text.len());
            }
            Class::Request(name) => return self.request(name, seq, &frame, text.len()),
            Class::Event(name) => return self.event(name, text, &frame),
            Class::Protocol(Close::TYPE) => {
                self.stage = Stage::Disconnecting;
                return Some(self.close(&frame));
            }
            Class::Protocol(kind) => {
                return Some(malformed(format_args!("unexpected type {kind:?} after ready")));
            }
        }
        None
    }

    fn heartbeat(&mut self, frame: &Frame<'_>) -> Option<Closed> {
        let fault = match decode::<Heartbeat>(frame.data.get()) {
            Ok(heartbeat) => match self.link.shared().acknowledged(heartbeat.seq) {
                Ok(()) => return None,
                Err(error) => error.to_string(),
            },
            Err(error) => error.to_string(),
        };
        Some(Closed::local(CloseCode::PROTOCOL, format!("Invalid heartbeat: {fault}")))
    }

    fn response(&mut self, text: &Text, frame: &Frame<'_>) {
        let shared = self.link.shared();
        match Response::read(frame.data) {
            Ok(response) => {
                let outcome = match response.error() {
                    Some(error) => Err(RemoteError::new(&error)),
                    None => Ok(Answer::new(text, frame.data.get())),
                };
                shared.complete(response.seq, outcome);
            }
            Err(error) => {
                tracing::debug!(kind = %frame.kind, %error, "ignored a response to nothing");
                shared.ignore_response();
            }
        }
    }

    fn request(&mut self, name: &str, seq: u64, frame: &Frame<'_>, bytes: usize) -> Option<Closed> {
        match self.start_request(name, seq, frame, bytes) {
            Ok(handler) => {
                self.inbox.add_request(handler, bytes);
                None
            }
            Err(error) => {
                tracing::debug!(name, error, "answered a request with an error");
                self.refuse(name, seq, &error)
            }
        }
    }

    /// The peer wants to end the link gracefully: whatever close comes now is meant.
    fn prepare_disconnect(&mut self, seq: u64, bytes: usize) -> Option<Closed> {
        self.stage = Stage::Disconnecting;
        let answer = Arc::clone(self.link.shared()).agree_to_disconnect(seq);
        self.add_answer(answer.boxed(), bytes)
    }

    /// Takes an answer of `bytes` that waits. Such answers may be as many bytes as the outbox has; a
    /// peer that asks for more reads none of them.
    fn add_answer(&mut self, answer: BoxFuture<'static, ()>, bytes: usize) -> Option<Closed> {
        if self.inbox.waiting_bytes() + bytes > self.link.shared().config().outbox {
            let reason = "The outbox is full: the peer asks and does not read the answers";
            return Some(Closed::local(CloseCode::POLICY, reason));
        }
        self.inbox.add_answer(answer, bytes);
        None
    }

    /// Answers a request with an error: at once, or when there is room.
    fn refuse(&mut self, name: &str, seq: u64, error: &str) -> Option<Closed> {
        let shared = Arc::clone(self.link.shared());
        let refused = error_response(name, seq, error).map(|draft| shared.try_queue(draft));
        let Ok(Err(draft)) = refused else { return None };
        let (name, bytes) = (name.to_owned(), draft.bytes());
        let response = async move { shared.respond(&name, seq, Ok(draft)).await };
        self.add_answer(response.boxed(), bytes)
    }

    fn start_request(
        &self,
        name: &str,
        seq: u64,
        frame: &Frame<'_>,
        bytes: usize,
    ) -> Result<BoxFuture<'static, ()>, String> {
        let shared = self.link.shared();
        let (peer, us) = (shared.peer().role, shared.us());
        let routes = self.inbox.routes();
        let Some(route) = routes.request(name) else {
            return Err(format!("No handler for {name}_request on this {us}"));
        };
        if !route.direction.allows(peer, us) {
            let allowed = route.direction;
            return Err(format!("{name}_request goes {allowed}, and this link goes {peer}→{us}"));
        }
        let config = shared.config();
        if self.inbox.running() >= config.handlers || self.inbox.bytes() + bytes > config.inbox {
            return Err(format!("busy: {} requests are being handled", self.inbox.running()));
        }
        let limit = route.timeout.unwrap_or(config.request_timeout);
        let deadline = Instant::now().checked_add(limit);
        let call = || (route.call)(self.link.clone(), deadline, seq, frame.data.get());
        match std::panic::catch_unwind(AssertUnwindSafe(call)) {
            Ok(Ok(handler)) => Ok(answering(self.link.clone(), route, seq, handler)),
            Ok(Err(error)) => Err(format!("Validation failed for {name}_request: {error}")),
            Err(_) => Err(panicked(name)),
        }
    }

    fn event(&mut self, name: &str, text: &Text, frame: &Frame<'_>) -> Option<Closed> {
        let shared = self.link.shared();
        let (peer, us) = (shared.peer().role, shared.us());
        let route = self.inbox.routes().event(name);
        if !route.is_some_and(|route| route.direction.allows(peer, us)) {
            tracing::debug!(name, from = %peer, "ignored an event without a handler for it");
            shared.ignore_event();
            return None;
        }
        if self.inbox.bytes() + text.len() > shared.config().inbox {
            let reason = "The inbox is full: events come faster than they are handled";
            return Some(Closed::local(CloseCode::POLICY, reason));
        }
        let data = text.range_of(frame.data.get());
        self.inbox.add_event(QueuedEvent { text: text.clone(), name: name.into(), data });
        None
    }

    fn close(&self, frame: &Frame<'_>) -> Closed {
        match decode::<Close>(frame.data.get()) {
            Ok(close) => Closed::remote(CloseCode::NO_STATUS, close.reason),
            Err(_) => malformed("`close` without a reason"),
        }
    }

    pub(super) fn fault(&self, error: &TransportError) -> Closed {
        match error {
            TransportError::TooLong { limit } => {
                let reason = format!("Invalid message: longer than {limit} bytes");
                Closed::local(CloseCode::TOO_BIG, reason)
            }
            TransportError::WebSocket(fault) => {
                Closed::local(CloseCode::PROTOCOL, format!("Invalid WebSocket frame: {fault}"))
            }
            TransportError::Ended | TransportError::Io(_) => Closed::lost(error.to_string()),
        }
    }

    /// What the peer said before the socket failed: its reason is better than the system's.
    fn last_words<T: Transport>(&mut self, socket: &mut Socket<T>, closed: Closed) -> Closed {
        let link = self.link.clone();
        while let Some(Event::Incoming(incoming)) = socket.next(link.shared()).now_or_never() {
            match self.receive(incoming) {
                Some(end) if end.by == ClosedBy::Remote => return end,
                _ => {}
            }
        }
        closed
    }
}

/// A request's handler to the end, also when that is a panic.
fn answering(
    link: Link,
    route: &RequestRoute,
    seq: u64,
    handler: BoxFuture<'static, ()>,
) -> BoxFuture<'static, ()> {
    let name = route.name;
    async move {
        if AssertUnwindSafe(handler).catch_unwind().await.is_err() {
            let response = error_response(name, seq, &panicked(name));
            link.shared().respond(name, seq, response).await;
        }
    }
    .boxed()
}

fn panicked(name: &str) -> String {
    tracing::error!(name, "the handler of a request panicked");
    format!("The handler of {name}_request panicked")
}

fn malformed(fault: impl std::fmt::Display) -> Closed {
    Closed::local(CloseCode::PROTOCOL, format!("{}: {fault}", Reason::MALFORMED))
}

impl Drop for Work {
    /// A driver that is dropped half-way, with its runtime, leaves nobody waiting.
    fn drop(&mut self) {
        self.link.shared().conclude(Closed::lost("The link's task was dropped"));
    }
}
