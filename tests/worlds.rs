//! Simulated worlds: one master, four slaves and a control on a network that partitions, holds
//! back and loses, on machines that crash and come back. Events go both ways; a control's requests
//! go on through the master to a slave (row 7).
//!
//! Each seed is a world. `SEQLINK_LONG=1` makes it 2,000, `SEQLINK_SEED=N` repeats one.

mod common;

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use common::faults::Dice;
use common::*;
use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use seqlink::master::MembershipEvent;
use seqlink::transport::websocket::WebSocket;
use seqlink::{
    Client, ClientBuilder, Config, Control, Ctx, Delivery, Event, Link, Master, Reconnect, Request,
    RequestError, Router, Slave,
};
use serde::{Deserialize, Serialize};
use tokio::time::{sleep, timeout};
use turmoil::net::{TcpListener, TcpStream};

const SLAVES: i64 = 4;
/// Something breaks all the time.
const STORM: Duration = Duration::from_secs(25);
/// Everything is whole again. Sessions that cannot be resumed end within it.
const CALM: Duration = Duration::from_secs(25);
/// Nothing new is sent: all that is under way comes to its end.
const DRAIN: Duration = Duration::from_secs(13);
const TICK: Duration = Duration::from_millis(20);
/// The worlds of a default run.
const SEEDS: u64 = 14;

/// An event with the number of its session and its number in it.
#[derive(Serialize, Deserialize)]
struct Numbered {
    session: u64,
    n: u64,
}

impl Event for Numbered {
    const NAME: &'static str = "numbered";
}

/// Done once, or not at all.
#[derive(Serialize, Deserialize)]
struct Work {
    id: u64,
}

impl Request for Work {
    const NAME: &'static str = "work";
    const TIMEOUT: Option<Duration> = Some(Duration::from_secs(8));
    type Response = Work;
}

/// [`Work`] for a slave, which the master hands on.
#[derive(Serialize, Deserialize)]
struct Relay {
    slave: i64,
    id: u64,
}

impl Request for Relay {
    const NAME: &'static str = "relay";
    const TIMEOUT: Option<Duration> = Some(Duration::from_secs(12));
    type Response = Work;
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Open,
    Answered,
    /// It did not reach its handler.
    NotDelivered,
    /// Whether it did is not known.
    Unknown,
    /// Its machine crashed.
    Gone,
}

/// What is known of a world from outside.
#[derive(Default)]
struct Facts {
    /// How many events each session has sent, and whether its link has ended.
    sent: HashMap<u64, (u64, Option<Link>)>,
    /// The numbers that arrived, for each session.
    arrived: HashMap<u64, Vec<u64>>,
    outcomes: HashMap<u64, Outcome>,
    /// How often each request was handled.
    handled: HashMap<u64, u32>,
    /// Answers, by who asked.
    answers: HashMap<&'static str, u64>,
    /// How links have ended, and how often.
    ends: HashMap<String, u64>,
    master: Option<Master>,
    cuts: u64,
}

/// The same for all machines of a world.
#[derive(Clone)]
struct World {
    facts: Arc<Mutex<Facts>>,
    next: Arc<AtomicU64>,
    seed: u64,
    sending: Arc<std::sync::atomic::AtomicBool>,
}

impl World {
    fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap()
    }

    fn next(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    fn is_sending(&self) -> bool {
        self.sending.load(Ordering::Relaxed)
    }

    fn dice(&self) -> Dice {
        Dice::new(self.seed ^ (self.next() << 32))
    }
}

fn settings() -> Config {
    config(|config| {
        config.heartbeat_interval = Duration::from_secs(1);
        config.session_timeout = Duration::from_secs(8);
        config.handshake_timeout = Duration::from_secs(2);
        config.close_timeout = Duration::from_secs(1);
    })
}

fn handlers(world: &World) -> Router<World> {
    async fn numbered(event: Numbered, ctx: Ctx<World>) {
        ctx.state().facts().arrived.entry(event.session).or_default().push(event.n);
    }
    async fn work(work: Work, ctx: Ctx<World>) -> Result<Work, String> {
        *ctx.state().facts().handled.entry(work.id).or_default() += 1;
        if work.id.is_multiple_of(3) {
            sleep(Duration::from_millis(work.id % 500)).await;
        }
        Ok(work)
    }
    async fn relay(relay: Relay, ctx: Ctx<World>) -> Result<Work, String> {
        let master = ctx.state().facts().master.clone();
        let slave = master.and_then(|master| master.slave(relay.slave));
        let slave = slave.ok_or("this slave is not here")?;
        slave.request(&Work { id: relay.id }).await.map_err(|error| error.to_string())
    }
    Router::new(world.clone()).event(numbered).request(work).request(relay)
}

