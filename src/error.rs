//! Errors, one type per operation. Each variant says who caused it and what to do now.

mod accept;
#[cfg(feature = "tls")]
mod tls;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

pub use accept::AcceptError;
use thiserror::Error;
#[cfg(feature = "tls")]
pub use tls::{TlsError, TlsFault};

use crate::close::{Closed, Reason};
use crate::message::{Direction, Role, Since};
use crate::printable::Printable;
use crate::version::VersionError;
pub use crate::wire::{DecodeError, EncodeError, FrameError, NameError, NumberError};

/// What became of a request that has no answer because its link ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Delivery {
    /// The peer never got it: nothing of it was given to the socket. Asking again cannot do it
    /// twice.
    NotDelivered,
    /// It was given to the socket, and the peer may or may not have acted on it.
    Unknown,
}

impl fmt::Display for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Delivery::NotDelivered => "not delivered",
            Delivery::Unknown => "whether it was delivered is unknown",
        })
    }
}

/// Why a request has no answer.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
// As `transport::Incoming`: it is one half of what every request comes back with.
#[repr(u64)]
pub enum RequestError {
    /// The peer answered with an error: its handler failed, or it refuses the request.
    #[error("{0}")]
    Remote(RemoteError),
    /// No answer came in time. The peer may still act on the request; a late answer is dropped.
    #[error("no answer within {after:?}")]
    Timeout {
        /// The time limit that passed, counted from the first poll of the call.
        after: Duration,
    },
    /// The link ended first. Nothing is sent again by itself.
    #[error("the link ended before the answer, {delivery}: {closed}")]
    Closed {
        /// Whether the peer can have seen the request.
        delivery: Delivery,
        /// How the link ended.
        closed: Closed,
    },
    /// The message cannot be sent as it is. Nothing was sent.
    #[error("not sent: {0}")]
    Send(#[from] SendError),
    /// The peer's answer is not what the request type expects: the two sides disagree about the
    /// type. The peer has acted on the request.
    #[error("the answer is not as expected: {0}")]
    Decode(DecodeError),
}

/// Why an event was not queued.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum EventError {
    /// The link has ended; the event was not queued.
    #[error("the link has ended: {0}")]
    Closed(Closed),
    /// The message cannot be sent as it is. Nothing was sent.
    #[error("not sent: {0}")]
    Send(#[from] SendError),
}

/// Why a message cannot be sent on this link. All of these are for the sender to mend.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum SendError {
    /// The message is not one that can be written as a frame.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The type is not sent in this direction.
    #[error("{name} goes {allowed}, and this link goes {from}→{to}")]
    Direction {
        /// The message's name.
        name: &'static str,
        /// Where it may go.
        allowed: Direction,
        /// What this side is.
        from: Role,
        /// What the peer is.
        to: Role,
    },
    /// The type is newer than the version that this link negotiated.
    #[error("{name} exists since {}.{}.{}, and this link speaks {negotiated}", since.0, since.1, since.2)]
    Version {
        /// The message's name.
        name: &'static str,
        /// Since when it exists.
        since: Since,
        /// What the link speaks.
        negotiated: semver::Version,
    },
}

/// The text of a peer's error response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteError {
    message: Box<str>,
}

impl RemoteError {
    /// Wraps a peer's text.
    pub(crate) fn new(message: &str) -> Self {
        Self { message: message.into() }
    }

    /// The peer's words as they came. Keep them out of logs and terminals, where `Display` shows
    /// them harmless and cut.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for RemoteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Printable::new(&self.message), f)
    }
}

/// Why a socket is of no more use.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum TransportError {
    /// The other side ended it without a close frame, or it was cut.
    #[error("the socket ended without a close frame")]
    Ended,
    /// The operating system's word.
    #[error("{0}")]
    Io(#[source] Arc<io::Error>),
    /// The peer sent a message above the limit.
    #[error("a message longer than {limit} bytes")]
    TooLong {
        /// The limit in bytes.
        limit: usize,
    },
    /// The peer broke the WebSocket protocol.
    #[error("{0}")]
    WebSocket(WebSocketFault),
}

