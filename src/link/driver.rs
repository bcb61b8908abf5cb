use std::future::{Future as _, poll_fn};
use std::mem;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use tokio::task::coop::consume_budget;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

use super::bell::Bell;
use super::expiry::Expiry;
use super::inbox::Inbox;
use super::recover::{Break, Lost, Recover, Resumption};
use super::router::Routes;
use super::socket::{Event, Socket};
use super::work::{Stage, Work};
use super::{Config, Link, LinkState};
use crate::close::{CloseCode, Closed, ClosedBy};
use crate::handshake::{self, Agreement};
use crate::message::Role;
use crate::session::Liveness;
use crate::transport::{self, Incoming, Transport};
use crate::wire::{Continue, Draft, EncodeError};

/// What works behind the handles of one link: owns the socket, reads, writes, runs the handlers.
///
/// It owns the session too, in every dialect: at any time at most one socket works on it. What an
/// older socket still holds is dropped with it, so nothing of it can act on the session any more.
#[derive(Debug)]
pub(crate) struct Driver {
    socket: Socket<Box<dyn Transport>>,
    work: Work,
    expiry: Expiry,
}

/// Handlers that still run after their link has ended.
#[derive(Debug)]
pub(crate) struct Rest(Work);

impl Driver {
    /// A link over a finished handshake.
    pub(crate) fn new(
        transport: Box<dyn Transport>,
        mut agreement: Agreement,
        us: Role,
        config: Config,
        routes: Arc<Routes>,
    ) -> Self {
        let first = agreement.first.take();
        let (link, receiving) = Link::new(agreement, us, config);
        let inbox = Inbox::new();
        let (liveness, stage, now) = (Liveness::default(), Stage::Open, None);
        let work = Work { link, routes, inbox, receiving, liveness, stage, now };
        let mut socket = Socket::new(transport, work.link.shared().driver());
        if let Some(first) = first {
            socket.say_first(first);
        }
        Self { socket, work, expiry: Expiry::default() }
    }

    pub(crate) fn link(&self) -> &Link {
        &self.work.link
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
                Ok(Err(closed)) => break self.part(closed).await,
                Err(closed) => break closed,
            }
        };
        self.work.link.shared().conclude(closed.clone());
        (closed, Rest(self.work))
    }

    /// The life of a socket: until somebody closes the link, the socket fails, or another one
    /// takes over.
    async fn serve(&mut self, recover: &mut impl Recover) -> Break {
        let Self { socket, work, expiry } = self;
        let link = work.link.clone();
        let shared = link.shared();
        let every = work.heartbeat_interval();
        let mut heartbeat = interval_at(Instant::now() + every, every);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut takeover = pin!(recover.takeover());
        let mut rare = Bell::new(Arc::clone(shared.driver()));
        let end = poll_fn(|cx| {
            shared.wake_with(cx.waker());
            if !expiry.is_set(shared) {
                rare.ring();
            }
            // What is rare comes first: a busy link must not put it off.
            let rarely = rare.poll(|cx| {
                if let Poll::Ready(resumption) = takeover.as_mut().poll(cx) {
                    return Poll::Ready(Err(resumption));
                }
                while heartbeat.poll_tick(cx).is_ready() {
                    if let Some(closed) = work.beat(socket) {
                        return Poll::Ready(Ok(closed));
                    }
                }
                expiry.poll(cx, shared).map(|never| match never {})
            });
            if rarely.is_ready() { rarely } else { work.turn(socket, cx, &link).map(Ok) }
        });
        match end.await {
            Ok(closed) => work.judge(socket, closed),
            Err(resumption) => Break::TakenOver(resumption),
        }
    }

    /// Without a socket: handlers go on, and what is sent waits.
    async fn hold(
        &mut self,
        recover: &mut impl Recover,
        cut: Closed,
    ) -> Result<Resumption, Closed> {
        let Self { work, expiry, .. } = self;
        let link = work.link.clone();
        let shared = link.shared();
        // A peer that is alive after all learns from the end of the socket that it was given up.
        let old =
            mem::replace(&mut self.socket, Socket::new(Box::new(transport::Gone), shared.driver()));
        if cut.by == ClosedBy::Remote {
            // Its close frame is answered, which is no longer this session's matter.
            tokio::spawn(timeout(shared.config().close_timeout, old.hang_up()));
        } else {
            drop(old);
        }
        let Some(hold) = shared.hold() else { return Err(cut) };
        let lost = Lost::new(link.clone(), cut, hold, work.receiving.last_received());
        let mut recovering = pin!(recover.recover(&lost));
        loop {
            tokio::select! {
                biased;
                closed = shared.close_wanted() => return Err(closed),
                resumption = &mut recovering => return resumption,
                never = expiry.run(shared) => match never {},
                () = work.inbox.work(&link, &work.routes) => shared.set_handling(work.inbox.running()),
            }
        }
    }

    /// Goes on over another socket. The present one is dropped, with whatever it holds. On an error
    /// the link ends so.
    fn go_on(&mut self, resumption: Resumption) -> Result<(), Closed> {
        let Resumption { mut transport, last_seq, hold } = resumption;
        transport.set_limit(usize::MAX);
        let shared = self.work.link.shared();
        self.socket = Socket::new(transport, shared.driver());
        self.work.liveness = Liveness::default();
        // The peer knows it from our `resume`, or is told in the `continue` below.
        let last = self.work.receiving.acknowledge();
        if shared.us() == Role::Master {
            let dialect = shared.with_session(|session| *session.dialect());
            let answer = handshake::cont(last, &hold, &dialect, shared.peer());
            let text = Draft::protocol(Continue::TYPE, &answer)
                .and_then(|draft| draft.number(None).map_err(EncodeError::from));
            self.socket.say_first(text.map_err(|fault| {
                Closed::local(CloseCode::INTERNAL, format!("`continue` cannot be written: {fault}"))
            })?);
        }
        let again = shared.resumed(last_seq, hold).map_err(|fault| {
            let reason = format!("Impossible acknowledgement: {fault}");
            Closed::local(CloseCode::PROTOCOL, reason)
        })?;
        shared.set_state(LinkState::Resumed { again });
        tracing::info!(peer = %self.work.link.describe_peer(), again, "the session goes on");
        Ok(())
    }

    /// The end of the link: says why, unless the peer did, and waits for the peer to hang up.
    /// Responses and events that are still under way are taken; requests are not, because they
    /// could not be answered.
    async fn part(&mut self, mut closed: Closed) -> Closed {
        let Self { socket, work, expiry } = self;
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
                    never = expiry.run(shared) => match never {},
                    () = work.inbox.work(&link, &work.routes) => {}
                    event = socket.next(shared, &mut work.receiving) => match event {
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

impl Rest {
    /// Lets the handlers of what was received come to their end.
    pub(crate) async fn finish(mut self) {
        let link = self.0.link.clone();
        while !self.0.inbox.is_empty() {
            self.0.inbox.work(&link, &self.0.routes).await;
        }
    }
}
