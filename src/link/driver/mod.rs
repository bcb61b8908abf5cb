//! The one task behind the handles of a link.

mod deadline;
mod resume;
mod socket;
mod task;

use std::future::{Future as _, poll_fn};
use std::mem;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

use deadline::Deadline;
pub(crate) use resume::{CutSession, Recover, Resumption, Unrecoverable};
use socket::Socket;
use task::{LinkTask, SocketEnd};

use super::inbound::{Inbound, Routes};
use super::outbound::Outlet;
use super::state::LinkState;
use crate::close::{CloseCode, Closed, ClosedBy};
use crate::handshake;
use crate::message::Role;
use crate::session::{Liveness, Receiving};
use crate::transport::{self, Transport};
use crate::wire::{Continue, EncodeError, EncodedMessage, Text};

/// What works behind the handles of one link: owns the socket, reads, writes, runs the handlers.
///
/// It owns the session too, in every dialect: at any time at most one socket works on it. What an
/// older socket still holds is dropped with it, so nothing of it can act on the session any more.
#[derive(Debug)]
pub(crate) struct Driver {
    socket: Socket<Box<dyn Transport>>,
    task: LinkTask,
}

/// Handlers that still run after their link has ended.
#[derive(Debug)]
pub(crate) struct RemainingHandlers(LinkTask);

impl Driver {
    /// Over a transport on which all was agreed; `first` is still to be said before everything else.
    pub(super) fn new(
        transport: Box<dyn Transport>,
        first: Option<Text>,
        outlet: Outlet,
        receiving: Receiving,
        routes: Arc<Routes>,
    ) -> Self {
        let mut socket = Socket::new(transport);
        if let Some(first) = first {
            socket.send_first(first);
        }
        let inbound = Inbound::new(outlet.clone(), routes, receiving);
        let (liveness, deadline) = (Liveness::default(), Deadline::default());
        Self { socket, task: LinkTask { outlet, inbound, liveness, deadline } }
    }

    /// Runs the link to its end. The handlers of what was received may go on after it.
    pub(crate) async fn run(mut self, recover: &mut impl Recover) -> (Closed, RemainingHandlers) {
        let closed = loop {
            let resumption = match self.serve(recover).await {
                SocketEnd::Ended(closed) => break self.close(closed).await,
                SocketEnd::TakenOver(resumption) => Ok(resumption),
                SocketEnd::Cut(cut) => self.hold_session(recover, cut).await,
            };
            match resumption.map(|resumption| self.resume(resumption)) {
                Ok(Ok(())) => {}
                Ok(Err(closed)) => break self.close(closed).await,
                Err(closed) => break closed,
            }
        };
        self.task.outlet.end(closed.clone());
        (closed, RemainingHandlers(self.task))
    }

    /// The life of a socket: until somebody closes the link, the socket fails, or another one
    /// takes over.
    async fn serve(&mut self, recover: &mut impl Recover) -> SocketEnd {
        let Self { socket, task } = self;
        let every = task.heartbeat_interval();
        let mut heartbeat = interval_at(Instant::now() + every, every);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut takeover = pin!(recover.takeover());
        let end = poll_fn(|cx| {
            task.outlet.register(cx.waker());
            // What is rare comes first: a busy link must not put it off.
            if let Poll::Ready(resumption) = takeover.as_mut().poll(cx) {
                return Poll::Ready(Err(resumption));
            }
            while heartbeat.poll_tick(cx).is_ready() {
                if let Some(closed) = task.beat(socket) {
                    return Poll::Ready(Ok(closed));
                }
            }
            task.poll(socket, cx).map(Ok)
        });
        match end.await {
            Ok(closed) => task.judge(socket, closed),
            Err(resumption) => SocketEnd::TakenOver(resumption),
        }
    }

