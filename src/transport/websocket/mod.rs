//! A WebSocket as a transport. Only this module knows the WebSocket library, except for the string
//! inside [`Text`].

mod address;
mod admission;
mod stream;
#[cfg(test)]
mod tests;
mod upgrade;

use std::fmt;
use std::io;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode as WireCode;
use tokio_tungstenite::tungstenite::protocol::{
    CloseFrame, Role, WebSocketConfig, WebSocketContext,
};
use tokio_tungstenite::tungstenite::{self, Error, Message, error::ProtocolError};

use super::{Below, Incoming, Outgoing, Traffic, Transport, TransportError};
use crate::close::{CloseCode, Reason};
use crate::error::{AcceptError, WebSocketFault};
use crate::wire::{Dialect, Text};
pub(crate) use address::Address;
pub(crate) use admission::Admission;
use stream::{MeteredStream, pending};
pub(crate) use upgrade::{UpgradeError, accept, connect, dial, listen};
#[cfg(feature = "hyper")]
pub(crate) use upgrade::{headers, switch};
#[cfg(feature = "tls")]
pub(crate) use upgrade::{say_goodbye, tell_plain_client};

/// Size of the read buffer in bytes.
// The WebSocket library clears what is left of it at each read, so a larger one costs time too; and
// its default of 128 KiB is too much for 10,000 links. A size that followed what comes at once,
// from 1 to 8 KiB, cost a request on 1,000 links 2 % more, and on a busy link 0 to 2 % less; only
// events alone, one way, were cheaper by 4 %.
const READ_BUFFER: usize = 4 * 1024;
/// When more bytes than this went at once, the buffers are made anew at the next heartbeat.
// The library's buffers never shrink, and would keep that room for as long as the socket lives. To
// make them anew costs two allocations per heartbeat, so a higher limit gains nothing.
const LARGE: usize = READ_BUFFER;
/// After a message longer than this, the buffers are made anew as soon as nothing is left to read.
// Until the next heartbeat a thousand links that carry one such message each would hold 100 MB at a
// time, in pieces that the system does not get back when they are freed.
const VERY_LARGE: usize = 16 * 1024;
/// Bytes that are gathered before they are written to the socket.
const WRITE_BUFFER: usize = 16 * 1024;
/// Room in the write buffer for frame heads, a pong and a close frame.
const SLACK: usize = 4 * 1024;

/// A byte stream that can carry a WebSocket: a TCP or TLS stream, or an upgraded connection.
pub trait IoStream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> IoStream for S {}

/// A WebSocket over the byte stream `S`.
///
/// It polls the WebSocket library's protocol directly, without the stream that comes with it.
pub struct WebSocket<S> {
    stream: MeteredStream<S>,
    /// The library's protocol: frames, and the buffers for reading and writing.
    protocol: WebSocketContext,
    /// The stream took everything that was last written to it: there is room for more.
    has_room: bool,
    role: Role,
    /// The longest message either way, or the most bytes that waited for one flush, since the
    /// protocol was made.
    largest: usize,
    /// The longest message either way since then.
    longest: usize,
    /// Bytes of the messages that were taken since the last flush.
    unflushed: usize,
    /// The protocol is to be made anew as soon as it holds nothing.
    is_due: bool,
    reading: Reading,
    /// The longest message that is sent or accepted.
    max_frame: usize,
    limit: usize,
    /// Whether the upgrade agreed on sessions with this library's extensions.
    extended: bool,
}

/// What is left to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    Messages,
    /// The peer broke a rule: what it still sends is read and discarded, up to the end.
    // Closing a socket with unread bytes would reset it, and the peer would lose our reason.
    Discarding,
    /// Nothing: the end or a fault was returned.
    Ended,
}

impl<S: IoStream> WebSocket<S> {
    /// Takes over a byte stream, as the server, after the upgrade to a WebSocket. `max_frame` is
    /// the longest message in bytes either way.
    pub fn upgraded(stream: S, max_frame: usize) -> Self {
        Self::over(stream, &[], Role::Server, max_frame)
    }

    /// Makes the upgrade as the client, over a byte stream that the application has dialled itself:
    /// through a tunnel, TLS, or a simulated network. `url` is the master's address, and `sessions`
    /// asks for this library's own sessions. Call it in
    /// [`ClientBuilder::connect_by`](crate::ClientBuilder::connect_by), whose time limit covers it.
    ///
    /// # Errors
    ///
    /// Those of the stream, and the server's answer if that is no upgrade.
    pub async fn connect(
        stream: S,
        url: &str,
        max_frame: usize,
        sessions: bool,
    ) -> io::Result<Self> {
        let invalid = |fault| io::Error::new(io::ErrorKind::InvalidInput, fault);
        let address = Address::parse(url).map_err(invalid)?;
        upgrade::connect(stream, &address, max_frame, sessions).await.map_err(into_io)
    }

