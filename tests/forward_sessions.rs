//! Forwarding over links that outlive their sockets: a request is answered once whatever becomes of
//! the link that carries it, and events are handed on without waiting for anybody.

mod common;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use common::raw::Raw;
use common::*;
use seqlink::catalog::clusterio::session::{
    PlayerEvent, SaveListUpdate, SendRcon, SendRconResponse, StopInstance,
};
use seqlink::transport::memory::{self, Cable};
use seqlink::{
    Client, ClientBuilder, CloseCode, ClosedBy, Config, Control, Ctx, Dialect, Direction, Event,
    Link, Master, Reconnect, RequestError, Router, Slave,
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

type Fleet = OnceLock<Master>;

/// Goes from a slave to its master and on to the controls.
#[derive(serde::Serialize, serde::Deserialize)]
struct Line {
    n: u64,
    text: String,
}

impl Event for Line {
    const NAME: &'static str = "line";
    const DIRECTION: Direction = Direction::SLAVE_TO_MASTER.and(Direction::MASTER_TO_CONTROL);
}

fn controls<E>(_: &E, ctx: &Ctx<Fleet>) -> Vec<Link> {
    ctx.state().get().map(Master::controls).unwrap_or_default()
}

fn slave_7<R>(_: &R, ctx: &Ctx<Fleet>) -> Result<Link, &'static str> {
    ctx.state().get().and_then(|master| master.slave(7)).ok_or("Slave 7 is not connected")
}

fn master(config: Config) -> Master {
    let fleet = Arc::new(Fleet::new());
    let router = Router::with_state(Arc::clone(&fleet))
        .forward(slave_7::<SendRcon>)
        .forward(slave_7::<StopInstance>)
        .forward_event(controls::<SaveListUpdate>)
        .forward_event(controls::<PlayerEvent>)
        .forward_event(controls::<Line>);
    let master = Master::builder().router(router).config(config).build().unwrap();
    fleet.set(master.clone()).unwrap();
    master
}

/// Clients that dial their master in memory; each has a cable that can be cut.
#[derive(Clone)]
struct Dialled {
    client: Client,
    cables: Arc<Mutex<Vec<Cable>>>,
    /// No further dial succeeds.
    gone: Arc<AtomicU64>,
}

async fn dial(master: &Master, client: ClientBuilder) -> Dialled {
    let (cables, gone) = (Arc::<Mutex<Vec<Cable>>>::default(), Arc::<AtomicU64>::default());
    let (master, kept, away) = (master.clone(), Arc::clone(&cables), Arc::clone(&gone));
    let by = move || {
        let (ours, theirs) = memory::session_pair();
        if away.load(Ordering::Relaxed) == 1 {
            ours.cable().cut();
        }
        kept.lock().unwrap().push(ours.cable());
        let master = master.clone();
        tokio::spawn(async move { master.attach(theirs).await });
        async move { Ok(ours) }
    };
    let mut reconnect = Reconnect::default();
    reconnect.most = Duration::from_millis(50);
    let client = client.sessions(true).reconnect(reconnect).connect_by(by).await.unwrap();
    Dialled { client, cables, gone }
}

impl Dialled {
    fn cut(&self) {
        self.cables.lock().unwrap().last().unwrap().cut();
    }

    /// Cuts, and lets no further dial through.
    fn lose(&self) {
        self.gone.store(1, Ordering::Relaxed);
        self.cut();
    }

    async fn link(&self) -> Link {
        self.client.link().await.unwrap()
    }
}

#[derive(Default)]
struct Played {
    calls: AtomicU64,
}

/// A slave whose console takes 8 seconds for each command.
fn player(played: &Arc<Played>) -> ClientBuilder {
    async fn on_rcon(rcon: SendRcon, ctx: Ctx<Played>) -> Result<SendRconResponse, String> {
        ctx.state().calls.fetch_add(1, Ordering::Relaxed);
        sleep(Duration::from_secs(8)).await;
        Ok(SendRconResponse { result: rcon.command })
    }
    slave().router(Router::with_state(Arc::clone(played)).request(on_rcon))
}

