//! What a link does with what comes in, and when it is over.

use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::FutureExt as _;
use tokio::time::Instant;

use super::Link;
use super::inbox::Inbox;
use super::recover::Break;
use super::router::Routes;
use super::socket::{Event, Socket};
use crate::close::{CloseCode, Closed, ClosedBy, Reason};
use crate::error::TransportError;
use crate::session::{Liveness, Receiving, Verdict};
use crate::transport::{Incoming, Transport};

/// How many things are done before other tasks get their turn. An odd number: requests and handlers
/// that are ready at once come in pairs, and not every turn is to end between the two.
const TURN: u32 = 511;

/// A link's state on the driver's side, without the socket.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) link: Link,
    pub(super) routes: Arc<Routes>,
    pub(super) inbox: Inbox,
    pub(super) receiving: Receiving,
    pub(super) liveness: Liveness,
    pub(super) stage: Stage,
    /// When the first request of this turn was read: the time of its handlers counts from here.
    pub(super) now: Option<Instant>,
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

/// Why a link does not go on after what was received.
pub(super) enum Halt {
    /// There is no room for it. It has taken no number, and comes again after a resume.
    NoRoom(Closed),
    /// It is the end of the link.
    End(Closed),
}

impl From<Closed> for Halt {
    fn from(closed: Closed) -> Self {
        Self::End(closed)
    }
}

impl Halt {
    /// How the link ends while its socket works.
    pub(super) fn into_closed(self) -> Closed {
        match self {
            Self::NoRoom(closed) | Self::End(closed) => closed,
        }
    }
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
                shared.rest();
                socket.rest();
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
    pub(super) fn turn<T: Transport>(
        &mut self,
        socket: &mut Socket<T>,
        cx: &mut Context<'_>,
        link: &Link,
    ) -> Poll<Closed> {
        let shared = link.shared();
        self.now = None;
        shared.attend();
        socket.begin_turn();
        let end = self.work_off(socket, cx, link);
        shared.set_handling(self.inbox.running());
        end
    }

    fn work_off<T: Transport>(
        &mut self,
        socket: &mut Socket<T>,
        cx: &mut Context<'_>,
        link: &Link,
    ) -> Poll<Closed> {
        let shared = link.shared();
        for _ in 0..TURN {
            // A handler that begins counts at once, and the end of all at the end of the turn.
            let running = self.inbox.running();
            if running > 0 {
                shared.set_handling(running);
            }
            // What has been received comes before what is still to be read.
            if self.inbox.poll_work(cx, link, &self.routes).is_ready() {
                continue;
            }
            let end = match ready!(socket.poll(cx, shared, &mut self.receiving)) {
                Event::Incoming(incoming) => self.receive(incoming).map(Halt::into_closed),
                Event::Fault(error) => Some(self.fault(&error)),
                Event::CloseAsked => shared.close_asked().cloned(),
            };
            if let Some(closed) = end {
                return Poll::Ready(closed);
            }
            if self.receiving.is_acknowledgement_due() {
                socket.acknowledge();
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Takes what came; says why the link does not go on if it does not.
    pub(super) fn receive(&mut self, incoming: Incoming) -> Option<Halt> {
        let end = match incoming {
            Incoming::Text(text) => return self.message(&text),
            Incoming::Control => return None,
            Incoming::Binary => {
                let reason = "Invalid message: Binary frame, a link carries text";
                Closed::local(CloseCode::UNSUPPORTED, reason)
            }
            Incoming::Close(code, reason) => Closed::remote(code, reason.as_str()),
        };
        Some(end.into())
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

    /// What the peer said before the socket failed: its reason is better than the system's, and so
    /// is that for which this side would have ended the link. What has no room is left for the next
    /// socket, with all that follows it.
    fn last_words<T: Transport>(&mut self, socket: &mut Socket<T>, closed: Closed) -> Closed {
        let link = self.link.clone();
        loop {
            let next = socket.next(link.shared(), &mut self.receiving).now_or_never();
            let Some(Event::Incoming(incoming)) = next else { return closed };
            match self.receive(incoming) {
                Some(Halt::End(end)) => return end,
                Some(Halt::NoRoom(_)) => return closed,
                None => {}
            }
        }
    }
}

pub(super) fn malformed(fault: impl std::fmt::Display) -> Closed {
    Closed::local(CloseCode::PROTOCOL, format!("{}: {fault}", Reason::MALFORMED))
}

impl Drop for Work {
    /// A driver that is dropped half-way, with its runtime, leaves nobody waiting.
    fn drop(&mut self) {
        let how =
            if std::thread::panicking() { "panicked" } else { "was dropped with its runtime" };
        self.link.shared().conclude(Closed::lost(format!("The link's task {how}")));
    }
}
