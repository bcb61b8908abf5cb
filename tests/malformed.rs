//! Frames that a peer may send and should not, from a table with the outcome of each: see
//! `tests/data/malformed.py`, which has written both from the rules of docs/protocol.md.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use common::scripted::{Scripted, Session};
use common::*;
use seqlink::transport::Incoming;
use seqlink::transport::memory;
use seqlink::{Ctx, Empty, HandshakeError, Link, Master, Registration, Router};
use serde::Deserialize;
use serde_json::Value;

const TABLE: &str = include_str!("data/malformed.jsonl");

#[derive(Debug, Deserialize)]
struct Case {
    at: Place,
    name: String,
    frames: Vec<Text>,
    is: Outcome,
    #[serde(default)]
    code: u16,
    #[serde(default)]
    text: String,
    /// The number that the link takes next.
    next: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Place {
    Plain,
    Session,
    Handshake,
}

#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Outcome {
    Handled,
    Event,
    Response,
    Dropped,
    Answer,
    Close,
    Ready,
}

/// A text, or its parts where much of it is repeated.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Text {
    Whole(String),
    Parts(Vec<Part>),
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Part {
    Once(String),
    Times(String, usize),
}

impl Text {
    fn text(&self) -> String {
        match self {
            Self::Whole(text) => text.clone(),
            Self::Parts(parts) => parts.iter().map(Part::text).collect(),
        }
    }
}

impl Part {
    fn text(&self) -> String {
        match self {
            Self::Once(text) => text.clone(),
            Self::Times(text, times) => text.repeat(*times),
        }
    }
}

fn cases(at: Place) -> Vec<Case> {
    let cases = TABLE.lines().map(|line| serde_json::from_str::<Case>(line).expect(line));
    cases.filter(|case| case.at == at).collect()
}

/// How many ticks have reached their handler.
type Ticks = AtomicU64;

fn master() -> (Master, Arc<Ticks>) {
    async fn on_echo(echo: Echo, _: Ctx<Ticks>) -> Result<Echo, String> {
        Ok(echo)
    }
    async fn on_tick(_: Tick, ctx: Ctx<Ticks>) {
        ctx.state().fetch_add(1, Ordering::Relaxed);
    }
    async fn on_order(_: Order, _: Ctx<Ticks>) -> Result<Empty, String> {
        panic!("from the wrong side")
    }
    async fn on_report(_: Report, _: Ctx<Ticks>) {
        panic!("from the wrong side")
    }
    let ticks = Arc::new(Ticks::default());
    let router = Router::with_state(Arc::clone(&ticks)).request(on_echo).event(on_tick);
    let master = Master::builder().router(router.request(on_order).event(on_report));
    (master.build().unwrap(), ticks)
}

/// What has come of the last frame of a case, as far as it can be seen from both ends.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    /// Its answer: whether it is an error, and the text.
    answer: Option<Result<String, String>>,
    ticks: u64,
    ignored: (u64, u64),
    closed: Option<(u16, String)>,
}

