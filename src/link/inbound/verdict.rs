//! What comes of a frame.

use crate::close::{CloseCode, Closed};
use crate::wire::{Close, Frame, decode};

/// Why a link does not go on after what was received.
#[derive(Debug)]
pub(in crate::link) enum Halt {
    /// There is no room for the frame of this number and length. It has not taken the number, and
    /// comes again after a resume; where there is none, the link ends so.
    NoRoom(Closed, u64, usize),
    /// It is the end of the link.
    End(Closed),
}

impl From<Closed> for Halt {
    fn from(closed: Closed) -> Self {
        Self::End(closed)
    }
}

/// A frame of which only the head was parsed led to nothing: what it really is must be read.
pub(super) struct NeedsFullParse;

/// Why no handler of the application's works on a request.
pub(super) enum Unhandled {
    /// Nothing can be answered any more.
    Dropped,
    /// The link answers it itself.
    Own,
    Refused(String),
    /// The handler panicked before it began.
    Panicked,
}

/// How the peer ends the link.
pub(super) fn close_of(frame: &Frame<'_>) -> Closed {
    match decode::<Close>(frame.data) {
        Ok(close) => Closed::remote(CloseCode::NO_STATUS, close.reason),
        Err(_) => Closed::malformed("`close` without a reason"),
    }
}
