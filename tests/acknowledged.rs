//! What a peer is told to have been received has been handled, or the link ends.

mod common;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::scripted::{Scripted, Session};
use common::*;
use futures::FutureExt as _;
use seqlink::{Config, Ctx, Empty, Event, Link, LinkState, Master, Request, Router};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio::time::sleep;

#[derive(Serialize, Deserialize)]
struct Load {
    n: u64,
    text: String,
}

impl Event for Load {
    const NAME: &'static str = "load";
}

/// What was handled, and what lets the next handler come to its end.
struct Seen {
    handled: Mutex<Vec<u64>>,
    gate: Semaphore,
}

async fn on_load(load: Load, ctx: Ctx<Arc<Seen>>) {
    ctx.state().gate.acquire().await.unwrap().forget();
    ctx.state().handled.lock().unwrap().push(load.n);
}

/// Refused with more bytes than it has.
#[derive(Serialize, Deserialize)]
struct Tell {
    a_field_that_is_missing_in_all_of_them_and_has_a_name_that_is_longer_than_the_question_itself:
        u8,
}

impl Request for Tell {
    const NAME: &'static str = "tell";
    type Response = Empty;
}

async fn on_tell(_: Tell, _: Ctx<Arc<Seen>>) -> Result<Empty, String> {
    Ok(Empty {})
}

fn small(config: &mut Config) {
    config.inbox = 8 * 1024;
    config.outbox = 128 * 1024;
    config.max_frame = 8 * 1024;
}

fn master() -> (Master, Arc<Seen>) {
    let seen = Arc::new(Seen { handled: Mutex::default(), gate: Semaphore::new(0) });
    let router = Router::new(Arc::clone(&seen)).event(on_load).request(on_tell);
    let master = Master::builder().router(router).config(config(small)).build().unwrap();
    (master, seen)
}

