//! The fast parse of a frame gives what its full parse gives, as long as the data is JSON.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use serde_json::value::RawValue;

use super::{EncodeError, EncodedMessage, Frame, MAX_SEQ, Response};

/// Some JSON, now and then with keys that mean something to the protocol.
fn json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        any::<i64>().prop_map(|number| number.to_string()),
        Just("-1.5e+3".to_owned()),
        text(),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(","))),
            object(inner),
        ]
    })
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-zß€ {}\\[\\],:]{0,6}".prop_map(|text| format!("{text:?}")),
        Just(r#""""#.to_owned()),
        Just(r#""\"seq\":1""#.to_owned()),
        Just(r#""\u0073eq""#.to_owned()),
        Just(r#""\ud83d\ude00""#.to_owned()),
        Just(r#""\ud800""#.to_owned()),
        Just(r#""back\\""#.to_owned()),
    ]
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[a-z]{1,3}".prop_map(|key| format!("\"{key}\"")),
        1 => Just(r#""seq""#.to_owned()),
        1 => Just(r#""type""#.to_owned()),
        1 => Just(r#""data""#.to_owned()),
        1 => Just(r#""error""#.to_owned()),
        1 => Just(r#""\u0065rror""#.to_owned()),
        1 => Just(r#""s\u0065q""#.to_owned()),
    ]
}

fn object(value: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    vec((key(), value, space()), 0..4).prop_map(|members| {
        let members: Vec<_> =
            members.iter().map(|(key, value, space)| format!("{key}{space}:{value}")).collect();
        format!("{{{}}}", members.join(","))
    })
}

fn space() -> impl Strategy<Value = &'static str> {
    prop_oneof![20 => Just(""), 1 => Just(" "), 1 => Just("\n"), 1 => Just("\u{a0}")]
}

fn seq() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => (1..=MAX_SEQ).prop_map(|seq| seq.to_string()),
        3 => (1..100_u64).prop_map(|seq| seq.to_string()),
        1 => (MAX_SEQ - 2..MAX_SEQ + 3).prop_map(|seq| seq.to_string()),
        1 => any::<u64>().prop_map(|seq| seq.to_string()),
        1 => prop_oneof![Just("0"), Just("01"), Just("-1"), Just("1.0"), Just("1e3"), Just("null")]
            .prop_map(str::to_owned),
    ]
}

fn kind() -> impl Strategy<Value = String> {
    let ending = prop_oneof![Just("_request"), Just("_response"), Just("_event"), Just("")];
    let name = prop_oneof![
        8 => "[a-z_]{1,12}".prop_map(|name| name),
        1 => "[a-zß€ ,:{}]{0,6}".prop_map(|name| name),
        1 => Just("x".repeat(119)),
        1 => Just("x".repeat(128)),
        1 => Just("x".repeat(129)),
        1 => Just("€".repeat(43)),
        1 => Just(r"\u0061\u0062".to_owned()),
        1 => Just(r"a\nb".to_owned()),
        1 => Just("a\tb\u{7f}".to_owned()),
    ];
    (name, ending).prop_map(|(name, ending)| format!("{name}{ending}"))
}

/// The data of a response, or any other.
fn data() -> impl Strategy<Value = String> {
    let response = (seq(), object(json()), space()).prop_map(|(seq, rest, space)| {
        match rest.trim_matches(['{', '}']).is_empty() {
            true => format!(r#"{{"seq":{seq}}}"#),
            false => format!(r#"{{"seq":{seq}{space},{}"#, &rest[1..]),
        }
    });
    prop_oneof![3 => object(json()), 3 => response, 1 => json()]
}

fn frame() -> impl Strategy<Value = String> {
    let spaces = (space(), space(), space());
    (seq(), kind(), data(), spaces, prop::option::weighted(0.2, (key(), json()))).prop_map(
        |(seq, kind, data, (a, b, c), more)| {
            let more = more.map_or(String::new(), |(key, value)| format!(",{key}:{value}"));
            format!(r#"{{"seq":{a}{seq},"type":{b}"{kind}","data":{data}{c}{more}}}"#)
        },
    )
}

/// One thing that goes wrong with a text.
#[derive(Clone, Debug)]
enum Harm {
    Cut(usize),
    Insert(usize, String),
    Remove(usize, usize),
    Change(usize, char),
    Behind(String),
    Twice(usize, usize),
}

fn harm() -> impl Strategy<Value = Harm> {
    let at = || any::<prop::sample::Index>().prop_map(|index| index.index(1000));
    let odd = || {
        prop_oneof![
            Just("{"),
            Just("}"),
            Just("["),
            Just("]"),
            Just(","),
            Just(":"),
            Just("\""),
            Just("\\"),
            Just(" "),
            Just("\0"),
            Just("0"),
            Just("€"),
            Just("null"),
            Just(r#""seq":2,"#),
            Just(r#","error":"x""#),
            Just(r#","data":{}"#),
            Just(r#"},"data":{"#),
            Just(r#"},"more":{"#),
            Just(r#"{"seq":9,"type":"a_event","data":{}}"#),
        ]
        .prop_map(str::to_owned)
    };
    prop_oneof![
        at().prop_map(Harm::Cut),
        (at(), odd()).prop_map(|(at, what)| Harm::Insert(at, what)),
        (at(), 1..6_usize).prop_map(|(at, many)| Harm::Remove(at, many)),
        (at(), any::<char>()).prop_map(|(at, to)| Harm::Change(at, to)),
        odd().prop_map(Harm::Behind),
        (at(), 1..40_usize).prop_map(|(at, many)| Harm::Twice(at, many)),
    ]
}

/// Does `harm` to `text`, at places that a longer text has and a shorter one takes in turn.
fn harmed(text: &str, harm: &Harm) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    let place = |at: usize| at % (chars.len() + 1);
    match harm {
        Harm::Cut(at) => chars.truncate(place(*at)),
        Harm::Insert(at, what) => {
            let at = place(*at);
            chars.splice(at..at, what.chars());
        }
        Harm::Remove(at, many) => {
            let at = place(*at);
            chars.drain(at..(at + many).min(chars.len()));
        }
        Harm::Change(at, to) => {
            let at = place(*at);
            if let Some(old) = chars.get_mut(at) {
                *old = *to;
            }
        }
        Harm::Behind(what) => chars.extend(what.chars()),
        Harm::Twice(at, many) => {
            let at = place(*at);
            let again: Vec<char> = chars[at..].iter().take(*many).copied().collect();
            chars.splice(at..at, again);
        }
    }
    chars.into_iter().collect()
}

fn is_json(data: &str) -> bool {
    serde_json::from_str::<&RawValue>(data).is_ok_and(|raw| raw.get() == data)
}

/// Whether it was fast to any end.
fn check_frame(text: &str) -> Result<bool, TestCaseError> {
    let whole = Frame::parse(text);
    let Some(fast) = Frame::parse_fast(text).filter(|fast| is_json(fast.data)) else {
        return Ok(false);
    };
    prop_assert!(whole.is_ok(), "fast, and {:?} of {}", whole, text);
    let whole = whole.unwrap();
    prop_assert_eq!(fast.seq, whole.seq, "{}", text);
    prop_assert_eq!(&fast.kind, &whole.kind, "{}", text);
    prop_assert_eq!(fast.data, whole.data, "{}", text);
    check_response(fast.data)?;
    Ok(true)
}

fn check_response(data: &str) -> Result<(), TestCaseError> {
    let whole = Response::parse(data);
    if let Some(seq) = Response::parse_fast(data)
        && is_json(data)
    {
        prop_assert!(whole.is_ok(), "fast, and {:?} of {}", whole, data);
        let whole = whole.unwrap();
        prop_assert_eq!(seq, whole.seq, "{}", data);
        prop_assert_eq!(whole.error(), None, "{}", data);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1000, failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn a_frame_that_is_parsed_fast_is_what_its_full_parse_gives(text in frame()) {
        check_frame(&text)?;
    }

    #[test]
    fn so_is_one_that_is_broken(text in frame(), harms in vec(harm(), 1..4)) {
        let mut text = text;
        for harm in &harms {
            text = harmed(&text, harm);
            check_frame(&text)?;
        }
    }

    #[test]
    fn so_is_a_response(data in data(), harms in vec(harm(), 0..3)) {
        let mut data = data;
        check_response(&data)?;
        for harm in &harms {
            data = harmed(&data, harm);
            check_response(&data)?;
        }
    }

    /// What this library writes takes the short way at the peer.
    #[test]
    fn what_this_side_writes_is_parsed_fast(
        name in "[a-zß€ ,:{}]{1,30}",
        seq in 1..=MAX_SEQ,
        to in 1..=MAX_SEQ,
        data in object(json()),
    ) {
        let data = RawValue::from_string(data).ok();
        // The generator's spaces are not all JSON's.
        prop_assume!(data.is_some());
        let data = data.unwrap();
        for message in [EncodedMessage::request(&name, &data), EncodedMessage::event(&name, &data)] {
            let text = message.unwrap().to_frame(Some(seq)).unwrap();
            prop_assert!(Frame::parse_fast(text.as_str()).is_some(), "{}", text.as_str());
            prop_assert!(check_frame(text.as_str())?);
        }
        let answer = EncodedMessage::response(&name, to, &data);
        // Whatever way a key is written in, a response has no second one of the protocol's.
        let keys = serde_json::from_str::<std::collections::BTreeMap<String, &RawValue>>(data.get());
        // The raw values of the generator may hold escapes that no string is made of.
        let Ok(keys) = keys else { return Ok(()) };
        let own = ["seq", "error"].iter().any(|key| keys.contains_key(*key));
        prop_assert_eq!(own, matches!(answer, Err(EncodeError::Reserved { .. })));
        // No reject: half of all data has one, and the runner gives up after 1,024 of them.
        if own {
            return Ok(());
        }
        let answer = answer.unwrap().to_frame(Some(seq)).unwrap();
        let frame = Frame::parse_fast(answer.as_str());
        prop_assert!(frame.is_some(), "{}", answer.as_str());
        check_frame(answer.as_str())?;
        let plain = ["error", "seq", "\\"].iter().all(|odd| !data.get().contains(odd));
        let fast = Response::parse_fast(frame.unwrap().data);
        prop_assert!(!plain || fast == Some(to), "{}", answer.as_str());
    }

    #[test]
    fn nothing_panics_on_any_text(text in any::<String>()) {
        check_frame(&text)?;
        check_response(&text)?;
        for head in [r#"{"seq":"#, r#"{"seq":1,"type":""#, r#"{"seq":1,"type":"a_event","data":"#] {
            check_frame(&format!("{head}{text}"))?;
            check_response(&format!("{head}{text}"))?;
            check_frame(&format!("{head}{text}}}"))?;
        }
    }
}

/// The properties above would hold of a reader that never parses fast.
#[test]
fn most_frames_are_parsed_fast() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut fast = 0;
    for _ in 0..1000 {
        let text = frame().new_tree(&mut runner).unwrap().current();
        fast += usize::from(check_frame(&text).unwrap());
    }
    assert!(fast > 200, "only {fast} of 1000");
}
