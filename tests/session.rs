//! Sessions that outlive their sockets: in memory with made-up time, and by hand on real sockets.

mod common;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::raw::Raw;
use common::scripted::{Scripted, Session, data_of};
use common::world::{Ticks, World, counting};
use common::*;
use seqlink::transport::memory::{self, Cable};
use seqlink::{Delivery, Link, LinkState, Master, Reconnect, RequestError};
use serde_json::json;
use tokio::time::{Instant, sleep};

/// The cable is cut in the middle of everything, many times, and nobody notices: the same link,
/// every event once and in order, every request answered.
#[tokio::test(start_paused = true)]
async fn a_cut_cable_is_not_noticed() {
    let (up, down): (Ticks, Ticks) = Default::default();
    let world = World::new(Master::builder().router(counting(&up)).build().unwrap());
    let mut reconnect = Reconnect::default();
    reconnect.most = Duration::from_millis(20);
    let client = slave().router(counting(&down)).reconnect(reconnect);
    let client = world.connect(client).await;
    let ours = client.link().await.unwrap();
    let theirs = world.master.slave(7).unwrap();
    let busy = |link: Link| async move {
        for n in 0..400 {
            link.event(&Tick { n }).await.unwrap();
            let answer = link.with_timeout(Duration::from_secs(100)).request(&echo(&n.to_string()));
            assert_eq!(answer.await.unwrap().text, n.to_string());
            sleep(Duration::from_millis(5)).await;
        }
    };
    let cuts = async {
        for n in 0..40 {
            sleep(Duration::from_millis(37 + n)).await;
            world.cable().cut();
        }
    };
    tokio::join!(busy(ours.clone()), busy(theirs.clone()), cuts);
    assert!(world.dials() > 20, "{} dials", world.dials());
    let all: Vec<u64> = (0..400).collect();
    assert_eq!((&*up.lock().unwrap(), &*down.lock().unwrap()), (&all, &all));
    assert_eq!((ours.pending(), theirs.pending()), (0, 0));
    assert!(ours.same_link(&client.link().await.unwrap()), "still the same link");
    assert!(theirs.same_link(&world.master.slave(7).unwrap()), "still the same link");
}

/// What is asked while there is no socket waits, and is answered after the resume.
#[tokio::test(start_paused = true)]
async fn a_request_made_in_the_gap_is_answered_after_it() {
    let up = Ticks::default();
    let world = World::new(Master::builder().router(counting(&up)).build().unwrap());
    let client = world.connect(slave()).await;
    let link = client.link().await.unwrap();
    let mut states = link.states();
    assert!(matches!(states.now(), LinkState::Connected));
    world.cable().cut();
    let asked = tokio::spawn(link.request(&echo("in the gap")));
    let Some(LinkState::Resuming { held, .. }) = states.next().await else { panic!() };
    assert!(held <= 1);
    assert!(states.now().time_left().unwrap() > Duration::from_secs(59));
    assert!(matches!(states.next().await, Some(LinkState::Resumed { .. })));
    assert_eq!(soon(asked).await.unwrap().unwrap(), echo("in the gap"));
}

/// A silent cable: both sides notice, the client dials again and takes the session over.
#[tokio::test(start_paused = true)]
async fn a_silent_cable_is_noticed_and_replaced() {
    let up = Ticks::default();
    let world = World::new(Master::builder().router(counting(&up)).build().unwrap());
    let client = world.connect(slave()).await;
    let link = client.link().await.unwrap();
    world.cable().silence();
    let started = Instant::now();
    let answer = link.with_timeout(Duration::from_secs(60)).request(&echo("late")).await.unwrap();
    assert_eq!(answer, echo("late"));
    let took = started.elapsed().as_secs_f64();
    assert!((10.0..16.0).contains(&took), "{took} s");
    assert_eq!(world.dials(), 2);
}

