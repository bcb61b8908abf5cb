use std::io;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use super::HandshakeError;
#[cfg(feature = "tls")]
use super::TlsFault;

/// Why a connection to a master came to no link.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum AcceptError {
    /// The stream failed.
    #[error("{0}")]
    Io(#[source] Arc<io::Error>),
    /// The client sent no HTTP request for a WebSocket of a master, and was told so.
    #[error("answered with HTTP {status}")]
    Refused {
        /// The status of the answer.
        status: u16,
    },
    /// The client speaks TLS where the master does not. It got a 400.
    #[error("the client speaks TLS, and this master does not; use ws://, or give it a certificate")]
    UnexpectedTls,
    /// There is no TLS with the client; it has been told where that is possible.
    #[cfg(feature = "tls")]
    #[error("no TLS with the client: {0}")]
    Tls(TlsFault),
    /// A page in a browser asked, or a client that passes for one: its `Origin`, quoted and escaped.
    /// It got a 403.
    #[error(
        "pages of the origin {0} may not connect; if they are yours, allow it (allow_origin, --allow-origin)"
    )]
    Origin(Box<str>),
    /// The client called the master by a name that is none of its own, or by none: its `Host`,
    /// quoted and escaped. It got a 403.
    #[error(
        "the master does not go by the Host {0}; if it should, allow the name (allow_host, --allow-host)"
    )]
    Host(Box<str>),
    /// The client took longer than the handshake timeout for its HTTP request.
    #[error("no HTTP request within {after:?}")]
    Timeout {
        /// The time limit.
        after: Duration,
    },
    /// The master has as many as it takes of what this is one of; nothing was said to the client. See
    /// [`Limits`](crate::trust::Limits).
    #[error("`{limit}` of the master's limits is reached: {most}")]
    Limit {
        /// The limit's name.
        limit: &'static str,
        /// How many there may be.
        most: usize,
    },
    /// This master has shut down.
    #[error("the master shuts down")]
    Shutdown,
    /// The handshake failed; the client has been told.
    #[error("{0}")]
    Handshake(#[from] HandshakeError),
}

impl From<io::Error> for AcceptError {
    fn from(error: io::Error) -> Self {
        Self::Io(Arc::new(error))
    }
}
