//! The texts of the error answers that a link gives by itself.

use crate::close::cut;
use crate::wire::{EncodeError, EncodedMessage};

/// Longest text of an error response in bytes; longer ones are cut.
pub(super) const MAX_ERROR: usize = 4096;

/// An error response; its text is cut to 4 KiB.
pub(super) fn error_response(
    name: &str,
    seq: u64,
    error: &str,
) -> Result<EncodedMessage, EncodeError> {
    EncodedMessage::error(name, seq, cut(error, MAX_ERROR))
}

/// The error for the peer whose request's handler has panicked.
pub(super) fn panicked(name: &str) -> String {
    tracing::error!(name, "the handler of a request panicked");
    format!("The handler of {name}_request panicked")
}
