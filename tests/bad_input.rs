//! What a peer may send and must not, from a bare socket: each case has its named outcome, nothing
//! panics, and the other links of the master go on.

mod common;

use std::net::SocketAddr;
use std::time::Duration;

use common::raw::{self, BINARY, CLOSE, Raw, TEXT};
use common::*;
use seqlink::{Client, Control, Ctx, Empty, Link, Master};
use serde_json::json;
use tokio::time::timeout;

/// How long a peer that should hang up may say other things instead.
const PATIENCE: Duration = Duration::from_secs(10);

struct World {
    master: Master,
    address: SocketAddr,
    good: Client,
}

impl World {
    async fn new() -> Self {
        async fn order(_: Order, _: Ctx) -> Result<Empty, String> {
            panic!("reached the handler from the wrong side")
        }
        async fn report(_: Report, _: Ctx) {
            panic!("reached the handler from the wrong side")
        }
        async fn tick(_: Tick, _: Ctx) {}
        let master = Master::builder()
            .router(router().request(order).event(report).event(tick))
            .config(config(|config| config.handshake_timeout = Duration::from_millis(500)))
            .build()
            .unwrap();
        let address = master.listen("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{address}/");
        let good = Control::builder().url(url).connect().await.unwrap();
        Self { master, address, good }
    }

    /// The other link still works, and nothing else is left.
    async fn goes_on(&self) {
        let good = self.good.link().await.unwrap();
        assert_eq!(good.request(&echo("still here")).await.unwrap(), echo("still here"));
        self.alone().await;
    }

