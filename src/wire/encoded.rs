use std::fmt;
use std::sync::Arc;

use bytes::{BufMut as _, BytesMut};
use serde::Serialize;
use thiserror::Error;

use super::depth::{DepthFormatter, MAX_DEPTH, reserved_in, too_deep};
use super::limits::{NameError, check_name};
use super::text::Text;

/// The longest head before the type: `{"seq":` and the digits of a `u64`.
const HEAD: usize = 7 + 20;
/// Room for most frames: growing costs more than what is left over.
const USUAL: usize = 512;
const BEFORE_SEQ: &[u8] = br#"{"seq":"#;
const BEFORE_TYPE: &[u8] = br#","type":""#;
const BEFORE_DATA: &[u8] = br#"","data":"#;

/// A frame whose number is still missing.
///
/// The message is written as JSON once. Numbering copies that behind the head, into memory that
/// many frames share.
#[derive(Clone)]
pub struct EncodedMessage {
    /// What follows the number: `,"type":"…","data":…}`.
    tail: Vec<u8>,
}

/// Why a message cannot be sent. All of these are for the sender to mend; nothing was sent.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// Serialising the message failed.
    #[error("the message cannot be written as JSON: {0}")]
    Json(#[source] Arc<serde_json::Error>),
    /// The data of a message is a JSON object: use a struct with named fields.
    #[error("the message is no JSON object; use a struct with named fields")]
    NotAnObject,
    /// The frame is longer than may be sent: say less, or raise the limit on both sides.
    #[error("the message has {bytes} bytes, and {limit} has at most {most}")]
    TooLong {
        /// Length of the frame.
        bytes: usize,
        /// Which limit it is, as `max_frame` of [`Config`](crate::Config).
        limit: &'static str,
        /// What it allows.
        most: usize,
    },
    /// The frame cannot be numbered, and its link ends.
    #[error("{0}")]
    Number(#[from] NumberError),
    /// The frame nests deeper than 64 levels.
    #[error("the message nests deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// A response has a field named `seq` or `error` on its outermost level, and the protocol
    /// keeps these to itself: give it another name, with `#[serde(rename = "…")]` for instance.
    #[error(
        "the {name}_response has a field `{field}`, which is the protocol's own; give it another name"
    )]
    Reserved {
        /// The field.
        field: &'static str,
        /// The message's name.
        name: Box<str>,
    },
    /// The name is empty, longer than 119 bytes, needs escaping in JSON, or carries the ending that
    /// the library adds.
    #[error("{0}")]
    Name(NameError),
}

/// Why a frame of this side cannot be numbered. It has taken no number, and the link ends: what was
/// to be sent would be missing.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum NumberError {
    /// This direction has used all 2⁵³ − 1 numbers.
    #[error("Sequence numbers exhausted")]
    Exhausted,
    /// The frame is no text: its writer, which promises UTF-8, has written something else.
    #[error("A frame of this side is no UTF-8")]
    NotText,
}

impl EncodedMessage {
    /// A `NAME_request`.
    #[inline]
    pub fn request(name: &str, data: &(impl Serialize + ?Sized)) -> Result<Self, EncodeError> {
        Self::with_data(name, "_request", data)
    }

    /// A `NAME_event`.
    #[inline]
    pub fn event(name: &str, data: &(impl Serialize + ?Sized)) -> Result<Self, EncodeError> {
        Self::with_data(name, "_event", data)
    }

    /// A `NAME_request` with `data` that has been read: it is one JSON object.
    pub(crate) fn request_read(name: &str, data: &str) -> Result<Self, EncodeError> {
        Self::with_read(name, "_request", data)
    }

    /// A `NAME_event` with `data` that has been read: it is one JSON object.
    pub(crate) fn event_read(name: &str, data: &str) -> Result<Self, EncodeError> {
        Self::with_read(name, "_event", data)
    }

    fn with_read(name: &str, ending: &str, data: &str) -> Result<Self, EncodeError> {
        let mut buffer = head(name, ending)?;
        if too_deep(data, MAX_DEPTH - 1) {
            return Err(EncodeError::TooDeep);
        }
        buffer.extend_from_slice(data.as_bytes());
        buffer.push(b'}');
        Ok(Self { tail: buffer })
    }

