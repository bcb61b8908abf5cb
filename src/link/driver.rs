use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::task::coop::consume_budget;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

use super::inbox::{Inbox, QueuedEvent};
use super::pending::Answer;
use super::router::{RequestRoute, Routes};
use super::socket::{Event, Socket};
use super::{Link, LinkState, error_response};
use crate::close::{CloseCode, Closed, ClosedBy, Reason};
use crate::error::{RemoteError, TransportError};
use crate::handshake::{self, Hold};
use crate::message::Role;
use crate::session::{AckError, Liveness, Taken, Verdict};
use crate::transport::{self, Incoming, Transport};
use crate::wire::{
    Class, Close, Continue, Draft, Frame, Heartbeat, Response, Text, decode, is_name,
};

/// What works behind the handles of one link: owns the socket, reads, writes, runs the handlers.
///
/// It owns the session too, in every dialect: at any time at most one socket works on it. What an
/// older socket still holds is dropped with it, so nothing of it can act on the session any more.
#[derive(Debug)]
pub(crate) struct Driver {
    socket: Socket<Box<dyn Transport>>,
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

/// How near its end a link is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Open,
    /// The peer has said that it closes: the end of the socket is meant.
    Disconnecting,
    /// Requests are dropped: nothing can be answered any more.
    Closing,
}

/// Handlers that still run after their link has ended.
#[derive(Debug)]
pub(crate) struct Rest(Work);

/// Where a link gets its next socket from.
pub(crate) trait Recover: Send {
    /// A socket that takes the session over while the present one still works. Cancel safe.
    fn takeover(&mut self) -> impl Future<Output = Resumption> + Send;

    /// A socket after the last one was cut, or how the session ends. `last_seq` is the last number
    /// that this side has received.
    fn recover(
        &mut self,
        cut: &Closed,
        hold: &Hold,
        last_seq: Option<u64>,
    ) -> impl Future<Output = Result<Resumption, Closed>> + Send;
}

/// A link that ends with its socket.
#[derive(Debug)]
pub(crate) struct Unrecoverable;

impl Recover for Unrecoverable {
    async fn takeover(&mut self) -> Resumption {
        std::future::pending().await
    }

    async fn recover(
        &mut self,
        cut: &Closed,
        _: &Hold,
        _: Option<u64>,
    ) -> Result<Resumption, Closed> {
        Err(cut.clone())
    }
}

/// A socket to go on with.
pub(crate) struct Resumption {
    pub(crate) transport: Box<dyn Transport>,
    /// The last number that the peer has received.
    pub(crate) last_seq: Option<u64>,
    pub(crate) hold: Hold,
}

/// Why a socket is no longer served.
enum Break {
    /// The link has ended.
    Ended(Closed),
    /// The socket is lost, and the session is held.
    Cut(Closed),
    /// Another socket takes over.
    TakenOver(Resumption),
}

impl Driver {
    /// `first` goes out before everything else.
    pub(crate) fn new(
        transport: Box<dyn Transport>,
        link: Link,
        routes: Arc<Routes>,
        first: Option<Text>,
    ) -> Self {
        let inbox = Inbox::new(routes);
        let work = Work { link, inbox, liveness: Liveness::default(), stage: Stage::Open };
        let mut socket = Socket::new(transport);
        if let Some(first) = first {
            socket.say_first(first);
        }
        Self { socket, work }
    }

    /// Runs the link to its end. The handlers of what was received may go on after it.
    pub(crate) async fn run(mut self, recover: &mut impl Recover) -> (Closed, Rest) {
        let closed = loop {
            let resumption = match self.serve(recover).await {
                Break::Ended(closed) => break self.part(closed).await,
                Break::TakenOver(resumption) => Ok(resumption),
                Break::Cut(cut) => self.hold(recover, cut).await,
            };
            match resumption.map(|resumption| self.go_on(resumption)) {
                Ok(Ok(())) => {}
                Ok(Err(fault)) => {
                    let reason = format!("Impossible acknowledgement: {fault}");
                    break self.part(Closed::local(CloseCode::PROTOCOL, reason)).await;
                }
                Err(closed) => break closed,
            }
        };
        self.work.link.shared().conclude(closed.clone());
        (closed, Rest(self.work))
    }

