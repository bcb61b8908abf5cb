//! The task behind the handles of a link.

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

/// The task behind the handles of one link: owns the socket, reads, writes and runs the handlers.
///
/// It owns the session too, in every dialect: at most one socket works on it at any time. An older
/// socket is dropped with everything it holds, so nothing of it can act on the session any more.
#[derive(Debug)]
pub(crate) struct Driver {
    socket: Socket<Box<dyn Transport>>,
    task: LinkTask,
}

/// Handlers that still run after their link has ended.
#[derive(Debug)]
pub(crate) struct RemainingHandlers(LinkTask);

impl Driver {
    /// Creates the task over a transport after the handshake; `first` is sent before all else.
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

    /// Runs the link to its end. Returns how it ended, and the handlers that still run.
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
                // No socket is left on which the peer could be told.
                Err(closed) => break closed,
            }
        };
        self.task.outlet.end(closed.clone());
        (closed, RemainingHandlers(self.task))
    }

    /// Serves a socket until the link is closed, the socket fails, or another one takes over.
    async fn serve(&mut self, recover: &mut impl Recover) -> SocketEnd {
        let Self { socket, task } = self;
        let every = task.heartbeat_interval();
        let mut heartbeat = interval_at(Instant::now() + every, every);
        // Otherwise several ticks at once, after a pause of this process, give up a live peer.
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut takeover = pin!(recover.takeover());
        let end = poll_fn(|cx| {
            // Before anything is looked at, so that no wake is lost in between.
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

    /// Waits for the next socket. Meanwhile handlers go on, and what is sent is queued.
    async fn hold_session(
        &mut self,
        recover: &mut impl Recover,
        cut: Closed,
    ) -> Result<Resumption, Closed> {
        let task = &mut self.task;
        // Dropped now: a peer that is alive after all learns by the end of the socket that it was
        // given up.
        let old = mem::replace(&mut self.socket, Socket::new(Box::new(transport::Gone)));
        if cut.by == ClosedBy::Remote {
            // Its close frame still has to be answered, but the session does not wait for that.
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

    /// Resumes over another socket. The present one is dropped with everything it holds. An error
    /// is how the link ends.
    fn resume(&mut self, resumption: Resumption) -> Result<(), Closed> {
        let Resumption { mut transport, last_seq, resume_info } = resumption;
        // The allowance was for the handshake.
        transport.set_limit(usize::MAX);
        self.socket = Socket::new(transport);
        // It counts the bytes of one socket.
        self.task.liveness = Liveness::default();
        let outlet = &self.task.outlet;
        // `resume` has told the peer, or the `continue` below does, so this counts as acknowledged.
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
        tracing::info!(peer = %outlet.peer(), again, "the session goes on");
        Ok(())
    }

    /// Ends the link: sends the reason, unless the peer has sent one, and waits for the peer to
    /// hang up. Responses and events that are still under way are handled; requests are not,
    /// because they could not be answered.
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
        // A peer that does not answer the close frame must not hold this side up.
        if timeout(limit, hang_up).await.is_err() && !self.task.outlet.is_idle() {
            let peer = self.task.outlet.peer();
            tracing::warn!(%peer, "closed before the peer took all of it");
        }
        closed
    }
}

impl RemainingHandlers {
    /// Waits until the handlers of everything received have ended.
    pub(crate) async fn finish(mut self) {
        poll_fn(|cx| {
            self.0.poll_without_socket(cx);
            if self.0.inbound.is_empty() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}