    /// One of the protocol's own messages.
    pub fn protocol(kind: &str, data: &(impl Serialize + ?Sized)) -> Result<Self, EncodeError> {
        Self::with_data(kind, "", data)
    }

    /// The `NAME_response` to the request numbered `to`.
    #[inline]
    pub fn response(
        name: &str,
        to: u64,
        data: &(impl Serialize + ?Sized),
    ) -> Result<Self, EncodeError> {
        let mut buffer = head(name, "_response")?;
        buffer.extend_from_slice(BEFORE_SEQ);
        // Nothing that is written into memory can fail.
        let _ = serde_json::to_writer(&mut buffer, &to);
        let body = buffer.len();
        if write_json::<true>(&mut buffer, data)?
            && let Some(field) = reserved_in(&buffer[body..])
        {
            return Err(EncodeError::Reserved { field, name: name.into() });
        }
        match &buffer[body..] {
            b"null" => buffer.truncate(body),
            [b'{', rest @ ..] => {
                if rest.trim_ascii_start().starts_with(b"}") {
                    buffer.truncate(body);
                    buffer.push(b'}');
                } else {
                    buffer[body] = b',';
                }
            }
            _ => return Err(EncodeError::NotAnObject),
        }
        if buffer.len() == body {
            buffer.push(b'}');
        }
        buffer.push(b'}');
        Ok(Self { tail: buffer })
    }

    /// The error `NAME_response` to the request numbered `to`.
    pub fn error(name: &str, to: u64, error: &str) -> Result<Self, EncodeError> {
        #[derive(Serialize)]
        struct Error<'a> {
            seq: u64,
            error: &'a str,
        }
        Self::with_data(name, "_response", &Error { seq: to, error })
    }

    #[inline]
    fn with_data(
        name: &str,
        ending: &str,
        data: &(impl Serialize + ?Sized),
    ) -> Result<Self, EncodeError> {
        let mut buffer = head(name, ending)?;
        let body = buffer.len();
        write_json::<false>(&mut buffer, data)?;
        if buffer.get(body) != Some(&b'{') {
            return Err(EncodeError::NotAnObject);
        }
        buffer.push(b'}');
        Ok(Self { tail: buffer })
    }

    /// An upper bound of the frame's length in bytes, whatever its number.
    pub fn bytes(&self) -> usize {
        HEAD + self.tail.len()
    }

    /// What no writer of JSON brings about.
    #[cfg(test)]
    pub(crate) fn broken() -> Self {
        Self { tail: vec![0xff] }
    }

    /// The finished frame. Without a number, `seq` is `null`.
    pub fn to_frame(&self, seq: Option<u64>) -> Result<Text, NumberError> {
        self.write_frame(seq, &mut BytesMut::with_capacity(self.bytes()))
    }

    /// The finished frame, as the next part of `chunk`.
    pub(crate) fn write_frame(
        &self,
        seq: Option<u64>,
        chunk: &mut BytesMut,
    ) -> Result<Text, NumberError> {
        chunk.put_slice(BEFORE_SEQ);
        // Nothing that is written into memory can fail.
        let _ = serde_json::to_writer(chunk.writer(), &seq);
        chunk.put_slice(&self.tail);
        Text::new(chunk.split().freeze()).map_err(|_| NumberError::NotText)
    }
}

impl fmt::Debug for EncodedMessage {
    /// Only the length: a message may hold a token or a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EncodedMessage({} bytes)", self.bytes())
    }
}

#[inline]
fn head(name: &str, ending: &str) -> Result<Vec<u8>, EncodeError> {
    check_name(name).map_err(EncodeError::Name)?;
    let mut buffer = Vec::with_capacity(USUAL);
    for part in [BEFORE_TYPE, name.as_bytes(), ending.as_bytes(), BEFORE_DATA] {
        buffer.extend_from_slice(part);
    }
    Ok(buffer)
}