/// Counts a request as gone with its machine when nobody says what became of it.
struct Asked {
    world: World,
    id: u64,
}

impl Asked {
    fn new(world: &World) -> Self {
        let id = world.next();
        world.facts().outcomes.insert(id, Outcome::Open);
        Self { world: world.clone(), id }
    }

    fn ended(&self, who: &'static str, answer: Result<Work, RequestError>) {
        let mut facts = self.world.facts();
        let outcome = match answer {
            Ok(work) => {
                assert_eq!(work.id, self.id);
                *facts.answers.entry(who).or_default() += 1;
                Outcome::Answered
            }
            Err(RequestError::Closed { delivery: Delivery::NotDelivered, .. }) => {
                Outcome::NotDelivered
            }
            Err(_) => Outcome::Unknown,
        };
        let before = facts.outcomes.insert(self.id, outcome);
        assert_eq!(before, Some(Outcome::Open), "a request ends once");
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        let mut facts = self.world.facts();
        if facts.outcomes[&self.id] == Outcome::Open {
            facts.outcomes.insert(self.id, Outcome::Gone);
        }
    }
}

/// Sends over a link until it has ended or all is said.
async fn talk(world: World, link: Link, who: &'static str) {
    let session = world.next();
    let mut dice = world.dice();
    world.facts().sent.insert(session, (0, Some(link.clone())));
    for n in 0.. {
        if !world.is_sending() {
            break;
        }
        if link.event(&Numbered { session, n }).await.is_err() {
            break;
        }
        world.facts().sent.get_mut(&session).unwrap().0 = n + 1;
        if dice.roll(3) == 0 {
            let (asked, link) = (Asked::new(&world), link.clone());
            let slave = dice.roll(SLAVES as u64) as i64;
            tokio::spawn(async move {
                let answer = match who {
                    "control" => link.request(&Relay { slave, id: asked.id }).await,
                    _ => link.request(&Work { id: asked.id }).await,
                };
                asked.ended(who, answer);
            });
        }
        sleep(Duration::from_millis(10 + dice.roll(400))).await;
    }
    if !world.is_sending() {
        return;
    }
    let closed = link.closed().await;
    let mut facts = world.facts();
    *facts.ends.entry(closed.to_string()).or_default() += 1;
    facts.sent.get_mut(&session).unwrap().1 = None;
}

async fn master(world: World) -> turmoil::Result {
    let here = world.clone();
    let master = Master::builder().router(handlers(&world)).config(settings());
    let master = master.on_change(move |change| {
        if let MembershipEvent::Joined(link) = change {
            tokio::spawn(talk(here.clone(), link, "master"));
        }
    });
    let master = master.build().unwrap();
    world.facts().master = Some(master.clone());
    let listener = TcpListener::bind("0.0.0.0:8750").await?;
    loop {
        let (stream, _) = listener.accept().await?;
        let master = master.clone();
        tokio::spawn(async move {
            let upgrade = WebSocket::accept(stream, 1 << 20);
            if let Ok(Ok(socket)) = timeout(Duration::from_secs(2), upgrade).await {
                let _ = master.attach(socket).await;
            }
        });
    }
}

async fn client(world: World, who: &'static str, builder: ClientBuilder) -> turmoil::Result {
    let dice = Arc::new(Mutex::new(world.dice()));
    let dial = move || {
        let delay = dice.lock().unwrap().roll(500);
        async move {
            // The simulated network refuses at once what a real one loses.
            sleep(Duration::from_millis(10 + delay)).await;
            let stream = TcpStream::connect("master:8750").await?;
            let socket: io::Result<WebSocket<TcpStream>> =
                WebSocket::connect(stream, "ws://master:8750/", 1 << 20, true).await;
            socket
        }
    };
    let mut reconnect = Reconnect::default();
    reconnect.base = Duration::ZERO;
    let client = builder.config(settings()).reconnect(reconnect).router(handlers(&world));
    let client: Client = client.connect_by(dial).await?;
    loop {
        let link = client.link().await?;
        talk(world.clone(), link.clone(), who).await;
        link.closed().await;
    }
}

