//! The byte stream under a WebSocket: counted, followed frame by frame, and polled without a waker of its
//! own.

use std::io::{self, Read, Write};
use std::pin::Pin;
#[cfg(feature = "tls")]
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::tungstenite;

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

    /// Returns how many bytes of a message have come whose end has not.
    pub(super) fn buffered(&self) -> usize {
        self.frames.buffered()
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

/// The longest head of a frame, without its mask.
const LONGEST_HEAD: usize = 10;
/// The first opcode of control frames, which may come between the frames of a message.
const CONTROL: u8 = 8;

/// Follows the frames in a stream of bytes, to tell where a message ends. It reads no payload and
/// checks nothing: the WebSocket library does that.
#[derive(Debug, Default)]
struct FrameScanner {
    /// The head of the next frame, as far as it has come.
    head: [u8; LONGEST_HEAD],
    head_bytes: u8,
    /// Whether further frames of the last message are still to come.
    is_open: bool,
    /// The bytes still missing of the frame whose head came last, mask included.
    missing: u64,
    /// The bytes of the message so far, and those that are missing.
    message: u64,
}

impl FrameScanner {
    /// Passes over the next bytes of the stream.
    fn pass(&mut self, mut bytes: &[u8]) {
        loop {
            let skipped = usize::try_from(self.missing).unwrap_or(usize::MAX).min(bytes.len());
            self.missing -= skipped as u64;
            bytes = &bytes[skipped..];
            // The usual case, without the copy below: most heads come whole and are short.
            if self.head_bytes == 0
                && let Some([first, second, high, low]) = bytes.first_chunk()
                && second & 0x7f != 127
            {
                let (head, payload) = match second & 0x7f {
                    126 => (4, u16::from_be_bytes([*high, *low]).into()),
                    short => (2, short.into()),
                };
                self.begin(*first, *second, payload);
                bytes = &bytes[head..];
                continue;
            }
            let Some((&byte, rest)) = bytes.split_first() else { return };
            bytes = rest;
            self.head[usize::from(self.head_bytes)] = byte;
            self.head_bytes += 1;
            if let Some(payload) = self.payload() {
                self.begin(self.head[0], self.head[1], payload);
            }
        }
    }

    /// Whether everything so far was whole messages and control frames.
    fn are_whole(&self) -> bool {
        self.missing == 0 && self.head_bytes == 0 && !self.is_open
    }

    /// Returns how many bytes of a message have come whose end has not.
    fn buffered(&self) -> usize {
        if self.are_whole() {
            return 0;
        }
        // Of a head at least.
        usize::try_from(self.message.saturating_sub(self.missing)).unwrap_or(usize::MAX).max(1)
    }

    /// Returns the length of the payload, once the head has come.
    fn payload(&self) -> Option<u64> {
        match (self.head_bytes, self.head[1] & 0x7f) {
            (..2, _) => None,
            (4, 126) => Some(u16::from_be_bytes([self.head[2], self.head[3]]).into()),
            (10, 127) => {
                let [_, _, length @ ..] = self.head;
                Some(u64::from_be_bytes(length))
            }
            (_, 126 | 127) => None,
            (_, short) => Some(short.into()),
        }
    }

    /// Begins a frame, from the first two bytes of its head and the length of its payload.
    fn begin(&mut self, first: u8, second: u8, payload: u64) {
        let is_masked = second & 0x80 != 0;
        let is_last = first & 0x80 != 0;
        // A peer chooses the length, up to the largest `u64`.
        self.missing = payload.saturating_add(if is_masked { 4 } else { 0 });
        // A control frame, such as a ping between two parts, leaves an open message open.
        if first & 0x0f < CONTROL {
            let before = if self.is_open { self.message } else { 0 };
            self.message = before.saturating_add(self.missing);
            self.is_open = !is_last;
        }
        self.head_bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame of any form: its first byte, its length and how that is written, and its mask.
    fn frame(first: u8, payload: usize, form: u8, is_masked: bool) -> Vec<u8> {
        let mask = if is_masked { 0x80 } else { 0 };
        let length = payload as u64;
        let mut frame = match form {
            126 => [&[first, mask | 126][..], &length.to_be_bytes()[6..]].concat(),
            127 => [&[first, mask | 127][..], &length.to_be_bytes()].concat(),
            _ => vec![first, mask | payload as u8],
        };
        // What follows looks like heads.
        frame.resize(frame.len() + payload + if is_masked { 4 } else { 0 }, 0x81);
        frame
    }

    /// The bytes, and where in them a message ends.
    fn stream() -> (Vec<u8>, Vec<usize>) {
        let (mut bytes, mut ends) = (Vec::new(), vec![0]);
        for (payload, form) in
            [(0, 0), (1, 0), (125, 0), (126, 126), (5, 126), (1000, 126), (7, 127), (70_000, 127)]
        {
            for is_masked in [true, false] {
                bytes.extend(frame(0x81, payload, form, is_masked));
                ends.push(bytes.len());
                // A message in three parts with a ping between: no end before the last of them.
                bytes.extend(frame(0x02, payload, form, is_masked));
                bytes.extend(frame(0x89, 3, 0, is_masked));
                bytes.extend(frame(0x00, payload, form, is_masked));
                bytes.extend(frame(0x80, payload, form, is_masked));
                ends.push(bytes.len());
            }
        }
        (bytes, ends)
    }

    #[test]
    fn a_message_ends_where_its_last_frame_does_in_pieces_of_any_length() {
        let (bytes, ends) = stream();
        for piece in [1, 2, 3, 9, 10, 11, 1000, bytes.len()] {
            let (mut frames, mut passed) = (FrameScanner::default(), 0);
            for piece in bytes.chunks(piece) {
                assert_eq!(frames.are_whole(), ends.contains(&passed), "after {passed}");
                assert_eq!(frames.buffered() == 0, frames.are_whole(), "after {passed}");
                frames.pass(piece);
                passed += piece.len();
            }
            assert!(frames.are_whole(), "in pieces of {piece}");
        }
    }

    #[test]
    fn any_length_is_only_counted_down() {
        let mut frames = FrameScanner::default();
        frames.pass(&[0x81, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
        frames.pass(&[0; 5000]);
        assert_eq!(frames.buffered(), 5000);
        assert!(!frames.are_whole());
    }
}
