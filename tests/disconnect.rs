//! The graceful end: what was begun comes to its end, whoever ends the link, and nobody can hold
//! that up.

mod common;

use std::time::Duration;

use common::raw::Raw;
use common::scripted::Scripted;
use common::world::{Ticks, World, counting};
use common::*;
use futures::FutureExt as _;
use futures::future::join_all;
use seqlink::transport::memory;
use seqlink::{
    Client, ClosedBy, Delivery, Dialect, EventError, Link, LinkState, Master, MasterBuilder,
    Reconnect, RequestError,
};
use serde_json::json;
use tokio::time::{Instant, sleep};

async fn world(up: &Ticks) -> World {
    World::new(Master::builder().router(counting(up)).build().unwrap())
}

type Slept = Result<seqlink::Empty, RequestError>;

fn sleeping(link: &Link, ms: u64) -> impl Future<Output = Slept> + Send + use<> {
    link.request(&Sleep { ms })
}

/// Is in flight when this returns.
async fn started<T: Send + 'static>(
    request: impl Future<Output = T> + Send + 'static,
) -> tokio::task::JoinHandle<T> {
    let task = tokio::spawn(request);
    sleep(Duration::from_millis(10)).await;
    task
}

/// A client that is closed waits for its own requests and answers those of its master; what it had
/// queued has been received, and its master knows that the end was meant.
#[tokio::test(start_paused = true)]
async fn a_client_that_is_closed_finishes_first() {
    let (up, down): (Ticks, Ticks) = Default::default();
    let world = world(&up).await;
    let client = world.connect(slave().router(counting(&down))).await;
    let (ours, theirs) = (client.link().await.unwrap(), world.master.slave(7).unwrap());
    let asked = started(sleeping(&ours, 3000)).await;
    let answering = started(sleeping(&theirs, 2000)).await;
    for n in 0..100 {
        ours.event(&Tick { n }).await.unwrap();
        theirs.event(&Tick { n }).await.unwrap();
    }
    let begun = Instant::now();
    client.close("Slave Shutdown").await;
    assert!(begun.elapsed() < Duration::from_millis(3100), "{:?}", begun.elapsed());
    asked.await.unwrap().unwrap();
    answering.await.unwrap().unwrap();
    let all: Vec<u64> = (0..100).collect();
    assert_eq!((&*up.lock().unwrap(), &*down.lock().unwrap()), (&all, &all));
    let closed = soon(theirs.closed()).await;
    assert_eq!((closed.by, closed.reason.as_str()), (ClosedBy::Remote, "Slave Shutdown"));
    assert!(world.master.slave(7).is_none());
    assert_eq!((ours.pending(), theirs.pending()), (0, 0));
}

/// The end needs nobody who waits for it, and is as graceful.
#[tokio::test(start_paused = true)]
async fn a_client_whose_close_is_given_up_stops_all_the_same() {
    let up = Ticks::default();
    let world = world(&up).await;
    let client = world.connect(slave().router(router())).await;
    let (ours, theirs) = (client.link().await.unwrap(), world.master.slave(7).unwrap());
    let asked = started(sleeping(&ours, 3000)).await;
    assert!(client.close("quit").now_or_never().is_none());
    asked.await.unwrap().unwrap();
    assert!(soon(client.stopped()).await.error().is_none());
    assert_eq!(soon(theirs.closed()).await.reason.as_str(), "quit");
    assert_eq!(world.dials(), 1);
}

