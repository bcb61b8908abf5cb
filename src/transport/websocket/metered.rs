use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::frames::Frames;
use crate::transport::Traffic;

/// WebSocket frame head and mask, which a message's own length does not count.
const HEAD: u64 = 14;

/// Counts the bytes and follows the frames of a stream, and stops reading past an allowance.
///
/// The WebSocket library gives no way to raise its message limit once the handshake is over; the
/// allowance is the lower limit that holds until then, for all bytes together.
#[derive(Debug)]
pub(super) struct Metered<S> {
    /// `None` for one that only takes the place of another.
    stream: Option<S>,
    traffic: Traffic,
    heard: Heard,
    /// How many bytes may be received in all.
    allowance: Option<u64>,
    exceeded: bool,
}

/// What was received.
#[derive(Debug)]
enum Heard {
    /// A client's: nothing but the answer to its upgrade, with what came behind it.
    Answer(Vec<u8>),
    Frames(Frames),
}

impl Heard {
    fn pass(&mut self, bytes: &[u8]) {
        match self {
            Self::Frames(frames) => frames.pass(bytes),
            Self::Answer(answer) => answer.extend_from_slice(bytes),
        }
    }
}

impl<S> Metered<S> {
    /// A stream of frames.
    pub(super) fn new(stream: S) -> Self {
        Self { stream: Some(stream), ..Self::gone() }
    }

    /// A stream on which the answer to an upgrade comes first.
    pub(super) fn before_answer(stream: S) -> Self {
        Self { heard: Heard::Answer(Vec::new()), ..Self::new(stream) }
    }

    /// The answer is there; `length` says how long its head is. What came behind it are frames.
    pub(super) fn end_answer<E>(
        &mut self,
        length: impl FnOnce(&[u8]) -> Result<usize, E>,
    ) -> Result<(), E> {
        let mut frames = Frames::default();
        if let Heard::Answer(answer) = &self.heard {
            frames.pass(answer.get(length(answer)?..).unwrap_or_default());
        }
        self.heard = Heard::Frames(frames);
        Ok(())
    }

    /// Whether all frames received so far are this many whole messages and control frames.
    pub(super) fn are_messages(&self, messages: u64) -> bool {
        matches!(&self.heard, Heard::Frames(frames) if frames.are_messages(messages))
    }

    /// The end of a stream.
    pub(super) fn gone() -> Self {
        let heard = Heard::Frames(Frames::default());
        Self { stream: None, traffic: Traffic::default(), heard, allowance: None, exceeded: false }
    }

    /// These bytes were received, by this one or before it was there to count them.
    pub(super) fn has_received(&mut self, bytes: &[u8]) {
        self.traffic.received += bytes.len() as u64;
        self.heard.pass(bytes);
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
