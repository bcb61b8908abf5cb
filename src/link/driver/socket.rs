//! The transport as the link's task uses it.

use std::task::{Context, Poll, ready};

use crate::close::Closed;
use crate::error::TransportError;
use crate::link::outbound::{Handle, NextWrite};
use crate::session::Receiving;
use crate::transport::{Incoming, Outgoing, Traffic, Transport};
use crate::wire::Text;

/// The most frames that are taken from the outbox under one lock.
const AT_ONCE: usize = 8;

/// Reads and writes at the same time; neither waits for the other.
#[derive(Debug)]
pub(super) struct Socket {
    transport: Box<dyn Transport>,
    /// Sent before everything else: the answer to a client that resumes.
    first: Option<Text>,
    sign: Sign,
    unflushed: bool,
    /// Why nothing can be written any more. What was received can still be read.
    broken: Option<TransportError>,
}

/// Whether a sign of life is due, which also acknowledges what was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sign {
    No,
    /// Sent behind the next frame.
    // A write of its own is what costs, and a caller that has just got its answer may ask again.
    Riding,
    /// The same, but there was no frame yet: the other tasks run first.
    Waiting,
    /// Sent with the next write, alone if necessary.
    Due,
}

impl Socket {
    pub(super) fn new(transport: Box<dyn Transport>) -> Self {
        Self { transport, first: None, sign: Sign::No, unflushed: false, broken: None }
    }

    /// Sends a sign of life with the next write: one that the peer answers, or that acknowledges
    /// what it sent.
    pub(super) fn show_life(&mut self) {
        self.sign = Sign::Due;
    }

    /// Begins a poll: other tasks may have run since the last one.
    pub(super) fn begin_poll(&mut self) {
        // They have queued nothing for it to ride on.
        if self.sign == Sign::Waiting {
            self.sign = Sign::Due;
        }
    }

    /// Acknowledges soon what has been received.
    pub(super) fn acknowledge(&mut self) {
        if self.sign == Sign::No {
            self.sign = Sign::Riding;
        }
    }

    /// Lets the transport release memory that it does not need.
    pub(super) fn shrink(&mut self) {
        self.transport.as_mut().shrink();
    }

    /// Sends `text` before everything that is queued.
    pub(super) fn send_first(&mut self, text: Text) {
        self.first = Some(text);
    }

    /// Returns how many bytes of a message have come whose end has not.
    pub(super) fn buffered(&self) -> usize {
        self.transport.as_ref().buffered()
    }

    pub(super) fn traffic(&self) -> Traffic {
        self.transport.as_ref().traffic()
    }

    /// Whether anything waits to be written.
    pub(super) fn is_writing(&self, handle: &Handle) -> bool {
        self.unflushed || !handle.is_idle()
    }

    /// Reads to the end of the socket.
    pub(super) async fn hang_up(mut self) {
        // Reading also writes the transport's own answer to a close frame.
        while std::future::poll_fn(|cx| self.transport.as_mut().poll_receive(cx)).await.is_ok() {}
    }

    /// Polls for the next message. An error of writing is returned behind everything that was
    /// received.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Incoming, TransportError>> {
        match (self.transport.as_mut().poll_receive(cx), &self.broken) {
            (Poll::Pending, Some(error)) => Poll::Ready(Err(error.clone())),
            (polled, _) => polled,
        }
    }

    /// Writes everything that is queued, and flushes once. Returns the close that this side asks for.
    pub(super) fn write(
        &mut self,
        cx: &mut Context<'_>,
        handle: &Handle,
        receiving: &mut Receiving,
    ) -> Option<Closed> {
        if self.broken.is_some() {
            return handle.close_asked();
        }
        match self.poll_write(cx, handle, receiving) {
            Poll::Ready(Ok(asked)) => asked,
            Poll::Ready(Err(error)) => {
                self.broken = Some(error);
                // The next read that finds nothing returns it: the peer's reason may come before.
                cx.waker().wake_by_ref();
                None
            }
            // The transport is full, so `poll_frames` may not have seen it.
            Poll::Pending => handle.close_asked(),
        }
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        handle: &Handle,
        receiving: &mut Receiving,
    ) -> Poll<Result<Option<Closed>, TransportError>> {
        if self.first.is_some() {
            ready!(self.poll_give(cx, |socket| socket.first.take().map(Outgoing::Text)))?;
        }
        if self.sign == Sign::Due {
            ready!(self.poll_sign(cx, handle, receiving))?;
        }
        let asked = ready!(self.poll_frames(cx, handle))?;
        match self.sign {
            // Something is written anyway, so it costs no write of its own.
            Sign::Riding | Sign::Waiting if self.unflushed => {
                ready!(self.poll_sign(cx, handle, receiving))?;
            }
            Sign::Riding => {
                self.sign = Sign::Waiting;
                cx.waker().wake_by_ref();
            }
            Sign::No | Sign::Waiting | Sign::Due => {}
        }
        // Once for all frames of this write.
        if self.unflushed {
            ready!(self.transport.as_mut().poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(asked))
    }

    /// Gives one message to the transport as soon as that takes it.
    fn poll_give(
        &mut self,
        cx: &mut Context<'_>,
        message: impl FnOnce(&mut Self) -> Option<Outgoing>,
    ) -> Poll<Result<(), TransportError>> {
        ready!(self.transport.as_mut().poll_ready(cx))?;
        if let Some(message) = message(self) {
            self.unflushed = true;
            self.transport.as_mut().send(message)?;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_sign(
        &mut self,
        cx: &mut Context<'_>,
        handle: &Handle,
        receiving: &mut Receiving,
    ) -> Poll<Result<(), TransportError>> {
        self.poll_give(cx, |socket| {
            socket.sign = Sign::No;
            Some(handle.sign_of_life(receiving))
        })
    }

    /// Gives the transport all frames that are queued, as soon as that takes them, and the close
    /// frame behind them.
    fn poll_frames(
        &mut self,
        cx: &mut Context<'_>,
        handle: &Handle,
    ) -> Poll<Result<Option<Closed>, TransportError>> {
        loop {
            let frames = match handle.next::<AT_ONCE>() {
                NextWrite::Frames(frames) => frames,
                NextWrite::Close(code, reason) => {
                    ready!(self.poll_give(cx, |_| Some(Outgoing::Close(code, reason))))?;
                    // Nothing may follow the close frame.
                    self.sign = Sign::No;
                    handle.sent_close_frame();
                    return Poll::Ready(Ok(None));
                }
                NextWrite::Asked(closed) => return Poll::Ready(Ok(Some(closed))),
                NextWrite::Nothing => return Poll::Ready(Ok(None)),
            };
            let mut wrote = 0;
            let mut given = Poll::Ready(Ok(()));
            for frame in frames.into_iter().flatten() {
                given = self.poll_give(cx, |_| {
                    // Counted even if it fails: a part of it may have left.
                    wrote += 1;
                    Some(Outgoing::Text(frame))
                });
                if !matches!(given, Poll::Ready(Ok(()))) {
                    break;
                }
            }
            // Before an error returns: the frames that the transport has may arrive.
            handle.wrote(wrote);
            ready!(given)?;
        }
    }
}
