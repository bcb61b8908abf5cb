//! Words of peers, made fit for a terminal.

/// `text` with nothing in it that could move the cursor: names come from peers.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}
