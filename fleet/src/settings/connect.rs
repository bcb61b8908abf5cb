//! Why a client has no link, as the end of its program.

use seqlink::ConnectError;
use seqlink::error::ConfigError;

use super::exit::FAILURE;
use super::{Failure, USAGE};
use seqlink::printable::Printable;

/// Nobody answers at the master's address.
const UNREACHABLE: u8 = 69;
/// Master and client speak versions of the protocol that do not fit together.
const VERSION: u8 = 76;
/// The master refused the token.
pub(crate) const TOKEN: u8 = 77;

impl From<&ConnectError> for Failure {
    fn from(error: &ConnectError) -> Self {
        let (code, help) = match error {
            ConnectError::Config(ConfigError::Url { .. }) => {
                (USAGE, "; write it as ws://HOST:PORT or http://HOST:PORT, with the prefix if any")
            }
            ConnectError::Config(_) => (USAGE, ""),
            ConnectError::Unreachable { .. } => (UNREACHABLE, "; is the master running there?"),
            ConnectError::Version(_) => (VERSION, ""),
            ConnectError::Authentication(_) => {
                (TOKEN, "; name the master's token with --token-file or SEQLINK_TOKEN")
            }
            _ => (FAILURE, ""),
        };
        // The text may hold words of the peer.
        Self::new(code, format_args!("{}{help}", Printable::new(&error.to_string())))
    }
}
