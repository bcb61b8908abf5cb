//! Masters and their clients over real sockets.

mod common;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::raw::{CLOSE, PING, PONG, Raw};
use common::*;
use futures::future::join_all;
use semver::{Version, VersionReq};
use seqlink::transport::memory::Memory;
use seqlink::{
    Client, ClientBuilder, ConfigError, ConnectError, Control, Ctx, Empty, Event, Master,
    MasterBuilder, MembershipEvent, Reconnect, Registration, Request, Role, Router, Slave,
};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};

type Changes = Arc<Mutex<Vec<String>>>;

/// A master that listens and writes down who comes and goes.
async fn listening(builder: MasterBuilder) -> (Master, SocketAddr, Changes) {
    let changes = Changes::default();
    let log = Arc::clone(&changes);
    let builder = builder.on_change(move |change| {
        let line = match change {
            MembershipEvent::Joined(link) => format!("+{:?}", link.peer().id),
            MembershipEvent::Left(link, closed) => {
                format!("-{:?} {}", link.peer().id, closed.reason)
            }
            _ => unreachable!(),
        };
        log.lock().unwrap().push(line);
    });
    let master = builder.build().unwrap();
    let address = master.listen("127.0.0.1:0").await.unwrap();
    (master, address, changes)
}

fn slave_of(address: SocketAddr, id: i64) -> ClientBuilder {
    Slave::builder().url(format!("ws://{address}/")).id(id)
}

fn control_of(address: SocketAddr) -> ClientBuilder {
    Control::builder().url(format!("ws://{address}/"))
}

/// The same in real time.
async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("it takes too long")
}

async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < Duration::from_secs(20), "{what} takes too long");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn a_master_knows_who_is_there() {
    let (master, address, changes) = listening(Master::builder().router(router())).await;
    let slave = slave_of(address, 7).name("wormhole").agent("test 1.0").router(router());
    let slave = slave.connect().await.unwrap();
    let control = control_of(address).connect().await.unwrap();

    let link = master.slave(7).unwrap();
    assert_eq!(link.peer().role, Role::Slave);
    assert_eq!(link.peer().name.as_deref(), Some("wormhole"));
    assert_eq!(link.peer().agent, "test 1.0");
    assert_eq!(link.version(), &Version::new(2, 0, 0));
    assert_eq!(link.request(&echo("to the slave")).await.unwrap(), echo("to the slave"));
    assert_eq!(slave.link().await.unwrap().peer().role, Role::Master);
    assert_eq!((master.slaves().len(), master.controls().len()), (1, 1));
    assert!(master.slave(8).is_none());

    slave.close("going home").await;
    control.close("me too").await;
    until("leaving", || changes.lock().unwrap().len() == 4).await;
    assert_eq!(
        *changes.lock().unwrap(),
        ["+Some(7)", "+None", "-Some(7) going home", "-None me too"]
    );
    assert!(master.slaves().is_empty() && master.controls().is_empty());
    assert!(slave.link().await.unwrap_err().error().is_none());
}

#[tokio::test]
async fn a_token_lets_in_and_its_lack_does_not() {
    let (_master, address, changes) = listening(Master::builder().token("sesame")).await;
    for client in [
        slave_of(address, 1),
        slave_of(address, 1).token("sesam"),
        control_of(address).token("sesame "),
    ] {
        // Reconnecting would go on for ever if the refusal were not final.
        let error = soon(client.connect()).await.unwrap_err();
        assert!(matches!(error, ConnectError::Authentication(_)), "{error}");
        assert_eq!(error.to_string(), "Authentication failed");
    }
    assert!(changes.lock().unwrap().is_empty());
    slave_of(address, 1).token("sesame").connect().await.unwrap();
}

#[tokio::test]
async fn an_authenticator_sees_the_registration_and_says_why_not() {
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let log = Arc::clone(&seen);
    let master = Master::builder().authenticate(move |registration: Registration| {
        log.lock().unwrap().push(format!("{registration:?}"));
        async move {
            match registration.peer.id {
                Some(7) => Ok(()),
                _ => Err("only slave 7 may come in"),
            }
        }
    });
    let (_master, address, _) = listening(master).await;
    slave_of(address, 7).token("hunter2").connect().await.unwrap();
    let error = slave_of(address, 8).token("hunter2").connect().await.unwrap_err();
    assert_eq!(error.to_string(), "Authentication failed: only slave 7 may come in");
    let seen = seen.lock().unwrap().join("\n");
    assert!(!seen.contains("hunter2"), "a token in Debug: {seen}");
}

