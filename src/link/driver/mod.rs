//! The one task behind the handles of a link.

mod deadline;
mod resume;
mod socket;

use std::future::{Future as _, poll_fn};
use std::mem;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

use deadline::Deadline;
pub(crate) use resume::{Lost, Recover, Resumption, Unrecoverable};
use socket::{Socket, Written};

use super::inbound::{Halt, Inbound, Routes};
use super::outbound::Outlet;
use super::state::LinkState;
use crate::close::{CloseCode, Closed, ClosedBy};
use crate::error::TransportError;
use crate::handshake;
use crate::message::Role;
use crate::session::{Liveness, Receiving, Verdict};
use crate::transport::{self, Incoming, Transport};
use crate::wire::{Continue, Draft, EncodeError, Text};

/// How many things are done before other tasks get their turn. An odd number: requests and handlers
/// that are ready at once come in pairs, and not every poll is to end between the two.
const STEPS: u32 = 511;
/// Messages that are read before what they led to is written: a peer that never pauses must not hold
/// it up.
const BURST: u32 = 256;

/// What works behind the handles of one link: owns the socket, reads, writes, runs the handlers.
///
/// It owns the session too, in every dialect: at any time at most one socket works on it. What an
/// older socket still holds is dropped with it, so nothing of it can act on the session any more.
#[derive(Debug)]
pub(crate) struct Driver {
    socket: Socket<Box<dyn Transport>>,
    work: Work,
}

/// A link on the task's side, without the socket.
#[derive(Debug)]
struct Work {
    outlet: Outlet,
    inbound: Inbound,
    liveness: Liveness,
    deadline: Deadline,
}