fn rcon(command: &str) -> SendRcon {
    SendRcon { instance_id: 42, command: command.to_owned() }
}

/// Every cable is cut while requests are under way, on both hops: each is done once, and answered
/// once.
#[tokio::test(start_paused = true)]
async fn a_forwarded_request_outlives_the_sockets_that_carry_it() {
    let (master, played) = (master(Config::default()), Arc::<Played>::default());
    let slave = dial(&master, player(&played)).await;
    let control = dial(&master, control()).await;
    let link = control.link().await;
    let asked: Vec<_> = (0..5).map(|n| tokio::spawn(link.request(&rcon(&n.to_string())))).collect();
    for round in 0..7 {
        sleep(Duration::from_secs(1)).await;
        if round % 3 != 1 {
            slave.cut();
        }
        if round % 3 != 0 {
            control.cut();
        }
    }
    for (n, asked) in asked.into_iter().enumerate() {
        assert_eq!(soon(asked).await.unwrap().unwrap().result, n.to_string());
    }
    assert_eq!(played.calls.load(Ordering::Relaxed), 5);
    assert!(slave.cables.lock().unwrap().len() > 3, "it was cut");
    sleep(Duration::from_secs(100)).await;
    assert_eq!((link.ignored().responses, link.pending()), (0, 0));
    assert!(link.same_link(&control.link().await) && slave.link().await.ended().is_none());
}

/// The link that carries the request is lost for good, with its session: one error, and no more.
#[tokio::test(start_paused = true)]
async fn a_forwarded_request_ends_with_the_session_that_carries_it() {
    let limits = config(|config| config.session_timeout = Duration::from_secs(4));
    let (master, played) = (master(limits), Arc::<Played>::default());
    let slave = dial(&master, player(&played)).await;
    let control = dial(&master, control()).await;
    let link = control.link().await;
    let asked = tokio::spawn(link.request(&rcon("/time")));
    sleep(Duration::from_secs(1)).await;
    slave.lose();
    let started = Instant::now();
    let error = soon(asked).await.unwrap().unwrap_err();
    let took = started.elapsed().as_secs_f64();
    assert!((3.0..6.0).contains(&took), "{took} s");
    assert!(matches!(error, RequestError::Remote(_)), "{error}");
    let text = error.to_string();
    let start = "slave 7 did not answer send_rcon: the link ended before the answer, \
                 whether it was delivered is unknown: ";
    assert!(text.starts_with(start), "{text}");
    sleep(Duration::from_secs(100)).await;
    assert_eq!((link.ignored().responses, link.pending()), (0, 0), "once");
    let error = link.request(&rcon("/time")).await.unwrap_err();
    assert_eq!(error.to_string(), "Slave 7 is not connected");
    assert_eq!(played.calls.load(Ordering::Relaxed), 1);
}

/// What controls got, and the order of it.
type Lines = Mutex<Vec<u64>>;

fn reader(lines: &Arc<Lines>) -> ClientBuilder {
    async fn on_line(line: Line, ctx: Ctx<Lines>) {
        ctx.state().lock().unwrap().push(line.n);
    }
    control().router(Router::with_state(Arc::clone(lines)).event(on_line))
}

fn line(n: u64) -> Line {
    Line { n, text: "x".repeat(200) }
}