/// What was wrong with a WebSocket frame, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebSocketFault {
    message: Box<str>,
}

impl WebSocketFault {
    pub(crate) fn new(message: &str) -> Self {
        Self { message: message.into() }
    }
}

impl fmt::Display for WebSocketFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Parts of the frame may be quoted in it.
        fmt::Display::fmt(&Printable::new(&self.message), f)
    }
}

impl From<io::Error> for TransportError {
    fn from(error: io::Error) -> Self {
        Self::Io(Arc::new(error))
    }
}

/// Why a handshake did not come to `ready`.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The socket went away.
    #[error("{0}")]
    Transport(#[from] TransportError),
    /// The peer took longer than the handshake timeout.
    #[error("no `{waiting_for}` within {after:?}")]
    Timeout {
        /// What should have come.
        waiting_for: &'static str,
        /// The time limit.
        after: Duration,
    },
    /// The peer sent something that is no handshake message of its turn.
    #[error("the peer sent no `{expected}`: {fault}")]
    Invalid {
        /// What should have come.
        expected: &'static str,
        /// What was wrong.
        fault: HandshakeFault,
    },
    /// A handshake message of this side cannot be written: what it was told to say of itself, such
    /// as its agent or its name, is too long.
    #[error("`{kind}` cannot be written: {error}")]
    Encode {
        /// The type of the message.
        kind: &'static str,
        /// Why not.
        error: EncodeError,
    },
    /// The two versions do not talk to each other.
    #[error("{0}")]
    Version(#[from] VersionError),
    /// The master refused the token; on a client the reason is the master's.
    #[error("{0}")]
    Authentication(Reason),
    /// Whether the client may come in cannot be decided now, and it was told to come back.
    #[error("{0}")]
    Unavailable(Reason),
    /// The master has as many as it takes of what this client is, and told it to come back. See
    /// [`Limits`](crate::trust::Limits).
    #[error("`{limit}` of the master's limits is reached: {most}")]
    Limit {
        /// The limit's name.
        limit: &'static str,
        /// How many there may be.
        most: usize,
    },
    /// The peer closed before `ready` and said why.
    #[error("the peer closed before `ready`: {0}")]
    Closed(Closed),
    /// This side is shutting down.
    #[error("this side is shutting down: {0}")]
    Shutdown(Reason),
}

/// What was wrong with a handshake message.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum HandshakeFault {
    /// No frame at all.
    #[error("{0}")]
    Frame(#[from] FrameError),
    /// A binary frame.
    #[error("a binary frame")]
    Binary,
    /// A message of another type.
    #[error("another message type")]
    Type,
    /// The right type with wrong data.
    #[error("{0}")]
    Data(DecodeError),
    /// The right type, with a text in it that is too long to be kept.
    #[error("`{field}` longer than {limit} bytes")]
    Long {
        /// The key of the text.
        field: &'static str,
        /// The limit in bytes.
        limit: usize,
    },
}

/// What a builder was given that cannot work.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigError {
    /// Two handlers for one message type: register one.
    #[error("two handlers for {0}; register one")]
    DuplicateHandler(&'static str),
    /// A message name that cannot stand on the wire, or that carries its ending.
    #[error("{0}")]
    Name(NameError),
    /// A method of the builder was called twice, and only one of them could count.
    #[error("`{0}` was called twice; call it once")]
    Twice(&'static str),
    /// What a control does not have.
    #[error("a control has no such thing: do not call `{0}`")]
    NotOfControl(&'static str),
    /// A slave needs an id.
    #[error("a slave needs an id: call `.id(…)`")]
    MissingId,
    /// A client needs its master's address.
    #[error("a client needs its master's address: call `.url(\"ws://host:port/\")`")]
    MissingUrl,
    /// The address is not one that can be dialled.
    #[error("{url:?} is no address like ws://host:port/: {fault}")]
    Url {
        /// What was given.
        url: Box<str>,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// What no browser sends as the origin of a page.
    #[error(
        "{0:?} is no origin of one site's pages: write it as browsers send it, scheme://host[:port] in lower case, \
         without a path and without the scheme's own port"
    )]
    Origin(Box<str>),
    /// What cannot stand in a `Host` header.
    #[error("{0:?} is no host: a name in ASCII, or an address, IPv6 in brackets")]
    Host(Box<str>),
    /// TLS was given something that cannot work.
    #[cfg(feature = "tls")]
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A limit or time that cannot work.
    #[error("`{name}` must be {must}")]
    Limit {
        /// The field of `Config`.
        name: &'static str,
        /// What it must be.
        must: &'static str,
    },
}

/// Why a client has no link to its master.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The builder was given something that cannot work. Final.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// No connection to the address: the master is down, or the address is wrong.
    #[error("cannot reach {address}: {error}")]
    Unreachable {
        /// The address that was dialled.
        address: Box<str>,
        /// The operating system's word.
        error: Arc<io::Error>,
    },
    /// The application's own dialling failed, or took too long:
    /// [`ClientBuilder::connect_by`](crate::ClientBuilder::connect_by).
    #[error("cannot dial the master: {0}")]
    Dial(Arc<io::Error>),
    /// The master was reached, and there is no TLS with it. Not final: certificates are renewed, and
    /// clocks set.
    #[cfg(feature = "tls")]
    #[error("no TLS with {address}: {fault}{}", fault.hint())]
    Tls {
        /// The address that was dialled.
        address: Box<str>,
        /// Why.
        fault: TlsFault,
    },
    /// The server at the address refuses the WebSocket; most often the path is wrong, or with 403
    /// the name by which the address calls the master.
    #[error("the server at {address} answers the upgrade with HTTP {status}; {}", hint(*status))]
    Http {
        /// The address that was dialled.
        address: Box<str>,
        /// The status of its answer.
        status: u16,
    },
    /// The master was reached and did not come to `ready` in time.
    #[error("{address} was reached, and the handshake took longer than {after:?}")]
    Timeout {
        /// The address that was dialled.
        address: Box<str>,
        /// The time limit.
        after: Duration,
    },
    /// The master refused the token. Final.
    #[error("{0}")]
    Authentication(Reason),
    /// The versions do not talk to each other. Final.
    #[error("{0}")]
    Version(VersionError),
    /// A newer link registered this slave's id. Final.
    #[error("Registered from another connection: a newer link has this slave's id")]
    Replaced,
    /// The handshake failed in another way.
    #[error("{0}")]
    Handshake(HandshakeError),
    /// The link was there and has ended.
    #[error("the link has ended: {0}")]
    Ended(Closed),
    /// The client's task is gone: its runtime was shut down, or it panicked, which is a fault of
    /// this library. Final.
    #[error(
        "the client's task has ended without a word: its runtime was shut down, or it panicked"
    )]
    TaskEnded,
}

