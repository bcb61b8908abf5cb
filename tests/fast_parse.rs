//! Frames whose head is as usual and whose data is not JSON: no way past the look at the head alone
//! lets them through.

mod common;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::scripted::Scripted;
use common::*;
use seqlink::{Ctx, Link, Master, RequestError, Router};
use tokio::time::sleep;

#[derive(Default)]
struct Seen {
    ticks: Mutex<Vec<u64>>,
    echoes: Mutex<Vec<String>>,
}

/// A master whose handler of `tick` takes ten seconds for number 0, and its peer.
async fn world() -> (Master, Scripted, Link, Arc<Seen>) {
    async fn on_tick(tick: Tick, ctx: Ctx<Seen>) {
        if tick.n == 0 {
            sleep(Duration::from_secs(10)).await;
        }
        ctx.state().ticks.lock().unwrap().push(tick.n);
    }
    async fn on_echo(echo: Echo, ctx: Ctx<Seen>) -> Result<Echo, String> {
        ctx.state().echoes.lock().unwrap().push(echo.text.clone());
        Ok(echo)
    }
    let seen = Arc::new(Seen::default());
    let router = Router::with_state(Arc::clone(&seen)).event(on_tick).request(on_echo);
    let master = Master::builder().router(router).build().unwrap();
    let (peer, link) = Scripted::control(&master).await;
    (master, peer, link, seen)
}

/// What can be wrong with the good object `data` behind the usual head; each text begins with `{`
/// and ends, as a frame does, with `}`.
fn broken(data: &str) -> Vec<String> {
    let inside = &data[1..data.len() - 1];
    vec![
        data[..data.len() - 1].to_owned(),
        format!("{{{inside},}}"),
        format!("{{,{inside}}}"),
        format!("{{{inside}}}}}"),
        format!("{data}{data}"),
        format!("{data} x{{}}"),
        format!("{data},\"data\":{data}"),
        format!("{data},\"type\":\"a\",\"x\":{{}}"),
        format!("{data},\"seq\":2,\"x\":{{}}"),
        format!("{data},\"x\":{{\"y\":}}"),
        format!("{data},{{}}"),
        format!("{{{inside},\"x\":{{}}"),
        format!("{{{inside},\"x\":01}}"),
        format!("{{{inside},\"x\":nul}}"),
        format!("{{{inside},\"x\":\"\u{1}\"}}"),
        format!("{{{inside},\"x\":\"\\q\"}}"),
        format!("{{{inside},x:1}}"),
    ]
}

