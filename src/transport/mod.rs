//! Moves text between two peers: over a WebSocket, or a pair in memory.
//!
//! [`memory`] is public for the tests of programs that use this library: it passes the same JSON
//! text through the same wire code, and it can be cut.

pub mod memory;
#[cfg(feature = "tls")]
pub mod tls;
pub mod websocket;

use std::future::poll_fn;
#[cfg(feature = "tls")]
use std::sync::Arc;
use std::task::{Context, Poll};

pub use crate::error::TransportError;
pub use crate::wire::Text;

use crate::close::{CloseCode, Reason};
use crate::message::Role;

/// What came from the peer.
#[derive(Clone, Debug, PartialEq, Eq)]
// It is passed on through several calls. Behind a small tag the payload would be copied from an odd
// address, in other pieces than it was written in, which stalls the processor.
#[repr(u64)]
#[non_exhaustive]
pub enum Incoming {
    /// A text message.
    Text(Text),
    /// A binary message, which a link never carries.
    Binary,
    /// A ping or pong. A ping is answered by the transport itself.
    Ping,
    /// A close frame. Nothing follows it; it is answered by the transport itself.
    Close(CloseCode, Reason),
}

/// What goes to the peer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outgoing {
    /// A text message.
    Text(Text),
    /// A ping.
    Ping,
    /// A close frame, after which nothing can be sent.
    Close(CloseCode, Reason),
}

/// How many bytes have moved since the transport opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Traffic {
    /// Bytes from the peer.
    pub received: u64,
    /// Bytes to the peer, as far as the operating system has taken them.
    pub sent: u64,
}

/// What is known of a byte stream from what it runs on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Below {
    /// Whose it is, as TLS has it.
    #[cfg(feature = "tls")]
    pub(crate) certificate: Option<tls::Certificate>,
    /// Its bytes below TLS.
    #[cfg(feature = "tls")]
    pub(crate) counts: Option<Arc<tls::Counts>>,
}

impl Below {
    /// Whether the other side has proved who it is.
    pub(crate) fn is_certified(&self) -> bool {
        #[cfg(feature = "tls")]
        return self.certificate.is_some();
        #[cfg(not(feature = "tls"))]
        false
    }

    /// Whether the other side may be this peer. The error is who it is instead.
    pub(crate) fn check(&self, role: Role, id: Option<i64>) -> Result<(), String> {
        #[cfg(feature = "tls")]
        if let Some(certificate) = &self.certificate {
            return certificate.check(role, id);
        }
        let _ = (role, id);
        Ok(())
    }
}

/// Moves messages, in order, both ways at the same time.
///
/// All methods poll in the manner of [`std::future::Future`]: what returns `Pending` wakes the task
/// of the last `cx`. A transport is owned and polled by one task.
pub trait Transport: Send + 'static {
    /// Polls for the next message from the peer. After an error only the end is left to read.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<Incoming, TransportError>>;

    /// Polls until [`send`](Self::send) may be called with one message.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>>;

    /// Takes one message; call it only after `poll_ready` was ready. The message leaves with the
    /// next flush at the latest.
    fn send(&mut self, message: Outgoing) -> Result<(), TransportError>;

    /// Polls until the operating system has every message that was taken.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>>;

    /// Returns how many bytes have moved.
    fn traffic(&self) -> Traffic;

    /// Sets the longest message in bytes that is accepted from the peer from now on.
    fn set_limit(&mut self, bytes: usize);

    /// Releases memory that the transport does not need. Called at each heartbeat, before the next
    /// [`poll_receive`](Self::poll_receive).
    fn shrink(&mut self) {}

    /// Returns how many bytes of a message have come whose end has not; 0 between two messages.
    fn buffered(&self) -> usize {
        0
    }

    /// Whether both ends have agreed to speak sessions with this library's extensions.
    fn is_extended(&self) -> bool {
        false
    }
}

impl std::fmt::Debug for dyn Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transport").field("traffic", &self.traffic()).finish_non_exhaustive()
    }
}

impl Transport for Box<dyn Transport> {
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<Incoming, TransportError>> {
        (**self).poll_receive(cx)
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        (**self).poll_ready(cx)
    }

    fn send(&mut self, message: Outgoing) -> Result<(), TransportError> {
        (**self).send(message)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        (**self).poll_flush(cx)
    }

    fn traffic(&self) -> Traffic {
        (**self).traffic()
    }

    fn set_limit(&mut self, bytes: usize) {
        (**self).set_limit(bytes);
    }

    // These as well: otherwise the trait's defaults would hide the transport's own.
    fn shrink(&mut self) {
        (**self).shrink();
    }

    fn buffered(&self) -> usize {
        (**self).buffered()
    }

    fn is_extended(&self) -> bool {
        (**self).is_extended()
    }
}

/// A transport that has ended. A link has it between two sockets.
#[derive(Debug)]
pub(crate) struct Gone;

impl Transport for Gone {
    fn poll_receive(&mut self, _: &mut Context<'_>) -> Poll<Result<Incoming, TransportError>> {
        Poll::Ready(Err(TransportError::Ended))
    }

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Poll::Ready(Err(TransportError::Ended))
    }

    fn send(&mut self, _: Outgoing) -> Result<(), TransportError> {
        Err(TransportError::Ended)
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Poll::Ready(Err(TransportError::Ended))
    }

    fn traffic(&self) -> Traffic {
        Traffic::default()
    }

    fn set_limit(&mut self, _: usize) {}
}

/// Receives one message. Cancel safe.
pub(crate) async fn receive(transport: &mut impl Transport) -> Result<Incoming, TransportError> {
    poll_fn(|cx| transport.poll_receive(cx)).await
}

/// Sends one message and flushes. Not cancel safe: if dropped, the message may have left or not.
pub(crate) async fn send(
    transport: &mut impl Transport,
    message: Outgoing,
) -> Result<(), TransportError> {
    poll_fn(|cx| transport.poll_ready(cx)).await?;
    transport.send(message)?;
    poll_fn(|cx| transport.poll_flush(cx)).await
}