    /// The life of a socket: until somebody closes the link, the socket fails, or another one
    /// takes over.
    async fn serve(&mut self, recover: &mut impl Recover) -> Break {
        let Self { socket, work } = self;
        let link = work.link.clone();
        let shared = link.shared();
        let every = work.heartbeat_interval();
        let mut heartbeat = interval_at(Instant::now() + every, every);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // The heartbeat first: it is rare, and a busy link must not put it off. So is a socket
            // that takes over. Then what has been received, before more is taken in. The socket
            // last: it is nearly always ready.
            let end = tokio::select! {
                biased;
                _ = heartbeat.tick() => work.beat(socket),
                resumption = recover.takeover() => return Break::TakenOver(resumption),
                () = work.inbox.work(&link) => None,
                event = socket.next(shared) => match event {
                    Event::Incoming(incoming) => work.receive(incoming),
                    Event::Fault(error) => Some(work.fault(&error)),
                    Event::CloseAsked => shared.close_asked().cloned(),
                },
            };
            if let Some(closed) = end {
                return work.judge(socket, closed);
            }
            if shared.with_session(|session| session.is_acknowledgement_due()) {
                socket.show_life();
            }
            // A peer that never pauses leaves the other tasks of this thread their turn.
            consume_budget().await;
        }
    }

    /// Without a socket: handlers go on, and what is sent waits.
    async fn hold(
        &mut self,
        recover: &mut impl Recover,
        cut: Closed,
    ) -> Result<Resumption, Closed> {
        let work = &mut self.work;
        let link = work.link.clone();
        let shared = link.shared();
        // A peer that is alive after all learns from the end of the socket that it was given up.
        self.socket = Socket::new(Box::new(transport::Gone));
        let Some(hold) = shared.hold() else { return Err(cut) };
        let (last_seq, held) = shared.with_session(|s| (s.last_received(), s.held()));
        let now = Instant::now();
        let until = now.checked_add(hold.timeout).unwrap_or(now + Duration::from_secs(86_400));
        shared.set_state(LinkState::Resuming { cut: cut.clone(), held, until });
        tracing::info!(peer = %link.describe_peer(), %cut, held, "the socket is lost, holding the session");
        let mut recovering = pin!(recover.recover(&cut, &hold, last_seq));
        loop {
            tokio::select! {
                biased;
                closed = shared.close_wanted() => return Err(closed),
                resumption = &mut recovering => return resumption,
                () = work.inbox.work(&link) => {}
            }
        }
    }

    /// Goes on over another socket. The present one is dropped, with whatever it holds.
    fn go_on(&mut self, resumption: Resumption) -> Result<(), AckError> {
        let Resumption { mut transport, last_seq, hold } = resumption;
        transport.set_limit(usize::MAX);
        let shared = self.work.link.shared();
        self.socket = Socket::new(transport);
        self.work.liveness = Liveness::default();
        if shared.us() == Role::Master {
            let (last, dialect) = shared.with_session(|s| (s.acknowledge(), *s.dialect()));
            let answer = handshake::cont(last, &hold, &dialect, shared.peer());
            if let Ok(draft) = Draft::protocol(Continue::TYPE, &answer) {
                self.socket.say_first(draft.number(None));
            }
        }
        let again = shared.resumed(last_seq, hold)?;
        shared.set_state(LinkState::Resumed { again });
        tracing::info!(peer = %self.work.link.describe_peer(), again, "the session goes on");
        Ok(())
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
            return closed;
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
    fn heartbeat_interval(&self) -> Duration {
        let shared = self.link.shared();
        shared.hold().map_or(shared.config().heartbeat_interval, |hold| hold.heartbeat_interval)
    }

    /// Whether the end of a socket is the end of its link.
    fn judge<T: Transport>(&mut self, socket: &mut Socket<T>, closed: Closed) -> Break {
        let closed = match closed.by {
            ClosedBy::Lost => self.last_words(socket, closed),
            _ => closed,
        };
        let resumes = self.link.shared().with_session(|session| session.dialect().resumes());
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

    fn beat<T: Transport>(&mut self, socket: &mut Socket<T>) -> Option<Closed> {
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
        let resumes = self.link.shared().with_session(|session| session.dialect().resumes());
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