#[tokio::test]
async fn versions_are_negotiated_and_refused_by_either_side() {
    let (master, address, _) = listening(Master::builder().version(Version::new(2, 3, 0))).await;
    let client = slave_of(address, 1).version(Version::parse("2.1.5-alpha.1").unwrap());
    let client = client.connect().await.unwrap();
    assert_eq!(client.link().await.unwrap().version(), &Version::new(2, 1, 5));
    assert_eq!(master.slave(1).unwrap().version(), &Version::new(2, 1, 5));
    assert_eq!(master.slave(1).unwrap().peer().version.to_string(), "2.1.5-alpha.1");

    // The client looks first, at `hello`.
    let error =
        soon(slave_of(address, 2).version(Version::new(3, 0, 0)).connect()).await.unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, ConnectError::Version(_)), "{text}");
    assert!(text.contains("3.0.0") && text.contains("2.3.0"), "{text}");

    // A client that takes anything is refused by the master.
    let any = slave_of(address, 2).accept_versions(VersionReq::STAR).version(Version::new(3, 0, 0));
    let error = soon(any.connect()).await.unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, ConnectError::Version(_)), "{text}");
    assert!(text.contains("3.0.0") && text.contains("2.3.0"), "{text}");

    let range = VersionReq::parse(">=2, <4").unwrap();
    let (_wide, address, _) = listening(Master::builder().accept_versions(range.clone())).await;
    let three = slave_of(address, 3).version(Version::new(3, 0, 0)).accept_versions(range);
    let three = three.connect().await.unwrap();
    assert_eq!(three.link().await.unwrap().version(), &Version::new(2, 0, 0));
}

/// Exists since protocol 2.1.
#[derive(Serialize, Deserialize)]
struct Newer {}

impl Request for Newer {
    const NAME: &'static str = "newer";
    const SINCE: (u64, u64, u64) = (2, 1, 0);
    type Response = Empty;
}

#[derive(Serialize, Deserialize)]
struct OnlyFromMaster {}

impl Event for OnlyFromMaster {
    const NAME: &'static str = "only_from_master";
    const DIRECTION: seqlink::Direction = seqlink::Direction::MASTER_TO_SLAVE;
}

#[tokio::test]
async fn what_the_link_does_not_carry_is_an_error_at_the_sender() {
    let (_master, address, _) = listening(Master::builder().version(Version::new(2, 1, 0))).await;
    let old = slave_of(address, 1).connect().await.unwrap().link().await.unwrap();
    let error = old.request(&Newer {}).await.unwrap_err().to_string();
    assert_eq!(error, "not sent: newer exists since 2.1.0, and this link speaks 2.0.0");
    let error = old.event(&OnlyFromMaster {}).await.unwrap_err().to_string();
    assert_eq!(
        error,
        "not sent: only_from_master goes master→slave, and this link goes slave→master"
    );
    let error = old.request(&echo(&"x".repeat(1 << 20))).await.unwrap_err().to_string();
    assert!(error.starts_with("not sent: the message has 10486"), "{error}");

    let new = slave_of(address, 2).version(Version::new(2, 1, 0)).connect().await.unwrap();
    let error = new.link().await.unwrap().request(&Newer {}).await.unwrap_err().to_string();
    assert_eq!(error, "No handler for newer_request on this master");
}

/// Row 33: two live slaves with one id. The newer wins, the older stops, and nobody comes back.
#[tokio::test]
async fn of_two_slaves_with_one_id_the_newer_wins_and_stays() {
    let (master, address, changes) = listening(Master::builder().router(router())).await;
    let older = slave_of(address, 7).name("older").connect().await.unwrap();
    let newer = slave_of(address, 7).name("newer").connect().await.unwrap();
    let stopped = soon(older.stopped()).await;
    assert!(matches!(stopped.error(), Some(ConnectError::Replaced)), "{stopped}");
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(
        *changes.lock().unwrap(),
        ["+Some(7)", "-Some(7) Registered from another connection", "+Some(7)"]
    );
    assert_eq!(master.slave(7).unwrap().peer().name.as_deref(), Some("newer"));
    newer.link().await.unwrap().request(&echo("here")).await.unwrap();
}

