//! What attacks and reviews have found, each as a test.

mod common;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::raw::Raw;
use common::scripted::Scripted;
use common::*;
use seqlink::transport::memory;
use seqlink::{
    Closed, ConfigError, ConnectError, Control, Ctx, Link, Master, MembershipEvent, Reconnect,
    Registration, Request, Router, Slave,
};
use tokio::time::{Instant, sleep, timeout};

async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

/// The last events in the queue cannot be read: the task of the ended link ends all the same.
#[tokio::test(start_paused = true)]
async fn unreadable_events_at_the_end_leave_no_task() {
    async fn slow(_: Tick, _: Ctx) {
        sleep(Duration::from_millis(100)).await;
    }
    let master = Master::builder().router(Router::new(()).event(slow)).build().unwrap();
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    for _ in 0..50 {
        let (mut peer, link) = Scripted::control(&master).await;
        peer.say(r#"{"seq":2,"type":"tick_event","data":{"n":1}}"#).await;
        peer.say(r#"{"seq":3,"type":"tick_event","data":{"n":"bad"}}"#).await;
        settle().await;
        drop(peer);
        link.closed().await;
        sleep(Duration::from_secs(1)).await;
        assert_eq!(link.ignored().events, 1);
        // The master keeps one of its own, from its first link on.
        assert_eq!(tasks(), 1);
    }
}

/// While this side closes, a request that comes in is dropped, and what comes behind it is not.
#[tokio::test(start_paused = true)]
async fn a_request_that_crosses_the_close_takes_nothing_along() {
    async fn on_echo(echo: Echo, ctx: Ctx<Mutex<Vec<Echo>>>) -> Result<Echo, String> {
        ctx.state().lock().unwrap().push(echo.clone());
        Ok(echo)
    }
    let handled = Arc::new(Mutex::new(Vec::new()));
    let router = Router::with_state(Arc::clone(&handled)).request(on_echo);
    let master = Master::builder().router(router).build().unwrap();
    let (mut peer, link) = Scripted::control(&master).await;
    let asked = tokio::spawn(link.request(&echo("asked")));
    let request = peer.hear().await;
    assert!(request.starts_with(r#"{"seq":3,"type":"echo_request""#));
    peer.say(r#"{"seq":2,"type":"tick_event","data":{"n":1}}"#).await;
    settle().await;
    link.close("bye");
    assert_eq!(peer.hear().await, r#"{"seq":4,"type":"close","data":{"reason":"bye"}}"#);
    peer.say(r#"{"seq":3,"type":"echo_request","data":{"text":"crosses"}}"#).await;
    peer.say(r#"{"seq":4,"type":"echo_response","data":{"seq":3,"text":"answer"}}"#).await;
    assert_eq!(soon(asked).await.unwrap().unwrap(), echo("answer"));
    drop(peer);
    link.closed().await;
    assert!(handled.lock().unwrap().is_empty(), "it could not be answered");
}

/// Times that no clock can hold are refused or mean never; nothing panics.
#[tokio::test(start_paused = true)]
async fn endless_times_are_no_panic() {
    let never = config(|config| config.heartbeat_interval = Duration::MAX);
    let error = Master::builder().config(never).build().unwrap_err();
    assert_eq!(error.to_string(), "`heartbeat_interval` must be from 10 ms to a day");
    let endless = config(|config| {
        config.handshake_timeout = Duration::MAX;
        config.request_timeout = Duration::MAX;
        config.close_timeout = Duration::MAX;
    });
    let master = Master::builder().router(router()).config(endless.clone());
    let pair = pair_of(master, slave().config(endless)).await;
    pair.ours.request(&echo("a")).await.unwrap();
    pair.ours.with_timeout(Duration::MAX).request(&echo("b")).await.unwrap();
    pair.ours.close("done");
    pair.ours.closed().await;
}

/// The application's own code panics where it is told of a change: the registry stays true.
#[tokio::test(start_paused = true)]
async fn a_panic_in_on_change_leaves_no_member() {
    let master = Master::builder().on_change(|_| panic!("as told")).build().unwrap();
    let (peer, link) = Scripted::control(&master).await;
    assert_eq!(master.controls().len(), 1);
    drop(peer);
    link.closed().await;
    settle().await;
    assert!(master.controls().is_empty());
}

/// And so it does when the authenticator panics; the client is told, and may come back.
#[tokio::test(start_paused = true)]
async fn a_panic_in_the_authenticator_is_no_denial() {
    async fn panics(_: Registration) -> Result<(), String> {
        panic!("as told")
    }
    let master = Master::builder().authenticate(panics).build().unwrap();
    let (ours, theirs) = memory::pair();
    let (_, ours) = tokio::join!(master.attach(theirs), slave().attach(ours));
    let error = ours.unwrap_err();
    assert!(error.to_string().ends_with("Authentication is not available: it failed"), "{error}");
    assert!(!error.is_final());
}

/// A token and an authenticator: both must let a client in.
#[tokio::test(start_paused = true)]
async fn a_token_beside_an_authenticator_is_asked_for() {
    let only_seven = |registration: Registration| async move {
        if registration.peer.id == Some(7) { Ok(()) } else { Err("not you") }
    };
    let master = Master::builder().token("sesame").authenticate(only_seven).build().unwrap();
    let enter = async |client: seqlink::ClientBuilder| {
        let (ours, theirs) = memory::pair();
        let (_, ours) = tokio::join!(master.attach(theirs), client.attach(ours));
        ours.map(drop).map_err(|error| error.to_string())
    };
    assert_eq!(enter(slave()).await, Err("Authentication failed".into()));
    assert_eq!(
        enter(control().token("sesame")).await,
        Err("Authentication failed: not you".into())
    );
    assert_eq!(enter(slave().token("sesame")).await, Ok(()));
}

/// Everybody who was told of a join is told of the leave, also at the shutdown, and the port is
/// free when it returns.
#[tokio::test]
async fn shutdown_tells_of_each_leave_and_frees_the_port() {
    let log: Arc<Mutex<Vec<String>>> = Arc::default();
    let told = Arc::clone(&log);
    let on_change = move |change| {
        let line = match change {
            MembershipEvent::Joined(_) => "joined".to_owned(),
            MembershipEvent::Left(_, closed) => format!("left: {closed}"),
            _ => unreachable!(),
        };
        told.lock().unwrap().push(line);
    };
    let master = Master::builder().on_change(on_change).build().unwrap();
    let address = master.listen("127.0.0.1:0").await.unwrap();
    let mut raw = Raw::control(address).await;
    let started = std::time::Instant::now();
    // The peer swallows the close: both callers wait for the same end.
    tokio::join!(master.shutdown("noon", DRAIN), master.shutdown("later", DRAIN));
    assert!(started.elapsed() >= Duration::from_millis(1900), "{:?}", started.elapsed());
    assert_eq!(*log.lock().unwrap(), ["joined", "left: closed by this side: noon"]);
    assert!(master.controls().is_empty());
    assert!(master.listen("127.0.0.1:0").await.is_err(), "it has shut down");
    let next = Master::builder().build().unwrap();
    assert_eq!(next.listen(address).await.unwrap(), address);
    assert_eq!(raw.ended().await.message.as_deref(), Some("noon"));
}

/// A client in the handshake is refused with the reason when the master shuts down, also while the
/// authenticator thinks; one that does not hang up is waited for.
#[tokio::test]
async fn shutdown_tells_those_in_the_handshake() {
    let thinking = |_: Registration| std::future::pending::<Result<(), String>>();
    let config = config(|config| config.close_timeout = Duration::from_millis(500));
    let master = Master::builder().authenticate(thinking).config(config).build().unwrap();
    let address = master.listen("127.0.0.1:0").await.unwrap();
    let mut stays = Raw::open(address).await;
    stays.json().await;
    let mut silent = Raw::open(address).await;
    silent.json().await;
    let mut asked = Raw::open(address).await;
    asked.json().await;
    asked
        .text(r#"{"seq":1,"type":"register_control","data":{"agent":"raw","version":"2.0.0"}}"#)
        .await;
    sleep(Duration::from_millis(100)).await;
    let begun = std::time::Instant::now();
    let shutdown = tokio::spawn(async move {
        master.shutdown("noon", DRAIN).await;
        begun.elapsed()
    });
    sleep(Duration::from_millis(100)).await;
    assert!(!shutdown.is_finished(), "it waits until they have hung up");
    for raw in [&mut silent, &mut asked] {
        let ended = raw.ended().await;
        assert_eq!(ended.message.as_deref(), Some("shutdown"));
        assert_eq!(ended.frame.unwrap().0, 1001);
    }
    let took = shutdown.await.unwrap();
    assert!(took > Duration::from_millis(450), "{took:?}");
    drop(stays);
}

/// A request whose response type cannot be written is a fault of the peer's, and not silence.
#[tokio::test]
async fn a_request_that_no_response_fits_ends_the_link() {
    let master = Master::builder().router(router()).build().unwrap();
    let address = master.listen("127.0.0.1:0").await.unwrap();
    for name in ["", "a\\\"b", "a\\\\b", "a\\nb", &"x".repeat(120)] {
        let mut raw = Raw::control(address).await;
        raw.text(&format!(r#"{{"seq":2,"type":"{name}_request","data":{{}}}}"#)).await;
        let (code, reason) = raw.ended().await.frame.unwrap();
        let expected = "Invalid message: Malformed: a request type that no response type fits";
        assert_eq!((code, reason.as_str()), (1002, expected), "{name}");
    }
    let mut raw = Raw::control(address).await;
    raw.text(&format!(r#"{{"seq":2,"type":"{}_request","data":{{}}}}"#, "x".repeat(119))).await;
    assert!(raw.json().await["data"]["error"].is_string(), "the longest is answered");
    raw.text(r#"{"seq":3,"type":"close","data":["x"]}"#).await;
    let (_, reason) = raw.ended().await.frame.unwrap();
    assert_eq!(reason, "Invalid message: Malformed: `close` without a reason");
}

/// A peer that reads slowly but steadily, behind much that waits, lives.
#[tokio::test]
async fn a_slow_reader_is_not_dead() {
    let config = config(|config| {
        config.heartbeat_interval = Duration::from_millis(400);
        config.outbox = 16 << 20;
    });
    let master = Master::builder().config(config).build().unwrap();
    let address = master.listen("127.0.0.1:0").await.unwrap();
    let mut raw = Raw::control(address).await;
    while master.controls().is_empty() {
        sleep(Duration::from_millis(1)).await;
    }
    let link = master.controls().remove(0);
    let text = "x".repeat(10_000);
    for _ in 0..1500 {
        let big = Big { text: text.clone() };
        link.event(&big).await.unwrap();
    }
    // 1 MB a second; no ping is answered, since each stands behind what was queued before it.
    for _ in 0..150 {
        raw.read_slowly(20_000).await;
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(link.ended(), None::<Closed>);
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Big {
    text: String,
}

impl seqlink::Event for Big {
    const NAME: &'static str = "big";
}

/// Answers that are done wait for room one at a time as text.
#[tokio::test(start_paused = true)]
async fn answers_that_wait_for_room_are_not_all_written() {
    static WRITTEN: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);

    #[derive(serde::Serialize, serde::Deserialize)]
    struct Get {}
    #[derive(serde::Deserialize)]
    struct Much {}
    impl serde::Serialize for Much {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            use serde::ser::SerializeStruct as _;
            WRITTEN.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let mut much = serializer.serialize_struct("Much", 1)?;
            much.serialize_field("text", &"x".repeat(1_000_000))?;
            much.end()
        }
    }
    impl Request for Get {
        const NAME: &'static str = "get";
        type Response = Much;
    }
    async fn get(_: Get, _: Ctx) -> Result<Much, String> {
        Ok(Much {})
    }
    let master = Master::builder().router(Router::new(()).request(get)).build().unwrap();
    let (mut peer, _link) = Scripted::control(&master).await;
    for seq in 2..102 {
        peer.say(&format!(r#"{{"seq":{seq},"type":"get_request","data":{{}}}}"#)).await;
    }
    settle().await;
    // One in the transport, one in the outbox, and one that waits, which was written once in vain.
    let written = WRITTEN.load(std::sync::atomic::Ordering::Relaxed);
    assert!(written <= 4, "{written} of 100 are written");
    for _ in 0..100 {
        assert!(soon(peer.hear()).await.len() > 1_000_000);
    }
}

/// What an address says of user and password shows nowhere.
#[tokio::test]
async fn a_password_in_an_address_does_not_show() {
    let builder = Control::builder().url("ftp://user:hunter2@h:1/a@b");
    assert!(!format!("{builder:?}").contains("hunter2"), "{builder:?}");
    let error = builder.connect().await.unwrap_err();
    let text = format!("{error} {error:?}");
    assert!(!text.contains("hunter2") && text.contains("@h:1/a@b"), "{text}");
    let text = r#"{"seq":1,"type":"register_control","data":{"token":"hunter2"}}"#;
    let frame = format!("{:?}", seqlink::wire::Frame::parse(text).unwrap());
    assert!(!frame.contains("hunter2"), "{frame}");
}

/// A client that says too much of itself is told before it dials.
#[tokio::test]
async fn a_name_that_fits_no_handshake_is_a_config_error() {
    let long = Slave::builder().url("ws://127.0.0.1:9/").id(1).name("x".repeat(20_000));
    let error = timeout(Duration::from_secs(5), long.connect()).await.unwrap().unwrap_err();
    assert!(matches!(error, ConnectError::Config(ConfigError::Limit { .. })), "{error}");
    let longest = Slave::builder().id(1).name("\u{1}".repeat(256)).agent("a");
    let master = Master::builder().build().unwrap();
    let (ours, theirs) = memory::pair();
    let (joined, _) = tokio::join!(master.attach(theirs), longest.attach(ours));
    assert_eq!(joined.unwrap().peer().name.as_ref().map(String::len), Some(256));
}

/// Peers that flood leave the other tasks of the thread their turn.
#[tokio::test]
async fn a_flood_leaves_others_their_turn() {
    async fn on_tick(_: Tick, _: Ctx) {}
    let master = Master::builder().router(router().event(on_tick)).build().unwrap();
    let flood = async |master: &Master| {
        let (mut peer, link) = Scripted::control(master).await;
        tokio::spawn(async move {
            for seq in 2_u64.. {
                peer.say(&format!(r#"{{"seq":{seq},"type":"tick_event","data":{{"n":1}}}}"#)).await;
            }
        });
        link
    };
    let floods: [Link; 3] = [flood(&master).await, flood(&master).await, flood(&master).await];
    let (ours, theirs) = memory::pair();
    let (_, good) = tokio::join!(master.attach(theirs), slave().attach(ours));
    let good = good.unwrap();
    let started = Instant::now();
    for _ in 0..20 {
        good.request(&echo("turn")).await.unwrap();
    }
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    for link in floods {
        assert_eq!(link.ended(), None);
        link.close("enough");
    }
}

/// `attempts` counts the retries.
#[tokio::test]
async fn two_attempts_are_two_retries() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    let mut reconnect = Reconnect::default();
    (reconnect.attempts, reconnect.base) = (Some(2), Duration::from_millis(1));
    let client = tokio::spawn(Control::builder().url(url).reconnect(reconnect).connect());
    let mut dials = 0;
    while let Ok(accepted) = timeout(Duration::from_millis(800), listener.accept()).await {
        drop(accepted.unwrap());
        dials += 1;
    }
    assert_eq!(dials, 3, "the first, and two more");
    client.await.unwrap().unwrap_err();
}

/// Who a peer is, is kept for as long as its link, and shown in lists: it has a limit.
#[tokio::test]
async fn a_peer_with_an_endless_name_is_not_let_in() {
    let master = Master::builder().build().unwrap();
    let address = master.listen("127.0.0.1:0").await.unwrap();
    let fits = "x".repeat(256);
    let long = "x".repeat(257);
    let version = format!("2.0.0-{}", "x".repeat(256));
    let register = |id: i64, name: &str, agent: &str, version: &str| {
        format!(
            r#"{{"seq":1,"type":"register_slave","data":{{"agent":"{agent}","version":"{version}","id":{id},"name":"{name}"}}}}"#
        )
    };
    let mut peer = Raw::open(address).await;
    peer.json().await;
    peer.text(&register(1, &fits, &fits, "2.0.0")).await;
    assert_eq!(peer.json().await["type"], "ready");
    for (frame, field) in [
        (register(2, &long, "a", "2.0.0"), "name"),
        (register(2, "n", &long, "2.0.0"), "agent"),
        (register(2, "n", "a", &version), "version"),
    ] {
        let mut peer = Raw::open(address).await;
        peer.json().await;
        peer.text(&frame).await;
        let reason = format!(
            "Invalid handshake: expected register_slave or register_control, got `{field}` longer than 256 bytes"
        );
        assert_eq!(peer.json().await["data"]["reason"], reason);
    }
    assert_eq!(master.slaves().len(), 1);

    // A client is told before it dials, and refuses such a master.
    for client in [slave().name(&long), slave().agent(&long)] {
        let error = client.url("ws://127.0.0.1:9/").connect().await.unwrap_err();
        assert!(matches!(error, ConnectError::Config(ConfigError::Limit { .. })), "{error}");
    }
}