    async fn alone(&self) {
        for _ in 0..2000 {
            if self.master.controls().len() == 1 {
                return;
            }
            tokio::task::yield_now().await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        panic!("links are left: {:?}", self.master.controls());
    }

    /// The master's end of the link that the test made last.
    fn newest(&self) -> Link {
        let links = self.master.controls();
        links.into_iter().find(|link| link.peer().agent == "raw").unwrap()
    }
}

/// Sends a text after `ready`; the link must end with this code and a reason that starts so.
async fn ends(text: &str, code: u16, start: &str) {
    let world = World::new().await;
    let mut raw = Raw::control(world.address).await;
    raw.text(text).await;
    let ended = raw.ended().await;
    let (got, reason) = ended.frame.expect("a close frame");
    assert_eq!(got, code, "{reason}");
    assert!(reason.starts_with(start), "{reason}");
    assert_eq!(ended.message.as_deref(), Some(&*reason), "both ways to say it agree");
    world.goes_on().await;
}

/// Sends a text after `ready`; it must be answered with an error that starts so, and the link stays.
async fn is_answered(text: &str, kind: &str, start: &str) {
    let world = World::new().await;
    let mut raw = Raw::control(world.address).await;
    raw.text(text).await;
    let answer = raw.json().await;
    assert_eq!((answer["type"].as_str(), &answer["data"]["seq"]), (Some(kind), &json!(2)));
    let error = answer["data"]["error"].as_str().expect("an error");
    assert!(error.starts_with(start), "{error}");
    raw.text(r#"{"seq":3,"type":"echo_request","data":{"text":"on"}}"#).await;
    assert_eq!(raw.json().await["data"], json!({"seq": 3, "text": "on"}));
    drop(raw);
    world.goes_on().await;
}

/// Sends a text after `ready`; it must be counted and ignored, and the link stays.
async fn is_ignored(text: &str, events: u64, responses: u64) {
    let world = World::new().await;
    let mut raw = Raw::control(world.address).await;
    raw.text(text).await;
    raw.text(r#"{"seq":3,"type":"echo_request","data":{"text":"on"}}"#).await;
    assert_eq!(raw.json().await["data"], json!({"seq": 3, "text": "on"}));
    let ignored = world.newest().ignored();
    assert_eq!((ignored.events, ignored.responses), (events, responses));
    drop(raw);
    world.goes_on().await;
}

#[tokio::test]
async fn text_that_is_no_frame_ends_the_link() {
    for text in [
        "nonsense",
        "",
        "{",
        "[]",
        "null",
        "7",
        r#"[2,"echo_request",{"text":"a"}]"#,
        r#"{"seq":2,"data":{}}"#,
        r#"{"seq":2,"type":"echo_request"}"#,
        r#"{"seq":2,"type":7,"data":{}}"#,
        r#"{"seq":2,"type":null,"data":{}}"#,
    ] {
        ends(text, 1002, "Invalid message: Malformed").await;
    }
}

/// Also when only the caller looks into the data.
#[tokio::test]
async fn an_answer_that_is_no_frame_ends_the_link() {
    let world = World::new().await;
    let mut raw = Raw::control(world.address).await;
    raw.text(r#"{"seq":2,"type":"echo_request","data":{"text":"on"}}"#).await;
    raw.json().await;
    let asked = tokio::spawn(world.newest().request(&echo("a")));
    let seq = raw.json().await["seq"].as_u64().unwrap();
    let data = format!(r#"{{"seq":{seq},"text":"a",}}"#);
    raw.text(&format!(r#"{{"seq":3,"type":"echo_response","data":{data}}}"#)).await;
    let ended = timeout(PATIENCE, raw.ended()).await.expect("it is taken");
    let (code, reason) = ended.frame.unwrap();
    assert_eq!(code, 1002);
    assert!(reason.starts_with("Invalid message: Malformed"), "{reason}");
    assert!(asked.await.unwrap().is_err());
    world.goes_on().await;
}

#[tokio::test]
async fn seq_of_a_wrong_kind_ends_the_link() {
    for seq in [
        "null",
        "-1",
        "0",
        "1.0",
        "1e3",
        "\"2\"",
        "true",
        "[2]",
        "{}",
        "9007199254740992",
        "18446744073709551616",
    ] {
        let text = format!(r#"{{"seq":{seq},"type":"echo_request","data":{{"text":"a"}}}}"#);
        ends(&text, 1002, "Invalid message: Malformed").await;
    }
    let text = r#"{"type":"echo_request","data":{"text":"a"}}"#;
    ends(text, 1002, "Invalid message: Malformed: seq is missing").await;
}

#[tokio::test]
async fn a_number_that_is_not_the_next_ends_the_link() {
    let world = World::new().await;
    for (next, fault) in [(5, "seq 5 after 5"), (4, "seq 4 after 5"), (7, "seq 7 after 5")] {
        let mut raw = Raw::control(world.address).await;
        raw.text(r#"{"seq":5,"type":"tick_event","data":{"n":1}}"#).await;
        raw.text(&format!(r#"{{"seq":{next},"type":"tick_event","data":{{"n":1}}}}"#)).await;
        let ended = timeout(PATIENCE, raw.ended()).await.expect("it is taken");
        let (code, reason) = ended.frame.unwrap();
        assert_eq!(
            (code, reason),
            (1002, format!("Invalid message: Malformed: {fault}, expected 6"))
        );
    }
    world.goes_on().await;
}

#[tokio::test]
async fn a_type_out_of_place_ends_the_link() {
    for text in [
        r#"{"seq":2,"type":"ready","data":{}}"#,
        r#"{"seq":2,"type":"hello","data":{"version":"2.0.0"}}"#,
        r#"{"seq":2,"type":"register_control","data":{"agent":"a","version":"2.0.0"}}"#,
        r#"{"seq":2,"type":"echo","data":{"text":"a"}}"#,
    ] {
        ends(text, 1002, "Invalid message: Malformed: unexpected type").await;
    }
    let long = format!(r#"{{"seq":2,"type":"{}_request","data":{{}}}}"#, "x".repeat(121));
    ends(&long, 1002, "Invalid message: Malformed: type has 129 bytes").await;
}

#[tokio::test]
async fn one_byte_too_many_ends_the_link_and_the_reason_arrives() {
    let fits = |bytes: usize| {
        let empty = r#"{"seq":2,"type":"echo_request","data":{"text":""}}"#.len();
        let text = "x".repeat(bytes - empty);
        format!(r#"{{"seq":2,"type":"echo_request","data":{{"text":"{text}"}}}}"#)
    };
    ends(&fits((1 << 20) + 1), 1009, "Invalid message: longer than 1048576 bytes").await;

    // As long as it may be: its answer is longer, which is the answer's fault.
    let longest = fits(1 << 20);
    is_answered(&longest, "echo_response", "The answer to echo_request cannot be sent").await;
}

#[tokio::test]
async fn deep_nesting_is_answered_with_an_error() {
    // The frame's object is the first level, its data the second.
    let nested = |levels: usize| {
        let inner = "[".repeat(levels - 2) + &"]".repeat(levels - 2);
        format!(r#"{{"seq":2,"type":"echo_request","data":{{"text":{inner}}}}}"#)
    };
    let start = "Validation failed for echo_request: ";
    is_answered(&nested(64), "echo_response", &format!("{start}invalid type")).await;
    for levels in [65, 100_000] {
        let deep = format!("{start}nested deeper than 64 levels");
        is_answered(&nested(levels), "echo_response", &deep).await;
    }
    let open = format!(r#"{{"seq":2,"type":"echo_request","data":{}"#, "[".repeat(100_000));
    ends(&open, 1002, "Invalid message: Malformed").await;
}

#[tokio::test]
async fn a_request_that_cannot_be_handled_is_answered_with_an_error() {
    let unknown = r#"{"seq":2,"type":"nothing_request","data":{}}"#;
    is_answered(unknown, "nothing_response", "No handler for nothing_request on this master").await;

    let wrong_way = r#"{"seq":2,"type":"order_request","data":{}}"#;
    is_answered(wrong_way, "order_response", "order_request goes master→slave").await;

    let start = "Validation failed for echo_request: ";
    for (data, fault) in [
        ("{}", "missing field `text`"),
        (r#"{"text":7}"#, "invalid type, expected a string"),
        ("[]", "no JSON object"),
        ("7", "no JSON object"),
        ("null", "no JSON object"),
        (r#"["a"]"#, "no JSON object"),
        (r#"{"text":"a","text":"b"}"#, "duplicate field `text`"),
    ] {
        let text = format!(r#"{{"seq":2,"type":"echo_request","data":{data}}}"#);
        is_answered(&text, "echo_response", &format!("{start}{fault}")).await;
    }
}

#[tokio::test]
async fn events_and_responses_that_lead_nowhere_are_counted() {
    is_ignored(r#"{"seq":2,"type":"nothing_event","data":{}}"#, 1, 0).await;
    is_ignored(r#"{"seq":2,"type":"tick_event","data":{"n":"one"}}"#, 1, 0).await;
    is_ignored(r#"{"seq":2,"type":"report_event","data":{"n":1}}"#, 1, 0).await;
    is_ignored(r#"{"seq":2,"type":"echo_response","data":{"seq":77,"text":"a"}}"#, 0, 1).await;
    is_ignored(r#"{"seq":2,"type":"echo_response","data":{"text":"a"}}"#, 0, 1).await;
    is_ignored(r#"{"seq":2,"type":"echo_response","data":{"seq":"1"}}"#, 0, 1).await;
}

#[tokio::test]
async fn other_websocket_frames_end_the_link() {
    let world = World::new().await;
    let mut raw = Raw::control(world.address).await;
    raw.frame(BINARY, b"{}").await;
    let (code, reason) = raw.ended().await.frame.unwrap();
    assert_eq!(
        (code, reason.as_str()),
        (1003, "Invalid message: Binary frame, a link carries text")
    );

    let mut raw = Raw::control(world.address).await;
    raw.frame(TEXT, &[0xff, 0xfe]).await;
    let (code, reason) = raw.ended().await.frame.unwrap();
    assert!(code == 1002 && reason.starts_with("Invalid WebSocket frame: "), "{code} {reason}");

    let mut raw = Raw::control(world.address).await;
    raw.frame(0xb, b"").await;
    let (code, reason) = raw.ended().await.frame.unwrap();
    assert!(code == 1002 && reason.starts_with("Invalid WebSocket frame: "), "{code} {reason}");
    world.goes_on().await;
}

/// Row 30: a length is not believed before it is checked, and fragments do not add up without end.
#[tokio::test]
async fn lengths_and_fragments_are_bounded() {
    let world = World::new().await;
    for length in [1 << 62, u64::MAX, (1 << 20) + 1] {
        let mut raw = Raw::control(world.address).await;
        raw.bytes(&raw::head(0x80 | TEXT, length)).await;
        let (code, _) = raw.ended().await.frame.expect("told, without waiting for the bytes");
        assert!(code == 1009 || code == 1002, "{code}");
    }
    let mut raw = Raw::control(world.address).await;
    let part = vec![b'x'; 64 * 1024];
    raw.bytes(&raw::head(TEXT, part.len() as u64)).await;
    raw.bytes(&part).await;
    for _ in 0..32 {
        raw.bytes(&raw::head(0, part.len() as u64)).await;
        raw.bytes(&part).await;
    }
    let ended = timeout(PATIENCE, raw.ended()).await.expect("it takes them all");
    let (code, reason) = ended.frame.unwrap();
    assert_eq!((code, reason.as_str()), (1009, "Invalid message: longer than 1048576 bytes"));
    world.goes_on().await;
}

#[tokio::test]
async fn a_bad_handshake_is_refused_with_the_reason() {
    let world = World::new().await;
    for (text, code, start) in [
        ("nonsense", 1002, "Invalid handshake: expected register_slave or register_control, got"),
        (r#"{"seq":1,"type":"ready","data":{}}"#, 1002, "Invalid handshake: expected"),
        (r#"{"seq":1,"type":"register_slave","data":{}}"#, 1002, "Invalid handshake: expected"),
        (
            r#"{"seq":"1","type":"register_control","data":{"agent":"a","version":"2.0.0"}}"#,
            1002,
            "Invalid handshake",
        ),
        (
            r#"{"seq":1,"type":"register_slave","data":{"agent":"a","version":"2.0.0","id":"7","name":"n"}}"#,
            1002,
            "Invalid handshake",
        ),
        (
            r#"{"seq":1,"type":"register_control","data":{"agent":"a","version":"3.1.0"}}"#,
            1002,
            "Incompatible version: master speaks 2.0.0, client speaks 3.1.0",
        ),
        (
            r#"{"seq":1,"type":"register_control","data":{"agent":"a","version":"latest"}}"#,
            1002,
            "Incompatible version: master speaks 2.0.0, client sent \"latest\", no version",
        ),
    ] {
        let mut raw = Raw::open(world.address).await;
        raw.json().await;
        raw.text(text).await;
        let ended = raw.ended().await;
        let (got, reason) = ended.frame.unwrap();
        assert!(got == code && reason.starts_with(start), "{got} {reason}");
        assert_eq!(ended.message.as_deref(), Some(&*reason));
    }
    let mut raw = Raw::open(world.address).await;
    raw.json().await;
    let long = format!(
        r#"{{"seq":1,"type":"register_control","data":{{"agent":"{}"}}}}"#,
        "a".repeat(17000)
    );
    raw.text(&long).await;
    let (code, reason) = raw.ended().await.frame.unwrap();
    assert_eq!((code, &*reason), (1009, "Invalid handshake: a frame longer than 16384 bytes"));

    let mut raw = Raw::open(world.address).await;
    raw.json().await;
    raw.frame(BINARY, b"{}").await;
    let (code, reason) = raw.ended().await.frame.unwrap();
    assert!(code == 1002 && reason.ends_with("a binary frame"), "{code} {reason}");
    world.goes_on().await;
}

#[tokio::test]
async fn a_client_may_say_nothing_for_as_long_as_the_handshake_timeout() {
    let world = World::new().await;
    let mut raw = Raw::open(world.address).await;
    raw.json().await;
    let ended = raw.ended().await;
    let (code, reason) = ended.frame.unwrap();
    let expected = "Handshake timed out: no register_slave or register_control within 500ms";
    assert_eq!((code, reason.as_str()), (1008, expected));
    assert_eq!(ended.message.as_deref(), Some(expected));

    // Nor does it help to say nothing before the upgrade, or half of it.
    for start in ["", "GET /api/socket HTTP/1.1\r\nHost:"] {
        let mut raw = Raw::tcp(world.address).await;
        raw.bytes(start.as_bytes()).await;
        assert_eq!(raw.rest().await, "");
    }
    world.goes_on().await;
}

#[tokio::test]
async fn seq_may_be_anything_in_the_handshake_and_unknown_keys_are_ignored() {
    let world = World::new().await;
    for seq in ["\"seq\":1,", "\"seq\":null,", "", "\"seq\":4711,"] {
        let mut raw = Raw::open(world.address).await;
        assert_eq!(raw.json().await, json!({"seq":1,"type":"hello","data":{"version":"2.0.0"}}));
        raw.text(&format!(
            r#"{{{seq}"more":[{{}}],"type":"register_control","data":{{"agent":"raw","version":"2.0.0","plugins":{{}}}}}}"#
        ))
        .await;
        assert_eq!(raw.json().await, json!({"seq":2,"type":"ready","data":{}}));
        raw.text(r#"{"seq":1,"type":"echo_request","data":{"text":"a"}}"#).await;
        let echo = json!({"seq":3,"type":"echo_response","data":{"seq":1,"text":"a"}});
        assert_eq!(raw.json().await, echo);
    }
    world.goes_on().await;
}

#[tokio::test]
async fn http_that_is_no_websocket_gets_an_answer_that_says_so() {
    let world = World::new().await;
    for (request, status, text) in [
        (raw::upgrade("/other"), "404 ", "/api/socket"),
        (raw::upgrade("/api/socket/"), "404 ", "/api/socket"),
        ("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".into(), "404 ", "/api/socket"),
        ("GET /api/socket HTTP/1.1\r\nHost: localhost\r\n\r\n".into(), "426 ", "WebSocket"),
        ("POST /api/socket HTTP/1.1\r\nHost: localhost\r\n\r\n".into(), "405 ", "GET"),
        ("GET /api/socket HTTP/1.0\r\nHost: localhost\r\n\r\n".into(), "505 ", "HTTP/1.1"),
        ("\x16\x03\x01\x02\x00\x01\x00\r\n\r\n".into(), "400 ", "no TLS on this port"),
        (format!("GET / HTTP/1.1\r\nX: {}\r\n", "x".repeat(20_000)), "431 ", "16 KiB"),
    ] {
        let mut raw = Raw::tcp(world.address).await;
        let head = raw.http(&request).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{head}");
        assert!(raw.rest().await.contains(text), "{head}");
    }
    world.goes_on().await;
}

#[tokio::test]
async fn a_peer_may_close_at_any_point() {
    let world = World::new().await;
    let close = r#"{"type":"close","data":{"reason":"changed my mind"}}"#;
    let mut raw = Raw::open(world.address).await;
    raw.text(close).await;
    assert_eq!(raw.json().await["type"], "hello");
    raw.frame(CLOSE, &[0x03, 0xe8]).await;
    raw.ended().await;

    let mut raw = Raw::control(world.address).await;
    let link = world.newest();
    raw.text(r#"{"seq":2,"type":"close","data":{"reason":"changed my mind"}}"#).await;
    raw.frame(CLOSE, &[0x03, 0xe8]).await;
    let closed = link.closed().await;
    assert_eq!(closed.to_string(), "closed by the peer: changed my mind");
    assert_eq!(raw.ended().await.message, None, "no second close message");
    world.goes_on().await;
}
