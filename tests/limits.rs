//! The limits of a master, each at, below and above what it says.

mod common;

use std::time::Duration;

use common::raw::{self, Raw, TEXT};
use common::world::{World, counting};
use common::*;
use futures::FutureExt as _;
use seqlink::transport::memory;
use seqlink::trust::Limits;
use seqlink::{
    AcceptError, Client, CloseCode, Control, HandshakeError, Link, LinkState, Master, Reconnect,
};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

fn master(limits: Limits) -> Master {
    Master::builder().limits(limits).build().unwrap()
}

async fn enter(
    master: &Master,
    client: seqlink::ClientBuilder,
) -> Result<Link, (HandshakeError, seqlink::ConnectError)> {
    let (ours, theirs) = memory::pair();
    let (joined, link) = tokio::join!(master.attach(theirs), client.attach(ours));
    match (joined, link) {
        (Ok(joined), Ok(_)) => Ok(joined),
        (Err(theirs), Err(ours)) => Err((theirs, ours)),
        other => panic!("one side only: {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn slaves_and_controls_are_counted_apart() {
    const MOST: i64 = 3;
    let master = master(Limits::default().with_slaves(MOST as usize).with_controls(2));
    for id in 1..=MOST {
        enter(&master, slave().id(id)).await.unwrap();
    }
    for id in MOST + 1..10 * MOST {
        let (theirs, ours) = enter(&master, slave().id(id)).await.unwrap_err();
        assert!(matches!(theirs, HandshakeError::Limit { limit: "slaves", most: 3 }), "{theirs}");
        assert!(ours.to_string().contains("The master is full: `slaves` is 3"), "{ours}");
        assert!(!ours.is_final());
    }
    for _ in 0..2 {
        enter(&master, control()).await.unwrap();
    }
    let (theirs, _) = enter(&master, control()).await.unwrap_err();
    assert!(matches!(theirs, HandshakeError::Limit { limit: "controls", most: 2 }), "{theirs}");
    // One that comes back takes its own place, and one that leaves makes room.
    enter(&master, slave().id(1)).await.unwrap();
    let last = master.slave(MOST).unwrap();
    last.close("done");
    last.closed().await;
    enter(&master, slave().id(MOST + 1)).await.unwrap();
    assert_eq!(master.slaves().len(), MOST as usize);
}

/// All at once: none slips in between the look and the registration.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_get_in_at_once_than_one_after_the_other() {
    let master = master(Limits::default().with_slaves(10));
    let (asked, done) = (200, std::sync::Arc::new(tokio::sync::Semaphore::new(0)));
    for id in 0..asked {
        let (master, done) = (master.clone(), done.clone());
        tokio::spawn(async move {
            let (ours, theirs) = memory::pair();
            let _ = tokio::join!(master.attach(theirs), slave().id(id).attach(ours));
            done.add_permits(1);
        });
    }
    let all = timeout(Duration::from_secs(30), done.acquire_many(asked as u32));
    all.await.unwrap().unwrap().forget();
    assert_eq!(master.slaves().len(), 10);
}

#[tokio::test(start_paused = true)]
async fn of_too_many_sessions_without_a_socket_the_oldest_ends() {
    let world = World::new(master(Limits::default().with_detached_sessions(2)));
    let mut clients: Vec<(Client, Link)> = Vec::new();
    for id in 1..=4 {
        let client = world.connect(slave().id(id).reconnect(Reconnect::never())).await;
        clients.push((client, world.master.slave(id).unwrap()));
    }
    let cut = async |n: usize| {
        world.cables.lock().unwrap()[n].cut();
        // The client would come back at once.
        clients[n].0.close("gone").now_or_never();
        sleep(Duration::from_secs(1)).await;
    };
    cut(0).await;
    cut(1).await;
    assert!(clients.iter().all(|(_, link)| !link.is_closed()), "as many as there may be");
    cut(2).await;
    let closed = soon(clients[0].1.closed()).await;
    assert!(closed.reason.as_str().contains("`detached_sessions` of 2"), "{closed}");
    let ended: Vec<_> = clients.iter().map(|(_, link)| link.is_closed()).collect();
    assert_eq!(ended, [true, false, false, false]);
}

#[tokio::test]
async fn sockets_that_are_no_links_are_counted_until_they_are_or_go() {
    let master = master(Limits::default().with_connections(3));
    let address = master.listen("127.0.0.1:0").await.unwrap();
    let mut stalled = Vec::new();
    for _ in 0..3 {
        stalled.push(TcpStream::connect(address).await.unwrap());
    }
    // Accepted in order: one more finds all three there, and is closed without a word.
    let mut further = TcpStream::connect(address).await.unwrap();
    let read = timeout(Duration::from_secs(4), further.read(&mut [0; 10])).await.unwrap();
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    stalled.clear();
    let url = format!("ws://{address}/");
    // It may come before the others are seen to be gone, and comes back.
    let good = timeout(Duration::from_secs(10), slave().url(url).connect()).await.unwrap().unwrap();
    // Links are none of them.
    for id in 10..20 {
        let slave = slave().id(id).url(format!("ws://{address}/"));
        timeout(Duration::from_secs(10), slave.connect()).await.unwrap().unwrap();
    }
    assert_eq!(master.slaves().len(), 11);
    good.close("done").await;
    master.shutdown("done", DRAIN).await;
}

#[test]
fn limits_are_told_by_their_names() {
    let error = AcceptError::Limit { limit: "connections", most: 7 };
    assert_eq!(error.to_string(), "`connections` of the master's limits is reached: 7");
    assert_eq!(CloseCode::TRY_AGAIN.0, 1013);
}

/// A link that holds `bytes` of events for its slave, which has lost its socket and stays away.
async fn holding(world: &World, id: i64, bytes: usize) -> Link {
    let client = world.connect(slave().id(id).reconnect(Reconnect::never())).await;
    let link = world.master.slave(id).unwrap();
    world.cable().cut();
    // It would come back at once.
    client.close("gone").now_or_never();
    let mut states = link.states();
    while !matches!(states.now(), LinkState::Resuming { .. }) {
        soon(states.next()).await.unwrap();
    }
    say(&link, bytes).await;
    link
}

async fn say(link: &Link, bytes: usize) {
    #[derive(serde::Serialize, serde::Deserialize)]
    struct Line {
        text: String,
    }
    impl seqlink::Event for Line {
        const NAME: &'static str = "line";
    }
    for _ in 0..bytes / 10_000 {
        link.event(&Line { text: "x".repeat(10_000 - 80) }).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn when_all_hold_too_much_sessions_without_a_socket_end_first_and_the_largest_of_them() {
    let limits = Limits::default().with_bytes(1_000_000);
    let mut one_mebibyte = config(|config| config.session_timeout = Duration::from_secs(600));
    one_mebibyte.outbox = 2 << 20;
    let master = Master::builder().limits(limits).config(one_mebibyte).build().unwrap();
    let world = World::new(master);
    let small = holding(&world, 1, 100_000).await;
    let large = holding(&world, 2, 400_000).await;
    let middle = holding(&world, 3, 300_000).await;
    // It has its socket, and what it is told is not acknowledged.
    let attached = world.connect(slave().id(4)).await;
    let link = world.master.slave(4).unwrap();
    world.cable().silence();
    say(&link, 190_000).await;
    sleep(Duration::from_secs(1)).await;
    let ended = || [&small, &large, &middle, &link].map(Link::is_closed);
    assert_eq!(ended(), [false; 4], "as much as there may be");
    say(&small, 30_000).await;
    let closed = soon(large.closed()).await;
    assert_eq!(closed.reason.as_str(), "The master is full: `bytes` is 1000000");
    assert_eq!(closed.code, CloseCode::TRY_AGAIN);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(ended(), [false, true, false, false], "that is enough");
    // Ten times as much: all sessions without a socket go.
    let mut more = Vec::new();
    for id in 10..40 {
        more.push(holding(&world, id, 300_000).await);
    }
    sleep(Duration::from_secs(1)).await;
    let held = more.iter().filter(|link| !link.is_closed()).count();
    assert!((1..=3).contains(&held), "{held} are left");
    assert!(!link.is_closed() && !small.is_closed(), "the largest go first");
    attached.close("done").await;
}

/// A link of its own is no safe place: where none is without a socket, the largest ends, and comes back.
#[tokio::test(start_paused = true)]
async fn of_links_that_all_have_a_socket_the_largest_ends() {
    let limits = Limits::default().with_bytes(500_000);
    let roomy = config(|config| config.outbox = 2 << 20);
    let master = Master::builder().limits(limits).config(roomy).build().unwrap();
    let world = World::new(master);
    let _one = world.connect(slave().id(1)).await;
    let _two = world.connect(slave().id(2)).await;
    let (one, two) = (world.master.slave(1).unwrap(), world.master.slave(2).unwrap());
    // Nothing is acknowledged while the cable is silent, and nobody knows that it is.
    world.cables.lock().unwrap().iter().for_each(|cable| cable.silence());
    say(&one, 200_000).await;
    say(&two, 290_000).await;
    assert!(!one.is_closed() && !two.is_closed());
    say(&one, 20_000).await;
    let closed = soon(two.closed()).await;
    assert_eq!((closed.code, one.is_closed()), (CloseCode::TRY_AGAIN, false));
}

#[tokio::test]
async fn links_are_counted_by_address() {
    for (most, others) in [(1, 9), (3, 27)] {
        let limits = Limits::default().with_links_per_address(most);
        let master = master(limits);
        let address = master.listen("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{address}/");
        let mut inside = Vec::new();
        for id in 0..most as i64 {
            let slave = slave().id(id).url(&*url);
            inside.push(timeout(Duration::from_secs(10), slave.connect()).await.unwrap().unwrap());
        }
        let once = Reconnect::never;
        for id in 0..others {
            let further = slave().id(100 + id).url(&*url).reconnect(once()).connect().await;
            let error = further.unwrap_err();
            let why = format!("The master is full: `links_per_address` is {most}");
            assert!(error.to_string().contains(&why) && !error.is_final(), "{error}");
        }
        // One that takes its own place needs no other.
        let again = slave().id(0).url(&*url).reconnect(once()).connect().await.unwrap();
        // And one that leaves makes room.
        again.close("done").await;
        while master.slave(0).is_some() {
            sleep(Duration::from_millis(5)).await;
        }
        timeout(Duration::from_secs(10), Control::builder().url(&*url).connect())
            .await
            .unwrap()
            .unwrap();
        master.shutdown("done", DRAIN).await;
    }
}

/// Reading pauses, and the peer is neither lost nor taken for dead.
#[tokio::test(start_paused = true)]
async fn a_peer_that_sends_too_many_messages_is_slowed_down() {
    for (messages, seconds) in [(10, 0.0..=0.2), (20, 0.0..=1.2), (100, 7.0..=10.0)] {
        let seen = common::world::Ticks::default();
        let slow = config(|config| {
            config.messages_per_second = 10;
            config.heartbeat_interval = Duration::from_secs(1);
        });
        let master = Master::builder().config(slow).router(counting(&seen));
        let pair = pair_of(master, slave()).await;
        let begin = tokio::time::Instant::now();
        for n in 0..messages {
            pair.ours.event(&Tick { n }).await.unwrap();
        }
        pair.ours.request(&echo("behind them")).await.unwrap();
        let took = begin.elapsed().as_secs_f64();
        assert!(seconds.contains(&took), "{messages} took {took} s");
        assert_eq!(seen.lock().unwrap().len() as u64, messages);
        assert!(!pair.theirs.is_closed());
    }
}

/// Nothing has to be fetched from the socket for seconds: all of it lies in the read buffer.
#[tokio::test]
async fn a_peer_is_not_taken_for_dead_while_reading_pauses() {
    let seen = common::world::Ticks::default();
    let slow = config(|config| {
        config.messages_per_second = 20;
        config.heartbeat_interval = Duration::from_millis(200);
    });
    let master = Master::builder().config(slow).router(counting(&seen)).build().unwrap();
    let address = master.listen("127.0.0.1:0").await.unwrap();
    let mut raw = Raw::control(address).await;
    let frame = |seq: u64| {
        let text = format!(r#"{{"seq":{seq},"type":"tick_event","data":{{"n":{seq}}}}}"#);
        [raw::head(0x80 | TEXT, text.len() as u64), text.into_bytes()].concat()
    };
    raw.bytes(&(2..62).flat_map(frame).collect::<Vec<u8>>()).await;
    while seen.lock().unwrap().len() < 60 {
        let (opcode, payload) = raw.any().await.expect("the link goes on");
        assert_eq!(opcode, raw::PING, "{}", String::from_utf8_lossy(&payload));
    }
    master.shutdown("done", Duration::ZERO).await;
}

#[tokio::test]
async fn one_message_has_a_time_of_its_own() {
    let quick = config(|config| {
        config.heartbeat_interval = Duration::from_millis(100);
        config.frame_timeout = Duration::from_millis(600);
    });
    let master = Master::builder().router(router()).config(quick).build().unwrap();
    let address = master.listen("127.0.0.1:0").await.unwrap();
    let frame = |text: &str| {
        let mut frame = raw::head(0x80 | TEXT, text.len() as u64);
        frame.extend_from_slice(text.as_bytes());
        frame
    };
    let mut slow = Raw::control(address).await;
    // Byte by byte it would take minutes. Each of them shows that the peer lives.
    let long =
        frame(&format!(r#"{{"seq":2,"type":"x_event","data":{{"text":"{}"}}}}"#, "x".repeat(9000)));
    for byte in &long[..100] {
        slow.bytes(&[*byte]).await;
        sleep(Duration::from_millis(20)).await;
    }
    let ended = slow.ended().await;
    let reason = "Invalid message: longer than 600ms on its way";
    assert_eq!(ended.message.as_deref(), Some(reason));
    // Many messages, none of which takes long, may go on for as long as they like.
    let mut good = Raw::control(address).await;
    for seq in 2..22 {
        let text = format!(r#"{{"seq":{seq},"type":"echo_request","data":{{"text":"{seq}"}}}}"#);
        let frame = frame(&text);
        let (one, other) = frame.split_at(frame.len() / 2);
        good.bytes(one).await;
        sleep(Duration::from_millis(60)).await;
        good.bytes(other).await;
        assert_eq!(good.json().await["data"]["text"], seq.to_string());
    }
    master.shutdown("done", DRAIN).await;
}