/// The master does not come back in time: whoever waits is told the truth, once.
#[tokio::test(start_paused = true)]
async fn a_session_that_is_not_resumed_ends_every_wait() {
    let up = Ticks::default();
    let config = config(|config| config.session_timeout = Duration::from_secs(20));
    let master = Master::builder().router(counting(&up)).config(config).build().unwrap();
    let world = World::new(master.clone());
    let client = world.connect(slave()).await;
    let link = client.link().await.unwrap();
    let theirs = master.slave(7).unwrap();
    let sent = tokio::spawn(link.request(&Sleep { ms: 90_000 }));
    sleep(Duration::from_secs(1)).await;
    // Every further cable is cut at once.
    let cables = Arc::clone(&world.cables);
    let cutter = tokio::spawn(async move {
        loop {
            cables.lock().unwrap().iter().for_each(Cable::cut);
            tokio::task::yield_now().await;
            sleep(Duration::from_millis(1)).await;
        }
    });
    sleep(Duration::from_secs(5)).await;
    let queued =
        tokio::spawn(link.with_timeout(Duration::from_secs(90)).request(&echo("never sent")));
    let closed = soon(link.closed()).await;
    cutter.abort();
    assert!(closed.reason.as_str().starts_with("Not resumed within 20s"), "{closed}");
    let delivery = |error| match error {
        RequestError::Closed { delivery, .. } => delivery,
        other => panic!("{other}"),
    };
    assert_eq!(delivery(soon(sent).await.unwrap().unwrap_err()), Delivery::Unknown);
    assert_eq!(delivery(soon(queued).await.unwrap().unwrap_err()), Delivery::NotDelivered);
    soon(theirs.closed()).await;
    // The client registers anew, with a new link.
    let next = soon(client.link()).await.unwrap();
    assert!(!next.same_link(&link));
    assert_eq!(next.request(&echo("again")).await.unwrap(), echo("again"));
}

/// The master has forgotten the session: the client registers on the same socket, from number 1.
#[tokio::test(start_paused = true)]
async fn an_invalidated_session_is_followed_by_a_fresh_one() {
    let up = Ticks::default();
    let first = Master::builder().router(counting(&up)).build().unwrap();
    let present = Arc::new(Mutex::new(first.clone()));
    let cables: Arc<Mutex<Vec<Cable>>> = Arc::default();
    let dial = {
        let (present, cables) = (Arc::clone(&present), Arc::clone(&cables));
        move || {
            let (ours, theirs) = memory::session_pair();
            cables.lock().unwrap().push(ours.cable());
            let master = present.lock().unwrap().clone();
            tokio::spawn(async move { master.attach(theirs).await });
            async move { Ok(ours) }
        }
    };
    let client = slave().connect_by(dial).await.unwrap();
    let link = client.link().await.unwrap();
    for n in 0..10 {
        link.event(&Tick { n }).await.unwrap();
    }
    let asked = tokio::spawn(link.request(&Sleep { ms: 90_000 }));
    sleep(Duration::from_secs(1)).await;
    // The master is killed and another one is there in its place.
    *present.lock().unwrap() = Master::builder().router(counting(&up)).build().unwrap();
    cables.lock().unwrap()[0].cut();
    let error = soon(asked).await.unwrap().unwrap_err();
    assert!(matches!(error, RequestError::Closed { delivery: Delivery::Unknown, .. }), "{error}");
    assert!(error.to_string().contains("does not know the session any more"), "{error}");
    let next = soon(client.link()).await.unwrap();
    assert!(!next.same_link(&link));
    assert_eq!(cables.lock().unwrap().len(), 2, "on the same socket");
    next.event(&Tick { n: 99 }).await.unwrap();
    assert_eq!(next.request(&echo("fresh")).await.unwrap(), echo("fresh"));
    assert_eq!(up.lock().unwrap().last(), Some(&99));
}

/// Closing is meant: nobody resumes.
#[tokio::test(start_paused = true)]
async fn a_closed_session_is_not_resumed() {
    let up = Ticks::default();
    let world = World::new(Master::builder().router(counting(&up)).build().unwrap());
    let client = world.connect(slave()).await;
    let link = client.link().await.unwrap();
    let theirs = world.master.slave(7).unwrap();
    client.close("going home").await;
    assert_eq!(soon(theirs.closed()).await.to_string(), "closed by the peer: going home");
    assert_eq!(link.ended().unwrap().reason.as_str(), "going home");
    sleep(Duration::from_secs(100)).await;
    assert!(world.master.slaves().is_empty());
    assert_eq!(world.dials(), 1);
}

/// The outbox holds what is not acknowledged; an early acknowledgement keeps it moving.
#[tokio::test(start_paused = true)]
async fn a_stream_larger_than_the_outbox_flows() {
    let up = Ticks::default();
    let small = config(|config| (config.max_frame, config.outbox) = (16 * 1024, 16 * 1024));
    let master = Master::builder().router(counting(&up)).config(small.clone()).build().unwrap();
    let world = World::new(master);
    let client = world.connect(slave().config(small)).await;
    let link = client.link().await.unwrap();
    let started = Instant::now();
    for n in 0..5000 {
        soon(link.event(&Tick { n })).await.unwrap();
    }
    soon(link.request(&echo("all"))).await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(1), "no heartbeat was waited for");
    assert_eq!(up.lock().unwrap().len(), 5000);
}