fn frame(seq: u64, kind: &str, data: &str) -> String {
    format!(r#"{{"seq":{seq},"type":"{kind}","data":{data}}}"#)
}

async fn ends_as_malformed(link: &Link, text: &str) {
    let closed = soon(link.closed()).await;
    let reason = closed.to_string();
    assert!(reason.contains("Invalid message: Malformed"), "{reason} for {text}");
    assert_eq!(closed.code.0, 1002, "{text}");
}

#[tokio::test(start_paused = true)]
async fn what_is_no_json_ends_the_link_whoever_would_read_it() {
    for (kind, data) in [
        ("echo_request", r#"{"text":"a"}"#),
        ("nothing_request", r#"{"text":"a"}"#),
        ("tick_event", r#"{"n":1}"#),
        ("nothing_event", r#"{"n":1}"#),
        ("echo_response", r#"{"seq":77,"text":"a"}"#),
        ("echo_response", r#"{"text":"a"}"#),
    ] {
        for data in broken(data) {
            let (_master, mut peer, link, seen) = world().await;
            let text = frame(2, kind, &data);
            peer.say(&text).await;
            ends_as_malformed(&link, &text).await;
            assert!(seen.ticks.lock().unwrap().is_empty(), "{text}");
            assert!(seen.echoes.lock().unwrap().is_empty(), "{text}");
        }
    }
}

/// Such an event is not left for later when another is being handled.
#[tokio::test(start_paused = true)]
async fn what_is_no_json_ends_the_link_behind_a_slow_event() {
    for data in broken(r#"{"n":1}"#) {
        let (_master, mut peer, link, seen) = world().await;
        peer.say(&frame(2, "tick_event", r#"{"n":0}"#)).await;
        sleep(Duration::from_secs(1)).await;
        let text = frame(3, "tick_event", &data);
        peer.say(&text).await;
        sleep(Duration::from_secs(1)).await;
        assert!(seen.ticks.lock().unwrap().is_empty());
        ends_as_malformed(&link, &text).await;
        sleep(Duration::from_secs(20)).await;
        assert_eq!(*seen.ticks.lock().unwrap(), [0], "the slow one comes to its end");
    }
}

#[tokio::test(start_paused = true)]
async fn a_response_that_is_no_json_ends_the_link_and_the_wait() {
    for data in broken(r#"{"seq":3,"text":"a"}"#) {
        let (_master, mut peer, link, _) = world().await;
        let asked = tokio::spawn(link.request(&echo("a")));
        assert_eq!(peer.hear().await, frame(3, "echo_request", r#"{"text":"a"}"#));
        let text = frame(2, "echo_response", &data);
        peer.say(&text).await;
        let error = soon(asked).await.unwrap().unwrap_err();
        let told = matches!(error, RequestError::Decode(_) | RequestError::Closed { .. });
        assert!(told, "{error} for {text}");
        ends_as_malformed(&link, &text).await;
        assert_eq!(link.pending(), 0);
    }
}

/// Further keys of the frame are no fault, and what they stand behind is handled once.
#[tokio::test(start_paused = true)]
async fn keys_behind_the_data_are_no_fault() {
    let (_master, mut peer, link, seen) = world().await;
    let more = [r#","x":{}"#, r#","x":{"data":{}}"#, r#","x":1,"y":{"seq":1}"#, r#","x":"{}""#];
    let mut seq = 1;
    for (round, more) in more.iter().enumerate() {
        let mut say = async |kind: &str, data: &str| {
            seq += 1;
            peer.say(&format!(r#"{{"seq":{seq},"type":"{kind}","data":{data}{more}}}"#)).await;
        };
        say("tick_event", r#"{"n":1}"#).await;
        say("nothing_event", r#"{"n":1}"#).await;
        say("echo_response", r#"{"seq":77,"text":"a"}"#).await;
        say("echo_request", r#"{"text":"a"}"#).await;
        let answer = peer.hear().await;
        assert!(answer.ends_with(&format!(r#"{{"seq":{seq},"text":"a"}}}}"#)), "{answer}");
        let asked = tokio::spawn(link.request(&echo("b")));
        let request = peer.hear().await;
        let number: u64 = request["{\"seq\":".len()..].split(',').next().unwrap().parse().unwrap();
        seq += 1;
        peer.say(&format!(
            r#"{{"seq":{seq},"type":"echo_response","data":{{"seq":{number},"text":"b"}}{more}}}"#
        ))
        .await;
        assert_eq!(soon(asked).await.unwrap().unwrap(), echo("b"));
        assert_eq!(seen.ticks.lock().unwrap().len(), round + 1);
        assert_eq!(seen.echoes.lock().unwrap().len(), round + 1);
    }
    let ignored = link.ignored();
    assert_eq!((ignored.events, ignored.responses), (4, 4));
    assert!(link.ended().is_none());
}

/// A second number is no answer to anybody, and no fault of the frame.
#[tokio::test(start_paused = true)]
async fn a_response_with_two_numbers_answers_nobody() {
    let (_master, mut peer, link, _) = world().await;
    let asked = tokio::spawn(link.request(&echo("a")));
    peer.hear().await;
    peer.say(&frame(2, "echo_response", r#"{"seq":3,"text":"a","seq":3}"#)).await;
    let error = soon(asked).await.unwrap().unwrap_err();
    assert!(matches!(error, RequestError::Timeout { .. }), "{error}");
    assert_eq!(link.ignored().responses, 1);
}

/// A heartbeat stands outside of the numbers, whatever it brings along and however it is written.
#[tokio::test(start_paused = true)]
async fn a_heartbeat_with_a_number_takes_none() {
    for beat in [
        r#"{"seq":null,"type":"heartbeat","data":{"seq":null}}"#,
        r#"{"seq":5,"type":"heartbeat","data":{"seq":null}}"#,
        r#"{"seq": 5,"type":"heartbeat","data":{"seq":null}}"#,
        r#"{"seq":1,"type":"heartbeat","data":{"seq":null}}"#,
    ] {
        let master = Master::builder().router(router()).build().unwrap();
        let (ours, theirs) = seqlink::transport::memory::session_pair();
        let mut peer = Scripted(ours);
        let register = async {
            assert!(peer.hear().await.contains(r#""type":"hello""#));
            let data = r#"{"agent":"scripted","version":"2.0.0"}"#;
            peer.say(&format!(r#"{{"seq":null,"type":"register_control","data":{data}}}"#)).await;
            assert!(peer.hear().await.contains(r#""type":"ready""#));
        };
        let (link, ()) = tokio::join!(master.attach(theirs), register);
        let link = link.unwrap();
        peer.say(beat).await;
        peer.say(&frame(1, "echo_request", r#"{"text":"a"}"#)).await;
        let answer = loop {
            let text = soon(peer.hear()).await;
            if !text.contains("heartbeat") {
                break text;
            }
        };
        assert!(answer.contains(r#"{"seq":1,"text":"a"}"#), "{answer} after {beat}");
        assert!(link.ended().is_none(), "{beat}");
    }
}
