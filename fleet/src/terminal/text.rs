//! Words of peers, made fit for a terminal.

use seqlink::printable::Printable;

/// `text` with nothing in it that does anything to a terminal, and not too long for one.
pub(crate) fn printable(text: &str) -> String {
    Printable::new(text).to_string()
}
