//! Why a client has no link, as the end of its program.

use seqlink::error::ConfigError;
use seqlink::{ConnectError, Reason};

use super::exit::FAILURE;
use super::{Failure, USAGE};
use seqlink::printable::Printable;

/// Nobody answers at the master's address.
const UNREACHABLE: u8 = 69;
/// There is no TLS with the master.
#[cfg(feature = "tls")]
const NO_TLS: u8 = 78;
/// Master and client speak versions of the protocol that do not fit together.
const VERSION: u8 = 76;
/// The master refused the token.
pub(crate) const TOKEN: u8 = 77;

impl From<&ConnectError> for Failure {
    fn from(error: &ConnectError) -> Self {
        let (code, help) = match error {
            ConnectError::Config(ConfigError::Url { .. }) => (
                USAGE,
                "; write it as ws://HOST:PORT, wss://HOST:PORT or http://HOST:PORT, with the prefix if any",
            ),
            ConnectError::Config(_) => (USAGE, ""),
            #[cfg(feature = "tls")]
            ConnectError::Tls { .. } => (NO_TLS, ""),
            ConnectError::Unreachable { .. } => (UNREACHABLE, "; is the master running there?"),
            ConnectError::Version(_) => (VERSION, ""),
            ConnectError::Authentication(reason) if is_of_certificate(reason) => {
                (TOKEN, "; show the certificate of this client with --tls-cert and --tls-key")
            }
            ConnectError::Authentication(_) => {
                (TOKEN, "; name the master's token with --token-file or SEQLINK_TOKEN")
            }
            _ => (FAILURE, ""),
        };
        // The text may hold words of the peer.
        Self::new(code, format_args!("{}{help}", Printable::new(&error.to_string())))
    }
}

/// Whether the master refuses who the client's certificate is for, and not its token.
fn is_of_certificate(reason: &Reason) -> bool {
    let why = reason.as_str().strip_prefix(Reason::AUTHENTICATION_FAILED);
    why.is_some_and(|why| why.starts_with(": the certificate is "))
}
