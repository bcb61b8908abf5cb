use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use serde::de::{Deserializer as _, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::error::Category;
use serde_json::value::RawValue;
use thiserror::Error;

use super::encoded::{MAX_DEPTH, is_plain, too_deep};
use super::text::Text;
use crate::message::MAX_TYPE;
use crate::printable::Printable;

/// Highest sequence number: 2⁵³ − 1, the last integer that every JSON reader holds exactly.
pub const MAX_SEQ: u64 = (1 << 53) - 1;

/// One message; `data` is borrowed and not looked into.
pub struct Frame<'a> {
    /// The number; `null` and no `seq` at all are one, and only a handshake frame may be without.
    pub seq: Option<u64>,
    /// The message type with its ending.
    pub kind: Cow<'a, str>,
    /// The data, as JSON text.
    pub data: &'a str,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(default)]
    seq: Option<u64>,
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    data: &'a RawValue,
}

/// Why some text is no frame. The text itself is never quoted.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum FrameError {
    /// Not JSON, no object, a key missing, or `seq` or `type` of the wrong kind.
    #[error("{0}")]
    Json(DecodeError),
    /// `seq` is 0 or above 2⁵³ − 1.
    #[error("seq {0} is not from 1 to 9007199254740991")]
    Seq(u64),
    /// There is no `seq`, after the handshake.
    #[error("seq is missing")]
    NoSeq,
    /// `type` is longer than 128 bytes.
    #[error("type has {0} bytes, the limit is 128")]
    Type(usize),
}

impl<'a> Frame<'a> {
    /// Reads one frame, all of which is JSON.
    pub fn parse(text: &'a str) -> Result<Self, FrameError> {
        let Envelope { seq, kind, data } = read_object(text).map_err(FrameError::Json)?;
        let frame = Self { seq, kind, data: data.get() };
        if frame.kind.len() > MAX_TYPE {
            return Err(FrameError::Type(frame.kind.len()));
        }
        match frame.seq {
            Some(seq) if seq == 0 || seq > MAX_SEQ => Err(FrameError::Seq(seq)),
            _ => Ok(frame),
        }
    }

