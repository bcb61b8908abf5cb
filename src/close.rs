//! Why a link ends: close codes, and reasons that always fit a WebSocket close frame.

use std::fmt;

use crate::printable::Printable;

/// Longest reason in bytes that fits a WebSocket close frame (RFC 6455: 125 bytes less the code).
pub const MAX_REASON: usize = 123;

/// The code of a WebSocket close frame (RFC 6455, section 7.4).
///
/// The plain dialect gives codes no meaning: there the [`Reason`] says everything.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct CloseCode(pub u16);

impl CloseCode {
    /// The side that closed had nothing more to say.
    pub const NORMAL: Self = Self(1000);
    /// A master shuts down.
    pub const GOING_AWAY: Self = Self(1001);
    /// The peer broke the protocol.
    pub const PROTOCOL: Self = Self(1002);
    /// The peer sent a frame of a kind that a link never carries, such as a binary one.
    pub const UNSUPPORTED: Self = Self(1003);
    /// The close frame carried no code (never sent).
    pub const NO_STATUS: Self = Self(1005);
    /// The socket went away without a close frame (never sent).
    pub const ABNORMAL: Self = Self(1006);
    /// The peer may not stay: a newer link took its id, or it does not read.
    pub const POLICY: Self = Self(1008);
    /// The peer sent a frame that is longer than the limit.
    pub const TOO_BIG: Self = Self(1009);
    /// The side that closed failed by itself.
    pub const INTERNAL: Self = Self(1011);
    /// Whether the client may come in cannot be decided now: it is to come back later.
    pub const TRY_AGAIN: Self = Self(1013);
    /// The token was refused (Clusterio's own code).
    pub const AUTHENTICATION: Self = Self(4003);
}

impl fmt::Debug for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A close reason: UTF-8 text of at most [`MAX_REASON`] bytes.
///
/// Longer text is cut on a character boundary. A close frame with more than that many bytes would
/// be a protocol error at the peer, which then learns no reason at all.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Reason(Box<str>);

impl Reason {
    /// Handshake: the other side sent something that is no handshake message of its turn.
    pub const INVALID_HANDSHAKE: &'static str = "Invalid handshake";
    /// Handshake: the master refused the token. Final: a client does not try again.
    pub const AUTHENTICATION_FAILED: &'static str = "Authentication failed";
    /// A newer link registered the same slave id. Final: a client does not try again.
    pub const REPLACED: &'static str = "Registered from another connection";
    /// After `ready`: a frame that cannot be read.
    pub const MALFORMED: &'static str = "Invalid message: Malformed";
    /// Start of every version refusal. Final: a client does not try again.
    pub const VERSION: &'static str = "Incompatible version";

    /// The text, whole when it fits, cut on a character boundary when it does not.
    pub fn new(text: impl AsRef<str>) -> Self {
        Self(cut(text.as_ref(), MAX_REASON).into())
    }

    /// The text as it was said. A peer's may hold anything: keep it out of logs and terminals, where
    /// `Display` shows it harmless.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Why a client may not come in, as it is told.
    pub(crate) fn denied(why: &str) -> Self {
        let start = Self::AUTHENTICATION_FAILED;
        if why.is_empty() { start.into() } else { format!("{start}: {why}").into() }
    }

    /// Whether a client that is closed with this reason must not come back by itself.
    pub fn is_final(&self) -> bool {
        self.0.starts_with(Self::AUTHENTICATION_FAILED)
            || self.0.starts_with(Self::VERSION)
            || *self.0 == *Self::REPLACED
    }
}

impl From<&str> for Reason {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl From<String> for Reason {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl fmt::Debug for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&Printable::new(&self.0), f)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Printable::new(&self.0), f)
    }
}

/// How a link ended; both sides learn it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Closed {
    /// Who ended it.
    pub by: ClosedBy,
    /// The code of the close frame, [`CloseCode::ABNORMAL`] when there was none.
    pub code: CloseCode,
    /// The reason, as the side that closed gave it.
    pub reason: Reason,
}

/// Who ended a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ClosedBy {
    /// This side: the application, or the link itself on a limit or a breach of the protocol.
    Local,
    /// The other side.
    Remote,
    /// Neither: the socket was cut, or the other side fell silent.
    Lost,
}

impl Closed {
    /// An end that this side decided.
    pub fn local(code: CloseCode, reason: impl AsRef<str>) -> Self {
        Self { by: ClosedBy::Local, code, reason: Reason::new(reason) }
    }

    /// An end that the other side decided.
    pub fn remote(code: CloseCode, reason: impl AsRef<str>) -> Self {
        Self { by: ClosedBy::Remote, code, reason: Reason::new(reason) }
    }

    /// The peer has sent what is no message of a link.
    pub(crate) fn malformed(fault: impl fmt::Display) -> Self {
        Self::local(CloseCode::PROTOCOL, format!("{}: {fault}", Reason::MALFORMED))
    }

    /// Whether this side has ended the link because the peer may not be here any more.
    pub(crate) fn is_denial(&self) -> bool {
        self.by == ClosedBy::Local && self.code == CloseCode::AUTHENTICATION
    }

    /// An end that neither side decided.
    pub fn lost(reason: impl AsRef<str>) -> Self {
        Self { by: ClosedBy::Lost, code: CloseCode::ABNORMAL, reason: Reason::new(reason) }
    }
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = match self.by {
            ClosedBy::Local => "closed by this side",
            ClosedBy::Remote => "closed by the peer",
            ClosedBy::Lost => "lost",
        };
        if self.reason.as_str().is_empty() {
            write!(f, "{who} ({})", self.code)
        } else {
            write!(f, "{who}: {}", self.reason)
        }
    }
}

/// The longest start of `text` that has at most `max` bytes and ends between two characters.
pub(crate) fn cut(text: &str, max: usize) -> &str {
    let end = (0..=max.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_reason_fits_a_close_frame_and_is_a_start_of_what_was_said(text in any::<String>()) {
            let long = text.repeat(20);
            let reason = Reason::new(&long);
            prop_assert!(reason.as_str().len() <= MAX_REASON);
            prop_assert!(long.starts_with(reason.as_str()));
            // Nothing that would still fit is missing.
            if let Some(next) = long[reason.as_str().len()..].chars().next() {
                prop_assert!(reason.as_str().len() + next.len_utf8() > MAX_REASON);
            }
        }
    }

    #[test]
    fn a_reason_shows_as_one_harmless_line_and_is_kept_as_it_is() {
        let closed = Closed::remote(CloseCode::NORMAL, "a\nb \u{1b}[2J\u{202e}\u{9b}2J");
        let shown = r"closed by the peer: a\nb \u{1b}[2J\u{202e}\u{9b}2J";
        assert_eq!(closed.to_string(), shown);
        assert_eq!(closed.reason.as_str(), "a\nb \u{1b}[2J\u{202e}\u{9b}2J");
        assert!(!format!("{closed:?}").contains(['\n', '\u{1b}', '\u{202e}', '\u{9b}']));
    }

    #[test]
    fn only_refusals_are_final() {
        for text in ["Authentication failed", "Authentication failed: expired", Reason::REPLACED] {
            assert!(Reason::new(text).is_final(), "{text}");
        }
        for text in ["", "shutdown", "Invalid message: Malformed", "Registered"] {
            assert!(!Reason::new(text).is_final(), "{text}");
        }
    }
}
