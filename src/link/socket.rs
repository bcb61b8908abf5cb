use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures::task::AtomicWaker;

use super::bell::Bell;
use super::shared::Shared;
use crate::close::{CloseCode, Reason};
use crate::error::TransportError;
use crate::session::Receiving;
use crate::transport::{Incoming, Outgoing, Traffic, Transport};
use crate::wire::Text;

/// Frames that are taken from the outbox at once.
const AT_ONCE: usize = 8;
/// Messages that are read before what they led to is written.
const BURST: u32 = 256;

/// The transport as the driver uses it: reads and writes at the same time, and neither waits for
/// the other.
#[derive(Debug)]
pub(crate) struct Socket<T> {
    transport: T,
    /// Rung when there may be something to be read. A look in vain is not free: the WebSocket library
    /// clears its read buffer for each.
    reading: Bell,
    /// Messages read since the last write.
    reads: u32,
    /// Goes out before everything else: the answer to a client that resumes.
    first: Option<Text>,
    sign: Sign,
    unflushed: bool,
    farewell: Farewell,
    /// Why nothing can be written any more. What was received may still be read.
    broken: Option<TransportError>,
}

/// Whether the peer is to hear that this side lives, and how much it has received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sign {
    No,
    /// Behind the next frame. A write of its own is what costs, and whoever has just got an answer
    /// may ask anew.
    Riding,
    /// The same, and nothing was there to be written yet: the other tasks have their turn.
    Waiting,
    /// With the next write, alone if need be.
    Due,
}

/// How far this side is with closing.
#[derive(Debug)]
enum Farewell {
    /// It is not.
    No,
    /// The close frame goes out behind everything that is queued.
    Due(CloseCode, Reason),
    /// Nothing more is to be sent.
    Done,
}

/// What the driver has to look at.
#[derive(Debug)]
pub(crate) enum Event {
    /// Something came from the peer.
    Incoming(Incoming),
    /// The socket is of no more use.
    Fault(TransportError),
    /// This side wants to close.
    CloseAsked,
}

impl<T: Transport> Socket<T> {
    /// For the task that `task` wakes.
    pub(crate) fn new(transport: T, task: &Arc<AtomicWaker>) -> Self {
        Self {
            transport,
            reading: Bell::new(Arc::clone(task)),
            reads: 0,
            first: None,
            sign: Sign::No,
            unflushed: false,
            farewell: Farewell::No,
            broken: None,
        }
    }

    /// What comes next. Cancel safe: everything that is under way is kept here.
    pub(crate) async fn next(&mut self, shared: &Shared, receiving: &mut Receiving) -> Event {
        poll_fn(|cx| {
            shared.wake_with(cx.waker());
            self.poll(cx, shared, receiving)
        })
        .await
    }

    /// Shows the peer a sign of life that it answers or that acknowledges what it sent.
    pub(crate) fn show_life(&mut self) {
        self.sign = Sign::Due;
    }

    /// The task that owns this has had others before it.
    pub(crate) fn begin_turn(&mut self) {
        if self.sign == Sign::Waiting {
            self.sign = Sign::Due;
        }
    }

    /// Tells the peer soon how much has been received.
    pub(crate) fn acknowledge(&mut self) {
        if self.sign == Sign::No {
            self.sign = Sign::Riding;
        }
    }

    /// Lets the transport go of what it does not need.
    pub(crate) fn rest(&mut self) {
        self.transport.rest();
        self.reading.ring();
    }

    /// Sends `text` before everything that is queued.
    pub(crate) fn say_first(&mut self, text: Text) {
        self.first = Some(text);
    }

    /// Sends a close frame behind what is queued.
    pub(crate) fn say_goodbye(&mut self, code: CloseCode, reason: Reason) {
        self.farewell = Farewell::Due(code, reason);
    }

    /// Stops to look whether this side wants to close, without a close frame.
    pub(crate) fn say_nothing(&mut self) {
        self.farewell = Farewell::Done;
    }

    /// Reads to the end, which also writes what the transport itself has to say.
    pub(crate) async fn hang_up(mut self) {
        while poll_fn(|cx| self.transport.poll_receive(cx)).await.is_ok() {}
    }

    pub(crate) fn traffic(&self) -> Traffic {
        self.transport.traffic()
    }

    /// Whether anything waits to be written.
    pub(crate) fn is_writing(&self, shared: &Shared) -> bool {
        self.unflushed || !shared.is_idle()
    }