    /// Reads a numbered frame of the usual shape, `{"seq":N,"type":"T","data":{…}}` without any
    /// spaces between, by the bytes of its head alone; `None` for any other.
    ///
    /// What it returns holds when `data` turns out to be one JSON object, and not
    /// otherwise: then [`parse`](Self::parse) tells what the text really is. A reader of the data's own
    /// type finds that out on its way, so looking at every byte twice is saved.
    pub fn parse_fast(text: &'a str) -> Option<Self> {
        let rest = text.strip_prefix(r#"{"seq":"#)?;
        let (seq, rest) = number(rest)?;
        let rest = rest.strip_prefix(r#","type":""#)?;
        let end = rest.find('"').filter(|end| *end <= MAX_TYPE)?;
        let (kind, rest) = rest.split_at(end);
        let data = rest.strip_prefix(r#"","data":"#)?.strip_suffix('}')?;
        let is_object = data.starts_with('{') && data.ends_with('}');
        (is_object && is_plain(kind)).then_some(Self {
            seq: Some(seq),
            kind: Cow::Borrowed(kind),
            data,
        })
    }

    /// The number of a frame after the handshake.
    pub fn numbered(&self) -> Result<u64, FrameError> {
        self.seq.ok_or(FrameError::NoSeq)
    }

    /// The class that the type's ending names.
    pub fn class(&self) -> MessageClass<'_> {
        let kind = &*self.kind;
        if let Some(name) = kind.strip_suffix("_request") {
            MessageClass::Request(name)
        } else if let Some(name) = kind.strip_suffix("_response") {
            MessageClass::Response(name)
        } else if let Some(name) = kind.strip_suffix("_event") {
            MessageClass::Event(name)
        } else {
            MessageClass::Protocol(kind)
        }
    }
}

/// The number that [`Response::parse_fast`] returns, and what follows the number, without the comma.
fn parse_fast_response(data: &str) -> Option<(u64, &str)> {
    let (seq, rest) = number(data.strip_prefix(r#"{"seq":"#)?)?;
    if rest == "}" {
        return Some((seq, rest));
    }
    let rest = rest.strip_prefix(',').filter(|rest| rest.starts_with('"'))?;
    (!may_tell_more(rest)).then_some((seq, rest))
}

/// Whether `json` may have the key `error` or `seq`.
fn may_tell_more(json: &str) -> bool {
    let contains = |key| json.contains(key);
    // A key that is escaped may be either.
    begins_like(json) && (contains(r#""error""#) || contains(r#""seq""#) || contains("\\"))
}

/// Whether any string in `json` begins like one of those, or anything is escaped. All bytes are
/// looked at, many at once.
fn begins_like(json: &str) -> bool {
    let bytes = json.as_bytes();
    let pairs = bytes.iter().zip(bytes.get(1..).unwrap_or_default());
    pairs.fold(false, |any, (byte, next)| {
        any | (*byte == b'"') & ((*next == b'e') | (*next == b's')) | (*byte == b'\\')
    })
}

/// The sequence number that `text` begins with, and what follows it; `None` when JSON or this
/// protocol write it in another way.
fn number(text: &str) -> Option<(u64, &str)> {
    let mut seq = 0;
    let mut digits = 0;
    for byte in text.bytes().take(17) {
        if !byte.is_ascii_digit() {
            break;
        }
        seq = seq * 10 + u64::from(byte - b'0');
        digits += 1;
    }
    let usual = (1..=16).contains(&digits) && !text.starts_with('0') && seq <= MAX_SEQ;
    usual.then(|| (seq, &text[digits..]))
}

impl fmt::Debug for Frame<'_> {
    /// Only the length of the data: it may hold a token or a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame")
            .field("seq", &self.seq)
            .field("kind", &self.kind)
            .field("data", &self.data.len())
            .finish()
    }
}

/// The four kinds of frame, by the ending of the type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageClass<'a> {
    /// `NAME_request`.
    Request(&'a str),
    /// `NAME_response`.
    Response(&'a str),
    /// `NAME_event`.
    Event(&'a str),
    /// No such ending: one of the protocol's own, or nothing at all.
    Protocol(&'a str),
}

/// The protocol's own part of a response's data.
#[derive(Deserialize)]
pub struct Response<'a> {
    /// The number of the request that is answered.
    pub seq: u64,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

impl<'a> Response<'a> {
    /// Reads the protocol's part, leaves the rest.
    pub fn parse(data: &'a str) -> Result<Self, FrameError> {
        read_object(data).map_err(FrameError::Json)
    }

    /// The number of the request that is answered, when `data` begins with it and tells of no error;
    /// `None` for any other. As [`Frame::parse_fast`] it takes for granted that `data` is JSON.
    pub fn parse_fast(data: &str) -> Option<u64> {
        parse_fast_response(data).map(|(seq, _)| seq)
    }

    /// The error's text: a string as it is, anything else as JSON. `null` is no error.
    pub fn error(&self) -> Option<Cow<'a, str>> {
        let json = self.error?.get();
        match serde_json::from_str::<Cow<'a, str>>(json) {
            Ok(text) => Some(text),
            Err(_) => (json != "null").then_some(Cow::Borrowed(json)),
        }
    }
}

impl fmt::Debug for Response<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response").field("seq", &self.seq).finish_non_exhaustive()
    }
}

/// The object `data` without the protocol's keys, which are `seq` and an `error` of `null`: a
/// response's data as the handler gave it.
pub fn without_seq(data: &str) -> serde_json::Result<Box<RawValue>> {
    // What is left is JSON if the whole is, and not otherwise.
    if let Some((_, rest)) = parse_fast_response(data) {
        return RawValue::from_string(format!("{{{rest}"));
    }
    let mut reader = serde_json::Deserializer::from_str(data);
    let text = reader.deserialize_map(WithoutSeq)?;
    RawValue::from_string(text)
}

struct WithoutSeq;

impl<'de> Visitor<'de> for WithoutSeq {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<String, A::Error> {
        let mut text = String::from("{");
        while let Some((key, value)) = map.next_entry::<Key<'de>, &'de RawValue>()? {
            if key.0 == "seq" || (key.0 == "error" && value.get() == "null") {
                continue;
            }
            if text.len() > 1 {
                text.push(',');
            }
            text.push_str(&serde_json::to_string(&key).map_err(serde::de::Error::custom)?);
            text.push(':');
            text.push_str(value.get());
        }
        text.push('}');
        Ok(text)
    }
}

#[derive(Deserialize, Serialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

/// Answers of up to so many bytes are copied: cheaper than a new read buffer.
const COPIED: usize = 1024;

/// How much of a frame has been looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parse {
    /// Its head alone: see [`Frame::parse_fast`].
    Fast,
    /// All of it is JSON.
    Full,
}

/// An answer as it came: the frame, and where its `data` stands.
#[derive(Debug)]
pub(crate) struct Answer {
    text: Text,
    data: Range<usize>,
    parse: Parse,
}

/// What an answer is when it is not of the type that was expected.
#[derive(Debug)]
pub(crate) enum Unread {
    /// It tells of an error.
    Error(String),
    /// It is of another type.
    Decode(DecodeError),
    /// It is no frame at all.
    NoFrame(FrameError, DecodeError),
}

impl Answer {
    pub(crate) fn new(text: &Text, data: &str, parse: Parse) -> Self {
        // A part of the read buffer would keep all of it, and another would have to be made for
        // what comes next.
        let own = if text.len() <= COPIED { text.detached() } else { text.clone() };
        Self { text: own, data: text.range_of(data), parse }
    }

    /// Reads the data with `read`. When that fails and the frame was not parsed in full yet, returns
    /// what it really is.
    pub(crate) fn read<T>(
        &self,
        read: impl Fn(&str) -> Result<T, DecodeError>,
    ) -> Result<T, Unread> {
        let error = match read(self.text.part(self.data.clone())) {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        if self.parse == Parse::Full {
            return Err(Unread::Decode(error));
        }
        let whole = Frame::parse(self.text.as_str())
            .and_then(|frame| Ok((frame.data, Response::parse(frame.data)?.error())));
        match whole {
            Ok((_, Some(error))) => Err(Unread::Error(error.into_owned())),
            Ok((data, None)) => read(data).map_err(Unread::Decode),
            Err(fault) => Err(Unread::NoFrame(fault, error)),
        }
    }
}

/// Why some JSON is not of the type that was expected. Values are never quoted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeError {
    message: Box<str>,
}

impl DecodeError {
    pub(crate) fn new(error: &serde_json::Error) -> Self {
        Self { message: describe(error).into() }
    }

    fn because(message: impl Into<Box<str>>) -> Self {
        Self { message: message.into() }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // It may name an unknown word.
        fmt::Display::fmt(&Printable::new(&self.message), f)
    }
}

impl std::error::Error for DecodeError {}

/// Reads the `data` of a frame: an object, within the limit of nesting.
pub fn decode<'a, T: Deserialize<'a>>(data: &'a str) -> Result<T, DecodeError> {
    // The frame's own object is the first level.
    if too_deep(data, MAX_DEPTH - 1) {
        return Err(DecodeError::because(format!("nested deeper than {MAX_DEPTH} levels")));
    }
    read_object(data)
}

/// Reads an object. Derived readers take an array for a struct as well, field by field, and the
/// protocol knows no such thing.
fn read_object<'a, T: Deserialize<'a>>(json: &'a str) -> Result<T, DecodeError> {
    if !json.trim_ascii_start().starts_with('{') {
        return Err(DecodeError::because("no JSON object"));
    }
    serde_json::from_str(json).map_err(|error| DecodeError::new(&error))
}

/// Returns what is wrong with some JSON without quoting any value of it.
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

    fn fault(text: &str) -> FrameError {
        Frame::parse(text).unwrap_err()
    }

    #[test]
    fn seq_may_be_an_integer_null_or_absent() {
        let read = |text| Frame::parse(text).unwrap().seq;
        assert_eq!(read(r#"{"seq":7,"type":"a","data":{}}"#), Some(7));
        assert_eq!(read(r#"{"seq":null,"type":"a","data":{}}"#), None);
        assert_eq!(read(r#"{"data":{},"type":"a","more":[1]}"#), None);
        assert_eq!(read(r#"{"seq":9007199254740991,"type":"a","data":1}"#), Some(MAX_SEQ));
    }

    #[test]
    fn seq_of_another_kind_is_refused() {
        for seq in ["-1", "1.0", "1e3", "\"1\"", "true", "[1]", "{}", "18446744073709551616"] {
            let text = format!(r#"{{"seq":{seq},"type":"a","data":{{}}}}"#);
            assert!(matches!(fault(&text), FrameError::Json(_)), "{seq}");
        }
        assert_eq!(fault(r#"{"seq":0,"type":"a","data":{}}"#), FrameError::Seq(0));
        let text = r#"{"seq":9007199254740992,"type":"a","data":{}}"#;
        assert_eq!(fault(text), FrameError::Seq(MAX_SEQ + 1));
        let bare = Frame::parse(r#"{"type":"a","data":{}}"#).unwrap();
        assert_eq!(bare.numbered(), Err(FrameError::NoSeq));
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        for text in ["", "nonsense", "[]", r#"[1,"a",{}]"#, "7", "null", "\"{\""] {
            assert_eq!(fault(text).to_string(), "no JSON object", "{text}");
        }
        for text in [
            "{",
            "{}",
            r#"{"seq":1,"data":{}}"#,
            r#"{"seq":1,"type":"a"}"#,
            r#"{"seq":1,"type":5,"data":{}}"#,
            r#"{"seq":1,"seq":2,"type":"a","data":{}}"#,
            r#"{"seq":1,"type":"a","data":{}} "more""#,
        ] {
            assert!(matches!(fault(text), FrameError::Json(_)), "{text}");
        }
        let long = format!(r#"{{"seq":1,"type":"{}","data":{{}}}}"#, "x".repeat(129));
        assert_eq!(fault(&long), FrameError::Type(129));
    }

    /// A fast parse gives what the full parse gives, or the data is no object.
    #[test]
    fn what_is_skimmed_reads_the_same() {
        let long = "x".repeat(129);
        let seqs = ["1", "42", "9007199254740991", "0", "01", "007", "-1", "1.0", "1e3", " 1", ""];
        let more = ["9007199254740992", "10000000000000000", "18446744073709551616", "null"];
        let kinds = ["a_event", "", "é", "a\\u005fb", "\\q_response", "a\tb", "a\\", &long];
        let rest = [r#"{}"#, r#"{"a":{}}"#, "{} ", r#"{},"type":"b""#, "[]", r#"{},"seq":2"#];
        let mut fast = 0;
        for seq in seqs.iter().chain(&more) {
            for kind in kinds {
                for data in rest {
                    let text = format!(r#"{{"seq":{seq},"type":"{kind}","data":{data}}}"#);
                    let Some(frame) = Frame::parse_fast(&text) else { continue };
                    if serde_json::from_str::<serde::de::IgnoredAny>(frame.data).is_ok() {
                        let read = Frame::parse(&text).unwrap_or_else(|e| panic!("{text}: {e}"));
                        assert_eq!((frame.seq, &frame.kind), (read.seq, &read.kind), "{text}");
                        assert_eq!(frame.data, read.data);
                        fast += 1;
                    }
                }
            }
        }
        assert_eq!(fast, 3 * 3 * 2, "all of the usual shape");
    }

    #[test]
    fn a_response_is_skimmed_when_it_can_tell_of_no_error() {
        for (data, seq) in [
            (r#"{"seq":3}"#, Some(3)),
            (r#"{"seq":3,"x":"error"}"#, None),
            (r#"{"seq":3,"x":1}"#, Some(3)),
            (r#"{"seq":3,"error":"no"}"#, None),
            (r#"{"seq":3,"x":1,"error":null}"#, None),
            (r#"{"seq":3,"\u0065rror":"no"}"#, None),
            (r#"{"seq":3,"x":1,"seq":4}"#, None),
            (r#"{"seq":03}"#, None),
            (r#"{"seq":3.0}"#, None),
            (r#"{"x":1,"seq":3}"#, None),
        ] {
            assert_eq!(Response::parse_fast(data), seq, "{data}");
        }
    }

    #[test]
    fn a_response_tells_its_error() {
        let error = |json| Response::parse(json).unwrap().error().map(Cow::into_owned);
        assert_eq!(error(r#"{"seq":3,"x":1}"#), None);
        assert_eq!(error(r#"{"seq":3,"error":null}"#), None);
        assert_eq!(error(r#"{"seq":3,"error":"no \"x\""}"#).as_deref(), Some("no \"x\""));
        assert_eq!(error(r#"{"seq":3,"error":{"a":1}}"#).as_deref(), Some(r#"{"a":1}"#));
        assert!(Response::parse("{}").is_err());
        assert!(Response::parse("[3]").is_err());
    }

    #[test]
    fn the_answer_of_a_forwarded_request_loses_only_its_seq() {
        let strip = |json| without_seq(json).unwrap().get().to_owned();
        assert_eq!(strip(r#"{"seq":3}"#), "{}");
        assert_eq!(
            strip(r#"{"a":{"seq":1},"seq":3,"b\"":[1, 2]}"#),
            r#"{"a":{"seq":1},"b\"":[1, 2]}"#
        );
        assert_eq!(strip(r#"{"seq":3,"error":null,"a":1}"#), r#"{"a":1}"#);
        assert_eq!(strip(r#"{"seq":3,"a":[1, {}]}"#), r#"{"a":[1, {}]}"#);
        assert_eq!(strip(r#"{"seq":3, "a":"\n"}"#), r#"{"a":"\n"}"#);
        for broken in [r#"{"seq":3,}"#, r#"{"seq":3,"a"}"#, r#"{"seq":3,"a":1}}"#, r#"{"seq":3"#] {
            assert!(without_seq(broken).is_err(), "{broken}");
        }
        assert!(without_seq("[1]").is_err());
    }

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