/// Events come from one link and go to several, all of which are cut again and again: each gets
/// every event once and in order.
#[tokio::test(start_paused = true)]
async fn events_are_handed_on_in_order_over_broken_sockets() {
    let master = master(Config::default());
    let seen: [Arc<Lines>; 3] = Default::default();
    let slave = dial(&master, slave()).await;
    let mut all = vec![slave.clone()];
    for lines in &seen {
        all.push(dial(&master, reader(lines)).await);
    }
    let link = slave.link().await;
    let telling = async {
        for n in 0..1_000 {
            link.event(&line(n)).await.unwrap();
            sleep(Duration::from_millis(7)).await;
        }
    };
    let cutting = async {
        for round in 0..60 {
            sleep(Duration::from_millis(101)).await;
            all[round % all.len()].cut();
        }
    };
    tokio::join!(telling, cutting);
    sleep(Duration::from_secs(200)).await;
    for (seen, control) in seen.iter().zip(&all[1..]) {
        assert_eq!(*seen.lock().unwrap(), (0..1_000).collect::<Vec<_>>());
        assert!(control.cables.lock().unwrap().len() > 5, "it was cut");
    }
}

/// A control without a socket takes nothing: it loses its session when too much waits for it, and
/// not before. The others get everything at once, and the slave notices nothing.
#[tokio::test(start_paused = true)]
async fn a_target_that_takes_nothing_holds_nobody_up() {
    let limits = config(|config| {
        config.max_frame = 16 * 1024;
        config.outbox = 16 * 1024;
        config.inbox = 16 * 1024;
    });
    let master = master(limits.clone());
    let seen: [Arc<Lines>; 2] = Default::default();
    let slave = dial(&master, slave()).await;
    let away = dial(&master, reader(&seen[0])).await;
    let theirs = master.controls().pop().unwrap();
    // It acknowledges often enough for so small an outbox.
    let _present = dial(&master, reader(&seen[1]).config(limits)).await;
    let link = slave.link().await;
    away.lose();
    sleep(Duration::from_secs(1)).await;
    let started = Instant::now();
    let mut given_up = None;
    for n in 0..1_000 {
        link.event(&line(n)).await.unwrap();
        sleep(Duration::from_millis(1)).await;
        assert_eq!(seen[1].lock().unwrap().len() as u64, n + 1, "nobody waits for the other");
        if theirs.is_closed() {
            given_up.get_or_insert(n);
        }
    }
    assert!(started.elapsed() < Duration::from_secs(3), "no time limit is at work here");
    // 16 KiB in the outbox and as many in front of it.
    let frame = serde_json::to_string(&line(100)).unwrap().len() as u64 + 35;
    let n = given_up.expect("the end of the link that takes nothing");
    assert!((32_768 / frame - 20..=32_768 / frame + 5).contains(&n), "{n} of {frame} bytes");
    let closed = soon(theirs.closed()).await;
    assert_eq!((closed.by, closed.code), (ClosedBy::Local, CloseCode::POLICY), "{closed}");
    assert!(closed.reason.as_str().starts_with("The outbox is full: "), "{closed}");
    assert_eq!(*seen[1].lock().unwrap(), (0..1_000).collect::<Vec<_>>());
    assert!(link.ended().is_none() && seen[0].lock().unwrap().is_empty());
}

/// A control that comes back in time gets what waited for it, also what was beyond its outbox, and
/// in order with what comes later.
#[tokio::test(start_paused = true)]
async fn a_target_that_comes_back_gets_what_waited_for_it() {
    let limits = config(|config| (config.max_frame, config.outbox) = (16 * 1024, 16 * 1024));
    let master = master(limits.clone());
    let lines = Arc::<Lines>::default();
    let slave = dial(&master, slave()).await;
    let control = dial(&master, reader(&lines).config(limits)).await;
    let link = slave.link().await;
    control.lose();
    sleep(Duration::from_secs(1)).await;
    for n in 0..100 {
        link.event(&line(n)).await.unwrap();
    }
    sleep(Duration::from_secs(20)).await;
    assert!(lines.lock().unwrap().is_empty());
    control.gone.store(0, Ordering::Relaxed);
    for n in 100..300 {
        sleep(Duration::from_millis(500)).await;
        link.event(&line(n)).await.unwrap();
    }
    sleep(Duration::from_secs(60)).await;
    assert_eq!(*lines.lock().unwrap(), (0..300).collect::<Vec<_>>());
}

