//! What the task of a link does, whatever socket it has.

use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::deadline::Deadline;
use super::resume::Resumption;
use super::socket::{Socket, Written};
use crate::close::{CloseCode, Closed, ClosedBy};
use crate::error::TransportError;
use crate::link::inbound::{Halt, Inbound};
use crate::link::outbound::Outlet;
use crate::session::{Liveness, Verdict};
use crate::transport::{Incoming, Transport};

/// How many things are done before other tasks get their turn. An odd number: requests and handlers
/// that are ready at once come in pairs, and not every poll is to end between the two.
const STEPS: u32 = 511;
/// Messages that are read before what they led to is written: a peer that never pauses must not hold
/// it up.
const BURST: u32 = 256;

/// A link on the task's side, without the socket.
#[derive(Debug)]
pub(super) struct LinkTask {
    pub(super) outlet: Outlet,
    pub(super) inbound: Inbound,
    pub(super) liveness: Liveness,
    pub(super) deadline: Deadline,
}

/// Why a socket is no longer served.
pub(super) enum SocketEnd {
    /// The link has ended.
    Ended(Closed),
    /// The socket is lost, and the session is held.
    Cut(Closed),
    /// Another socket takes over.
    TakenOver(Resumption),
}

impl LinkTask {
    pub(super) fn heartbeat_interval(&self) -> Duration {
        let usual = self.outlet.config().heartbeat_interval;
        self.outlet.resume_info().map_or(usual, |resume_info| resume_info.heartbeat_interval)
    }

    /// Whether the end of a socket is the end of its link.
    pub(super) fn judge<T: Transport>(
        &mut self,
        socket: &mut Socket<T>,
        closed: Closed,
    ) -> SocketEnd {
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
        if meant || !resumes { SocketEnd::Ended(closed) } else { SocketEnd::Cut(closed) }
    }

    pub(super) fn beat<T: Transport>(&mut self, socket: &mut Socket<T>) -> Option<Closed> {
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
    pub(super) fn poll<T: Transport>(
        &mut self,
        socket: &mut Socket<T>,
        cx: &mut Context<'_>,
    ) -> Poll<Closed> {
        self.deadline.poll(cx, &self.outlet);
        self.inbound.begin_poll();
        socket.begin_poll();
        let end = self.work_off(socket, cx);
        self.inbound.deliver();
        self.outlet.end_look();
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
        self.outlet.begin_look();
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
                        return Poll::Ready(self.inbound.end_with(halt));
                    }
                    if self.inbound.receiving().is_acknowledgement_due() {
                        socket.acknowledge();
                    }
                }
                Poll::Ready(Err(error)) => return Poll::Ready(fault(&error)),
                Poll::Pending => {
                    if let Some(closed) = self.write(socket, cx) {
                        return Poll::Ready(closed);
                    }
                    if reads <= BURST {
                        return Poll::Pending;
                    }
                    reads = 0;
                    self.outlet.begin_look();
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
        self.outlet.end_look();
        match socket.write(cx, &self.outlet, self.inbound.receiving()) {
            Written::All => None,
            Written::Asked => self.outlet.close_asked(),
        }
    }

    pub(super) fn poll_without_socket(&mut self, cx: &mut Context<'_>) {
        self.deadline.poll(cx, &self.outlet);
        self.inbound.begin_poll();
        while self.inbound.poll_handlers(cx).is_ready() {}
        self.inbound.end_poll();
        self.outlet.check_drained();
    }

    /// Takes what still comes, writes what is queued, and is ready when the peer has hung up.
    pub(super) fn poll_to_the_end<T: Transport>(
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
                Err(Halt::NoRoom(..)) => break closed,
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

impl Drop for LinkTask {
    /// A driver that is dropped half-way, with its runtime, leaves nobody waiting.
    fn drop(&mut self) {
        let how =
            if std::thread::panicking() { "panicked" } else { "was dropped with its runtime" };
        self.outlet.end(Closed::lost(format!("The link's task {how}")));
    }
}
