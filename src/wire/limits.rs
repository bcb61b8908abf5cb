use serde_json::error::Category;
use thiserror::Error;

use crate::close::cut;
use crate::message::{MAX_NAME, MAX_TYPE};

/// Whether `name` can stand in a message type, and in that of its response: 1 to 119 bytes, none
/// of which JSON would escape.
#[inline]
pub fn is_name(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len()) && is_plain(name)
}

/// Why a name is none that this side may give to a message.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum NameError {
    /// It cannot stand on the wire.
    #[error(
        "{0:?} is no message name: 1 to 119 bytes without quote, backslash or control character"
    )]
    Invalid(Box<str>),
    /// It has an ending already.
    #[error("{name:?} is no message name: write it without `{ending}`, which is added")]
    Ending {
        /// The name.
        name: Box<str>,
        /// Its ending.
        ending: &'static str,
    },
}

/// Two of Clusterio's events that are named so, and have the ending twice on the wire.
const CLUSTERIOS: [&str; 2] = ["master_connection_event", "player_event"];

/// Whether this side may give a message this name. A peer's are looked at by [`is_name`] alone.
///
/// Inlined, because the name of a message's type is a constant: nothing is left to be done then for
/// each message.
#[inline]
pub(crate) fn check_name(name: &str) -> Result<(), NameError> {
    if is_name(name) && ending(name.as_bytes()).is_none() { Ok(()) } else { check_odd_name(name) }
}

#[cold]
fn check_odd_name(name: &str) -> Result<(), NameError> {
    if !is_name(name) {
        return Err(NameError::Invalid(cut(name, MAX_TYPE).into()));
    }
    match ending(name.as_bytes()) {
        Some(ending) if !CLUSTERIOS.contains(&name) => {
            Err(NameError::Ending { name: name.into(), ending })
        }
        _ => Ok(()),
    }
}

/// In chunks, which the compiler compares as integers.
#[inline]
fn ending(name: &[u8]) -> Option<&'static str> {
    if name.last_chunk() == Some(b"_request") {
        Some("_request")
    } else if name.last_chunk() == Some(b"_response") {
        Some("_response")
    } else if name.last_chunk() == Some(b"_event") {
        Some("_event")
    } else {
        None
    }
}

/// Whether JSON would escape no byte of `text`. All are looked at, many at once.
#[inline]
pub(super) fn is_plain(text: &str) -> bool {
    let odd = |byte: u8| byte < 0x20 || byte == b'"' || byte == b'\\';
    !text.bytes().fold(false, |any, byte| any | odd(byte))
}

/// Highest sequence number: 2⁵³ − 1, the last integer that every JSON reader holds exactly.
pub const MAX_SEQ: u64 = (1 << 53) - 1;

/// Says what is wrong with some JSON without quoting any value of it.
///
/// serde_json's own text for a value of the wrong type contains the value, which may be a password.
pub fn describe(error: &serde_json::Error) -> String {
    let text = error.to_string();
    if error.classify() != Category::Data {
        return text;
    }
    let quoting = ["invalid type: ", "invalid value: ", "invalid length ", "unknown variant "];
    match (quoting.iter().find(|start| text.starts_with(**start)), text.rfind(", expected ")) {
        (Some(start), Some(expected)) => {
            format!("{}{}", start.trim_end_matches([' ', ':']), &text[expected..])
        }
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_quote_no_value() {
        #[derive(Debug, serde::Deserialize)]
        #[expect(dead_code)]
        struct Port {
            port: u16,
        }
        let error = |json| describe(&serde_json::from_str::<Port>(json).unwrap_err());
        let secret = error(r#"{"port":"hunter2, expected more"}"#);
        assert!(!secret.contains("hunter2"), "{secret}");
        assert_eq!(secret, "invalid type, expected u16 at line 1 column 32");
        assert_eq!(error("{}"), "missing field `port` at line 1 column 2");
        assert_eq!(error(r#"{"port":70000}"#), "invalid value, expected u16 at line 1 column 13");
    }
}
