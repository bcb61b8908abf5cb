//! A pair of transports in memory, for tests: no socket, no port, and a cable to cut.
//!
//! Both ends are attached at the same time, since each waits for the other. With tokio's
//! `test-util`, `#[tokio::test(start_paused = true)]` makes up the time, so that a test of a timeout
//! takes none.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use seqlink::transport::memory;
//! use seqlink::{Ctx, Delivery, Master, RequestError, Router, Slave};
//! use seqlink::catalog::game_node::Heartbeat;
//!
//! async fn heartbeat(_: Heartbeat, _: Ctx) -> Result<seqlink::Empty, String> {
//!     Ok(seqlink::Empty {})
//! }
//!
//! let master = Master::builder().router(Router::new(()).request(heartbeat)).build()?;
//! let (ours, theirs) = memory::pair();
//! let cable = ours.cable();
//! let (_, slave) = tokio::join!(master.attach(theirs), Slave::builder().id(7).attach(ours));
//! let slave = slave?;
//! slave.request(&Heartbeat {}).await?;
//!
//! cable.cut();
//! slave.closed().await;
//! let error = slave.request(&Heartbeat {}).await.unwrap_err();
//! assert!(matches!(error, RequestError::Closed { delivery: Delivery::NotDelivered, .. }));
//! # Ok(()) }
//! ```
//!
//! [`attach`](crate::ClientBuilder::attach) registers once. To test what a program does when its
//! client comes back, use a real socket on port 0.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::{Incoming, Outgoing, Traffic, Transport, TransportError};

/// What one direction holds before the sender has to wait, in bytes, as a socket's buffers would.
const CAPACITY: usize = 64 * 1024;

/// What a frame costs besides its text, so that empty ones are not free.
const OVERHEAD: usize = 8;

/// One end of a pair.
pub struct Memory {
    wire: Arc<Mutex<Wire>>,
    end: End,
    limit: usize,
    traffic: Traffic,
    extended: bool,
}

/// Cuts or silences a pair while both ends are in use.
#[derive(Clone)]
pub struct Cable {
    wire: Arc<Mutex<Wire>>,
}

/// Two ends that are connected to each other. Over them a master speaks the dialect that it is set
/// to, plain unless told otherwise.
pub fn pair() -> (Memory, Memory) {
    connected(false)
}

/// Two ends that have agreed to speak sessions, as this library's own peers do over a WebSocket.
pub fn session_pair() -> (Memory, Memory) {
    connected(true)
}

fn connected(extended: bool) -> (Memory, Memory) {
    let wire = Arc::new(Mutex::new(Wire::default()));
    let end = |end| Memory {
        wire: Arc::clone(&wire),
        end,
        limit: usize::MAX,
        traffic: Traffic::default(),
        extended,
    };
    (end(End::A), end(End::B))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    A,
    B,
}

#[derive(Default)]
struct Wire {
    /// What travels from A to B, and from B to A.
    lanes: [Lane; 2],
    cable: State,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Whole,
    /// Takes what is sent and delivers nothing.
    Silent,
    Cut,
}

enum Message {
    Sent(Outgoing),
    Pong,
}