/// A world, for as long as it takes. Returns what did not hold.
fn run(seed: u64) -> Result<Facts, String> {
    let mut builder = turmoil::Builder::new();
    builder.tick_duration(TICK).tcp_capacity(1 << 16).enable_random_order();
    builder.min_message_latency(Duration::ZERO).max_message_latency(Duration::from_millis(60));
    builder.simulation_duration(Duration::from_secs(100_000));
    let mut sim = builder.build_with_rng(Box::new(SmallRng::seed_from_u64(seed)));
    let world = World {
        facts: Arc::default(),
        next: Arc::new(AtomicU64::new(1)),
        seed,
        sending: Arc::new(true.into()),
    };
    let here = world.clone();
    sim.host("master", move || master(here.clone()));
    for id in 0..SLAVES {
        let here = world.clone();
        sim.host(name(id), move || client(here.clone(), "slave", Slave::builder().id(id)));
    }
    let here = world.clone();
    sim.host("control", move || client(here.clone(), "control", Control::builder()));

    storm(&mut sim, seed, &world)?;
    step(&mut sim, CALM - Duration::from_secs(10))?;
    let before = world.facts().answers.clone();
    step(&mut sim, Duration::from_secs(10))?;
    for who in ["master", "slave", "control"] {
        let (before, now) = (before.get(who).copied(), world.facts().answers.get(who).copied());
        if now <= before {
            return Err(format!("no progress after the storm: {who} {now:?}"));
        }
    }
    world.sending.store(false, Ordering::Relaxed);
    step(&mut sim, DRAIN)?;
    check(&world)?;
    drop(sim);
    Ok(std::mem::take(&mut world.facts()))
}

fn name(id: i64) -> String {
    format!("slave-{id}")
}

