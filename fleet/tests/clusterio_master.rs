//! Our slaves and controls against the real Clusterio master, as processes and on real sockets.
//!
//! ```sh
//! SEQLINK_CLUSTERIO=$(fleet/tests/clusterio/install.sh) \
//!     cargo test -p seqlink-fleet --test clusterio_master -- --ignored
//! ```

#[path = "clusterio/master.rs"]
mod clusterio;
#[path = "../../tests/common/mod.rs"]
mod common;
mod programs;

use std::fmt::Debug;
use std::future::Future;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clusterio::{RealMaster, installed};
use common::faults::Dice;
use futures::future::join_all;
use programs::cable::Cable;
use programs::{Program, lines, subcommand};
use seqlink::catalog::clusterio::session::*;
use seqlink::{
    Client, ClientBuilder, CloseCode, ClosedBy, ConnectError, Control, Ctx, Direction, Empty, Link,
    LinkState, Reconnect, Request, RequestError, Router, Slave, States,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// A request that no Clusterio knows.
#[derive(Debug, Serialize, Deserialize)]
struct Unheard {}

impl Request for Unheard {
    const NAME: &'static str = "unheard_of";
    const DIRECTION: Direction = Direction::ANY;
    type Response = Empty;
}

/// What has reached a client, in order.
#[derive(Default)]
struct Seen(Mutex<Vec<Value>>);

impl Seen {
    fn add(&self, what: Value) {
        self.0.lock().unwrap().push(what);
    }

    /// All of one kind.
    fn all(&self, kind: &str) -> Vec<Value> {
        self.0.lock().unwrap().iter().filter_map(|seen| seen.get(kind).cloned()).collect()
    }

    /// Waits until there are `count` of one kind; more than that is a fault at once.
    async fn wait(&self, kind: &str, count: usize) -> Vec<Value> {
        soon(&format!("{count} of {kind}"), || {
            let all = self.all(kind);
            assert!(all.len() <= count, "more than {count} of {kind}: {all:?}");
            (all.len() == count).then_some(all)
        })
        .await
    }
}

/// Asks again and again until there is an answer, and lets the links go on meanwhile.
async fn soon<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    for _ in 0..6000 {
        if let Some(answer) = ask() {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("waited in vain for {what}")
}

/// What a slave answers to the master, as Clusterio's own slave would.
fn slave_router(seen: &Arc<Seen>) -> Router<Seen> {
    Router::with_state(Arc::clone(seen))
        .request(async |assign: AssignInstance, ctx: Ctx<Seen>| {
            ctx.state().add(json!({"assign": assign.instance_id}));
            assert!(assign.serialized_config.get().starts_with("{\"groups\":["));
            Ok::<_, String>(Empty {})
        })
        .request(async |start: StartInstance, ctx: Ctx<Seen>| {
            ctx.state().add(json!({"start": start.instance_id}));
            Ok::<_, String>(Empty {})
        })
        .request(async |_: StopInstance, _: Ctx<Seen>| {
            Err("it never ran; \"quoted\", and ä".to_owned())
        })
        .request(async |rcon: SendRcon, ctx: Ctx<Seen>| {
            ctx.state().add(json!({"rcon": rcon.command}));
            Ok::<_, String>(SendRconResponse { result: format!("did {}", rcon.command) })
        })
        .event(async |lists: SyncUserLists, ctx: Ctx<Seen>| {
            ctx.state().add(json!({"lists": lists.adminlist}));
        })
}

fn control_router(seen: &Arc<Seen>) -> Router<Seen> {
    Router::with_state(Arc::clone(seen))
        .event(async |update: InstanceUpdate, ctx: Ctx<Seen>| {
            ctx.state().add(json!({"update": update.0.status}));
        })
        .event(async |line: LogMessage, ctx: Ctx<Seen>| {
            ctx.state().add(json!({"log": line.info.message}));
        })
}

/// A client of `master` as it is, through `url`.
fn slave(master: &RealMaster, url: &str, seen: &Arc<Seen>) -> ClientBuilder {
    let slave = Slave::builder().url(url).id(7).name("wormhole").token(master.slave_token(7));
    quick(slave.router(slave_router(seen)))
}

fn control(master: &RealMaster, url: &str, seen: &Arc<Seen>) -> ClientBuilder {
    quick(Control::builder().url(url).token(master.user_token()).router(control_router(seen)))
}

fn quick(client: ClientBuilder) -> ClientBuilder {
    let mut reconnect = Reconnect::default();
    (reconnect.base, reconnect.most) = (Duration::from_millis(20), Duration::from_millis(100));
    client.reconnect(reconnect)
}

/// A slave and a control of one master, and what has reached them.
struct Cluster {
    slave: Client,
    at_slave: Arc<Seen>,
    control: Client,
    at_control: Arc<Seen>,
}

impl Cluster {
    async fn join(master: &RealMaster, slave_url: &str, control_url: &str) -> Self {
        let (at_slave, at_control): (Arc<Seen>, Arc<Seen>) = Default::default();
        let slave = slave(master, slave_url, &at_slave).connect().await.unwrap();
        let control = control(master, control_url, &at_control).connect().await.unwrap();
        Self { slave, at_slave, control, at_control }
    }

    async fn links(&self) -> (Link, Link) {
        (self.slave.link().await.unwrap(), self.control.link().await.unwrap())
    }

    /// Makes instance `id`, gives it to the slave and subscribes to what becomes of it.
    async fn with_instance(&self, id: i64) {
        let link = self.control.link().await.unwrap();
        let fields = json!({"id": id, "name": "foo"});
        let config = json!({"groups": [{"name": "instance", "fields": fields}]}).to_string();
        let serialized_config = RawValue::from_string(config).unwrap();
        link.request(&CreateInstance { serialized_config }).await.unwrap();
        let updates = SetInstanceSubscriptions { all: true, instance_ids: vec![] };
        link.request(&updates).await.unwrap();
        let log = SetLogSubscriptions { slave_ids: vec![7], ..Default::default() };
        link.request(&log).await.unwrap();
        let assign = AssignInstanceCommand { instance_id: id, slave_id: Some(7) };
        link.request(&assign).await.unwrap();
        assert_eq!(self.at_slave.all("assign"), [json!(id)]);
    }
}

async fn slave_entry(control: &Link) -> Option<SlaveEntry> {
    let answer = control.request(&ListSlaves {}).await.unwrap();
    answer.list.into_iter().find(|slave| slave.id == 7)
}

fn rcon(command: &(impl ToString + ?Sized)) -> SendRcon {
    SendRcon { instance_id: 44, command: command.to_string() }
}

fn log(message: &(impl ToString + ?Sized)) -> LogMessage {
    let (level, message) = ("info".to_owned(), message.to_string());
    LogMessage { info: LogInfo { level, message, more: Default::default() } }
}

fn status(status: SlaveStatus) -> InstanceStatusChanged {
    InstanceStatusChanged { instance_id: 44, status, game_port: None }
}

fn remote<T: Debug>(answer: Result<T, RequestError>) -> String {
    match answer {
        Err(RequestError::Remote(error)) => error.message().to_owned(),
        other => panic!("not the peer's error: {other:?}"),
    }
}

/// Runs a test in a time that ends.
fn timed(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let limited = async { tokio::time::timeout(Duration::from_secs(90), test).await };
    runtime.block_on(limited).expect("it takes too long");
}

#[test]
#[ignore = "needs Clusterio, see above"]
fn requests_and_events_go_both_ways() {
    timed(both_ways(&installed()));
}

async fn both_ways(installed: &Path) {
    let master = RealMaster::start(installed, "both-ways");
    let url = master.url();
    let cluster = Cluster::join(&master, &url, &url).await;
    let (slave, control) = cluster.links().await;
    assert_eq!(slave.peer().version.to_string(), "2.0.0-alpha.12");

    let entry = slave_entry(&control).await.unwrap();
    assert!(entry.connected && entry.name == "wormhole", "{entry:?}");
    assert!(entry.agent.starts_with("seqlink/"), "{entry:?}");

    // Slave to master, which asks and tells the slave before it answers.
    slave.request(&UpdateInstances { instances: vec![] }).await.unwrap();
    cluster.at_slave.wait("lists", 1).await;
    assert_eq!(cluster.at_slave.all("lists"), [json!(["alice"])]);
    slave.request(&Ping {}).await.unwrap();
    control.request(&Ping {}).await.unwrap();

    // Control to master to slave and back, the error's text too.
    cluster.with_instance(44).await;
    let start = StartInstance { instance_id: 44, save: None };
    control.request(&start).await.unwrap();
    assert_eq!(cluster.at_slave.all("start"), [json!(44)]);
    assert_eq!(control.request(&rcon("/time")).await.unwrap().result, "did /time");
    let error = remote(control.request(&StopInstance { instance_id: 44 }).await);
    assert_eq!(error, "it never ran; \"quoted\", and ä");
    let error = remote(control.request(&StartInstance { instance_id: 45, save: None }).await);
    assert_eq!(error, "Instance with ID 45 does not exist");

    // Slave to master to control.
    slave.event(&status(SlaveStatus::Starting)).await.unwrap();
    slave.event(&status(SlaveStatus::Running)).await.unwrap();
    let updates = cluster.at_control.wait("update", 2).await;
    assert_eq!(updates, ["starting", "running"]);
    slave.event(&log("hello, control")).await.unwrap();
    assert_eq!(cluster.at_control.wait("log", 1).await, ["hello, control"]);
    let list = control.request(&ListInstances {}).await.unwrap().list;
    assert_eq!(
        (list[0].id, list[0].assigned_slave, list[0].status.as_str()),
        (44, Some(7), "running")
    );

    // What the master does not know costs nothing but an answer.
    let error = remote(control.request(&Unheard {}).await);
    assert_eq!(error, "No validator for unheard_of_request on master-control");
    let error = remote(slave.request(&Unheard {}).await);
    assert_eq!(error, "No validator for unheard_of_request on master-slave");
    assert!(!slave.is_closed() && !control.is_closed());
    // No other frame of ours was refused.
    master.logs("Invalid message", 2);
    assert_eq!(master.logged("Invalid message"), 2);
    assert_eq!((slave.ignored().events, control.ignored().events), (0, 0));
}

/// Waits until the link has a socket again. Returns how many frames were sent again.
async fn resumed(states: &mut States) -> usize {
    loop {
        match states.next().await {
            Some(LinkState::Resuming { .. }) => {}
            Some(LinkState::Resumed { again }) => return again,
            other => panic!("not resumed: {other:?}"),
        }
    }
}

#[test]
#[ignore = "needs Clusterio, see above"]
fn a_cut_loses_nothing_and_doubles_nothing() {
    timed(one_cut(&installed()));
}

async fn one_cut(installed: &Path) {
    let master = RealMaster::start(installed, "one-cut");
    let cable = Cable::to(master.address);
    let through = format!("http://{}/", cable.address);
    let cluster = Cluster::join(&master, &through, &master.url()).await;
    let (slave, control) = cluster.links().await;
    cluster.with_instance(44).await;
    let mut states = slave.states();
    // Two heartbeats of the master acknowledge everything so far.
    tokio::time::sleep(Duration::from_millis(1100)).await;

    cable.swallow();
    let long = |n: usize| log(&format!("{n}{}", "x".repeat(3000)));
    for n in 0..3 {
        slave.event(&long(n)).await.unwrap();
    }
    soon("three events to be lost", || (cable.swallowed() > 9000).then_some(())).await;
    cable.cut();
    let held = match states.next().await {
        Some(LinkState::Resuming { held, .. }) => held,
        other => panic!("no cut: {other:?}"),
    };
    assert_eq!(held, 3);

    // Without a socket: what is sent waits on both sides, and the slave counts as connected.
    for n in 3..5 {
        slave.event(&long(n)).await.unwrap();
    }
    let (asked, handed_on) = (slave.request(&Ping {}), control.request(&rcon(&1)));
    let waiting = tokio::spawn(async { (asked.await, handed_on.await) });
    assert!(slave_entry(&control).await.unwrap().connected);
    cable.mend();
    assert_eq!(resumed(&mut states).await, 3);
    let (pong, done) = waiting.await.unwrap();
    assert_eq!((pong.unwrap(), done.unwrap().result), (Empty {}, "did 1".to_owned()));
    let lines = cluster.at_control.wait("log", 5).await;
    for (n, line) in lines.iter().enumerate() {
        assert!(line.as_str().unwrap().starts_with(&format!("{n}x")), "{n}: {lines:?}");
    }
    assert_eq!(cluster.at_slave.all("rcon"), ["1"]);
    // The same session over two sockets.
    assert_eq!(cable.connected(), 2);
    master.logs("Connector | Close", 1);
    assert_eq!(master.logged("registered slave 7"), 1);
}

#[test]
#[ignore = "needs Clusterio, see above"]
fn cuts_at_any_moment_lose_nothing_and_double_nothing() {
    timed(many_cuts(&installed()));
}

/// Cuts both cables together or alone, sometimes after they have swallowed for a while. The next
/// cut waits for the session: a reference whose new socket is cut before it has seen the end of
/// the old one holds on to a dead socket for ever.
async fn cut_often(cables: &[Cable; 2], links: &[Link; 2], seed: u64) {
    let mut dice = Dice::new(seed);
    for _ in 0..30 {
        tokio::time::sleep(Duration::from_millis(dice.roll(60))).await;
        let which = 1 + dice.roll(3);
        let chosen: Vec<usize> = (0..2).filter(|n| which & (1 << n) != 0).collect();
        let mut states: Vec<States> = chosen.iter().map(|n| links[*n].states()).collect();
        if dice.roll(2) == 0 {
            chosen.iter().for_each(|n| cables[*n].swallow());
            tokio::time::sleep(Duration::from_millis(dice.roll(60))).await;
        }
        chosen.iter().for_each(|n| cables[*n].cut());
        tokio::time::sleep(Duration::from_millis(dice.roll(60))).await;
        chosen.iter().for_each(|n| cables[*n].mend());
        for states in &mut states {
            resumed(states).await;
        }
    }
}

async fn many_cuts(installed: &Path) {
    let master = RealMaster::start(installed, "many-cuts");
    let cables = [Cable::to(master.address), Cable::to(master.address)];
    let [slave_url, control_url] = [0, 1].map(|n| format!("http://{}/", cables[n].address));
    let cluster = Cluster::join(&master, &slave_url, &control_url).await;
    cluster.with_instance(44).await;
    let (slave, control) = cluster.links().await;
    let seed = u64::from(std::process::id());
    println!("seed {seed}");

    let over = AtomicBool::new(false);
    let cuts = async {
        cut_often(&cables, &[slave.clone(), control.clone()], seed).await;
        over.store(true, Ordering::Relaxed);
    };
    let events = async {
        let mut sent = 0;
        while !over.load(Ordering::Relaxed) {
            slave.event(&log(&sent)).await.unwrap();
            sent += 1;
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        sent
    };
    let requests = async {
        let link = control.with_timeout(Duration::from_secs(60));
        let mut sent = 0;
        while !over.load(Ordering::Relaxed) {
            let asked = sent..sent + 3;
            let answers = asked.clone().map(|n| link.request(&rcon(&n)));
            for (n, answer) in asked.zip(join_all(answers).await) {
                assert_eq!(answer.unwrap().result, format!("did {n}"));
            }
            sent += 3;
        }
        sent
    };
    let ((), events, requests) = tokio::join!(cuts, events, requests);

    let lines = cluster.at_control.wait("log", events).await;
    let expected: Vec<Value> = (0..events).map(|n| json!(n.to_string())).collect();
    assert!(lines == expected, "seed {seed}: {lines:?}");
    let commands = cluster.at_slave.wait("rcon", requests).await;
    let expected: Vec<Value> = (0..requests).map(|n| json!(n.to_string())).collect();
    assert!(commands == expected, "seed {seed}: {commands:?}");
    let sockets = cables.each_ref().map(Cable::connected);
    println!("{events} events, {requests} requests, {sockets:?} sockets");
    assert_eq!(master.logged("WsServer | registered"), 2, "the first sessions lived through all");
    assert_eq!((slave.pending(), control.pending()), (0, 0));
}

#[test]
#[ignore = "needs Clusterio, see above"]
fn a_master_that_starts_anew_knows_no_session_and_the_slave_registers_on_the_same_socket() {
    timed(killed(&installed()));
}

async fn killed(installed: &Path) {
    let mut master = RealMaster::start(installed, "killed");
    let cable = Cable::to(master.address);
    let seen = Arc::default();
    let client = slave(&master, &format!("http://{}/", cable.address), &seen);
    let client = client.connect().await.unwrap();
    let old = client.link().await.unwrap();
    let mut states = old.states();
    cable.swallow();
    let asked = tokio::spawn(old.request(&Ping {}));
    soon("the question to be lost", || (cable.swallowed() > 0).then_some(())).await;
    cable.mend();

    master.kill_and_start();
    let closed = old.closed().await;
    assert_eq!(closed.by, ClosedBy::Lost);
    assert_eq!(closed.reason.as_str(), "The master does not know the session any more");
    let mut last = states.now();
    while let Some(state) = states.next().await {
        last = state;
    }
    println!("{last}");
    let answer = asked.await.unwrap();
    assert!(matches!(answer, Err(RequestError::Closed { .. })), "{answer:?}");

    let new = client.link().await.unwrap();
    assert!(!new.same_link(&old));
    new.request(&UpdateInstances { instances: vec![] }).await.unwrap();
    seen.wait("lists", 1).await;
    // One connection of the first master, one of the second for both the refusal and the new link.
    assert_eq!(cable.connected(), 2);
    assert_eq!(master.logged("new connection"), 1);
    assert_eq!(master.logged("registered slave 7"), 1);
    let control = control(&master, &master.url(), &Arc::default()).connect().await.unwrap();
    assert!(slave_entry(&control.link().await.unwrap()).await.unwrap().connected);
}

#[test]
#[ignore = "needs Clusterio, see above"]
fn a_refused_token_is_final() {
    timed(refused(&installed()));
}

async fn refused(installed: &Path) {
    let master = RealMaster::start(installed, "refused");
    let seen = Arc::default();
    let cases = [
        (slave(&master, &master.url(), &seen).token(master.slave_token(8)), "missmatched slave id"),
        (slave(&master, &master.url(), &seen).token("nonsense"), "jwt malformed"),
        (
            control(&master, &master.url(), &seen).token(master.slave_token(7)),
            "jwt audience invalid. expected: user",
        ),
    ];
    for (client, why) in cases {
        match client.connect().await {
            Err(ConnectError::Authentication(reason)) => {
                assert_eq!(reason.as_str(), format!("Authentication failed: {why}"));
            }
            other => panic!("{why}: {other:?}"),
        }
    }
}

#[test]
#[ignore = "needs Clusterio, see above"]
fn a_slave_that_registers_twice_stays_once() {
    timed(twice(&installed()));
}

async fn twice(installed: &Path) {
    let master = RealMaster::start(installed, "twice");
    let seen = Arc::default();
    let older = slave(&master, &master.url(), &seen).connect().await.unwrap();
    let newer = slave(&master, &master.url(), &seen).connect().await.unwrap();
    let stopped = older.stopped().await;
    assert!(matches!(stopped.error(), Some(ConnectError::Replaced)), "{stopped:?}");
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!newer.link().await.unwrap().is_closed());
    assert_eq!(master.logged("registered slave 7"), 2);
}

#[test]
#[ignore = "needs Clusterio, see above"]
fn who_leaves_is_gone_at_once() {
    timed(leaving(&installed()));
}

async fn leaving(installed: &Path) {
    let mut master = RealMaster::start(installed, "leaving");
    let Cluster { slave: client, at_slave, control, .. } =
        Cluster::join(&master, &master.url(), &master.url()).await;
    let link = control.link().await.unwrap();
    assert!(slave_entry(&link).await.unwrap().connected);
    client.close("done").await;
    // The end of the socket is what makes the slave go: a session that is held counts as connected
    // until its time is out.
    while slave_entry(&link).await.unwrap().connected {
        assert_eq!(master.logged("Connection timed out"), 0, "the session was held");
    }
    assert_eq!(master.logged("Connection timed out"), 0, "the session was held");

    let client = slave(&master, &master.url(), &at_slave).connect().await.unwrap();
    let slave = client.link().await.unwrap();
    master.program.signal(rustix::process::Signal::TERM);
    assert_eq!(master.program.end(), 0);
    for link in [slave, link] {
        let closed = link.closed().await;
        assert_eq!((closed.by, closed.code), (ClosedBy::Remote, CloseCode::GOING_AWAY));
        assert_eq!(closed.reason.as_str(), "Server Quit");
    }
}

#[test]
#[ignore = "needs Clusterio, see above"]
fn the_programs_are_a_slave_and_a_control_of_it() {
    let installed = installed();
    let master = RealMaster::start(&installed, "programs");
    let with = |name: &str, token: &str, arguments: &[&str]| {
        let mut command = subcommand(name, &[&["--master", &master.url()], arguments].concat());
        command.env("SEQLINK_TOKEN", token);
        Program::start(command)
    };
    let ask = |name: &str, data: Value| {
        let arguments = ["--json", "ask", name, &data.to_string()];
        let mut control = with("control", master.user_token(), &arguments);
        (control.end(), lines(&control.out()).pop().unwrap())
    };
    let status = |expected: &str| {
        let what = format!("the instance to be {expected}");
        programs::eventually(&what, || {
            let (_, answer) = ask("list_instances", json!({}));
            (answer["list"][0]["status"] == expected).then_some(())
        });
    };
    let token = master.slave_token(7);
    let mut games = with("slave", token, &["--id", "7"]);
    assert_eq!(games.end(), 1);
    assert!(games.err().contains("--clusterio COMMAND"), "{}", games.err());

    let arguments = ["--id", "7", "--name", "wormhole", "--clusterio", "sleep 600"];
    let mut slave = with("slave", token, &arguments);
    slave.says("registered");
    let mut slaves = with("control", master.user_token(), &["slaves"]);
    assert_eq!(slaves.end(), 0);
    assert!(slaves.out().contains("7   wormhole  connected  2.0.0"), "{}", slaves.out());

    let done = (0, json!({}));
    let fields = json!({"id": 44, "name": "foo"});
    let config = json!({"groups": [{"name": "instance", "fields": fields}]});
    assert_eq!(ask("create_instance", json!({"serialized_config": config})), done);
    let assign = json!({"instance_id": 44, "slave_id": 7});
    assert_eq!(ask("assign_instance_command", assign), done);
    status("stopped");
    let start = json!({"instance_id": 44, "save": null});
    assert_eq!(ask("start_instance", start.clone()), done);
    status("running");
    let running = json!({"error": "Instance with ID 44 is running already"});
    assert_eq!(ask("start_instance", start.clone()), (1, running));
    assert_eq!(ask("stop_instance", json!({"instance_id": 44})), done);
    status("stopped");
    assert_eq!(ask("start_instance", start), done);

    slave.interrupt();
    assert_eq!(slave.end(), 0);
    let (_, slaves) = ask("list_slaves", json!({}));
    assert_eq!(slaves["list"][0]["connected"], false);
}

#[test]
#[ignore = "needs Clusterio, see above"]
fn a_master_that_hangs_is_noticed_and_loses_nothing() {
    timed(hangs(&installed()));
}

async fn hangs(installed: &Path) {
    let master = RealMaster::start(installed, "hangs");
    let seen = Arc::default();
    let client = slave(&master, &master.url(), &seen).connect().await.unwrap();
    let link = client.link().await.unwrap();
    let mut states = link.states();
    master.program.signal(rustix::process::Signal::STOP);
    let asked = tokio::spawn(link.request(&Ping {}));
    let cut = match states.next().await {
        Some(LinkState::Resuming { cut, .. }) => cut,
        other => panic!("not noticed: {other:?}"),
    };
    assert_eq!(cut.by, ClosedBy::Lost);
    println!("{cut}");
    master.program.signal(rustix::process::Signal::CONT);
    resumed(&mut states).await;
    asked.await.unwrap().unwrap();
    assert_eq!(master.logged("registered slave 7"), 1);
}
