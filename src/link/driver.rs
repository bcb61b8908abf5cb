use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::task::coop::consume_budget;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

use super::inbox::{Inbox, QueuedEvent};
use super::pending::Answer;
use super::router::{RequestRoute, Routes};
use super::socket::{Event, Socket};
use super::{Link, error_response};
use crate::close::{CloseCode, Closed, ClosedBy, Reason};
use crate::error::{RemoteError, TransportError};
use crate::session::{Liveness, Verdict};
use crate::transport::{Incoming, Transport};
use crate::wire::{Class, Close, Frame, Response, Text, decode, is_name};

/// What works behind the handles of one link: owns the socket, reads, writes, runs the handlers.
#[derive(Debug)]
pub(crate) struct Driver<T> {
    socket: Socket<T>,
    work: Work,
}

/// A link's state on the driver's side, without the socket.
#[derive(Debug)]
struct Work {
    link: Link,
    inbox: Inbox,
    liveness: Liveness,
    stage: Stage,
}

/// What becomes of a request that comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It is handled.
    Open,
    /// It is dropped: nothing can be answered any more.
    Closing,
}

/// Handlers that still run after their link has ended.
#[derive(Debug)]
pub(crate) struct Rest(Work);

impl<T: Transport> Driver<T> {
    pub(crate) fn new(transport: T, link: Link, routes: Arc<Routes>) -> Self {
        let inbox = Inbox::new(routes);
        let work = Work { link, inbox, liveness: Liveness::default(), stage: Stage::Open };
        Self { socket: Socket::new(transport), work }
    }

    /// Runs the link to its end. The handlers of what was received may go on after it.
    pub(crate) async fn run(mut self) -> (Closed, Rest) {
        let closed = self.serve().await;
        let closed = self.part(closed).await;
        self.work.link.shared().conclude(closed.clone());
        (closed, Rest(self.work))
    }

    /// The life of the link: until somebody closes it or the socket fails.
    async fn serve(&mut self) -> Closed {
        let Self { socket, work } = self;
        let link = work.link.clone();
        let shared = link.shared();
        let every = shared.config().heartbeat_interval;
        let mut heartbeat = interval_at(Instant::now() + every, every);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // The heartbeat first: it is rare, and a busy link must not put it off. Then what has
            // been received, before more is taken in. The socket last: it is nearly always ready.
            let end = tokio::select! {
                biased;
                _ = heartbeat.tick() => work.beat(socket),
                () = work.inbox.work(&link) => None,
                event = socket.next(shared) => match event {
                    Event::Incoming(incoming) => work.receive(incoming),
                    Event::Fault(error) => Some(work.fault(&error)),
                    Event::CloseAsked => shared.close_asked().cloned(),
                },
            };
            if let Some(closed) = end {
                return closed;
            }
            // A peer that never pauses leaves the other tasks of this thread their turn.
            consume_budget().await;
        }
    }

    /// The end of the link: says why, unless the peer did, and waits for the peer to hang up.
    /// Responses and events that are still under way are taken; requests are not, because they
    /// could not be answered.
    async fn part(&mut self, mut closed: Closed) -> Closed {
        let Self { socket, work } = self;
        let link = work.link.clone();
        let shared = link.shared();
        work.stage = Stage::Closing;
        shared.finish(&closed, closed.by == ClosedBy::Local);
        if closed.by == ClosedBy::Lost {
            socket.say_nothing();
            return work.last_words(socket, closed);
        }
        // A peer's `close` message carries no code; its close frame, still to come, may.
        let code = if closed.by == ClosedBy::Local { closed.code } else { CloseCode::NORMAL };
        socket.say_goodbye(code, closed.reason.clone());
        let hang_up = async {
            loop {
                tokio::select! {
                    biased;
                    () = work.inbox.work(&link) => {}
                    event = socket.next(shared) => match event {
                        Event::Incoming(Incoming::Close(code, _)) => {
                            if closed.by == ClosedBy::Remote {
                                closed.code = code;
                            }
                        }
                        // What breaks a rule no longer matters.
                        Event::Incoming(incoming) => drop(work.receive(incoming)),
                        Event::Fault(_) => return,
                        Event::CloseAsked => {}
                    },
                }
                consume_budget().await;
            }
        };
        // A peer that swallows the close frame cannot hold this side up.
        if timeout(shared.config().close_timeout, hang_up).await.is_err() && !shared.is_idle() {
            tracing::warn!(peer = %link.describe_peer(), "closed before the peer took all of it");
        }
        closed
    }
}

impl Work {
    fn beat<T: Transport>(&mut self, socket: &mut Socket<T>) -> Option<Closed> {
        let shared = self.link.shared();
        let traffic = socket.traffic();
        let every = shared.config().heartbeat_interval;
        let writing = socket.is_writing(shared);
        match self.liveness.beat(traffic.received, traffic.sent, writing) {
            Verdict::Ask => {
                socket.ping();
                None
            }
            Verdict::Silent => Some(Closed::lost(format!("Not a byte came for {:?}", every * 2))),
            Verdict::Stuck => {
                Some(Closed::lost(format!("The peer took not a byte for {:?}", every * 2)))
            }
        }
    }

    /// Takes what came; says how the link ends if it does.
    fn receive(&mut self, incoming: Incoming) -> Option<Closed> {
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
        let seq = match frame.numbered() {
            Ok(seq) => seq,
            Err(error) => return Some(malformed(error)),
        };
        if let Err(error) = self.link.shared().with_session(|session| session.receive(seq)) {
            return Some(malformed(error));
        }
        match frame.class() {
            Class::Response(_) => self.response(text, &frame),
            Class::Request(_) if self.stage == Stage::Closing => {}
            Class::Request(name) if !is_name(name) => {
                return Some(malformed("a request type that no response type fits"));
            }
            Class::Request(name) => return self.request(name, seq, &frame, text.len()),
            Class::Event(name) => return self.event(name, text, &frame),
            Class::Protocol(Close::TYPE) => return Some(self.close(&frame)),
            Class::Protocol(kind) => {
                return Some(malformed(format_args!("unexpected type {kind:?} after ready")));
            }
        }
        None
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

    /// Answers a request with an error: at once, or when there is room. Such answers may wait for
    /// as many bytes as the outbox has; a peer that asks for more reads none of them.
    fn refuse(&mut self, name: &str, seq: u64, error: &str) -> Option<Closed> {
        let shared = Arc::clone(self.link.shared());
        let refused = error_response(name, seq, error).map(|draft| shared.try_queue(draft));
        let Ok(Err(draft)) = refused else { return None };
        let bytes = draft.bytes();
        if self.inbox.refused_bytes() + bytes > shared.config().outbox {
            let reason = "The outbox is full: the peer asks and does not read the answers";
            return Some(Closed::local(CloseCode::POLICY, reason));
        }
        let name = name.to_owned();
        let response = async move { shared.respond(&name, seq, Ok(draft)).await };
        self.inbox.add_refusal(response.boxed(), bytes);
        None
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

    fn fault(&self, error: &TransportError) -> Closed {
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

impl Rest {
    /// Lets the handlers of what was received come to their end.
    pub(crate) async fn finish(mut self) {
        let link = self.0.link.clone();
        while !self.0.inbox.is_empty() {
            self.0.inbox.work(&link).await;
        }
    }
}

impl Drop for Work {
    /// A driver that is dropped half-way, with its runtime, leaves nobody waiting.
    fn drop(&mut self) {
        self.link.shared().conclude(Closed::lost("The link's task was dropped"));
    }
}