    /// Makes the upgrade as the server, over a byte stream that the application has accepted
    /// itself. A client that asks for this library's sessions gets them. For
    /// [`Master::attach`](crate::Master::attach); [`Master::accept`](crate::Master::accept) does
    /// both at once, in the master's time limit and by its rules.
    ///
    /// No page in a browser is admitted: a request with an `Origin` is answered 403, whatever a
    /// master allows. Any `Host` is accepted.
    ///
    /// # Errors
    ///
    /// Those of the stream, and the refusal of a request that is no upgrade; the client has been
    /// told.
    pub async fn accept(stream: S, max_frame: usize) -> io::Result<Self> {
        let strict = Admission::default();
        let accepted = upgrade::accept(stream, max_frame, Dialect::PLAIN, &strict).await;
        let (mut socket, dialect, _) = accepted.map_err(|error| match error {
            AcceptError::Io(error) => io::Error::new(error.kind(), error),
            other => io::Error::other(other),
        })?;
        socket.extended = dialect == Dialect::SEQLINK;
        Ok(socket)
    }

    /// Creates a WebSocket over a stream of frames, of which the bytes in `read` have come already.
    fn over(stream: S, read: &[u8], role: Role, max_frame: usize) -> Self {
        let mut stream = MeteredStream::new(stream);
        stream.has_received(read);
        // The library makes each later buffer as large as the first one.
        let mut part = Vec::with_capacity(READ_BUFFER.max(read.len()));
        part.extend_from_slice(read);
        let config = config(max_frame);
        Self {
            stream,
            protocol: WebSocketContext::from_partially_read(part, role, Some(config)),
            has_room: true,
            role,
            largest: read.len(),
            longest: 0,
            unflushed: 0,
            is_due: false,
            reading: Reading::Messages,
            max_frame,
            limit: max_frame,
            extended: false,
        }
    }

    /// What the stream runs on.
    pub(crate) fn rest_on(&mut self, below: &Below) {
        self.stream.rest_on(below);
    }

    /// Makes the protocol anew over the same stream, if it holds nothing. Call it only after a read
    /// that found nothing: all whole messages have been returned by then.
    fn renew(&mut self, cx: &mut Context<'_>) {
        // The library does not tell what its buffers hold. They are empty if the frames that were
        // followed below it end with a message, and everything is flushed. A WebSocket that closes
        // stays as it is: what comes behind its close frame has to be a fault.
        let holds_nothing = self.stream.is_between_messages()
            && self.protocol.can_write()
            && matches!(self.flush(cx), Poll::Ready(Ok(())));
        if holds_nothing {
            self.protocol = WebSocketContext::new(self.role, Some(config(self.max_frame)));
            (self.largest, self.longest, self.is_due) = (0, 0, false);
        }
    }

    fn read(&mut self, cx: &mut Context<'_>) -> Poll<tungstenite::Result<Message>> {
        pending(self.protocol.read(&mut self.stream.polled(cx)))
    }

    fn flush(&mut self, cx: &mut Context<'_>) -> Poll<tungstenite::Result<()>> {
        let flushed = pending(self.protocol.flush(&mut self.stream.polled(cx)));
        if flushed.is_ready() {
            (self.has_room, self.unflushed) = (true, 0);
        }
        flushed
    }

    fn fault(&mut self, error: Error) -> TransportError {
        self.reading = Reading::Ended;
        // Asked first: `error` shows an exceeded allowance as a fault of the stream.
        if self.stream.is_exceeded() {
            self.reading = Reading::Discarding;
            return TransportError::TooLong { limit: self.limit };
        }
        match error {
            // TLS that ends without a word.
            Error::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                TransportError::Ended
            }
            Error::Io(error) => error.into(),
            Error::ConnectionClosed
            | Error::AlreadyClosed
            | Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => TransportError::Ended,
            Error::Capacity(_) => {
                self.reading = Reading::Discarding;
                TransportError::TooLong { limit: self.limit }
            }
            other => {
                self.reading = Reading::Discarding;
                TransportError::WebSocket(WebSocketFault::new(&other.to_string()))
            }
        }
    }

    fn incoming(&mut self, message: Message) -> Result<Incoming, TransportError> {
        self.longest = self.longest.max(message.len());
        self.largest = self.largest.max(self.longest);
        Ok(match message {
            // The library's own limit is fixed when it is made; this one is lower before `ready`.
            Message::Text(text) if text.len() > self.limit => {
                self.reading = Reading::Discarding;
                return Err(TransportError::TooLong { limit: self.limit });
            }
            Message::Text(text) => Incoming::Text(Text::from_utf8(text)),
            Message::Binary(_) | Message::Frame(_) => Incoming::Binary,
            Message::Ping(_) | Message::Pong(_) => Incoming::Ping,
            Message::Close(None) => Incoming::Close(CloseCode::NO_STATUS, Reason::new("")),
            Message::Close(Some(frame)) => {
                Incoming::Close(CloseCode(frame.code.into()), Reason::new(frame.reason.as_str()))
            }
        })
    }
}