/// On real sockets, a master of Clusterio's dialect between peers that are no library of ours: each
/// hop has numbers of its own, and keys that the master does not know go through.
#[tokio::test]
async fn an_event_goes_on_unread_under_numbers_of_each_link() {
    let fleet = Arc::new(Fleet::new());
    let router = Router::with_state(Arc::clone(&fleet)).forward_event(controls::<SaveListUpdate>);
    let master = Master::builder().router(router).dialect(Dialect::SESSION).build().unwrap();
    fleet.set(master.clone()).unwrap();
    let address = master.listen("127.0.0.1:0").await.unwrap();
    let mut controls = Vec::new();
    for _ in 0..2 {
        let data = json!({"token": "t", "agent": "raw", "version": "2.0.0-alpha.12"});
        controls.push(register(address, "register_control", data).await);
    }
    let data = json!({"token": "t", "agent": "raw", "version": "2.0.0-alpha.12", "id": 7,
                      "name": "raw", "plugins": {}});
    let mut slave = register(address, "register_slave", data).await;

    let list = json!([{"type": "file", "name": "a.zip", "size": 1, "mtime_ms": 1.5, "loaded": true,
                       "default": false, "later": [1]}]);
    let data = json!({"instance_id": 42, "list": list, "more": null});
    let bad = json!({"instance_id": 42});
    for (seq, data) in [(1, &data), (2, &bad), (3, &data)] {
        let frame = json!({"seq": seq, "type": "save_list_update_event", "data": data});
        slave.text(&frame.to_string()).await;
    }
    for control in &mut controls {
        for seq in [1, 2] {
            let frame = loop {
                let frame = control.json().await;
                if frame["type"] != "heartbeat" {
                    break frame;
                }
            };
            let expected = json!({"seq": seq, "type": "save_list_update_event", "data": data});
            assert_eq!(frame, expected, "what is no save_list_update is not handed on");
        }
    }
    assert_eq!(master.slave(7).unwrap().ignored().events, 1);
}

async fn register(address: std::net::SocketAddr, kind: &str, data: Value) -> Raw {
    let mut raw = Raw::open(address).await;
    assert_eq!(raw.json().await["type"], "hello");
    raw.text(&json!({"seq": null, "type": kind, "data": data}).to_string()).await;
    assert_eq!(raw.json().await["type"], "ready");
    raw
}

/// The library's own clients on real sockets; and what goes the wrong way is not handed on.
#[tokio::test]
async fn an_event_that_may_not_go_to_a_target_is_left_out() {
    let master = master(Config::default());
    let address = master.listen("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{address}/");
    let lines = Arc::<Lines>::default();
    let control = Control::builder().url(&url).sessions(true);
    async fn on_line(line: Line, ctx: Ctx<Lines>) {
        ctx.state().lock().unwrap().push(line.n);
    }
    let router = Router::with_state(Arc::clone(&lines)).event(on_line);
    let control = control.router(router).connect().await.unwrap();
    let slave = Slave::builder().url(&url).id(7).sessions(true).connect().await.unwrap();
    let (link, theirs) = (slave.link().await.unwrap(), control.link().await.unwrap());
    // `player_event` ends at the master: no control gets it, though the resolver names them.
    let joined = json!({"instance_id": 42, "type": "join", "name": "ada"});
    link.event(&serde_json::from_value::<PlayerEvent>(joined).unwrap()).await.unwrap();
    for n in 0..200 {
        link.event(&line(n)).await.unwrap();
    }
    for _ in 0..2_000 {
        if lines.lock().unwrap().len() == 200 {
            break;
        }
        sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(*lines.lock().unwrap(), (0..200).collect::<Vec<_>>());
    assert_eq!((theirs.ignored().events, link.ended().is_none()), (0, true));
    // A request that the slave has no handler for: its error comes back as it is.
    let error = theirs.request(&StopInstance { instance_id: 42 }).await.unwrap_err();
    assert_eq!(error.to_string(), "No handler for stop_instance_request on this slave");
}