/// Plays a case on a new link.
async fn play(case: &Case, mut peer: Scripted, link: Link, ticks: &Ticks) -> Seen {
    let (last, before) = case.frames.split_last().unwrap();
    for text in before {
        peer.say(&text.text()).await;
    }
    if !before.is_empty() {
        // What they lead to is over, and what was answered is read.
        tokio::time::sleep(Duration::from_millis(1)).await;
        peer.answers();
    }
    let ticked = ticks.load(Ordering::Relaxed);
    peer.say(&last.text()).await;
    if let Some(next) = case.next {
        let data = r#"{"text":"still here"}"#;
        peer.say(&format!(r#"{{"seq":{next},"type":"echo_request","data":{data}}}"#)).await;
    }
    let mut seen = Seen::default();
    loop {
        let incoming = tokio::select! {
            incoming = peer.any() => incoming,
            // In made-up time: nothing more comes.
            () = tokio::time::sleep(Duration::from_secs(1)) => break,
        };
        match incoming {
            Some(Incoming::Text(text)) => {
                let frame: Value = serde_json::from_str(text.as_str()).unwrap();
                let data = &frame["data"];
                match frame["type"].as_str().unwrap() {
                    "echo_response" if data["text"] == "still here" => break,
                    "close" | "heartbeat" => {}
                    _ => {
                        assert_eq!(seen.answer, None, "a second answer: {text:?} of {case:?}");
                        let said = |value: &Value| value.as_str().map(str::to_owned);
                        seen.answer = Some(match said(&data["error"]) {
                            Some(error) => Err(error),
                            None => Ok(said(&data["text"]).unwrap_or_default()),
                        });
                    }
                }
            }
            Some(Incoming::Close(..)) => {
                drop(peer);
                soon(link.closed()).await;
                break;
            }
            Some(_) => {}
            None => break,
        }
    }
    seen.ticks = ticks.load(Ordering::Relaxed) - ticked;
    let ignored = link.ignored();
    seen.ignored = (ignored.events, ignored.responses);
    seen.closed = link.ended().map(|closed| (closed.code.0, closed.reason.as_str().to_owned()));
    seen
}

/// Whether that is what should have come of it.
fn is_right(case: &Case, seen: &Seen) -> bool {
    let Seen { answer, ticks, ignored, closed } = seen;
    match (case.is, answer, ticks, ignored, closed) {
        (Outcome::Close, None, 0, (0, 0), Some((code, reason))) => {
            *code == case.code && reason.starts_with(&case.text)
        }
        (Outcome::Answer, Some(Err(error)), 0, (0, 0), None) => error.starts_with(&case.text),
        (Outcome::Handled, Some(Ok(_)), 0, (0, 0), None)
        | (Outcome::Handled, None, 1, (0, 0), None)
        | (Outcome::Event, None, 0, (1, 0), None)
        | (Outcome::Response, None, 0, (0, 1), None)
        | (Outcome::Dropped, None, 0, (0, 0), None) => true,
        _ => false,
    }
}

/// Plays all cases of a place, of which there must be so many.
async fn play_all(at: Place, least: usize) {
    let (master, ticks) = master();
    let (mut wrong, mut played) = (Vec::new(), 0);
    for case in cases(at) {
        let (peer, link) = match at {
            Place::Session => {
                let (peer, link, _) = Session::control(&master).await;
                (peer, link)
            }
            _ => Scripted::control(&master).await,
        };
        let seen = play(&case, peer, link.clone(), &ticks).await;
        if !is_right(&case, &seen) {
            wrong.push(format!("{}: {case:?}\n    {seen:?}", case.name));
        }
        link.close("next");
        played += 1;
    }
    let few: Vec<_> = wrong.iter().take(20).map(String::as_str).collect();
    assert!(wrong.is_empty(), "{} of {played} are wrong:\n{}", wrong.len(), few.join("\n"));
    assert!(played >= least, "{played} cases");
}

#[tokio::test(start_paused = true)]
async fn each_frame_on_a_plain_link_has_its_outcome() {
    play_all(Place::Plain, 1000).await;
}

#[tokio::test(start_paused = true)]
async fn each_frame_in_a_session_has_its_outcome() {
    play_all(Place::Session, 80).await;
}

/// What a client of a master with a token says first: it is let in, or told why not.
#[tokio::test(start_paused = true)]
async fn each_first_frame_of_a_client_has_its_outcome() {
    let master = Master::builder().authenticate(async |registration: Registration| {
        let token = registration.token.as_ref().map(|token| token.expose());
        if token == Some("sesame") { Ok(()) } else { Err("another") }
    });
    let master = master.build().unwrap();
    let (mut wrong, mut played) = (Vec::new(), 0);
    for case in cases(Place::Handshake) {
        let (ours, theirs) = memory::pair();
        let mut peer = Scripted(ours);
        let client = async {
            assert!(peer.hear().await.contains("hello"));
            peer.say(&case.frames[0].text()).await;
            let said = peer.hear().await;
            // It waits for this, or for its clock.
            let closed = peer.any().await;
            drop(peer);
            (said, closed)
        };
        let (link, (said, closed)) = tokio::join!(
            async {
                let link = master.attach(theirs).await;
                if let Ok(link) = &link {
                    link.close("next");
                }
                link
            },
            client
        );
        let frame: Value = serde_json::from_str(&said).unwrap();
        let reason = frame["data"]["reason"].as_str().unwrap_or_default().to_owned();
        let right = match (case.is, &link, &closed) {
            (Outcome::Ready, Ok(_), _) => frame["type"] == "ready",
            (Outcome::Close, Err(error), Some(Incoming::Close(code, same))) => {
                !matches!(error, HandshakeError::Timeout { .. })
                    && code.0 == case.code
                    && reason.starts_with(&case.text)
                    && same.as_str() == reason
            }
            _ => false,
        };
        if !right {
            wrong.push(format!("{}: {case:?}\n    {said} {closed:?}", case.name));
        }
        played += 1;
    }
    assert!(wrong.is_empty(), "{} of {played} are wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(played >= 300, "{played} cases");
}
