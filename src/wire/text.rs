use std::fmt;
use std::ops::Range;
use std::str::Utf8Error;

use bytes::Bytes;
use tokio_tungstenite::tungstenite::Utf8Bytes;

/// The text of one message: UTF-8, shared, cheap to clone and to cut a part from.
///
/// Inside is the WebSocket library's own string. It passes to a socket and back as it is, and it
/// lends its text without looking at every byte again.
#[derive(Clone, PartialEq, Eq)]
pub struct Text(Utf8Bytes);

impl Text {
    /// Takes `bytes` when they are UTF-8.
    pub(crate) fn new(bytes: Bytes) -> Result<Self, Utf8Error> {
        Ok(Self(Utf8Bytes::try_from(bytes)?))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The length in bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no text.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn from_utf8(text: Utf8Bytes) -> Self {
        Self(text)
    }

    pub(crate) fn into_utf8(self) -> Utf8Bytes {
        self.0
    }

    /// The same text with memory of its own: a part keeps the whole that it was cut from.
    pub(crate) fn detached(&self) -> Self {
        self.as_str().into()
    }

    /// Where `part`, a slice of this text, stands in it.
    pub(crate) fn range_of(&self, part: &str) -> Range<usize> {
        let start = (part.as_ptr() as usize).saturating_sub(self.as_str().as_ptr() as usize);
        start..start + part.len()
    }

    /// The part at `range`, empty when the range is not within the text.
    pub(crate) fn part(&self, range: Range<usize>) -> &str {
        self.as_str().get(range).unwrap_or_default()
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Text {
    /// Only the length: a message may hold a token or a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Text({} bytes)", self.0.len())
    }
}
