use std::io::{self, Read, Write};
use std::pin::Pin;
#[cfg(feature = "tls")]
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::tungstenite;

use super::scanner::FrameScanner;
use crate::transport::{Below, Traffic};

/// The longest head and mask of a WebSocket frame, which a message's length does not include.
const HEAD: u64 = 14;

/// Counts the bytes and follows the frames of a stream, and stops reading at an allowance. A
/// handshake has one for all its bytes together, however many messages they form.
#[derive(Debug)]
pub(super) struct MeteredStream<S> {
    stream: S,
    traffic: Traffic,
    frames: FrameScanner,
    /// How many bytes may be received in all.
    allowance: Option<u64>,
    exceeded: bool,
    /// Those who know better, where TLS lies between.
    #[cfg(feature = "tls")]
    counts: Option<Arc<crate::transport::tls::Counts>>,
}

impl<S> MeteredStream<S> {
    pub(super) fn new(stream: S) -> Self {
        let (traffic, frames) = (Traffic::default(), FrameScanner::default());
        Self {
            stream,
            traffic,
            frames,
            allowance: None,
            exceeded: false,
            #[cfg(feature = "tls")]
            counts: None,
        }
    }

    /// What the stream runs on counts its bytes, if it does.
    pub(super) fn rest_on(&mut self, below: &Below) {
        #[cfg(feature = "tls")]
        {
            self.counts.clone_from(&below.counts);
        }
        let _ = below;
    }

    /// Counts bytes that were received, here or before this value was made.
    pub(super) fn has_received(&mut self, bytes: &[u8]) {
        self.traffic.received += bytes.len() as u64;
        self.frames.pass(bytes);
    }

    /// Allows `bytes` more to be received, or any number.
    pub(super) fn set_allowance(&mut self, bytes: Option<usize>) {
        // The caller counts the text of one message, and the frame around it comes on top.
        self.allowance = bytes.map(|bytes| self.traffic.received + bytes as u64 + HEAD);
    }

    /// Returns the stream as the WebSocket library uses it, for one call.
    pub(super) fn polled<'a, 'b>(&'a mut self, cx: &'a mut Context<'b>) -> SyncAdapter<'a, 'b, S> {
        SyncAdapter { metered: self, cx }
    }

    /// Whether everything received so far was whole messages and control frames.
    pub(super) fn is_between_messages(&self) -> bool {
        self.frames.are_whole()
    }

    pub(super) fn traffic(&self) -> Traffic {
        #[cfg(feature = "tls")]
        if let Some(counts) = &self.counts {
            return counts.traffic();
        }
        self.traffic
    }

    pub(super) fn is_exceeded(&self) -> bool {
        self.exceeded
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> MeteredStream<S> {
    /// Reads and discards until the end of the stream.
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

    /// Ends this side of the stream.
    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// A stream for one call of a library that knows no wakers: what would wait fails with
/// `WouldBlock`, and the task of `cx` is woken when another try is worthwhile.
// tokio-tungstenite's stream does the same for two tasks that share a socket: it registers two
// wakers, with four atomic operations for each message. A link has one task, and to pass its own
// waker down with each call saves 2 to 3 % of a request's time.
#[derive(Debug)]
pub(super) struct SyncAdapter<'a, 'b, S> {
    metered: &'a mut MeteredStream<S>,
    cx: &'a mut Context<'b>,
}

/// The way back: turns the error `WouldBlock` into `Pending`.
pub(super) fn pending<T>(result: tungstenite::Result<T>) -> Poll<tungstenite::Result<T>> {
    match result {
        Err(tungstenite::Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
            Poll::Pending
        }
        done => Poll::Ready(done),
    }
}

fn would_block<T>(polled: Poll<io::Result<T>>) -> io::Result<T> {
    match polled {
        Poll::Ready(done) => done,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

impl<S: AsyncRead + Unpin> Read for SyncAdapter<'_, '_, S> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let Self { metered, cx } = self;
        // Checked before the read, so at most one buffer goes beyond the allowance.
        if metered.allowance.is_some_and(|allowance| metered.traffic.received >= allowance) {
            // The library passes the error on as one of the stream; this tells them apart.
            metered.exceeded = true;
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut buffer = ReadBuf::new(bytes);
        would_block(Pin::new(&mut metered.stream).poll_read(cx, &mut buffer))?;
        metered.has_received(buffer.filled());
        Ok(buffer.filled().len())
    }
}

impl<S: AsyncWrite + Unpin> Write for SyncAdapter<'_, '_, S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Self { metered, cx } = self;
        let written = would_block(Pin::new(&mut metered.stream).poll_write(cx, bytes))?;
        metered.traffic.sent += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        would_block(Pin::new(&mut self.metered.stream).poll_flush(self.cx))
    }
}