/// What most often helps against this answer to an upgrade.
fn hint(status: u16) -> &'static str {
    match status {
        400 => "it may be a port for TLS, and its address begin with wss://",
        403 => "a master lets in only who calls it by a name of its own (allow_host, --allow-host)",
        _ => "the path must end in /api/socket of a master",
    }
}

impl ConnectError {
    /// Whether trying again cannot help.
    pub fn is_final(&self) -> bool {
        matches!(
            self,
            Self::Config(_)
                | Self::Authentication(_)
                | Self::Version(_)
                | Self::Replaced
                | Self::TaskEnded
        )
    }
}

/// A message came from a peer that is no slave, and so has no id.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("only a slave sends this")]
#[non_exhaustive]
pub struct NotASlave;

/// For handlers whose errors are texts.
impl From<NotASlave> for String {
    fn from(error: NotASlave) -> Self {
        error.to_string()
    }
}

/// The sender of a message may not send it. For
/// [`Router::authorize`](crate::Router::authorize); the sender of a request is told.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("needs {permission}")]
#[non_exhaustive]
pub struct Denied {
    /// The permission that is missing.
    pub permission: Box<str>,
}

impl Denied {
    /// The sender lacks `permission`.
    pub fn needs(permission: impl Into<Box<str>>) -> Self {
        Self { permission: permission.into() }
    }
}
