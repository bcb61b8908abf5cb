//! A WebSocket as a transport. The only place that knows which WebSocket library it is.

mod metered;
mod upgrade;

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::{Sink as _, Stream as _};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode as WireCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, Error, Message, error::ProtocolError};

use super::{Incoming, Outgoing, Traffic, Transport, TransportError};
use crate::close::{CloseCode, Reason};
use crate::error::WebSocketFault;
use crate::wire::{Dialect, Text};
use metered::Metered;
#[cfg(feature = "hyper")]
pub(crate) use upgrade::switch;
pub(crate) use upgrade::{Address, UpgradeError, accept, connect, dial, listen};

/// Read buffer per socket. 128 KiB, the WebSocket library's default, is what 10,000 idle links
/// cannot afford; 8 KiB is as fast as any.
const READ_BUFFER: usize = 8 * 1024;
/// What is gathered before the socket is written to.
const WRITE_BUFFER: usize = 16 * 1024;
/// Room in the write buffer for frame heads, a pong and a close frame.
const SLACK: usize = 4 * 1024;

/// What a byte stream must be to carry a WebSocket: a TCP or TLS stream, or an upgraded
/// connection.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for S {}

/// A WebSocket over the byte stream `S`.
pub struct WebSocket<S> {
    stream: WebSocketStream<Metered<S>>,
    reading: Reading,
    /// A close frame has been sent: there is nothing left to write.
    close_sent: bool,
    /// The longest message that is sent or taken.
    max_frame: usize,
    limit: usize,
    /// The upgrade agreed on sessions with this library's extensions.
    extended: bool,
}

/// What is left to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    Messages,
    /// The peer broke a rule: what it still sends is thrown away, up to its end. Closing a socket
    /// with unread bytes would reset it, and the peer would lose our reason.
    Discarding,
}

impl<S: Stream> WebSocket<S> {
    /// Takes over a byte stream on which the upgrade to a WebSocket has already been made, as the
    /// server. `max_frame` is the longest message in bytes either way.
    pub async fn upgraded(stream: S, max_frame: usize) -> Self {
        Self::after_upgrade(stream, Vec::new(), Role::Server, max_frame).await
    }

    /// Makes the upgrade as the client, over a byte stream that the application has dialled itself:
    /// through a tunnel, TLS, or a simulated network. `url` is the master's address, and `sessions`
    /// asks for this library's own sessions. For
    /// [`ClientBuilder::connect_by`](crate::ClientBuilder::connect_by), in whose time limit it is.
    ///
    /// # Errors
    ///
    /// The stream's, and what the server answered when that is no upgrade.
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
    /// [`Master::attach`](crate::Master::attach).
    ///
    /// # Errors
    ///
    /// The stream's, and the refusal of what was no upgrade; the client has been told.
    pub async fn accept(stream: S, max_frame: usize) -> io::Result<Self> {
        let accepted = upgrade::accept(stream, max_frame, Dialect::PLAIN).await;
        let (mut socket, dialect) = accepted.map_err(into_io)?;
        socket.extended = dialect == Dialect::SEQLINK;
        Ok(socket)
    }

    async fn after_upgrade(stream: S, read: Vec<u8>, role: Role, max_frame: usize) -> Self {
        let (stream, config) = (Metered::new(stream), config(max_frame));
        let stream = WebSocketStream::from_partially_read(stream, read, role, Some(config)).await;
        Self::over(stream, max_frame)
    }

    fn over(stream: WebSocketStream<Metered<S>>, max_frame: usize) -> Self {
        let reading = Reading::Messages;
        Self { stream, reading, close_sent: false, max_frame, limit: max_frame, extended: false }
    }

    fn fault(&mut self, error: Error) -> TransportError {
        if self.stream.get_ref().is_exceeded() {
            self.reading = Reading::Discarding;
            return TransportError::TooLong { limit: self.limit };
        }
        match error {
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
        Ok(match message {
            Message::Text(text) if text.len() > self.limit => {
                self.reading = Reading::Discarding;
                return Err(TransportError::TooLong { limit: self.limit });
            }
            Message::Text(text) => Incoming::Text(Text::from_utf8(text)),
            Message::Binary(_) | Message::Frame(_) => Incoming::Binary,
            Message::Ping(_) | Message::Pong(_) => Incoming::Control,
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

impl<S: Stream> Transport for WebSocket<S> {
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<Incoming, TransportError>> {
        if self.reading == Reading::Discarding {
            ready!(self.stream.get_mut().poll_discard(cx))?;
            return Poll::Ready(Err(TransportError::Ended));
        }
        Poll::Ready(match ready!(Pin::new(&mut self.stream).poll_next(cx)) {
            Some(Ok(message)) => self.incoming(message),
            Some(Err(error)) => Err(self.fault(error)),
            None => Err(TransportError::Ended),
        })
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Pin::new(&mut self.stream).poll_ready(cx).map_err(write_fault)
    }

    fn send(&mut self, message: Outgoing) -> Result<(), TransportError> {
        self.close_sent |= matches!(message, Outgoing::Close(..));
        Pin::new(&mut self.stream).start_send(to_message(message)).map_err(write_fault)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx)).map_err(write_fault)?;
        if self.close_sent && self.reading == Reading::Discarding {
            // The peer's own close frame would go unread: the end of our side asks for its end.
            ready!(Pin::new(self.stream.get_mut()).poll_shutdown(cx))?;
        }
        Poll::Ready(Ok(()))
    }

    fn traffic(&self) -> Traffic {
        self.stream.get_ref().traffic()
    }

    fn set_limit(&mut self, bytes: usize) {
        self.limit = bytes.min(self.max_frame);
        let allowance = (bytes < self.max_frame).then_some(bytes);
        self.stream.get_mut().set_allowance(allowance);
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

#[cfg(test)]
mod tests {
    use super::*;

    /// tungstenite's own write buffer has no limit unless it is given one (tungstenite-rs #490).
    #[tokio::test]
    async fn the_buffers_below_are_bounded() {
        let (stream, _peer) = tokio::io::duplex(64);
        let socket = WebSocket::upgraded(stream, 1 << 20).await;
        let config = socket.stream.get_config();
        assert_eq!(config.read_buffer_size, 8 * 1024);
        assert_eq!(config.max_write_buffer_size, (1 << 20) + 20 * 1024);
        assert_eq!(config.max_message_size, Some(1 << 20));
        assert_eq!(config.max_frame_size, Some(1 << 20));
    }
}
