//! A WebSocket as a transport. The only place that knows which WebSocket library it is, but for the
//! string inside [`Text`].

mod frames;
mod metered;
mod pace;
mod upgrade;

use std::fmt;
use std::io;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::{FutureExt as _, Sink as _, Stream as _};
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
use pace::{Pace, SMALLEST};
#[cfg(feature = "hyper")]
pub(crate) use upgrade::switch;
pub(crate) use upgrade::{Address, UpgradeError, accept, connect, dial, listen};

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
    role: Role,
    pace: Pace,
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
        let mut stream = Metered::new(stream);
        stream.has_received(&read);
        let config = config(max_frame, SMALLEST);
        let stream = WebSocketStream::from_partially_read(stream, read, role, Some(config)).await;
        Self::over(stream, role, max_frame)
    }

    /// Over a WebSocket that was made with the smallest read buffer.
    fn over(stream: WebSocketStream<Metered<S>>, role: Role, max_frame: usize) -> Self {
        Self {
            stream,
            role,
            pace: Pace::new(SMALLEST),
            reading: Reading::Messages,
            close_sent: false,
            max_frame,
            limit: max_frame,
            extended: false,
        }
    }

    /// Gives the buffers below up for new ones, the one for reading of `bytes`, when they hold
    /// nothing; says whether they did.
    fn renew(&mut self, cx: &mut Context<'_>, bytes: usize) -> bool {
        let empty = self.stream.get_ref().are_messages(self.pace.given_out)
            && self.reading == Reading::Messages
            && !self.close_sent
            && matches!(Pin::new(&mut self.stream).poll_flush(cx), Poll::Ready(Ok(())));
        if !empty {
            return false;
        }
        let config = config(self.max_frame, bytes);
        let renewed = |stream| WebSocketStream::from_raw_socket(stream, self.role, Some(config));
        let Some(spare) = renewed(Metered::gone()).now_or_never() else { return false };
        let stream = mem::replace(&mut self.stream, spare).into_inner();
        if let Some(stream) = renewed(stream).now_or_never() {
            self.stream = stream;
        }
        self.pace.begin(bytes);
        true
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
        // A close frame is never given out: what follows it belongs to the WebSocket it came over.
        if !message.is_close() {
            self.pace.give_out(message.len());
        }
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

fn config(max_frame: usize, read_buffer: usize) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(read_buffer)
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
        let mut next = Pin::new(&mut self.stream).poll_next(cx);
        if next.is_pending()
            && let Some(bytes) = self.pace.pause(self.traffic().received)
            && self.renew(cx, bytes)
        {
            next = Pin::new(&mut self.stream).poll_next(cx);
        }
        Poll::Ready(match ready!(next) {
            Some(Ok(message)) => self.incoming(message),
            Some(Err(error)) => Err(self.fault(error)),
            None => Err(TransportError::Ended),
        })
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Pin::new(&mut self.stream).poll_ready(cx).map_err(write_fault)
    }

    fn send(&mut self, message: Outgoing) -> Result<(), TransportError> {
        match &message {
            Outgoing::Text(text) => self.pace.carry(text.len()),
            Outgoing::Close(..) => self.close_sent = true,
            Outgoing::Ping => {}
        }
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

    fn rest(&mut self) {
        self.pace.rest();
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
    use std::future::poll_fn;
    use std::time::Duration;

    use futures::{SinkExt as _, StreamExt as _};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
    use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

    use super::pace::LARGEST;
    use super::*;

    /// tungstenite's own write buffer has no limit unless it is given one (tungstenite-rs #490).
    #[tokio::test]
    async fn the_buffers_below_are_bounded() {
        let (stream, _peer) = tokio::io::duplex(64);
        let socket = WebSocket::upgraded(stream, 1 << 20).await;
        let config = socket.stream.get_config();
        assert_eq!(config.read_buffer_size, 1024);
        assert_eq!(config.max_write_buffer_size, (1 << 20) + 20 * 1024);
        assert_eq!(config.max_message_size, Some(1 << 20));
        assert_eq!(config.max_frame_size, Some(1 << 20));
    }

    /// The buffers are made anew when they are empty, and at no other time: not a byte is lost.
    #[tokio::test]
    async fn buffers_that_hold_anything_are_kept() {
        let (stream, peer) = tokio::io::duplex(16 * 1024);
        let mut socket = WebSocket::upgraded(stream, 1 << 20).await;
        let mut peer = WebSocketStream::from_raw_socket(peer, Role::Client, None).await;
        let text = |length: usize| "x".repeat(length);
        poll_fn(|cx| socket.poll_ready(cx)).await.unwrap();
        socket.send(Outgoing::Text(text(20_000).into())).unwrap();
        assert!(poll_fn(|cx| socket.poll_flush(cx)).now_or_never().is_none(), "nobody reads");
        let speaking = async {
            for n in 1..=30 {
                peer.send(Message::text(text(n * 500))).await.unwrap();
            }
        };
        let hearing = async {
            for n in 1..=30 {
                let incoming = poll_fn(|cx| socket.poll_receive(cx)).await.unwrap();
                assert!(matches!(&incoming, Incoming::Text(text) if text.len() == n * 500));
            }
        };
        tokio::join!(speaking, hearing);
        let look = |socket: &mut WebSocket<_>| {
            assert!(poll_fn(|cx| socket.poll_receive(cx)).now_or_never().is_none());
            socket.pace.buffer
        };
        assert_eq!(look(&mut socket), SMALLEST, "something waits to be written");
        let (flushed, heard) = tokio::join!(poll_fn(|cx| socket.poll_flush(cx)), peer.next());
        flushed.unwrap();
        assert_eq!(heard.unwrap().unwrap(), Message::text(text(20_000)));
        // Piece by piece: none of the looks between two pieces finds the buffers empty.
        let hearing = async {
            poll_fn(|cx| socket.poll_receive(cx)).await.unwrap();
            poll_fn(|cx| socket.poll_receive(cx)).await
        };
        let speaking = async {
            peer.send(Message::text(text(40_000))).await.unwrap();
            peer.send(Message::text(text(999))).await.unwrap();
        };
        let both = async { tokio::join!(speaking, hearing).1 };
        let heard = tokio::time::timeout(Duration::from_secs(5), both).await.unwrap();
        assert!(matches!(heard, Ok(Incoming::Text(heard)) if heard.as_str() == text(999)));
        assert_eq!(look(&mut socket), LARGEST);
        peer.send(Message::text("on")).await.unwrap();
        let incoming = poll_fn(|cx| socket.poll_receive(cx)).await.unwrap();
        assert!(matches!(&incoming, Incoming::Text(text) if text.as_str() == "on"));
    }

    /// Agrees to the upgrade and sends a frame; in two pieces, the first of `split` bytes.
    async fn agree(stream: &mut DuplexStream, split: usize, frame: &[u8]) {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            assert!(stream.read_buf(&mut request).await.unwrap() > 0);
        }
        let request = String::from_utf8(request).unwrap();
        let (_, key) = request.split_once("Sec-WebSocket-Key: ").unwrap();
        let accept = derive_accept_key(key.lines().next().unwrap().as_bytes());
        let answer = format!(
            "HTTP/1.1 101 Yes\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\n\r\n"
        );
        let bytes = [answer.as_bytes(), frame].concat();
        let (first, second) = bytes.split_at(split.min(bytes.len()));
        stream.write_all(first).await.unwrap();
        tokio::task::yield_now().await;
        stream.write_all(second).await.unwrap();
    }

    /// What a client's socket holds is told from what came behind the answer to its upgrade.
    #[tokio::test]
    async fn a_clients_buffers_grow_wherever_the_answer_to_its_upgrade_ends() {
        let address = Address::parse("ws://h").unwrap();
        for split in 0..150 {
            let (stream, mut server) = tokio::io::duplex(16 * 1024);
            let serving = agree(&mut server, split, b"\x81\x05\r\n\r\n!");
            let connecting = upgrade::connect(stream, &address, 1 << 20, false);
            let (socket, ()) = tokio::join!(connecting, serving);
            let mut socket = socket.unwrap();
            let heard = poll_fn(|cx| socket.poll_receive(cx)).await;
            assert!(matches!(heard, Ok(Incoming::Text(text)) if text.as_str() == "\r\n\r\n!"));
            for _ in 0..4 {
                server
                    .write_all(&[&b"\x81\x7e\x13\x88"[..], &[b'x'; 5000]].concat())
                    .await
                    .unwrap();
                let heard = poll_fn(|cx| socket.poll_receive(cx)).await;
                assert!(matches!(heard, Ok(Incoming::Text(text)) if text.len() == 5000));
                assert!(poll_fn(|cx| socket.poll_receive(cx)).now_or_never().is_none());
            }
            assert_eq!(socket.pace.buffer, LARGEST, "split at {split}");
        }
    }
}