/// Handlers that still run after their link has ended.
#[derive(Debug)]
pub(crate) struct Rest(Work);

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
            socket.say_first(first);
        }
        let inbound = Inbound::new(outlet.clone(), routes, receiving);
        let (liveness, deadline) = (Liveness::default(), Deadline::default());
        Self { socket, work: Work { outlet, inbound, liveness, deadline } }
    }

    /// Runs the link to its end. The handlers of what was received may go on after it.
    pub(crate) async fn run(mut self, recover: &mut impl Recover) -> (Closed, Rest) {
        let closed = loop {
            let resumption = match self.serve(recover).await {
                Break::Ended(closed) => break self.close(closed).await,
                Break::TakenOver(resumption) => Ok(resumption),
                Break::Cut(cut) => self.hold(recover, cut).await,
            };
            match resumption.map(|resumption| self.resume(resumption)) {
                Ok(Ok(())) => {}
                Ok(Err(closed)) => break self.close(closed).await,
                Err(closed) => break closed,
            }
        };
        self.work.outlet.end(closed.clone());
        (closed, Rest(self.work))
    }

    /// The life of a socket: until somebody closes the link, the socket fails, or another one
    /// takes over.
    async fn serve(&mut self, recover: &mut impl Recover) -> Break {
        let Self { socket, work } = self;
        let every = work.heartbeat_interval();
        let mut heartbeat = interval_at(Instant::now() + every, every);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut takeover = pin!(recover.takeover());
        let end = poll_fn(|cx| {
            work.outlet.register(cx.waker());
            // What is rare comes first: a busy link must not put it off.
            if let Poll::Ready(resumption) = takeover.as_mut().poll(cx) {
                return Poll::Ready(Err(resumption));
            }
            while heartbeat.poll_tick(cx).is_ready() {
                if let Some(closed) = work.beat(socket) {
                    return Poll::Ready(Ok(closed));
                }
            }
            work.poll(socket, cx).map(Ok)
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
        let work = &mut self.work;
        // A peer that is alive after all learns from the end of the socket that it was given up.
        let old = mem::replace(&mut self.socket, Socket::new(Box::new(transport::Gone)));
        if cut.by == ClosedBy::Remote {
            // Its close frame is answered, which is no longer this session's matter.
            tokio::spawn(timeout(work.outlet.config().close_timeout, old.hang_up()));
        } else {
            drop(old);
        }
        let Some(hold) = work.outlet.hold() else { return Err(cut) };
        let last_seq = work.inbound.receiving().last_received();
        let lost = Lost::new(work.outlet.clone(), cut, hold, last_seq);
        let mut recovering = pin!(recover.recover(&lost));
        poll_fn(|cx| {
            work.outlet.register(cx.waker());
            if let Some(closed) = work.outlet.close_asked() {
                return Poll::Ready(Err(closed));
            }
            if let Poll::Ready(resumption) = recovering.as_mut().poll(cx) {
                return Poll::Ready(resumption);
            }
            work.poll_without_socket(cx);
            Poll::Pending
        })
        .await
    }

    /// Goes on over another socket. The present one is dropped, with whatever it holds. On an error
    /// the link ends so.
    fn resume(&mut self, resumption: Resumption) -> Result<(), Closed> {
        let Resumption { mut transport, last_seq, hold } = resumption;
        transport.set_limit(usize::MAX);
        self.socket = Socket::new(transport);
        self.work.liveness = Liveness::default();
        let outlet = &self.work.outlet;
        // The peer knows it from our `resume`, or is told in the `continue` below.
        let last = self.work.inbound.receiving().acknowledge();
        if outlet.us() == Role::Master {
            let answer = handshake::cont(last, &hold, outlet.dialect(), outlet.peer());
            let text = Draft::protocol(Continue::TYPE, &answer)
                .and_then(|draft| draft.number(None).map_err(EncodeError::from));
            self.socket.say_first(text.map_err(|fault| {
                Closed::local(CloseCode::INTERNAL, format!("`continue` cannot be written: {fault}"))
            })?);
        }
        let again = outlet.resumed(last_seq, hold).map_err(|fault| {
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
        let Self { socket, work } = self;
        work.inbound.close();
        // A peer's `close` message carries no code; its close frame, still to come, may.
        let code = if closed.by == ClosedBy::Local { closed.code } else { CloseCode::NORMAL };
        work.outlet.begin_close(&closed, code);
        if closed.by == ClosedBy::Lost {
            return closed;
        }
        let limit = work.outlet.config().close_timeout;
        let hang_up = poll_fn(|cx| {
            work.outlet.register(cx.waker());
            work.poll_to_the_end(socket, cx, &mut closed)
        });
        // A peer that swallows the close frame cannot hold this side up.
        if timeout(limit, hang_up).await.is_err() && !self.work.outlet.is_idle() {
            let peer = self.work.outlet.describe_peer();
            tracing::warn!(%peer, "closed before the peer took all of it");
        }
        closed
    }
}

impl Work {
    fn heartbeat_interval(&self) -> Duration {
        let usual = self.outlet.config().heartbeat_interval;
        self.outlet.hold().map_or(usual, |hold| hold.heartbeat_interval)
    }

    /// Whether the end of a socket is the end of its link.
    fn judge<T: Transport>(&mut self, socket: &mut Socket<T>, closed: Closed) -> Break {
        let closed = match closed.by {
            ClosedBy::Lost => self.last_words(socket, closed),
            _ => closed,
        };
        // A `close` message is meant. A close frame alone is not, unless its reason says so or the
        // peer had prepared for it: a proxy may have sent it.
        let meant = match closed.by {
            ClosedBy::Local => true,
            ClosedBy::Lost => false,
            ClosedBy::Remote => {
                self.outlet.is_meant()
                    || closed.code == CloseCode::AUTHENTICATION
                    || closed.reason.is_final()
            }
        };
        let resumes = self.outlet.dialect().resumes();
        if meant || !resumes { Break::Ended(closed) } else { Break::Cut(closed) }
    }

    fn beat<T: Transport>(&mut self, socket: &mut Socket<T>) -> Option<Closed> {
        let traffic = socket.traffic();
        let every = self.heartbeat_interval();
        let writing = socket.is_writing(&self.outlet);
        match self.liveness.beat(traffic.received, traffic.sent, writing) {
            Verdict::Ask => {
                self.outlet.shrink();
                socket.shrink();
                socket.show_life();
                None
            }
            Verdict::Silent => Some(Closed::lost(format!("Not a byte came for {:?}", every * 2))),
            Verdict::Stuck => {
                Some(Closed::lost(format!("The peer took not a byte for {:?}", every * 2)))
            }
        }
    }

    /// Handles, reads and writes for as long as there is anything to do, in turn with the other
    /// tasks of this thread; says how the link ends if it does.
    fn poll<T: Transport>(&mut self, socket: &mut Socket<T>, cx: &mut Context<'_>) -> Poll<Closed> {
        self.deadline.poll(cx, &self.outlet);
        self.inbound.begin_poll();
        socket.begin_poll();
        let end = self.work_off(socket, cx);
        self.inbound.end_poll();
        self.outlet.check_drained();
        end
    }

    fn work_off<T: Transport>(
        &mut self,
        socket: &mut Socket<T>,
        cx: &mut Context<'_>,
    ) -> Poll<Closed> {
        let mut reads = 0;
        for _ in 0..STEPS {
            // What has been received comes before what is still to be read.
            if self.inbound.poll_handlers(cx).is_ready() {
                continue;
            }
            // Reading first gathers the answers to all that has come into one write.
            let incoming = if reads < BURST { socket.poll_read(cx) } else { Poll::Pending };
            reads += 1;
            match incoming {
                Poll::Ready(Ok(incoming)) => {
                    if let Err(halt) = self.inbound.receive(incoming, cx) {
                        self.inbound.deliver();
                        return Poll::Ready(halt.into_closed());
                    }
                    if self.inbound.receiving().is_acknowledgement_due() {
                        socket.acknowledge();
                    }
                }
                Poll::Ready(Err(error)) => {
                    self.inbound.deliver();
                    return Poll::Ready(fault(&error));
                }
                Poll::Pending => {
                    if let Some(closed) = self.write(socket, cx) {
                        return Poll::Ready(closed);
                    }
                    if reads <= BURST {
                        return Poll::Pending;
                    }
                    reads = 0;
                }
            }
        }
        cx.waker().wake_by_ref();
        self.write(socket, cx).map_or(Poll::Pending, Poll::Ready)
    }

    /// Writes what is queued; says how the link ends when this side wants to close.
    fn write<T: Transport>(
        &mut self,
        socket: &mut Socket<T>,
        cx: &mut Context<'_>,
    ) -> Option<Closed> {
        self.inbound.deliver();
        match socket.write(cx, &self.outlet, self.inbound.receiving()) {
            Written::All => None,
            Written::Asked => self.outlet.close_asked(),
        }
    }

    fn poll_without_socket(&mut self, cx: &mut Context<'_>) {
        self.deadline.poll(cx, &self.outlet);
        self.inbound.begin_poll();
        while self.inbound.poll_handlers(cx).is_ready() {}
        self.inbound.end_poll();
        self.outlet.check_drained();
    }

    /// Takes what still comes, writes what is queued, and is ready when the peer has hung up.
    fn poll_to_the_end<T: Transport>(
        &mut self,
        socket: &mut Socket<T>,
        cx: &mut Context<'_>,
        closed: &mut Closed,
    ) -> Poll<()> {
        self.poll_without_socket(cx);
        for _ in 0..BURST {
            match socket.poll_read(cx) {
                Poll::Ready(Ok(Incoming::Close(code, _))) if closed.by == ClosedBy::Remote => {
                    closed.code = code;
                }
                // What breaks a rule no longer matters.
                Poll::Ready(Ok(incoming)) => drop(self.inbound.receive(incoming, cx)),
                Poll::Ready(Err(_)) => {
                    self.inbound.deliver();
                    return Poll::Ready(());
                }
                Poll::Pending => {
                    self.write(socket, cx);
                    return Poll::Pending;
                }
            }
        }
        cx.waker().wake_by_ref();
        self.write(socket, cx);
        Poll::Pending
    }

    /// What the peer said before the socket failed: its reason is better than the system's, and so
    /// is that for which this side would have ended the link. What has no room is left for the next
    /// socket, with all that follows it.
    fn last_words<T: Transport>(&mut self, socket: &mut Socket<T>, closed: Closed) -> Closed {
        let mut cx = Context::from_waker(Waker::noop());
        let closed = loop {
            let Poll::Ready(Ok(incoming)) = socket.poll_read(&mut cx) else { break closed };
            match self.inbound.receive(incoming, &mut cx) {
                Ok(()) => {}
                Err(Halt::NoRoom(_)) => break closed,
                Err(Halt::End(end)) => break end,
            }
        };
        self.inbound.deliver();
        closed
    }
}

/// How a link ends whose socket is of no more use.
fn fault(error: &TransportError) -> Closed {
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

impl Drop for Work {
    /// A driver that is dropped half-way, with its runtime, leaves nobody waiting.
    fn drop(&mut self) {
        let how =
            if std::thread::panicking() { "panicked" } else { "was dropped with its runtime" };
        self.outlet.end(Closed::lost(format!("The link's task {how}")));
    }
}

impl Rest {
    /// Lets the handlers of what was received come to their end.
    pub(crate) async fn finish(mut self) {
        poll_fn(|cx| {
            self.0.poll_without_socket(cx);
            if self.0.inbound.is_empty() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}
