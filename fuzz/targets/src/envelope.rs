//! The two parsers of a frame against each other, and against serde_json's own values.

use std::fmt;

use seqlink::printable::Printable;
use seqlink::wire::{
    Close, Continue, Frame, HeartbeatMessage, Hello, MAX_DEPTH, MAX_SEQ, Ready, RegisterControl,
    RegisterSlave, Response, Resume, decode, without_seq,
};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

/// An object with all of its keys, those that stand twice included.
struct Pairs(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = Pairs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Keys)
    }
}

impl Pairs {
    fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// The values of a key.
    fn all(&self, key: &str) -> Vec<&Value> {
        self.0.iter().filter(|(it, _)| it == key).map(|(_, value)| value).collect()
    }
}

pub(crate) fn envelope(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    assert!(!Printable::new(text).to_string().contains(char::is_control));
    let whole = Frame::parse(text);
    if let Some(fast) = Frame::parse_fast(text).filter(|fast| is_json(fast.data)) {
        let whole = whole.as_ref().expect("what was parsed fast is a frame");
        assert_eq!((fast.seq, &fast.kind, fast.data), (whole.seq, &whole.kind, whole.data));
    }
    if let Some(pairs) = Pairs::parse(text) {
        let expected = expected(&pairs);
        let got = whole.as_ref().ok().map(|frame| (frame.seq, frame.kind.to_string()));
        assert_eq!(got, expected);
    }
    if let Ok(frame) = whole {
        data(frame.data);
    }
    data(text);
}

/// Number and type of the frame, if it is one.
fn expected(pairs: &Pairs) -> Option<(Option<u64>, String)> {
    let (seqs, kinds) = (pairs.all("seq"), pairs.all("type"));
    let seq = match seqs[..] {
        [] | [Value::Null] => None,
        [seq] => Some(seq.as_u64().filter(|seq| (1..=MAX_SEQ).contains(seq))?),
        _ => return None,
    };
    let ([Value::String(kind)], 1) = (&kinds[..], pairs.all("data").len()) else { return None };
    (kind.len() <= 128).then(|| (seq, kind.clone()))
}

/// What reads the data of a frame.
fn data(text: &str) {
    let response = Response::parse(text);
    if let Some(seq) = Response::parse_fast(text).filter(|_| is_json(text)) {
        let response = response.as_ref().expect("what was parsed fast is a response");
        assert_eq!((seq, None), (response.seq, response.error()));
    }
    if let Some(pairs) = Pairs::parse(text) {
        let errors = pairs.all("error");
        let seq = match pairs.all("seq")[..] {
            [seq] if errors.len() <= 1 => seq.as_u64(),
            _ => None,
        };
        assert_eq!(response.as_ref().ok().map(|response| response.seq), seq);
        if let Ok(response) = response {
            let error = errors.first().filter(|error| !error.is_null());
            assert_eq!(response.error().is_some(), error.is_some());
            if let Some(Value::String(error)) = error {
                assert_eq!(response.error().as_deref(), Some(&**error));
            }
        }
        let rest = without_seq(text).expect("an object has a rest");
        let rest = Pairs::parse(rest.get()).expect("the rest is an object").0;
        let own = |(key, value): &(String, Value)| {
            key == "seq" || (key == "error" && *value == Value::Null)
        };
        let kept: Vec<_> = pairs.0.into_iter().filter(|pair| !own(pair)).collect();
        assert_eq!(rest, kept);
        let value = serde_json::from_str::<Value>(text).expect("it is JSON");
        assert_eq!(decode::<Value>(text).is_ok(), depth(&value) < MAX_DEPTH);
    }
    let _ = decode::<Hello>(text);
    let _ = decode::<RegisterSlave>(text);
    let _ = decode::<RegisterControl>(text);
    let _ = decode::<Ready>(text);
    let _ = decode::<Resume>(text);
    let _ = decode::<Continue>(text);
    let _ = decode::<HeartbeatMessage>(text);
    let _ = decode::<Close>(text);
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(items) => 1 + items.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

fn is_json(text: &str) -> bool {
    serde_json::from_str::<&RawValue>(text).is_ok_and(|raw| raw.get() == text)
}