#[derive(Default)]
struct Lane {
    messages: VecDeque<Message>,
    bytes: usize,
    /// The sending end is gone or has sent its close frame: nothing more will come.
    ended: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Lane {
    fn push(&mut self, message: Message) {
        self.bytes += cost(&message);
        self.messages.push_back(message);
        wake(&mut self.reader);
    }

    fn pop(&mut self) -> Option<Message> {
        let message = self.messages.pop_front()?;
        self.bytes -= cost(&message);
        wake(&mut self.writer);
        Some(message)
    }

    fn wake_both(&mut self) {
        wake(&mut self.reader);
        wake(&mut self.writer);
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

fn cost(message: &Message) -> usize {
    match message {
        Message::Sent(Outgoing::Text(text)) => OVERHEAD + text.len(),
        _ => OVERHEAD,
    }
}

impl Cable {
    /// Cuts: both ends see the end of the socket at once, and what was under way is lost.
    pub fn cut(&self) {
        let mut wire = lock(&self.wire);
        wire.cable = State::Cut;
        for lane in &mut wire.lanes {
            lane.messages.clear();
            lane.wake_both();
        }
    }

    /// A half-open link: nothing arrives any more, and neither end is told.
    pub fn silence(&self) {
        lock(&self.wire).cable = State::Silent;
    }
}

impl Memory {
    /// The cable between the two ends.
    pub fn cable(&self) -> Cable {
        Cable { wire: Arc::clone(&self.wire) }
    }

    fn incoming(&self) -> usize {
        match self.end {
            End::A => 1,
            End::B => 0,
        }
    }

    fn outgoing(&self) -> usize {
        1 - self.incoming()
    }
}

impl Transport for Memory {
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<Incoming, TransportError>> {
        let (incoming, outgoing) = (self.incoming(), self.outgoing());
        let mut wire = lock(&self.wire);
        if wire.cable == State::Cut {
            return Poll::Ready(Err(TransportError::Ended));
        }
        let silent = wire.cable == State::Silent;
        let next = if silent { None } else { wire.lanes[incoming].pop() };
        let Some(message) = next else {
            if wire.lanes[incoming].ended && !silent {
                return Poll::Ready(Err(TransportError::Ended));
            }
            wire.lanes[incoming].reader = Some(cx.waker().clone());
            return Poll::Pending;
        };
        self.traffic.received += cost(&message) as u64;
        Poll::Ready(match message {
            Message::Sent(Outgoing::Text(text)) if text.len() > self.limit => {
                Err(TransportError::TooLong { limit: self.limit })
            }
            Message::Sent(Outgoing::Text(text)) => Ok(Incoming::Text(text)),
            Message::Sent(Outgoing::Ping) => {
                wire.lanes[outgoing].push(Message::Pong);
                Ok(Incoming::Ping)
            }
            Message::Pong => Ok(Incoming::Ping),
            Message::Sent(Outgoing::Close(code, reason)) => Ok(Incoming::Close(code, reason)),
        })
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        let outgoing = self.outgoing();
        let mut wire = lock(&self.wire);
        if wire.cable == State::Cut || wire.lanes[outgoing].ended {
            return Poll::Ready(Err(TransportError::Ended));
        }
        if wire.lanes[outgoing].bytes >= CAPACITY {
            wire.lanes[outgoing].writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    fn send(&mut self, message: Outgoing) -> Result<(), TransportError> {
        let outgoing = self.outgoing();
        let mut wire = lock(&self.wire);
        if wire.cable == State::Cut || wire.lanes[outgoing].ended {
            return Err(TransportError::Ended);
        }
        let last = matches!(message, Outgoing::Close(..));
        let message = Message::Sent(message);
        self.traffic.sent += cost(&message) as u64;
        wire.lanes[outgoing].push(message);
        wire.lanes[outgoing].ended = last;
        Ok(())
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Poll::Ready(Ok(()))
    }

    fn traffic(&self) -> Traffic {
        self.traffic
    }

    fn set_limit(&mut self, bytes: usize) {
        self.limit = bytes;
    }

    fn is_extended(&self) -> bool {
        self.extended
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let (incoming, outgoing) = (self.incoming(), self.outgoing());
        let mut wire = lock(&self.wire);
        for lane in [incoming, outgoing] {
            wire.lanes[lane].ended = true;
            wire.lanes[lane].wake_both();
        }
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").field("end", &self.end).finish_non_exhaustive()
    }
}

impl fmt::Debug for Cable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cable").finish_non_exhaustive()
    }
}

fn lock(wire: &Mutex<Wire>) -> MutexGuard<'_, Wire> {
    wire.lock().unwrap_or_else(PoisonError::into_inner)
}