fn step(sim: &mut turmoil::Sim<'_>, time: Duration) -> Result<(), String> {
    let until = sim.elapsed() + time;
    while sim.elapsed() < until {
        sim.step().map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// Breaks things, one after the other and several at once.
fn storm(sim: &mut turmoil::Sim<'_>, seed: u64, world: &World) -> Result<(), String> {
    let mut dice = Dice::new(seed.wrapping_add(77));
    let others: Vec<String> = (0..SLAVES).map(name).chain(["control".to_owned()]).collect();
    // What is broken, and when it is whole again.
    let mut broken: Vec<(Duration, String, &'static str)> = Vec::new();
    step(sim, Duration::from_secs(1))?;
    while sim.elapsed() < STORM {
        step(sim, Duration::from_millis(20 + dice.roll(1000)))?;
        broken.retain(|(until, who, how)| {
            let over = *until < sim.elapsed();
            if over {
                mend(sim, who, how);
            }
            !over
        });
        let who = others[dice.roll(others.len() as u64) as usize].clone();
        let (how, most) = match dice.roll(10) {
            0..3 => ("partition", 8_000),
            3 => ("partition", 20_000),
            4 => ("deaf", 6_000),
            5 => ("dumb", 6_000),
            6..8 => ("hold", 4_000),
            8 => ("crash", 5_000),
            _ => ("crash master", 3_000),
        };
        let who = if how == "crash master" { "master".to_owned() } else { who };
        if broken.iter().any(|(_, other, _)| *other == who) {
            continue;
        }
        match how {
            "partition" => sim.partition("master", who.as_str()),
            "deaf" => sim.partition_oneway("master", who.as_str()),
            "dumb" => sim.partition_oneway(who.as_str(), "master"),
            "hold" => sim.hold("master", who.as_str()),
            _ => sim.crash(who.as_str()),
        }
        world.facts().cuts += 1;
        broken.push((sim.elapsed() + Duration::from_millis(dice.roll(most)), who, how));
    }
    broken.iter().for_each(|(_, who, how)| mend(sim, who, how));
    Ok(())
}

fn mend(sim: &mut turmoil::Sim<'_>, who: &str, how: &str) {
    match how {
        "partition" | "deaf" | "dumb" => sim.repair("master", who),
        "hold" => sim.release("master", who),
        _ => sim.bounce(who),
    }
}

/// What must hold when all is quiet again.
fn check(world: &World) -> Result<(), String> {
    let facts = world.facts();
    let master = facts.master.clone().unwrap();
    for id in 0..SLAVES {
        let link = master.slave(id).ok_or_else(|| format!("slave {id} is not back"))?;
        if link.is_closed() || link.pending() > 0 {
            return Err(format!("slave {id}: {link:?}, {} pending", link.pending()));
        }
    }
    if master.controls().is_empty() {
        return Err("the control is not back".into());
    }
    for (session, arrived) in &facts.arrived {
        let expected = 0..arrived.len() as u64;
        if !arrived.iter().copied().eq(expected) {
            return Err(format!("session {session}: {arrived:?}"));
        }
        let sent = &facts.sent[session];
        if arrived.len() as u64 > sent.0 + 1 {
            return Err(format!("session {session}: {} of {}", arrived.len(), sent.0));
        }
    }
    // Machines crash and networks fail. Nobody breaks a rule.
    let reasons = [
        "lost: Not resumed within 8s: ",
        "lost: The master does not know the session any more",
        "closed by this side: Registered from another connection",
        "closed by the peer: Registered from another connection",
        "closed by the peer: Handshake timed out: no ready within 2s",
    ];
    let legal = |end: &&String| reasons.iter().any(|reason| end.starts_with(reason));
    if let Some(end) = facts.ends.keys().find(|end| !legal(end)) {
        return Err(format!("a link has ended: {end}"));
    }
    alive(&facts, &master)?;
    for (id, outcome) in &facts.outcomes {
        let handled = facts.handled.get(id).copied().unwrap_or(0);
        let holds = match outcome {
            Outcome::Open => false,
            Outcome::Answered => handled == 1,
            Outcome::NotDelivered => handled == 0,
            Outcome::Unknown | Outcome::Gone => handled <= 1,
        };
        if !holds {
            return Err(format!("request {id} was handled {handled} times: {outcome:?}"));
        }
    }
    Ok(())
}

/// Links that live have delivered everything, and wait for nothing.
fn alive(facts: &Facts, master: &Master) -> Result<(), String> {
    let mut complete = 0;
    for (session, (sent, link)) in &facts.sent {
        let Some(link) = link else { continue };
        if link.is_closed() {
            continue;
        }
        // A link whose machine has crashed never learns of its end.
        let arrived = facts.arrived.get(session).map_or(0, Vec::len) as u64;
        let ours = master.slaves().into_iter().chain(master.controls());
        if ours.clone().any(|known| known.same_link(link)) {
            if arrived != *sent || link.pending() > 0 {
                let pending = link.pending();
                return Err(format!("session {session}: {arrived} of {sent}, {pending} pending"));
            }
            complete += 1;
        } else if arrived == *sent && link.pending() == 0 {
            complete += 1;
        }
    }
    let expected = 2 * (SLAVES + 1);
    if complete < expected {
        return Err(format!("{complete} of {expected} streams are complete"));
    }
    Ok(())
}

#[test]
fn worlds_hold_through_partitions_and_crashes() {
    let given = std::env::var("SEQLINK_SEED").ok().and_then(|seed| seed.parse::<u64>().ok());
    let long = std::env::var_os("SEQLINK_LONG").is_some();
    let seeds: Vec<u64> = match given {
        Some(seed) => vec![seed],
        None if long => (0..2_000).collect(),
        None => {
            let start = u64::from(std::process::id()) * 1_000;
            (start..start + SEEDS).collect()
        }
    };
    let next = AtomicU64::new(0);
    let sums = Mutex::new([0_u64; 4]);
    let failed = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
                    match run(*seed) {
                        Ok(facts) => {
                            let events = facts.arrived.values().map(|all| all.len() as u64).sum();
                            let asked = facts.outcomes.len() as u64;
                            let sessions = facts.sent.len() as u64;
                            let new = [facts.cuts, sessions, events, asked];
                            let mut sums = sums.lock().unwrap();
                            sums.iter_mut().zip(new).for_each(|(sum, new)| *sum += new);
                        }
                        Err(fault) => {
                            println!("SEQLINK_SEED={seed}: {fault}");
                            failed.lock().unwrap().push(format!("SEQLINK_SEED={seed}: {fault}"));
                        }
                    }
                }
            });
        }
    });
    let [faults, sessions, events, requests] = *sums.lock().unwrap();
    println!(
        "{} worlds: {faults} faults, {sessions} ends of sessions, {events} events, {requests} requests",
        seeds.len()
    );
    let failed = failed.lock().unwrap();
    assert!(failed.is_empty(), "{} of {}: {failed:#?}", failed.len(), seeds.len());
}