    /// The same as a poll, by a task that `shared` wakes.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        shared: &Shared,
        receiving: &mut Receiving,
    ) -> Poll<Event> {
        if matches!(self.farewell, Farewell::No) && shared.close_asked().is_some() {
            return Poll::Ready(Event::CloseAsked);
        }
        // Reading first gathers the answers to all that has come into one write; writing after a
        // burst at the latest keeps a peer that never pauses from holding them up.
        if self.reads < BURST {
            if let Poll::Ready(event) = self.poll_read() {
                return Poll::Ready(event);
            }
            self.write(cx, shared, receiving);
        } else {
            self.write(cx, shared, receiving);
            if let Poll::Ready(event) = self.poll_read() {
                return Poll::Ready(event);
            }
        }
        match &self.broken {
            Some(error) => Poll::Ready(Event::Fault(error.clone())),
            None => Poll::Pending,
        }
    }

    fn poll_read(&mut self) -> Poll<Event> {
        let Self { reading, transport, .. } = self;
        self.reads += 1;
        Poll::Ready(match ready!(reading.poll(|cx| transport.poll_receive(cx))) {
            Ok(incoming) => Event::Incoming(incoming),
            Err(error) => Event::Fault(error),
        })
    }

    fn write(&mut self, cx: &mut Context<'_>, shared: &Shared, receiving: &mut Receiving) {
        self.reads = 0;
        if self.broken.is_some() {
            return;
        }
        match self.poll_write(cx, shared, receiving) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => self.broken = Some(error),
            // With some streams reading waits for this too, and its waker has been replaced.
            Poll::Pending => self.reading.ring(),
        }
    }

    /// Writes everything that is queued, and flushes once.
    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        shared: &Shared,
        receiving: &mut Receiving,
    ) -> Poll<Result<(), TransportError>> {
        // Nothing follows the last word.
        if !matches!(self.farewell, Farewell::Done) {
            if self.first.is_some() {
                ready!(self.poll_give(cx, |socket| socket.first.take().map(Outgoing::Text)))?;
            }
            if self.sign == Sign::Due {
                ready!(self.poll_sign(cx, shared, receiving))?;
            }
            ready!(self.poll_frames(cx, shared))?;
            match self.sign {
                Sign::Riding | Sign::Waiting if self.unflushed => {
                    ready!(self.poll_sign(cx, shared, receiving))?;
                }
                Sign::Riding => {
                    self.sign = Sign::Waiting;
                    cx.waker().wake_by_ref();
                }
                Sign::No | Sign::Waiting | Sign::Due => {}
            }
        }
        if let Farewell::Due(code, reason) = &self.farewell {
            let close = Outgoing::Close(*code, reason.clone());
            ready!(self.poll_give(cx, |_| Some(close)))?;
            self.farewell = Farewell::Done;
        }
        if self.unflushed {
            ready!(self.transport.poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Gives one message to the transport as soon as that takes it.
    fn poll_give(
        &mut self,
        cx: &mut Context<'_>,
        message: impl FnOnce(&mut Self) -> Option<Outgoing>,
    ) -> Poll<Result<(), TransportError>> {
        ready!(self.transport.poll_ready(cx))?;
        if let Some(message) = message(self) {
            self.unflushed = true;
            self.transport.send(message)?;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_sign(
        &mut self,
        cx: &mut Context<'_>,
        shared: &Shared,
        receiving: &mut Receiving,
    ) -> Poll<Result<(), TransportError>> {
        self.poll_give(cx, |socket| {
            socket.sign = Sign::No;
            Some(shared.sign_of_life(receiving))
        })
    }

    /// Gives the transport all frames that are queued, as soon as that takes them.
    fn poll_frames(
        &mut self,
        cx: &mut Context<'_>,
        shared: &Shared,
    ) -> Poll<Result<(), TransportError>> {
        loop {
            let frames = shared.unwritten::<AT_ONCE>();
            if frames[0].is_none() {
                return Poll::Ready(Ok(()));
            }
            let mut wrote = 0;
            let mut given = Poll::Ready(Ok(()));
            for frame in frames.into_iter().flatten() {
                given = self.poll_give(cx, |_| {
                    // Also when that fails: some of it may have left.
                    wrote += 1;
                    Some(Outgoing::Text(frame))
                });
                if !matches!(given, Poll::Ready(Ok(()))) {
                    break;
                }
            }
            let more = shared.wrote(wrote);
            ready!(given)?;
            if !more {
                return Poll::Ready(Ok(()));
            }
        }
    }
}