fn into_io(error: UpgradeError) -> io::Error {
    match error {
        UpgradeError::Io(error) => error,
        refused @ UpgradeError::Refused(_) => io::Error::other(refused.to_string()),
    }
}

fn config(max_frame: usize) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(WRITE_BUFFER)
        .max_write_buffer_size(WRITE_BUFFER + max_frame + SLACK)
        .max_message_size(Some(max_frame))
        .max_frame_size(Some(max_frame))
}

fn to_message(message: Outgoing) -> Message {
    match message {
        Outgoing::Text(text) => Message::Text(text.into_utf8()),
        Outgoing::Ping => Message::Ping(Bytes::new()),
        Outgoing::Close(code, reason) => Message::Close(Some(CloseFrame {
            code: WireCode::from(code.0),
            reason: reason.as_str().into(),
        })),
    }
}

impl<S: IoStream> Transport for WebSocket<S> {
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<Incoming, TransportError>> {
        if self.reading == Reading::Discarding {
            ready!(self.stream.poll_discard(cx))?;
            self.reading = Reading::Ended;
        }
        if self.reading == Reading::Ended {
            return Poll::Ready(Err(TransportError::Ended));
        }
        match self.read(cx) {
            Poll::Ready(Ok(message)) => Poll::Ready(self.incoming(message)),
            Poll::Ready(Err(error)) => Poll::Ready(Err(self.fault(error))),
            // The one moment at which all whole messages have been returned.
            Poll::Pending => {
                if self.is_due || self.longest > VERY_LARGE {
                    self.renew(cx);
                }
                Poll::Pending
            }
        }
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        if self.has_room { Poll::Ready(Ok(())) } else { self.flush(cx).map_err(write_fault) }
    }

    fn send(&mut self, message: Outgoing) -> Result<(), TransportError> {
        if let Outgoing::Text(text) = &message {
            self.unflushed += text.len();
            self.longest = self.longest.max(text.len());
            self.largest = self.largest.max(self.unflushed);
        }
        // No waker is needed: the caller polls for room or flushes next.
        let cx = &mut Context::from_waker(Waker::noop());
        let stream = &mut self.stream.polled(cx);
        match pending(self.protocol.write(stream, to_message(message))) {
            Poll::Ready(written) => written.map_err(write_fault),
            Poll::Pending => {
                // The library has taken the message, and only could not write it out.
                self.has_room = false;
                Ok(())
            }
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        match ready!(self.flush(cx)) {
            // The close frame was the last to be flushed: the WebSocket has ended as it should.
            Ok(()) | Err(Error::ConnectionClosed) => {}
            Err(error) => return Poll::Ready(Err(write_fault(error))),
        }
        if !self.protocol.can_write() && self.reading == Reading::Discarding {
            // The peer's close frame is discarded unread: ending our side asks for its end.
            ready!(self.stream.poll_shutdown(cx))?;
        }
        Poll::Ready(Ok(()))
    }

    fn traffic(&self) -> Traffic {
        self.stream.traffic()
    }

    fn set_limit(&mut self, bytes: usize) {
        self.limit = bytes.min(self.max_frame);
        // For all bytes together: a limit per message would let a peer send any number of messages
        // before it is admitted.
        let allowance = (bytes < self.max_frame).then_some(bytes);
        self.stream.set_allowance(allowance);
    }

    fn shrink(&mut self) {
        self.is_due = self.largest > LARGE;
    }

    fn buffered(&self) -> usize {
        self.stream.buffered()
    }

    fn is_extended(&self) -> bool {
        self.extended
    }
}

fn write_fault(error: Error) -> TransportError {
    match error {
        Error::Io(error) => error.into(),
        Error::ConnectionClosed | Error::AlreadyClosed => TransportError::Ended,
        tungstenite::Error::Protocol(ProtocolError::SendAfterClosing) => TransportError::Ended,
        other => TransportError::WebSocket(WebSocketFault::new(&other.to_string())),
    }
}

impl<S> fmt::Debug for WebSocket<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocket").field("reading", &self.reading).finish_non_exhaustive()
    }
}