/// Row 33 again: an older link that neither reads nor answers cannot hold up the newer one.
#[tokio::test]
async fn a_dead_older_link_does_not_hold_up_the_newer() {
    let (master, address, _) = listening(Master::builder()).await;
    let mut dead = Raw::open(address).await;
    dead.json().await;
    let data = r#"{"agent":"a","version":"2.0.0","id":7,"name":"dead"}"#;
    dead.text(&format!(r#"{{"seq":1,"type":"register_slave","data":{data}}}"#)).await;
    dead.json().await;
    until("registering", || master.slave(7).is_some()).await;
    let started = Instant::now();
    let _newer = slave_of(address, 7).name("newer").connect().await.unwrap();
    assert!(started.elapsed() < Duration::from_millis(900));
    assert_eq!(master.slave(7).unwrap().peer().name.as_deref(), Some("newer"));
    let ended = dead.ended().await;
    assert_eq!(ended.message.as_deref(), Some("Registered from another connection"));
    assert_eq!(ended.frame.unwrap().0, 1008);
}

#[tokio::test]
async fn shutdown_tells_everybody_why() {
    let (master, address, changes) = listening(Master::builder()).await;
    let slaves =
        join_all((0..5).map(|id| slave_of(address, id).reconnect(Reconnect::never()).connect()));
    let slaves: Vec<Client> = slaves.await.into_iter().map(Result::unwrap).collect();
    let control = control_of(address).reconnect(Reconnect::never()).connect().await.unwrap();
    let mut silent = Raw::control(address).await;
    until("joining", || changes.lock().unwrap().len() == 7).await;

    let started = Instant::now();
    master.shutdown("upgrade at noon", DRAIN).await;
    assert!(started.elapsed() < Duration::from_millis(2500), "one peer cannot hold it up");
    for client in slaves.iter().chain([&control]) {
        let stopped = soon(client.stopped()).await.to_string();
        assert!(stopped.contains("upgrade at noon"), "{stopped}");
    }
    let ended = silent.ended().await;
    assert_eq!(ended.message.as_deref(), Some("upgrade at noon"));
    assert_eq!(ended.frame.unwrap(), (1001, "upgrade at noon".to_owned()));
    assert!(master.slaves().is_empty() && master.controls().is_empty());
    assert!(TcpStream::connect(address).await.is_err(), "it no longer listens");
}

/// A lost link: requests fail, the client registers anew, and the new link works.
#[tokio::test]
async fn a_client_comes_back_with_a_new_link() {
    let (master, address, changes) = listening(Master::builder().router(router())).await;
    let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let through = proxy.local_addr().unwrap();
    let forwarding = tokio::spawn(async move {
        // The first connection is cut after a while; the second stays.
        for round in 0..2 {
            let (mut client, _) = proxy.accept().await.unwrap();
            let mut server = TcpStream::connect(address).await.unwrap();
            let copy = tokio::io::copy_bidirectional(&mut client, &mut server);
            let limit = Duration::from_millis(if round == 0 { 300 } else { 60_000 });
            let _ = tokio::time::timeout(limit, copy).await;
        }
    });
    // Without a session the link ends with its socket.
    let client = slave_of(through, 7).sessions(false).connect().await.unwrap();
    let first = client.link().await.unwrap();
    let error = first.request(&Sleep { ms: 60_000 }).await.unwrap_err();
    assert!(error.to_string().contains("whether it was delivered is unknown"), "{error}");
    let second = soon(client.link()).await.unwrap();
    assert!(first.is_closed() && !second.is_closed());
    assert_eq!(second.request(&echo("again")).await.unwrap(), echo("again"));
    until("joining", || master.slave(7).is_some_and(|link| !link.is_closed())).await;
    assert_eq!(changes.lock().unwrap().iter().filter(|line| line.starts_with('+')).count(), 2);
    client.close("done").await;
    forwarding.abort();
}

#[tokio::test]
async fn a_client_waits_for_its_master() {
    let reserved = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = reserved.local_addr().unwrap();
    drop(reserved);
    let once = slave_of(address, 7).reconnect(Reconnect::never()).connect().await.unwrap_err();
    assert!(matches!(once, ConnectError::Unreachable { .. }), "{once}");
    assert!(once.to_string().starts_with(&format!("cannot reach ws://{address}/api/socket: ")));

    let waiting = tokio::spawn(slave_of(address, 7).connect());
    tokio::time::sleep(Duration::from_millis(300)).await;
    let master = Master::builder().build().unwrap();
    master.listen(address).await.unwrap();
    let client = soon(waiting).await.unwrap().unwrap();
    assert_eq!(client.link().await.unwrap().peer().role, Role::Master);
}

#[tokio::test]
async fn what_cannot_work_is_an_error_before_anything_is_dialled() {
    let config = |client: ClientBuilder| async {
        match client.connect().await {
            Err(ConnectError::Config(error)) => error,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(config(Slave::builder().id(1)).await, ConfigError::MissingUrl);
    assert_eq!(config(Slave::builder().url("ws://h/")).await, ConfigError::MissingId);
    let error = config(Control::builder().url("ftp://h/")).await;
    assert_eq!(
        error.to_string(),
        r#""ftp://h/" is no address like ws://host:port/: it must start with ws:// or wss://"#
    );
    #[cfg(not(feature = "tls"))]
    {
        let error = config(Control::builder().url("wss://h/")).await.to_string();
        assert!(error.contains("feature `tls`") && error.contains("TLS proxy"), "{error}");
    }
    let twice = Router::new(())
        .request(|echo: Echo, _: Ctx| async { Ok::<_, String>(echo) })
        .request(|echo: Echo, _: Ctx| async { Ok::<_, String>(echo) });
    let error = Master::builder().router(twice).build().unwrap_err();
    assert_eq!(error, ConfigError::DuplicateHandler("echo"));
    let none = common::config(|config| config.outbox = 0);
    let error = Master::builder().config(none).build().unwrap_err();
    assert_eq!(error.to_string(), "`outbox` must be from 8 KiB to 1 GiB");
}

#[tokio::test]
async fn an_http_error_says_which() {
    let (_master, address, _) = listening(Master::builder()).await;
    let wrong = Control::builder().url(format!("ws://{address}/elsewhere/"));
    let error = wrong.reconnect(Reconnect::never()).connect().await.unwrap_err();
    assert!(matches!(error, ConnectError::Http { status: 404, .. }), "{error}");
}

/// Row 24: a ping is answered while the handler of a request is busy.
#[tokio::test]
async fn a_ping_is_answered_beside_a_busy_handler() {
    let (_master, address, _) = listening(Master::builder().router(router())).await;
    let mut raw = Raw::control(address).await;
    raw.text(r#"{"seq":2,"type":"sleep_request","data":{"ms":60000}}"#).await;
    raw.frame(PING, b"there?").await;
    let pong = tokio::time::timeout(Duration::from_millis(500), raw.any()).await;
    assert_eq!(pong.expect("a pong at once"), Some((PONG, b"there?".to_vec())));
}

/// The link's own pings: one per interval, and a peer that answers none is dropped.
#[tokio::test]
async fn a_peer_that_answers_no_ping_is_dropped_after_two_to_three_intervals() {
    let config = config(|config| config.heartbeat_interval = Duration::from_millis(100));
    let (master, address, changes) = listening(Master::builder().config(config)).await;
    let mut raw = Raw::control(address).await;
    let started = Instant::now();
    assert_eq!(raw.any().await, Some((PING, Vec::new())));
    until("noticing", || changes.lock().unwrap().len() == 2).await;
    let noticed = started.elapsed();
    assert!(
        noticed >= Duration::from_millis(190) && noticed < Duration::from_millis(900),
        "{noticed:?}"
    );
    assert_eq!(changes.lock().unwrap()[1], "-None Not a byte came for 200ms");
    assert!(master.controls().is_empty());
}

/// Row 20: bytes that come one at a time, beside branches that are always ready, are all kept.
#[tokio::test]
async fn single_bytes_beside_a_busy_link_are_all_kept() {
    let counted: Arc<Mutex<Vec<u64>>> = Arc::default();
    async fn on_tick(tick: Tick, ctx: Ctx<Mutex<Vec<u64>>>) {
        ctx.state().lock().unwrap().push(tick.n);
    }
    let router = Router::with_state(Arc::clone(&counted)).event(on_tick);
    let config = config(|config| config.heartbeat_interval = Duration::from_millis(10));
    let (master, address, _) = listening(Master::builder().router(router).config(config)).await;
    let mut raw = Raw::control(address).await;
    until("registering", || master.controls().len() == 1).await;
    let link = master.controls().remove(0);
    let noise = tokio::spawn(async move {
        while link.event(&Tick { n: 0 }).await.is_ok() {
            tokio::task::yield_now().await;
        }
    });
    // What the master sends is read by the other half of this test's own socket.
    for n in 0..60_u64 {
        let text = format!(r#"{{"seq":{},"type":"tick_event","data":{{"n":{n}}}}}"#, n + 2);
        let mut frame = common::raw::head(0x81, text.len() as u64);
        frame.extend_from_slice(text.as_bytes());
        for byte in frame {
            raw.bytes(&[byte]).await;
            raw.drain().await;
        }
    }
    until("arriving", || counted.lock().unwrap().len() == 60).await;
    assert_eq!(*counted.lock().unwrap(), (0..60).collect::<Vec<_>>());
    noise.abort();
}

/// Row 36: any reason fits the close frame, and both sides read the same.
#[tokio::test]
async fn a_long_reason_is_cut_between_two_characters() {
    let (master, address, _) = listening(Master::builder()).await;
    for reason in ["é".repeat(100), "x".repeat(500), "😀".repeat(40), String::new()] {
        let mut raw = Raw::control(address).await;
        until("registering", || master.controls().len() == 1).await;
        let link = master.controls().remove(0);
        link.close(&reason);
        let ended = raw.ended().await;
        let (code, text) = ended.frame.unwrap();
        assert_eq!(code, 1000);
        assert!(
            text.len() <= 123
                && reason.starts_with(&text)
                && text.len() + 4 > reason.len().min(123)
        );
        assert_eq!(ended.message.as_deref(), Some(&*text));
        assert_eq!(link.closed().await.reason.as_str(), text);
        until("leaving", || master.controls().is_empty()).await;
    }
}

/// Row 22 on a socket: a peer that swallows the close frame.
#[tokio::test]
async fn a_swallowed_close_frame_holds_nobody_up() {
    let config = config(|config| config.close_timeout = Duration::from_millis(200));
    let (master, address, _) = listening(Master::builder().config(config)).await;
    let mut raw = Raw::control(address).await;
    until("registering", || master.controls().len() == 1).await;
    let link = master.controls().remove(0);
    let started = Instant::now();
    link.close("bye");
    link.closed().await;
    assert!(started.elapsed() < Duration::from_millis(1500), "{:?}", started.elapsed());
    while let Some((opcode, _)) = raw.next().await {
        assert_ne!(opcode, PING);
        if opcode == CLOSE {
            break;
        }
    }
}

/// Row 31: a thousand peers that stop half-way keep nobody else out.
#[tokio::test]
async fn stalled_peers_keep_nobody_out() {
    let (_master, address, _) = listening(Master::builder().router(router())).await;
    let mut stalled = Vec::new();
    for n in 0..1000 {
        let mut raw = Raw::tcp(address).await;
        match n % 3 {
            0 => {}
            1 => raw.bytes(b"GET /api/socket HTTP/1.1\r\n").await,
            _ => raw.bytes(common::raw::upgrade("/api/socket").as_bytes()).await,
        }
        stalled.push(raw);
    }
    let started = Instant::now();
    let good = control_of(address).connect().await.unwrap();
    good.link().await.unwrap().request(&echo("in")).await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
}

/// A thousand links at once on one master; nothing is left pending.
#[tokio::test]
async fn a_thousand_links_at_once() {
    let (master, address, _) = listening(Master::builder().router(router())).await;
    let slaves =
        join_all((0..1000).map(|id| slave_of(address, id).router(router()).connect())).await;
    let slaves: Vec<Client> = slaves.into_iter().map(Result::unwrap).collect();
    until("joining", || master.slaves().len() == 1000).await;
    let up = slaves.iter().map(|slave| async {
        let link = slave.link().await.unwrap();
        for n in 0..4 {
            assert_eq!(link.request(&echo(&n.to_string())).await.unwrap().text, n.to_string());
        }
        assert_eq!(link.pending(), 0);
    });
    let links = master.slaves();
    let down = links.iter().map(|link| async {
        let id = link.peer().id.unwrap().to_string();
        assert_eq!(link.request(&echo(&id)).await.unwrap().text, id);
    });
    tokio::join!(join_all(up), join_all(down));
    assert_eq!(links.iter().map(seqlink::Link::pending).sum::<usize>(), 0);
    master.shutdown("done", DRAIN).await;
    assert!(links.iter().all(seqlink::Link::is_closed));
}

/// Ten thousand requests each way at once, over one socket.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_each_way_at_once_over_one_socket() {
    let (master, address, _) = listening(Master::builder().router(router())).await;
    let client = slave_of(address, 7).router(router()).connect().await.unwrap();
    let ends = [client.link().await.unwrap(), master.slave(7).unwrap()];
    let calls = ends.iter().flat_map(|link| {
        let link = link.with_timeout(Duration::from_secs(60));
        (0..10_000).map(move |n| {
            let (text, link) = (n.to_string(), link.clone());
            tokio::spawn(async move { link.request(&echo(&text)).await.unwrap().text == text })
        })
    });
    for call in calls.collect::<Vec<_>>() {
        assert!(call.await.unwrap());
    }
    for link in &ends {
        assert_eq!((link.pending(), link.ignored()), (0, Default::default()));
    }
}

/// A server that is no master: whatever it says, the client has a typed error and goes on trying.
#[tokio::test]
async fn a_server_that_is_no_master_is_a_typed_error() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = [0; 1024];
            let _ = stream.read(&mut head).await;
            let _ =
                tokio::io::AsyncWriteExt::write_all(&mut stream, b"220 smtp ready\r\n\r\n").await;
        }
    });
    let client = control_of(address).reconnect(Reconnect::never()).connect().await;
    let error = client.unwrap_err();
    assert!(matches!(error, ConnectError::Unreachable { .. }), "{error:?}");
}

/// Packets that nobody answers, as from a machine that is off: not reached, and not merely slow.
#[tokio::test]
async fn a_connection_that_never_comes_about_is_unreachable() {
    // A listener whose backlog is full lets the next connections wait for an answer for ever.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let patience = Duration::from_millis(200);
    let mut filling = Vec::new();
    for _ in 0..8 {
        filling.push(tokio::time::timeout(patience, TcpStream::connect(address)).await);
    }
    let config = config(|config| config.handshake_timeout = Duration::from_millis(400));
    let client = control_of(address).config(config).reconnect(Reconnect::never()).connect().await;
    let error = client.unwrap_err();
    assert!(matches!(error, ConnectError::Unreachable { .. }), "{error:?}");
    assert!(error.to_string().ends_with("no answer within 400ms"), "{error}");
}

/// An application that dials itself is told of its own failure, and of no address that it never gave.
#[tokio::test(start_paused = true)]
async fn what_an_application_dials_itself_fails_without_an_address() {
    let refused = async || {
        let error = io::Error::new(io::ErrorKind::ConnectionRefused, "the tunnel is shut");
        Err::<Memory, _>(error)
    };
    let client = slave().url("ws://unused/").reconnect(Reconnect::never());
    let error = client.connect_by(refused).await.unwrap_err();
    assert!(matches!(error, ConnectError::Dial(_)) && !error.is_final(), "{error:?}");
    assert_eq!(error.to_string(), "cannot dial the master: the tunnel is shut");

    let client = slave().reconnect(Reconnect::never());
    let error = soon(client.connect_by(std::future::pending::<io::Result<Memory>>)).await;
    let error = error.unwrap_err();
    assert!(matches!(error, ConnectError::Dial(_)), "{error:?}");
    assert_eq!(error.to_string(), "cannot dial the master: no answer within 5s");
}

/// A server that takes the connection and says nothing was reached, and is slow.
#[tokio::test]
async fn a_server_that_says_nothing_is_a_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let config = config(|config| config.handshake_timeout = Duration::from_millis(200));
    let client = control_of(address).config(config).reconnect(Reconnect::never()).connect().await;
    assert!(matches!(client.unwrap_err(), ConnectError::Timeout { .. }));
}

/// A client whose task has died with its runtime says so, and not that it was closed.
#[test]
fn a_client_whose_task_has_died_says_so() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let theirs = runtime();
    let (client, link) = theirs.block_on(async {
        let master = Master::builder().router(router()).build().unwrap();
        let address = master.listen("127.0.0.1:0").await.unwrap();
        let client = slave().url(format!("ws://{address}/")).connect().await.unwrap();
        let link = client.link().await.unwrap();
        (client, link)
    });
    drop(theirs);
    runtime().block_on(async {
        let stopped = soon(client.stopped()).await;
        assert!(matches!(stopped.error(), Some(ConnectError::TaskEnded)), "{stopped}");
        let stopped = client.link().await.unwrap_err();
        assert!(stopped.to_string().contains("task"), "{stopped}");
        let closed = soon(link.closed()).await;
        assert!(closed.reason.as_str().contains("task"), "{closed}");
    });
}