/// Writes the data of a frame, or a part of it, behind what is there. Returns whether a response's
/// data may have a key that is the protocol's.
fn write_json<const RESPONSE: bool>(
    buffer: &mut Vec<u8>,
    data: &(impl Serialize + ?Sized),
) -> Result<bool, EncodeError> {
    // The frame's own object is one level.
    let mut formatter = DepthFormatter::<RESPONSE>::new(MAX_DEPTH - 1);
    let mut writer = serde_json::Serializer::with_formatter(buffer, &mut formatter);
    data.serialize(&mut writer).map_err(|error| EncodeError::Json(Arc::new(error)))?;
    if formatter.is_too_deep() {
        Err(EncodeError::TooDeep)
    } else {
        Ok(formatter.is_maybe_reserved())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Empty;
    use serde_json::value::RawValue;

    fn text(message: Result<EncodedMessage, EncodeError>, seq: Option<u64>) -> String {
        message.unwrap().to_frame(seq).unwrap().as_str().to_owned()
    }

    #[derive(Serialize)]
    struct Game {
        id: u32,
    }

    #[test]
    fn frames_are_written_to_the_letter() {
        let request = EncodedMessage::request("stop", &Game { id: 4 });
        assert_eq!(text(request, Some(7)), r#"{"seq":7,"type":"stop_request","data":{"id":4}}"#);
        let event = EncodedMessage::event("ping", &Empty {});
        assert_eq!(
            text(event, Some(u64::MAX)),
            r#"{"seq":18446744073709551615,"type":"ping_event","data":{}}"#
        );
        let hello = EncodedMessage::protocol("hello", &Empty {});
        assert_eq!(text(hello, None), r#"{"seq":null,"type":"hello","data":{}}"#);
    }

    #[test]
    fn a_response_carries_the_number_of_its_request_first() {
        let some = EncodedMessage::response("stop", 9, &Game { id: 4 });
        assert_eq!(
            text(some, Some(1)),
            r#"{"seq":1,"type":"stop_response","data":{"seq":9,"id":4}}"#
        );
        for none in [
            EncodedMessage::response("stop", 9, &Empty {}),
            EncodedMessage::response("stop", 9, &()),
            EncodedMessage::response("stop", 9, &RawValue::from_string("{ }".into()).unwrap()),
        ] {
            assert_eq!(text(none, Some(1)), r#"{"seq":1,"type":"stop_response","data":{"seq":9}}"#);
        }
        let error = EncodedMessage::error("stop", 9, "no \"game\"");
        assert_eq!(
            text(error, Some(1)),
            r#"{"seq":1,"type":"stop_response","data":{"seq":9,"error":"no \"game\""}}"#
        );
    }

    #[test]
    fn a_key_of_the_protocol_is_a_whole_key() {
        let map = |key: &str| std::collections::BTreeMap::from([(key.to_owned(), 1)]);
        for fine in ["a\"seq", "seq\n", "\u{1}error", "seqs"] {
            assert!(EncodedMessage::response("a", 1, &map(fine)).is_ok(), "{fine:?}");
        }
        for own in ["seq", "error"] {
            assert!(EncodedMessage::response("a", 1, &map(own)).is_err(), "{own}");
        }
    }

    #[test]
    fn what_is_no_message_is_refused() {
        assert!(matches!(EncodedMessage::request("a", &[1]), Err(EncodeError::NotAnObject)));
        assert!(matches!(EncodedMessage::response("a", 1, &"text"), Err(EncodeError::NotAnObject)));
        assert!(matches!(EncodedMessage::request("", &Empty {}), Err(EncodeError::Name(_))));
        assert!(matches!(EncodedMessage::request("a\"b", &Empty {}), Err(EncodeError::Name(_))));
        assert!(matches!(
            EncodedMessage::request(&"x".repeat(120), &Empty {}),
            Err(EncodeError::Name(_))
        ));
        assert!(EncodedMessage::request(&"x".repeat(119), &Empty {}).is_ok());
        let deep = |n: usize| {
            let json = format!("{}{}", r#"{"a":"#.repeat(n - 1) + "{}", "}".repeat(n - 1));
            EncodedMessage::event("deep", &RawValue::from_string(json).unwrap())
        };
        assert!(deep(63).is_ok());
        assert!(matches!(deep(64), Err(EncodeError::TooDeep)));
    }
}