/// One port serves both: who asks for sessions gets them, who does not gets plain, and two paths
/// speak what their name says.
#[tokio::test]
async fn one_port_speaks_what_each_peer_can() {
    let master = Master::builder().router(router()).build().unwrap();
    let address = master.listen("127.0.0.1:0").await.unwrap();
    let hello = async |path: &str, header: &str| {
        let mut raw = Raw::tcp(address).await;
        let request = common::raw::upgrade(path).replace("\r\n\r\n", &format!("\r\n{header}\r\n"));
        let head = raw.http(&request).await.to_lowercase();
        assert!(head.starts_with("http/1.1 101 "), "{head}");
        (head.contains("seqlink-session: 1"), raw.json().await)
    };
    let plain = json!({"seq": 1, "type": "hello", "data": {"version": "2.0.0"}});
    let session =
        json!({"seq": null, "type": "hello", "data": {"version": "2.0.0", "plugins": {}}});
    let asked = "Seqlink-Session: 1\r\n";
    assert_eq!(hello("/api/socket", "").await, (false, plain.clone()));
    assert_eq!(hello("/api/socket", asked).await, (true, session.clone()));
    assert_eq!(hello("/api/socket", "Seqlink-Session: 2\r\n").await, (false, plain.clone()));
    assert_eq!(hello("/plain/api/socket", asked).await, (false, plain));
    assert_eq!(hello("/session/api/socket", "").await, (false, session.clone()));
    assert_eq!(hello("/session/api/socket", asked).await, (true, session));

    for path in ["/", "/plain/", "/session/"] {
        let url = format!("ws://{address}{path}");
        for sessions in [false, true] {
            let client = control().url(&url).sessions(sessions).connect().await.unwrap();
            let link = client.link().await.unwrap();
            assert_eq!(link.request(&echo("a")).await.unwrap(), echo("a"), "{path} {sessions}");
            client.close("done").await;
        }
    }
}

