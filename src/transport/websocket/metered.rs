use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::frames::Frames;
use crate::transport::Traffic;

/// WebSocket frame head and mask, which a message's own length does not count.
const HEAD: u64 = 14;

/// Counts the bytes and follows the frames of a stream, and stops reading past an allowance: a
/// handshake has one for all its bytes together, into however many messages they are cut.
#[derive(Debug)]
pub(super) struct Metered<S> {
    stream: S,
    traffic: Traffic,
    frames: Frames,
    /// How many bytes may be received in all.
    allowance: Option<u64>,
    exceeded: bool,
}

impl<S> Metered<S> {
    pub(super) fn new(stream: S) -> Self {
        let (traffic, frames) = (Traffic::default(), Frames::default());
        Self { stream, traffic, frames, allowance: None, exceeded: false }
    }

    /// Whether all that was received is whole messages and control frames.
    pub(super) fn is_between_messages(&self) -> bool {
        self.frames.are_whole()
    }

    /// These bytes were received, by this one or before it was there to count them.
    pub(super) fn has_received(&mut self, bytes: &[u8]) {
        self.traffic.received += bytes.len() as u64;
        self.frames.pass(bytes);
    }

    pub(super) fn traffic(&self) -> Traffic {
        self.traffic
    }

    pub(super) fn is_exceeded(&self) -> bool {
        self.exceeded
    }

    /// Allows `bytes` more, or any number.
    pub(super) fn set_allowance(&mut self, bytes: Option<usize>) {
        self.allowance = bytes.map(|bytes| self.traffic.received + bytes as u64 + HEAD);
    }
}

impl<S: AsyncRead + Unpin> Metered<S> {
    /// Reads and throws away until the end of the stream.
    pub(super) fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut waste = [0; 4096];
        loop {
            let mut buffer = ReadBuf::new(&mut waste);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
            match buffer.filled().len() {
                0 => return Poll::Ready(Ok(())),
                bytes => self.traffic.received += bytes as u64,
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.allowance.is_some_and(|allowance| self.traffic.received >= allowance) {
            self.exceeded = true;
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        self.has_received(&buffer.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
        self.traffic.sent += written as u64;
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
