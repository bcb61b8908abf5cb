use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::transport::Traffic;

/// WebSocket frame head and mask, which a message's own length does not count.
const HEAD: u64 = 14;

/// Counts the bytes of a stream, and stops reading past an allowance.
///
/// The WebSocket library gives no way to raise its message limit once the handshake is over; the
/// allowance is the lower limit that holds until then, for all bytes together.
#[derive(Debug)]
pub(super) struct Metered<S> {
    /// `None` for one that only takes the place of another.
    stream: Option<S>,
    traffic: Traffic,
    /// How many bytes may be received in all.
    allowance: Option<u64>,
    exceeded: bool,
}

impl<S> Metered<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream: Some(stream), ..Self::gone() }
    }

    /// The end of a stream.
    pub(super) fn gone() -> Self {
        Self { stream: None, traffic: Traffic::default(), allowance: None, exceeded: false }
    }

    /// Bytes were received before this one was there to count them.
    pub(super) fn has_received(&mut self, bytes: usize) {
        self.traffic.received += bytes as u64;
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
            let Some(stream) = &mut self.stream else { return Poll::Ready(Ok(())) };
            let mut buffer = ReadBuf::new(&mut waste);
            ready!(Pin::new(stream).poll_read(cx, &mut buffer))?;
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
        let Some(stream) = &mut self.stream else { return Poll::Ready(Ok(())) };
        ready!(Pin::new(stream).poll_read(cx, buffer))?;
        self.traffic.received += (buffer.filled().len() - before) as u64;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Some(stream) = &mut self.stream else { return Poll::Ready(gone()) };
        let written = ready!(Pin::new(stream).poll_write(cx, bytes))?;
        self.traffic.sent += written as u64;
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Some(stream) => Pin::new(stream).poll_flush(cx),
            None => Poll::Ready(gone()),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Some(stream) => Pin::new(stream).poll_shutdown(cx),
            None => Poll::Ready(gone()),
        }
    }
}

fn gone<T>() -> io::Result<T> {
    Err(io::ErrorKind::NotConnected.into())
}
