use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::Arc;

use bytes::{BufMut as _, BytesMut};
use serde::Serialize;
use serde::de::IgnoredAny;
use serde_json::ser::Formatter;
use thiserror::Error;

use super::text::Text;
use crate::close::cut;
use crate::message::{MAX_NAME, MAX_TYPE};

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

/// Deepest nesting of objects and arrays in a frame; the frame's own object is the first level.
pub const MAX_DEPTH: usize = 64;

/// Counts the levels of some JSON while it is written, without spaces. Looking at what has just been
/// written costs as much as half of the writing.
///
/// The keys are looked at for a response only: for a request with 15 of them that took 500 instructions.
#[derive(Debug)]
struct DepthFormatter<const RESPONSE: bool> {
    levels: usize,
    entered: usize,
    too_deep: bool,
    /// What is written next is the key of the outermost object.
    at_key: bool,
    maybe_reserved: bool,
}

/// The keys of a response's data that are the protocol's.
const RESERVED: [&str; 2] = ["seq", "error"];

impl<const RESPONSE: bool> DepthFormatter<RESPONSE> {
    /// For JSON of so many levels at most.
    fn new(levels: usize) -> Self {
        Self { levels, entered: 0, too_deep: false, at_key: false, maybe_reserved: false }
    }

    /// Whether the outermost object may have a key of a response that is the protocol's:
    /// [`reserved_in`] tells.
    fn is_maybe_reserved(&self) -> bool {
        self.maybe_reserved
    }

    /// Whether there were more levels.
    fn is_too_deep(&self) -> bool {
        self.too_deep
    }

    fn enter(&mut self) {
        self.entered += 1;
        self.too_deep |= self.entered > self.levels;
    }
}

impl<const RESPONSE: bool> Formatter for &mut DepthFormatter<RESPONSE> {
    fn begin_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.enter();
        writer.write_all(b"[")
    }

    fn end_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.entered -= 1;
        writer.write_all(b"]")
    }

    fn begin_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.enter();
        writer.write_all(b"{")
    }

    fn end_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.entered -= 1;
        writer.write_all(b"}")
    }

    fn begin_object_key<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        if RESPONSE {
            self.at_key = self.entered == 1;
        }
        if first { Ok(()) } else { writer.write_all(b",") }
    }

    fn end_object_key<W: ?Sized + io::Write>(&mut self, _: &mut W) -> io::Result<()> {
        if RESPONSE {
            self.at_key = false;
        }
        Ok(())
    }

    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        if RESPONSE && self.at_key {
            // None of them is escaped, so it is one fragment; and so may be a part of another key.
            self.maybe_reserved |= RESERVED.contains(&fragment);
        }
        writer.write_all(fragment.as_bytes())
    }

    fn write_raw_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        self.too_deep |= too_deep(fragment, self.levels.saturating_sub(self.entered));
        // Its keys may be written in any way.
        self.maybe_reserved |= RESPONSE && self.entered == 0;
        writer.write_all(fragment.as_bytes())
    }
}

/// Which of the keys of a response that are the protocol's the object `json` has.
fn reserved_in(json: &[u8]) -> Option<&'static str> {
    let keys: BTreeMap<String, IgnoredAny> = serde_json::from_slice(json).ok()?;
    RESERVED.into_iter().find(|key| keys.contains_key(*key))
}

/// Whether `json` nests deeper than `levels`.
///
/// serde_json reads a raw value of any depth without complaint, so the depth is counted here.
pub(super) fn too_deep(json: &str, levels: usize) -> bool {
    let json = json.as_bytes();
    // Text with that few brackets cannot nest deeper: nearly every frame is done here.
    json.len() > levels && most_brackets(json) > levels && deepest(json) > levels
}

/// How many opening brackets there are at most. Written so that the compiler looks at many bytes at
/// once.
fn most_brackets(json: &[u8]) -> usize {
    // `{` and `[` differ in one bit, which no other bytes share with them.
    let within = |block: &[u8; 64]| {
        let brackets = block.iter().map(|byte| u8::from(byte | 0x20 == b'{'));
        usize::from(brackets.fold(0, u8::wrapping_add))
    };
    let (blocks, rest) = json.as_chunks();
    // What is left over is looked at with some of what was before it, as a whole block again.
    let last = if rest.is_empty() { 0 } else { json.last_chunk().map_or(rest.len(), within) };
    blocks.iter().map(within).sum::<usize>() + last
}

fn deepest(json: &[u8]) -> usize {
    let (mut depth, mut most) = (0_usize, 0_usize);
    let mut bytes = json.iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            b'{' | b'[' => {
                depth += 1;
                most = most.max(depth);
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => skip_string(&mut bytes),
            _ => {}
        }
    }
    most
}

fn skip_string(bytes: &mut impl Iterator<Item = u8>) {
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => return,
            b'\\' => {
                bytes.next();
            }
            _ => {}
        }
    }
}

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

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;
    use crate::message::Empty;

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

    fn nested(levels: usize) -> String {
        "[".repeat(levels) + &"]".repeat(levels)
    }

    #[test]
    fn depth_counts_open_brackets_only() {
        assert!(!too_deep(&nested(64), 64));
        assert!(too_deep(&nested(65), 64));
        assert!(too_deep(&nested(100_000), 64));
        assert!(!too_deep(&"[],".repeat(1000), 64));
        assert!(!too_deep(&format!("\"{}\"", "[".repeat(1000)), 64));
        assert!(!too_deep(&format!("\"\\\"{}\"", "[".repeat(1000)), 64));
        assert!(too_deep(&format!("\"\\\\\"{}", nested(65)), 64));
    }

    #[test]
    fn levels_are_counted_while_json_is_written() {
        let raw = |json| RawValue::from_string(json).unwrap();
        let too_deep = |levels, value: &(&str, Box<RawValue>, Vec<Vec<u8>>)| {
            let mut formatter = DepthFormatter::<true>::new(levels);
            let mut json = Vec::new();
            let mut writer = serde_json::Serializer::with_formatter(&mut json, &mut formatter);
            value.serialize(&mut writer).unwrap();
            assert_eq!(json, serde_json::to_vec(value).unwrap());
            formatter.is_too_deep()
        };
        let lists = || vec![vec![1], vec![2]];
        let value = ("[[[[", raw("[]".into()), lists());
        assert!(!too_deep(3, &value) && too_deep(2, &value));
        let value = ("", raw(nested(70)), lists());
        assert!(!too_deep(71, &value) && too_deep(70, &value));
    }

    #[test]
    fn only_opening_brackets_are_counted() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(most_brackets(&all), 2);
        assert_eq!(most_brackets(&[b'['; 640]), 640);
        for length in 0..300 {
            // All of them, and at most one block twice.
            let least = most_brackets(&vec![b'{'; length]);
            assert!((length..length + 64).contains(&least), "{least} of {length}");
            assert_eq!(most_brackets(&vec![b'}'; length]), if length < 64 { length } else { 0 });
        }
    }
}