fn load(n: u64) -> String {
    let text = "x".repeat(850);
    format!(r#"{{"seq":{n},"type":"load_event","data":{{"n":{n},"text":"{text}"}}}}"#)
}

/// Waits for the moment in which a peer that took nothing since the start is given up. The test goes
/// on before the link's task does, which looks at its heartbeat before it reads.
async fn third_heartbeat() {
    sleep(3 * Config::default().heartbeat_interval).await;
}

/// The peer is judged to take nothing, in the moment in which `frames` can be read.
async fn judged_stuck_while(link: &Link, peer: &mut Scripted, frames: &[String]) {
    // More than a cable holds, so that some of it waits.
    for n in 0..50 {
        link.event(&Load { n, text: "y".repeat(2000) }).await.unwrap();
    }
    third_heartbeat().await;
    for frame in frames {
        peer.say(frame).now_or_never().expect("the cable has room");
    }
    let mut states = link.states();
    while !matches!(states.now(), LinkState::Resuming { .. } | LinkState::Closed(_)) {
        soon(states.next()).await.unwrap();
    }
}

/// Frames that have no room when the socket is given up are not acknowledged, and come again.
#[tokio::test(start_paused = true)]
async fn what_has_no_room_in_the_inbox_comes_again_after_the_resume() {
    let (master, seen) = master();
    let (mut peer, link, session) = Session::control(&master).await;
    peer.say(&load(1)).await;
    // The last one would find room, but not its turn.
    let last_frame = r#"{"seq":32,"type":"tell_request","data":{}}"#.to_owned();
    let frames: Vec<String> = (2..=31).map(load).chain([last_frame.clone()]).collect();
    judged_stuck_while(&link, &mut peer, &frames).await;
    // Each handler that ends makes room.
    seen.gate.add_permits(100);
    let (mut peer, last) = session.resume(&master).await;
    for n in last + 1..=31 {
        peer.say(&load(n)).await;
        tokio::task::yield_now().await;
    }
    peer.say(&last_frame).await;
    sleep(Duration::from_millis(100)).await;
    assert!(matches!(link.states().now(), LinkState::Resumed { .. }), "{:?}", link.states().now());
    assert_eq!(*seen.handled.lock().unwrap(), (1..=31).collect::<Vec<_>>(), "last_seq {last}");
}

/// The same for requests whose refusals wait for room in the outbox.
#[tokio::test(start_paused = true)]
async fn what_cannot_be_refused_comes_again_after_the_resume() {
    const ASKED: usize = 1000;
    let (master, _seen) = master();
    let (mut peer, link, session) = Session::control(&master).await;
    // The outbox is full of what the peer does not read.
    while link.event(&Load { n: 0, text: "y".repeat(4000) }).now_or_never().is_some() {
        tokio::task::yield_now().await;
    }
    let ask = |n: usize| format!(r#"{{"seq":{n},"type":"tell_request","data":{{}}}}"#);
    third_heartbeat().await;
    for n in 1..=ASKED {
        peer.say(&ask(n)).now_or_never().expect("the cable has room");
    }
    let mut states = link.states();
    while !matches!(states.now(), LinkState::Resuming { .. }) {
        soon(states.next()).await.expect("the link ended");
    }
    let (mut peer, last) = session.resume(&master).await;
    let mut answers = 0;
    // The peer reads now and acknowledges, which makes room for what comes again.
    let mut again = (last as usize + 1..=ASKED).map(ask);
    for n in 0..2 * ASKED {
        sleep(Duration::from_millis(1)).await;
        answers += peer.answers();
        if let Some(frame) = (n > 500).then(|| again.next()).flatten() {
            peer.say(&frame).await;
        }
    }
    assert_eq!(answers, ASKED, "last_seq {last}");
}

/// A frame that breaks the protocol ends the link, also when the socket is given up in the same
/// moment: it has taken a number, and would be missing without a word.
#[tokio::test(start_paused = true)]
async fn a_broken_frame_ends_the_link_of_a_socket_that_is_given_up() {
    let (master, seen) = master();
    seen.gate.add_permits(100);
    let (mut peer, link, _session) = Session::control(&master).await;
    peer.say(&load(1)).await;
    let broken = load(2).replace(r#""text""#, r#"text"#);
    judged_stuck_while(&link, &mut peer, &[broken, load(3)]).await;
    let closed = soon(link.closed()).await;
    assert!(closed.reason.as_str().starts_with("Invalid message: Malformed"), "{closed}");
    assert_eq!(seen.handled.lock().unwrap()[0], 1, "what came before is handled");
}

/// What is under way when a link closes is taken, also behind events that have no room any more:
/// nobody resumes it, and whoever waits for an answer that has come gets it.
#[tokio::test(start_paused = true)]
async fn an_answer_behind_events_without_room_arrives_while_the_link_closes() {
    for (events, local) in [(3, false), (12, false), (3, true), (12, true)] {
        let (master, _seen) = master();
        let (mut peer, link) = Scripted::control(&master).await;
        let asked = tokio::spawn(link.request(&Tell { a_field_that_is_missing_in_all_of_them_and_has_a_name_that_is_longer_than_the_question_itself: 1 }));
        let question: serde_json::Value = serde_json::from_str(&peer.hear().await).unwrap();
        if local {
            link.close("bye");
            tokio::task::yield_now().await;
        }
        for n in 2..2 + events {
            peer.say(&load(n)).await;
        }
        let (n, to) = (2 + events, &question["seq"]);
        peer.say(&format!(r#"{{"seq":{n},"type":"tell_response","data":{{"seq":{to}}}}}"#)).await;
        let answer = soon(asked).await.unwrap();
        assert!(answer.is_ok(), "{events} events, closed by us: {local}: {answer:?}");
    }
}

/// The answer, numbered `seq`, to what the peer is asked next.
async fn heard(peer: &mut Scripted, seq: u64) -> String {
    let asked: serde_json::Value = serde_json::from_str(&peer.hear().await).unwrap();
    assert_eq!(asked["type"], "tell_request");
    let data = serde_json::json!({ "seq": asked["seq"] });
    format!(r#"{{"seq":{seq},"type":"tell_response","data":{data}}}"#)
}

fn ask(link: &Link) -> tokio::task::JoinHandle<Result<Empty, seqlink::RequestError>> {
    let tell = Tell {
        a_field_that_is_missing_in_all_of_them_and_has_a_name_that_is_longer_than_the_question_itself:
            0,
    };
    tokio::spawn(link.with_timeout(Duration::from_secs(3600)).request(&tell))
}

/// Whoever waits for an answer that has been read gets it at once, also when there is no socket then.
#[tokio::test(start_paused = true)]
async fn an_answer_in_front_of_a_close_frame_is_handed_over() {
    let (master, _seen) = master();
    let (mut peer, link, _session) = Session::control(&master).await;
    let asked = ask(&link);
    let answer = heard(&mut peer, 1).await;
    peer.say(&answer).await;
    peer.close(1001, "a proxy goes").await;
    soon(asked).await.unwrap().unwrap();
    let state = link.states().now();
    assert!(matches!(state, LinkState::Resuming { .. }), "{state:?}");
}

/// The same for what is read when the socket has been given up.
#[tokio::test(start_paused = true)]
async fn an_answer_among_the_last_words_is_handed_over() {
    let (master, _seen) = master();
    let (mut peer, link, _session) = Session::control(&master).await;
    let asked = ask(&link);
    let answer = heard(&mut peer, 1).await;
    judged_stuck_while(&link, &mut peer, &[answer]).await;
    soon(asked).await.unwrap().unwrap();
    let state = link.states().now();
    assert!(matches!(state, LinkState::Resuming { .. }), "{state:?}");
}

/// The same for what is read while the link closes, in one go with the end of the socket.
#[tokio::test(start_paused = true)]
async fn an_answer_in_front_of_the_hang_up_is_handed_over() {
    let (master, _seen) = master();
    let (mut peer, link) = Scripted::control(&master).await;
    let asked = ask(&link);
    let answer = heard(&mut peer, 2).await;
    link.close("bye");
    while !matches!(peer.any().await, Some(seqlink::transport::Incoming::Close(..))) {}
    peer.say(&answer).await;
    drop(peer);
    soon(asked).await.unwrap().unwrap();
    assert_eq!(soon(link.closed()).await.reason.as_str(), "bye");
}