/// In plain nobody is asked, and what was begun comes to its end all the same.
#[tokio::test(start_paused = true)]
async fn a_plain_link_finishes_too() {
    let Pair { ours, theirs, .. } = pair().await;
    let asked = started(sleeping(&ours, 3000)).await;
    let answering = started(sleeping(&theirs, 4000)).await;
    let begun = Instant::now();
    ours.disconnect("quit").await;
    assert!((3900..4200).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
    asked.await.unwrap().unwrap();
    answering.await.unwrap().unwrap();
    assert_eq!(soon(theirs.closed()).await.reason.as_str(), "quit");
}

/// While a link ends, new messages are refused as not delivered; but a handler whose answer the
/// peer waits for may still ask.
#[tokio::test(start_paused = true)]
async fn nothing_new_is_begun() {
    let master = Master::builder().router(router());
    let Pair { ours, theirs, .. } = pair_of(master, slave().router(router())).await;
    let nested = started(ours.request(&Nest { depth: 0 })).await;
    nested.await.unwrap().unwrap();
    let asked = started(sleeping(&ours, 2000)).await;
    let ending = started({
        let ours = ours.clone();
        async move { ours.disconnect("quit").await }
    })
    .await;
    let error = ours.request(&echo("late")).await.unwrap_err();
    let RequestError::Closed { delivery, .. } = error else { panic!("{error}") };
    assert_eq!(delivery, Delivery::NotDelivered);
    assert!(matches!(ours.event(&Tick { n: 1 }).await, Err(EventError::Closed(_))));
    // The other side may go on until it learns of the end.
    let nested = theirs.request(&Nest { depth: 6 }).await.unwrap();
    assert_eq!(nested.depth, 6, "handlers on both sides ask for it");
    asked.await.unwrap().unwrap();
    assert_eq!(ending.await.unwrap().reason.as_str(), "quit");
}

/// Both ask at the same time: neither waits for the other's question.
#[tokio::test(start_paused = true)]
async fn both_sides_may_end_it_at_once() {
    let up = Ticks::default();
    let world = world(&up).await;
    let client = world.connect(slave().router(router())).await;
    let (ours, theirs) = (client.link().await.unwrap(), world.master.slave(7).unwrap());
    let asked = started(sleeping(&ours, 1000)).await;
    let begun = Instant::now();
    tokio::join!(client.close("we go"), world.master.shutdown("they go", DRAIN));
    assert!(begun.elapsed() < Duration::from_millis(1500), "{:?}", begun.elapsed());
    asked.await.unwrap().unwrap();
    assert!(ours.is_closed() && theirs.is_closed());
}

/// A busy link: sixty-four at a time each way until the end, and everybody is told the truth.
#[tokio::test(start_paused = true)]
async fn the_end_of_a_busy_link_leaves_nobody_in_doubt() {
    let up = Ticks::default();
    let world = world(&up).await;
    let client = world.connect(slave().router(router())).await;
    let (ours, theirs) = (client.link().await.unwrap(), world.master.slave(7).unwrap());
    let callers = (0..128).map(|caller| {
        let link = if caller % 2 == 0 { ours.clone() } else { theirs.clone() };
        tokio::spawn(async move {
            for n in 0.. {
                match link.request(&Sleep { ms: n % 40 }).await {
                    Ok(_) => {}
                    Err(RequestError::Closed { delivery: Delivery::NotDelivered, .. }) => return n,
                    Err(error) => panic!("after {n}: {error}"),
                }
            }
            unreachable!()
        })
    });
    let callers: Vec<_> = callers.collect();
    sleep(Duration::from_secs(1)).await;
    let begun = Instant::now();
    client.close("done").await;
    assert!(begun.elapsed() < Duration::from_millis(500), "{:?}", begun.elapsed());
    let answered: u64 = join_all(callers).await.into_iter().map(Result::unwrap).sum();
    assert!(answered > 1000, "{answered}");
    assert_eq!((ours.pending(), theirs.pending()), (0, 0));
}

/// All links at the same time; one that never answers holds up nobody beyond the deadline.
#[tokio::test(start_paused = true)]
async fn a_master_drains_all_links_at_once() {
    let up = Ticks::default();
    let world = world(&up).await;
    let mut clients = Vec::new();
    for id in 0..50 {
        let client = slave().id(id).router(router()).reconnect(Reconnect::never());
        clients.push(world.connect(client).await);
    }
    let mut asked = Vec::new();
    for client in &clients {
        asked.push(started(sleeping(&client.link().await.unwrap(), 1500)).await);
    }
    for link in world.master.slaves() {
        asked.push(started(sleeping(&link, 1000)).await);
    }
    let begun = Instant::now();
    world.master.shutdown("upgrade", Duration::from_secs(5)).await;
    assert!(begun.elapsed() < Duration::from_millis(1600), "{:?}", begun.elapsed());
    for asked in asked {
        asked.await.unwrap().unwrap();
    }
    for client in &clients {
        let stopped = soon(client.stopped()).await.to_string();
        assert!(stopped.contains("upgrade"), "{stopped}");
    }
}

/// The question is asked, the answer never comes: the deadline ends it, with the reason.
#[tokio::test]
async fn a_peer_that_never_answers_cannot_hold_it_up() {
    let master = Master::builder().dialect(Dialect::SESSION).build().unwrap();
    let address = master.listen("127.0.0.1:0").await.unwrap();
    let mut raw = register(address).await;
    let begun = Instant::now();
    let ending = tokio::spawn({
        let master = master.clone();
        async move { master.shutdown("upgrade", Duration::from_millis(700)).await }
    });
    let asked = raw.json().await;
    assert_eq!(asked, json!({"seq": 1, "type": "prepare_disconnect_request", "data": {}}));
    // Nobody registers any more, and is told why.
    let mut late = Raw::open(address).await;
    late.json().await;
    late.text(&hello_control()).await;
    assert_eq!(late.ended().await.frame.unwrap(), (1001, "upgrade".to_owned()));
    assert_eq!(raw.ended().await.frame.unwrap(), (1001, "upgrade".to_owned()));
    drop((raw, late));
    ending.await.unwrap();
    let took = begun.elapsed();
    assert!((700..2000).contains(&took.as_millis()), "{took:?}");
}

/// An error counts as an answer: a peer that does not know the question.
#[tokio::test]
async fn an_error_is_an_answer() {
    let master = Master::builder().dialect(Dialect::SESSION).build().unwrap();
    let address = master.listen("127.0.0.1:0").await.unwrap();
    let mut raw = register(address).await;
    let begun = Instant::now();
    let ending = tokio::spawn(async move { master.shutdown("", Duration::from_secs(30)).await });
    raw.json().await;
    let error =
        r#"{"seq":1,"type":"prepare_disconnect_response","data":{"seq":1,"error":"what?"}}"#;
    raw.text(error).await;
    assert_eq!(raw.ended().await.frame.unwrap().0, 1001);
    drop(raw);
    ending.await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

/// A peer that prepares gets its answer when nothing of ours is under way, and the close that
/// follows is final: the session is not held for it.
#[tokio::test]
async fn a_peer_that_prepares_is_answered_and_let_go() {
    let config = config(|config| config.session_timeout = Duration::from_secs(5));
    let (mut raw, link) = raw_control(Master::builder().config(config)).await;
    let asked = tokio::spawn(link.request(&echo("first")));
    assert_eq!(raw.json().await["type"], "echo_request");
    raw.text(r#"{"seq":1,"type":"prepare_disconnect_request","data":{}}"#).await;
    raw.text(r#"{"seq":2,"type":"unknown_request","data":{}}"#).await;
    assert_eq!(raw.json().await["type"], "unknown_response", "it goes on answering");
    raw.text(r#"{"seq":3,"type":"echo_response","data":{"seq":1,"text":"first"}}"#).await;
    let answer = json!({"seq": 3, "type": "prepare_disconnect_response", "data": {"seq": 1}});
    assert_eq!(raw.json().await, answer);
    assert_eq!(asked.await.unwrap().unwrap(), echo("first"));
    let error = link.request(&echo("late")).await.unwrap_err();
    assert!(matches!(error, RequestError::Closed { delivery: Delivery::NotDelivered, .. }));
    raw.frame(0x88, &[0x03, 0xe8]).await;
    let closed = soon(link.closed()).await;
    assert_eq!((closed.by, closed.code.0), (ClosedBy::Remote, 1000));
    assert!(matches!(link.states().now(), LinkState::Closed(_)));
}

/// A request of ours that is never answered holds a peer that prepares up for no longer than
/// configured, and its answer is our last word but for answers: not even a handler asks any more.
#[tokio::test]
async fn a_peer_that_prepares_is_answered_in_time() {
    let config = config(|config| config.disconnect_timeout = Duration::from_millis(300));
    let (mut raw, link) = raw_control(Master::builder().router(router()).config(config)).await;
    let _asked = started(link.request(&echo("never"))).await;
    assert_eq!(raw.json().await["type"], "echo_request");
    let begun = Instant::now();
    raw.text(r#"{"seq":1,"type":"prepare_disconnect_request","data":{}}"#).await;
    raw.text(r#"{"seq":2,"type":"nest_request","data":{"depth":1}}"#).await;
    let asked = raw.json().await;
    assert_eq!((&asked["seq"], &asked["type"]), (&json!(2), &json!("nest_request")));
    raw.text(r#"{"seq":3,"type":"nest_response","data":{"seq":2,"depth":0}}"#).await;
    assert_eq!(raw.json().await["type"], "nest_response", "before its answer a handler may ask");
    let refused = link.event(&Tick { n: 1 }).await;
    assert!(matches!(refused, Err(EventError::Closed(_))), "but nobody else: {refused:?}");
    let answer = json!({"seq": 4, "type": "prepare_disconnect_response", "data": {"seq": 1}});
    assert_eq!(raw.json().await, answer);
    let took = begun.elapsed();
    assert!((250..3000).contains(&took.as_millis()), "{took:?}");
    raw.text(r#"{"seq":4,"type":"nest_request","data":{"depth":1}}"#).await;
    let refused = raw.json().await;
    assert_eq!((&refused["seq"], &refused["type"]), (&json!(5), &json!("nest_response")));
    assert!(refused["data"]["error"].is_string(), "{refused}");
}

/// A peer asks something and closes in one go while this side finishes: nobody goes on waiting,
/// neither for an answer of the peer's nor for a handler that works on.
#[tokio::test(start_paused = true)]
async fn a_link_that_ends_meanwhile_is_not_waited_for() {
    for (data, asks) in [
        (r#""type":"echo_request","data":{"text":"a"}"#, true),
        (r#""type":"sleep_request","data":{"ms":60000}"#, true),
        (r#""type":"sleep_request","data":{"ms":60000}"#, false),
    ] {
        let master = Master::builder().router(router()).build().unwrap();
        let (mut peer, link) = Scripted::control(&master).await;
        if asks {
            started(link.request(&echo("never"))).await;
            peer.hear().await;
        } else {
            // It waits for the handler of this one alone.
            peer.say(&format!(r#"{{"seq":2,{data}}}"#)).await;
            sleep(Duration::from_millis(1)).await;
        }
        let ending = started({
            let link = link.clone();
            async move { link.disconnect("done").await }
        })
        .await;
        let begun = Instant::now();
        let next = if asks { 2 } else { 3 };
        peer.say(&format!(r#"{{"seq":{next},{data}}}"#)).await;
        let close = format!(r#"{{"seq":{},"type":"close","data":{{"reason":"bye"}}}}"#, next + 1);
        peer.say(&close).await;
        drop(peer);
        assert_eq!(ending.await.unwrap().reason.as_str(), "bye");
        assert!(begun.elapsed() < Duration::from_secs(1), "{data}: {:?}", begun.elapsed());
        link.disconnect("again").await;
        assert!(begun.elapsed() < Duration::from_secs(1), "{data}: {:?}", begun.elapsed());
    }
}

/// A peer that prepares again and again costs no more than its answers.
#[tokio::test]
async fn preparing_for_ever_costs_no_memory() {
    let config = config(|config| (config.max_frame, config.outbox) = (64 * 1024, 64 * 1024));
    let (mut raw, link) = raw_control(Master::builder().config(config)).await;
    // One request that is never answered keeps all the answers waiting.
    let _asked = started(link.request(&echo("never"))).await;
    for seq in 1..3000 {
        let ask = json!({"seq": seq, "type": "prepare_disconnect_request", "data": {}});
        raw.text(&ask.to_string()).await;
    }
    let closed = soon(link.closed()).await;
    assert!(closed.reason.as_str().starts_with("The outbox is full"), "{closed}");
}

/// The cable is cut while both sides finish: the session is resumed, and the end is graceful.
#[tokio::test(start_paused = true)]
async fn a_cut_in_the_middle_of_the_end_loses_nothing() {
    let (up, down): (Ticks, Ticks) = Default::default();
    let world = world(&up).await;
    let client = world.connect(slave().router(counting(&down))).await;
    let (ours, theirs) = (client.link().await.unwrap(), world.master.slave(7).unwrap());
    let asked = started(sleeping(&ours, 2000)).await;
    let answering = started(sleeping(&theirs, 1000)).await;
    let ending = started({
        let client = client.clone();
        async move { client.close("Slave Shutdown").await }
    })
    .await;
    for _ in 0..4 {
        world.cable().cut();
        sleep(Duration::from_millis(400)).await;
    }
    ending.await.unwrap();
    asked.await.unwrap().unwrap();
    answering.await.unwrap().unwrap();
    assert!(world.dials() > 3);
    assert_eq!(soon(theirs.closed()).await.by, ClosedBy::Remote);
}

/// A client without a socket: it is closed at once when it holds nothing, and resumes first when it
/// does.
#[tokio::test(start_paused = true)]
async fn a_client_that_is_closed_without_a_socket_delivers_what_it_holds() {
    let up = Ticks::default();
    let world = world(&up).await;
    let cut = async |id: i64| {
        let mut reconnect = Reconnect::default();
        reconnect.base = Duration::from_secs(4);
        let client = slave().id(id).reconnect(reconnect);
        let client: Client = world.connect(client).await;
        let link = client.link().await.unwrap();
        let mut states = link.states();
        world.cable().cut();
        while !matches!(states.next().await, Some(LinkState::Resuming { .. })) {}
        (client, link)
    };
    let (idle, _) = cut(1).await;
    let begun = Instant::now();
    idle.close("quit").await;
    assert!(begun.elapsed() < Duration::from_millis(100), "{:?}", begun.elapsed());

    let (busy, link) = cut(2).await;
    link.event(&Tick { n: 5 }).await.unwrap();
    busy.close("quit").await;
    assert_eq!(*up.lock().unwrap(), [5]);
    assert!(world.master.slave(2).is_none_or(|link| link.is_closed()));
}

/// Dropped half-way, the link ends all the same.
#[tokio::test(start_paused = true)]
async fn a_wait_that_is_given_up_closes_at_once() {
    let Pair { ours, theirs, .. } = pair().await;
    let _asked = started(sleeping(&ours, 50_000)).await;
    let waited = tokio::time::timeout(Duration::from_secs(1), ours.disconnect("quit")).await;
    assert!(waited.is_err());
    assert_eq!(soon(theirs.closed()).await.reason.as_str(), "quit");
}

/// The last request that a graceful end waits for is given up by its caller.
#[tokio::test(start_paused = true)]
async fn a_request_that_is_given_up_is_not_waited_for() {
    let master = Master::builder().build().unwrap();
    let (mut peer, link) = Scripted::control(&master).await;
    let asked = started(link.request(&echo("never"))).await;
    assert!(peer.hear().await.contains("echo_request"));
    let _ending = started(async move { link.disconnect("done").await }).await;
    let begun = Instant::now();
    asked.abort();
    assert!(peer.hear().await.contains(r#""type":"close""#));
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
}

/// The time for a graceful end is limited by the configuration.
#[tokio::test(start_paused = true)]
async fn a_graceful_end_takes_no_longer_than_configured() {
    let (one, other) = memory::session_pair();
    let config = config(|config| config.disconnect_timeout = Duration::from_secs(3));
    let master = Master::builder().router(router()).build().unwrap();
    let client = slave().config(config);
    let (theirs, ours) = tokio::join!(master.attach(other), client.attach(one));
    let (ours, _theirs) = (ours.unwrap(), theirs.unwrap());
    let _asked = started(sleeping(&ours, 50_000)).await;
    let begun = Instant::now();
    ours.disconnect("quit").await;
    let took = begun.elapsed().as_secs_f64();
    assert!((3.0..5.1).contains(&took), "{took} s");
}

fn hello_control() -> String {
    json!({"seq": null, "type": "register_control", "data": {"agent": "raw", "version": "2.0.0"}})
        .to_string()
}

/// A control of the session generation, by hand.
async fn register(address: std::net::SocketAddr) -> Raw {
    let mut raw = Raw::open(address).await;
    raw.json().await;
    raw.text(&hello_control()).await;
    assert_eq!(raw.json().await["type"], "ready");
    raw
}

/// A control whose frames the test writes, on a master that speaks sessions, and the master's link.
async fn raw_control(master: MasterBuilder) -> (Raw, Link) {
    let master = master.dialect(Dialect::SESSION).build().unwrap();
    let raw = register(master.listen("127.0.0.1:0").await.unwrap()).await;
    loop {
        if let Some(link) = master.controls().pop() {
            return (raw, link);
        }
        sleep(Duration::from_millis(5)).await;
    }
}
