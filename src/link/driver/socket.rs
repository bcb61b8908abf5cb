//! The transport as the link's task uses it.

use std::task::{Context, Poll, ready};

use crate::error::TransportError;
use crate::link::outbound::{NextWrite, Outlet};
use crate::session::Receiving;
use crate::transport::{Incoming, Outgoing, Traffic, Transport};
use crate::wire::Text;

/// Frames that are taken from the outbox at once.
const AT_ONCE: usize = 8;

/// Reads and writes at the same time, and neither waits for the other.
#[derive(Debug)]
pub(super) struct Socket<T> {
    transport: T,
    /// Goes out before everything else: the answer to a client that resumes.
    first: Option<Text>,
    sign: Sign,
    unflushed: bool,
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

/// What came of writing.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// As much as the transport takes now.
    All,
    /// This side wants to close.
    Asked,
}

impl<T: Transport> Socket<T> {
    pub(super) fn new(transport: T) -> Self {
        Self { transport, first: None, sign: Sign::No, unflushed: false, broken: None }
    }

    /// Shows the peer a sign of life that it answers or that acknowledges what it sent.
    pub(super) fn show_life(&mut self) {
        self.sign = Sign::Due;
    }

    /// The task that owns this has had others before it.
    pub(super) fn begin_poll(&mut self) {
        if self.sign == Sign::Waiting {
            self.sign = Sign::Due;
        }
    }

    /// Tells the peer soon how much has been received.
    pub(super) fn acknowledge(&mut self) {
        if self.sign == Sign::No {
            self.sign = Sign::Riding;
        }
    }

    /// Lets the transport go of what it does not need.
    pub(super) fn shrink(&mut self) {
        self.transport.shrink();
    }

    /// Sends `text` before everything that is queued.
    pub(super) fn send_first(&mut self, text: Text) {
        self.first = Some(text);
    }

    pub(super) fn traffic(&self) -> Traffic {
        self.transport.traffic()
    }

    /// Whether anything waits to be written.
    pub(super) fn is_writing(&self, outlet: &Outlet) -> bool {
        self.unflushed || !outlet.is_idle()
    }

    /// Reads to the end, which also writes what the transport itself has to say.
    pub(super) async fn hang_up(mut self) {
        while std::future::poll_fn(|cx| self.transport.poll_receive(cx)).await.is_ok() {}
    }

    /// The next message. When nothing can be written any more, that is said behind all that was
    /// received.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Incoming, TransportError>> {
        match (self.transport.poll_receive(cx), &self.broken) {
            (Poll::Pending, Some(error)) => Poll::Ready(Err(error.clone())),
            (polled, _) => polled,
        }
    }

    /// Writes everything that is queued, and flushes once.
    pub(super) fn write(
        &mut self,
        cx: &mut Context<'_>,
        outlet: &Outlet,
        receiving: &mut Receiving,
    ) -> Written {
        if self.broken.is_some() {
            let asked = outlet.close_asked().is_some();
            return if asked { Written::Asked } else { Written::All };
        }
        match self.poll_write(cx, outlet, receiving) {
            Poll::Ready(Ok(written)) => written,
            Poll::Ready(Err(error)) => {
                self.broken = Some(error);
                // It is told by the next read that finds nothing.
                cx.waker().wake_by_ref();
                Written::All
            }
            // It may not have come as far as to ask.
            Poll::Pending if outlet.close_asked().is_some() => Written::Asked,
            Poll::Pending => Written::All,
        }
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        outlet: &Outlet,
        receiving: &mut Receiving,
    ) -> Poll<Result<Written, TransportError>> {
        if self.first.is_some() {
            ready!(self.poll_give(cx, |socket| socket.first.take().map(Outgoing::Text)))?;
        }
        if self.sign == Sign::Due {
            ready!(self.poll_sign(cx, outlet, receiving))?;
        }
        let written = ready!(self.poll_frames(cx, outlet))?;
        match self.sign {
            Sign::Riding | Sign::Waiting if self.unflushed => {
                ready!(self.poll_sign(cx, outlet, receiving))?;
            }
            Sign::Riding => {
                self.sign = Sign::Waiting;
                cx.waker().wake_by_ref();
            }
            Sign::No | Sign::Waiting | Sign::Due => {}
        }
        if self.unflushed {
            ready!(self.transport.poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(written))
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
        outlet: &Outlet,
        receiving: &mut Receiving,
    ) -> Poll<Result<(), TransportError>> {
        self.poll_give(cx, |socket| {
            socket.sign = Sign::No;
            Some(outlet.sign_of_life(receiving))
        })
    }

    /// Gives the transport all frames that are queued, as soon as that takes them, and the close
    /// frame behind them.
    fn poll_frames(
        &mut self,
        cx: &mut Context<'_>,
        outlet: &Outlet,
    ) -> Poll<Result<Written, TransportError>> {
        loop {
            let frames = match outlet.next::<AT_ONCE>() {
                NextWrite::Frames(frames) => frames,
                NextWrite::Close(code, reason) => {
                    ready!(self.poll_give(cx, |_| Some(Outgoing::Close(code, reason))))?;
                    self.sign = Sign::No;
                    outlet.sent_close_frame();
                    return Poll::Ready(Ok(Written::All));
                }
                NextWrite::Asked => return Poll::Ready(Ok(Written::Asked)),
                NextWrite::Nothing => return Poll::Ready(Ok(Written::All)),
            };
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
            outlet.wrote(wrote);
            ready!(given)?;
        }
    }
}