/// A peer of the session generation, by hand: registering, heartbeats, resuming, replay.
#[tokio::test]
async fn a_session_peer_resumes_by_hand() {
    let master = Master::builder().router(router()).build().unwrap();
    let address = master.listen("127.0.0.1:0").await.unwrap();
    let mut raw = greeted(address).await;
    let data = r#"{"agent":"a","version":"2.0.0-alpha.12","id":7,"name":"n","plugins":{}}"#;
    raw.text(&format!(r#"{{"seq":null,"type":"register_slave","data":{data}}}"#)).await;
    let ready = raw.json().await;
    assert_eq!((&ready["seq"], &ready["type"]), (&json!(null), &json!("ready")));
    assert_eq!(ready["data"]["session_timeout"], 60);
    assert_eq!(ready["data"]["heartbeat_interval"], 5);
    let token = ready["data"]["session_token"].as_str().unwrap().to_owned();
    assert!(token.len() >= 64, "256 random bits");

    for (seq, text) in [(1, "a"), (2, "b")] {
        let data = format!(r#"{{"text":"{text}"}}"#);
        raw.text(&format!(r#"{{"seq":{seq},"type":"echo_request","data":{data}}}"#)).await;
        let answer =
            json!({"seq": seq, "type": "echo_response", "data": {"seq": seq, "text": text}});
        assert_eq!(raw.json().await, answer);
    }
    // Cut. The second answer is asked for again, and the second request is repeated.
    drop(raw);
    let mut raw = greeted(address).await;
    let resume = format!(r#"{{"session_token":"{token}","last_seq":1}}"#);
    raw.text(&format!(r#"{{"seq":null,"type":"resume","data":{resume}}}"#)).await;
    let cont = raw.json().await;
    let terms = json!({"last_seq": 2, "session_timeout": 60, "heartbeat_interval": 5});
    assert_eq!(cont, json!({"seq": null, "type": "continue", "data": terms}));
    raw.text(r#"{"seq":2,"type":"echo_request","data":{"text":"b"}}"#).await;
    raw.text(r#"{"seq":3,"type":"echo_request","data":{"text":"c"}}"#).await;
    let answer = |seq: u64, text| json!({"seq": seq, "type": "echo_response", "data": {"seq": seq, "text": text}});
    assert_eq!(raw.json().await, answer(2, "b"), "sent again");
    assert_eq!(raw.json().await, answer(3, "c"), "and the repeated request was not handled again");
    // An acknowledgement beyond what was sent ends the session.
    raw.text(r#"{"seq":null,"type":"heartbeat","data":{"seq":4}}"#).await;
    let (code, reason) = raw.ended().await.frame.unwrap();
    assert_eq!(code, 1002);
    assert!(reason.starts_with("Invalid heartbeat: seq 4 is acknowledged"), "{reason}");

    // The session is gone: the same socket registers anew.
    let mut raw = greeted(address).await;
    raw.text(&format!(r#"{{"seq":null,"type":"resume","data":{resume}}}"#)).await;
    assert_eq!(raw.json().await, json!({"seq": null, "type": "invalidate", "data": {}}));
    raw.text(&format!(r#"{{"seq":null,"type":"register_slave","data":{data}}}"#)).await;
    assert_eq!(raw.json().await["type"], "ready");
}

/// The silence of a socket says nothing of the next one, also when both have carried the same
/// number of bytes.
#[tokio::test]
async fn a_new_socket_gets_as_long_as_the_first() {
    let config = config(|config| config.heartbeat_interval = Duration::from_millis(400));
    let master = Master::builder().config(config).build().unwrap();
    let address = master.listen("127.0.0.1:0").await.unwrap();
    let padded = |text: String| format!("{text:1000}");
    let mut raw = greeted(address).await;
    let data = r#"{"agent":"a","version":"2.0.0-alpha.12"}"#;
    raw.text(&padded(format!(r#"{{"seq":null,"type":"register_control","data":{data}}}"#))).await;
    let token = raw.json().await["data"]["session_token"].as_str().unwrap().to_owned();
    // Not a byte more of ours, until the master gives this socket up.
    while raw.any().await.is_some() {}
    let mut raw = greeted(address).await;
    let resume = format!(r#"{{"session_token":"{token}","last_seq":null}}"#);
    raw.text(&padded(format!(r#"{{"seq":null,"type":"resume","data":{resume}}}"#))).await;
    assert_eq!(raw.json().await["type"], "continue");
    let begun = Instant::now();
    while raw.any().await.is_some() {}
    let took = begun.elapsed();
    assert!(took > Duration::from_millis(700), "given up after {took:?}");
}

/// A resume while the old socket still lives takes over at once, and what the old one still
/// carries has no effect.
#[tokio::test]
async fn a_resume_takes_over_from_a_living_socket() {
    let seen = Ticks::default();
    let master = Master::builder().router(counting(&seen)).build().unwrap();
    let address = master.listen("127.0.0.1:0").await.unwrap();
    let mut old = greeted(address).await;
    let data = r#"{"agent":"a","version":"2.0.0-alpha.12"}"#;
    old.text(&format!(r#"{{"seq":null,"type":"register_control","data":{data}}}"#)).await;
    let token = old.json().await["data"]["session_token"].as_str().unwrap().to_owned();
    old.text(r#"{"seq":1,"type":"tick_event","data":{"n":1}}"#).await;

    let mut new = greeted(address).await;
    let resume = format!(r#"{{"session_token":"{token}","last_seq":null}}"#);
    new.text(&format!(r#"{{"seq":null,"type":"resume","data":{resume}}}"#)).await;
    // Sooner than the old one could be found silent.
    let answer = tokio::time::timeout(Duration::from_secs(8), new.json()).await;
    assert_eq!(answer.expect("it does not take over")["data"]["last_seq"], 1);
    // Late on the old connection: numbers that would be the next ones.
    old.text(r#"{"seq":2,"type":"tick_event","data":{"n":666}}"#).await;
    new.text(r#"{"seq":2,"type":"tick_event","data":{"n":2}}"#).await;
    new.text(r#"{"seq":3,"type":"echo_request","data":{"text":"a"}}"#).await;
    assert_eq!(new.json().await["type"], "echo_response");
    assert_eq!(*seen.lock().unwrap(), [1, 2]);
    assert_eq!(old.ended().await.frame, None, "it was dropped");
    assert_eq!(master.controls().len(), 1);
}

/// A session is proved by its whole token. A renewed one reaches the client with `continue`, which
/// may be lost: the old one is good until the new one was shown.
#[tokio::test]
async fn a_session_is_proved_by_its_token() {
    let master = Master::builder().build().unwrap();
    let address = master.listen("127.0.0.1:0").await.unwrap();
    let open = async || {
        let mut raw = Raw::tcp(address).await;
        let header = "\r\nSeqlink-Session: 1\r\n\r\n";
        raw.http(&common::raw::upgrade("/api/socket").replace("\r\n\r\n", header)).await;
        raw.json().await;
        raw
    };
    let resume = async |token: &str| {
        let mut raw = open().await;
        let data = format!(r#"{{"session_token":"{token}","last_seq":null}}"#);
        raw.text(&format!(r#"{{"seq":null,"type":"resume","data":{data}}}"#)).await;
        let answer = raw.json().await;
        (answer["type"].clone(), answer["data"]["session_token"].as_str().map(str::to_owned))
    };
    let mut raw = open().await;
    let data = r#"{"agent":"a","version":"2.0.0"}"#;
    raw.text(&format!(r#"{{"seq":null,"type":"register_control","data":{data}}}"#)).await;
    let first = raw.json().await["data"]["session_token"].as_str().unwrap().to_owned();

    let invalid = (json!("invalidate"), None);
    let other = if first.ends_with('0') { '1' } else { '0' };
    let forged = format!("{}{other}", &first[..first.len() - 1]);
    for token in [forged.as_str(), &first[..16], &first[..first.len() - 1], "", "é", "zzzz"] {
        assert_eq!(resume(token).await, invalid, "{token}");
    }
    let (kind, second) = resume(&first).await;
    let second = second.unwrap();
    assert!(kind == "continue" && second != first);
    // `continue` was lost: the client knows only the first token.
    let (kind, third) = resume(&first).await;
    assert_eq!(kind, "continue");
    // Or that `resume` was late, and the client knows the second.
    let (kind, fourth) = resume(&second).await;
    assert_eq!(kind, "continue");
    assert_eq!(resume(&first).await, invalid, "a newer one was shown");
    assert_eq!(resume(&third.unwrap()).await, invalid, "given for the first");
    assert_eq!(resume(&fourth.unwrap()).await.0, "continue");
}

/// A master holds a session for as long as it says, and no longer.
#[tokio::test(start_paused = true)]
async fn a_master_lets_go_of_a_session_in_time() {
    let config = config(|config| config.session_timeout = Duration::from_secs(20));
    let master = Master::builder().config(config).build().unwrap();
    let (ours, theirs) = memory::session_pair();
    let cable = ours.cable();
    // A transport that is attached is the only one: nobody dials again.
    let (link, client) = tokio::join!(master.attach(theirs), slave().attach(ours));
    let (link, _client) = (link.unwrap(), client.unwrap());
    let started = Instant::now();
    cable.cut();
    let closed = soon(link.closed()).await;
    assert_eq!(started.elapsed().as_secs(), 20);
    assert!(closed.reason.as_str().starts_with("Not resumed within 20s"), "{closed}");
    sleep(Duration::from_secs(1)).await;
    assert!(master.slaves().is_empty());
}

/// A connection to a master that speaks sessions on it and has said `hello`.
async fn greeted(address: SocketAddr) -> Raw {
    let mut raw = Raw::tcp(address).await;
    raw.http(&common::raw::upgrade("/session/api/socket")).await;
    assert_eq!(raw.json().await["type"], "hello");
    raw
}

/// A session that ends while its client brings a socket for it: the client is told so, and registers
/// on that socket.
#[tokio::test(start_paused = true)]
async fn a_session_that_ends_in_this_moment_is_invalidated() {
    let master = Master::builder().router(router()).build().unwrap();
    let (_peer, link, session) = Session::control(&master).await;
    // The peer neither reads nor hangs up: the link is on its way out for a while.
    link.close("enough");
    tokio::task::yield_now().await;
    let (ours, theirs) = memory::session_pair();
    let attaching = tokio::spawn(async move { master.attach(theirs).await });
    let mut peer = Scripted(ours);
    data_of(&peer.hear().await, "hello");
    peer.say(&session.frame(None)).await;
    data_of(&soon(peer.hear()).await, "invalidate");
    let data = r#"{"agent":"scripted","version":"2.0.0"}"#;
    peer.say(&format!(r#"{{"seq":null,"type":"register_control","data":{data}}}"#)).await;
    data_of(&soon(peer.hear()).await, "ready");
    peer.say(r#"{"seq":1,"type":"echo_request","data":{"text":"anew"}}"#).await;
    assert!(soon(peer.hear()).await.contains("anew"));
    let anew = attaching.await.unwrap().unwrap();
    assert!(!anew.same_link(&link) && link.is_closed());
}