    /// Without a socket: handlers go on, and what is sent waits.
    async fn hold_session(
        &mut self,
        recover: &mut impl Recover,
        cut: Closed,
    ) -> Result<Resumption, Closed> {
        let task = &mut self.task;
        // A peer that is alive after all learns from the end of the socket that it was given up.
        let old = mem::replace(&mut self.socket, Socket::new(Box::new(transport::Gone)));
        if cut.by == ClosedBy::Remote {
            // Its close frame is answered, which is no longer this session's matter.
            tokio::spawn(timeout(task.outlet.config().close_timeout, old.hang_up()));
        } else {
            drop(old);
        }
        let Some(resume_info) = task.outlet.resume_info() else { return Err(cut) };
        let last_seq = task.inbound.receiving().last_received();
        let session = CutSession::new(task.outlet.clone(), cut, resume_info, last_seq);
        let mut recovering = pin!(recover.recover(&session));
        poll_fn(|cx| {
            task.outlet.register(cx.waker());
            if let Some(closed) = task.outlet.close_asked() {
                return Poll::Ready(Err(closed));
            }
            if let Poll::Ready(resumption) = recovering.as_mut().poll(cx) {
                return Poll::Ready(resumption);
            }
            task.poll_without_socket(cx);
            Poll::Pending
        })
        .await
    }

    /// Goes on over another socket. The present one is dropped, with whatever it holds. On an error
    /// the link ends so.
    fn resume(&mut self, resumption: Resumption) -> Result<(), Closed> {
        let Resumption { mut transport, last_seq, resume_info } = resumption;
        transport.set_limit(usize::MAX);
        self.socket = Socket::new(transport);
        self.task.liveness = Liveness::default();
        let outlet = &self.task.outlet;
        // The peer knows it from our `resume`, or is told in the `continue` below.
        let last = self.task.inbound.receiving().acknowledge();
        if outlet.us() == Role::Master {
            let answer = handshake::cont(last, &resume_info, outlet.dialect(), outlet.peer());
            let text = EncodedMessage::protocol(Continue::TYPE, &answer)
                .and_then(|message| message.to_frame(None).map_err(EncodeError::from));
            self.socket.send_first(text.map_err(|fault| {
                Closed::local(CloseCode::INTERNAL, format!("`continue` cannot be written: {fault}"))
            })?);
        }
        let again = outlet.resumed(last_seq, resume_info).map_err(|fault| {
            let reason = format!("Impossible acknowledgement: {fault}");
            Closed::local(CloseCode::PROTOCOL, reason)
        })?;
        outlet.set_state(LinkState::Resumed { again });
        tracing::info!(peer = %outlet.describe_peer(), again, "the session goes on");
        Ok(())
    }

    /// The end of the link: says why, unless the peer did, and waits for the peer to hang up.
    /// Responses and events that are still under way are taken; requests are not, because they
    /// could not be answered.
    async fn close(&mut self, mut closed: Closed) -> Closed {
        let Self { socket, task } = self;
        task.inbound.close();
        // A peer's `close` message carries no code; its close frame, still to come, may.
        let code = if closed.by == ClosedBy::Local { closed.code } else { CloseCode::NORMAL };
        task.outlet.begin_close(&closed, code);
        if closed.by == ClosedBy::Lost {
            return closed;
        }
        let limit = task.outlet.config().close_timeout;
        let hang_up = poll_fn(|cx| {
            task.outlet.register(cx.waker());
            task.poll_to_the_end(socket, cx, &mut closed)
        });
        // A peer that swallows the close frame cannot hold this side up.
        if timeout(limit, hang_up).await.is_err() && !self.task.outlet.is_idle() {
            let peer = self.task.outlet.describe_peer();
            tracing::warn!(%peer, "closed before the peer took all of it");
        }
        closed
    }
}

impl RemainingHandlers {
    /// Lets the handlers of what was received come to their end.
    pub(crate) async fn finish(mut self) {
        poll_fn(|cx| {
            self.0.poll_without_socket(cx);
            if self.0.inbound.is_empty() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}
