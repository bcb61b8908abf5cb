//! One poll of a link's task: it handles, reads and writes.

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

/// The most steps of one poll, after which other tasks run.
// Odd: requests and handlers that are ready at once come in pairs, and not every poll should end
// between the two.
const STEPS: u32 = 511;
/// The most messages that are read before the frames that they led to are written.
// A peer that never pauses must not hold them up.
const BURST: u32 = 256;

/// The task's side of a link, without the socket.
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
    /// The socket is lost, and the session is kept.
    Cut(Closed),
    /// Another socket takes over.
    TakenOver(Resumption),
}

impl LinkTask {
    pub(super) fn heartbeat_interval(&self) -> Duration {
        let usual = self.outlet.config().heartbeat_interval;
        self.outlet.resume_info().map_or(usual, |resume_info| resume_info.heartbeat_interval)
    }

    /// Decides whether the end of a socket is the end of its link.
    pub(super) fn judge<T: Transport>(
        &mut self,
        socket: &mut Socket<T>,
        closed: Closed,
    ) -> SocketEnd {
        let closed = match closed.by {
            ClosedBy::Lost => self.last_words(socket, closed),
            _ => closed,
        };
        // A `close` message is intended. A close frame alone may be a proxy's, so it counts only if
        // its code or reason is final, or the peer had announced it.
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

    /// Judges the last heartbeat interval, and asks for a sign of life. Returns how the link ends
    /// if the peer is given up.
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

    /// Handles, reads and writes for as long as there is anything to do, but lets other tasks run
    /// in between. Ready when the link ends.
    pub(super) fn poll<T: Transport>(
        &mut self,
        socket: &mut Socket<T>,
        cx: &mut Context<'_>,
    ) -> Poll<Closed> {
        self.deadline.poll(cx, &self.outlet);
        self.inbound.begin_poll();
        socket.begin_poll();
        let end = self.work_off(socket, cx);
        // Again, because it may have returned before it wrote.
        self.inbound.deliver();
        self.outlet.end_look();
        // In this order: the check counts the answers that `end_poll` reports.
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
            // Reading before writing gathers the answers to all that has come into one write.
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
                    // The socket itself had nothing more, and wakes the task.
                    if reads <= BURST {
                        return Poll::Pending;
                    }
                    reads = 0;
                    self.outlet.begin_look();
                }
            }
        }
        // The steps are used up, but there may be more to do: come back behind the other tasks.
        cx.waker().wake_by_ref();
        self.write(socket, cx).map_or(Poll::Pending, Poll::Ready)
    }

    /// Writes what is queued. Returns how the link ends if this side wants to close.
    fn write<T: Transport>(
        &mut self,
        socket: &mut Socket<T>,
        cx: &mut Context<'_>,
    ) -> Option<Closed> {
        self.inbound.deliver();
        // Before the look for frames: one that is queued behind that look has to wake the task.
        self.outlet.end_look();
        match socket.write(cx, &self.outlet, self.inbound.receiving()) {
            Written::All => None,
            Written::Asked => self.outlet.close_asked(),
        }
    }

    /// Polls the handlers and the time limits alone.
    pub(super) fn poll_without_socket(&mut self, cx: &mut Context<'_>) {
        self.deadline.poll(cx, &self.outlet);
        self.inbound.begin_poll();
        while self.inbound.poll_handlers(cx).is_ready() {}
        self.inbound.end_poll();
        self.outlet.check_drained();
    }

    /// Takes what still comes and writes what is queued. Ready when the peer has hung up.
    pub(super) fn poll_to_the_end<T: Transport>(
        &mut self,
        socket: &mut Socket<T>,
        cx: &mut Context<'_>,
        closed: &mut Closed,
    ) -> Poll<()> {
        self.poll_without_socket(cx);
        for _ in 0..BURST {
            match socket.poll_read(cx) {
                // The peer's `close` message, which came before, had no code.
                Poll::Ready(Ok(Incoming::Close(code, _))) if closed.by == ClosedBy::Remote => {
                    closed.code = code;
                }
                // A client that may not be here any more is not listened to.
                Poll::Ready(Ok(_)) if closed.is_denial() => {}
                // A broken rule no longer matters: the link ends anyway.
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

    /// Reads what the peer sent before the socket failed. Its reason is better than the system's,
    /// and so is one for which this side would have ended the link.
    fn last_words<T: Transport>(&mut self, socket: &mut Socket<T>, closed: Closed) -> Closed {
        let mut cx = Context::from_waker(Waker::noop());
        let closed = loop {
            let Poll::Ready(Ok(incoming)) = socket.poll_read(&mut cx) else { break closed };
            match self.inbound.receive(incoming, &mut cx) {
                Ok(()) => {}
                // Left for the next socket, with everything behind it.
                Err(Halt::NoRoom(..)) => break closed,
                Err(Halt::End(end)) => break end,
            }
        };
        self.inbound.deliver();
        closed
    }
}

/// Returns how a link ends after an error of its socket.
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
    /// Ends the link if its task is dropped half-way, with its runtime: no caller waits for ever.
    fn drop(&mut self) {
        let how =
            if std::thread::panicking() { "panicked" } else { "was dropped with its runtime" };
        self.outlet.end(Closed::lost(format!("The link's task {how}")));
    }
}
