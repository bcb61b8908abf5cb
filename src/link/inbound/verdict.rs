//! The outcome of a received frame.

use crate::close::{CloseCode, Closed};
use crate::wire::{Close, Frame, decode};

/// Why a link does not go on after what was received.
#[derive(Debug)]
pub(in crate::link) enum Halt {
    /// There is no room for the frame of this number and length. Its number was not accepted, so it
    /// comes again after a resume; without one, the link ends with this reason.
    NoRoom(Closed, u64, usize),
    /// The link ends.
    End(Closed),
}

impl From<Closed> for Halt {
    fn from(closed: Closed) -> Self {
        Self::End(closed)
    }
}

/// A frame of which only the head was parsed led to nothing: it has to be parsed in full.
pub(super) struct NeedsFullParse;

/// Why no handler of the application handles a request.
pub(super) enum Unhandled {
    /// The link closes and answers nothing any more.
    Dropped,
    /// The link answers it itself.
    Own,
    Refused(String),
    /// The handler panicked before it began.
    Panicked,
}

/// Returns how the peer's `close` message ends the link.
pub(super) fn close_of(frame: &Frame<'_>) -> Closed {
    match decode::<Close>(frame.data) {
        Ok(close) => Closed::remote(CloseCode::NO_STATUS, close.reason),
        Err(_) => Closed::malformed("`close` without a reason"),
    }
}
