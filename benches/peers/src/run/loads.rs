//! The loads. Each runs one stack once.

use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};

use super::pause;
use super::process::{Client, Place, Rig, Server};
use super::samples::Samples;
use crate::client::Role;
use crate::stacks::Stack;

pub struct Sizes {
    pub rounds: usize,
    pub millis: u64,
    pub events: u64,
    pub links: usize,
    pub most_links: usize,
    /// How long links rest after their large message, in seconds.
    pub rest: u64,
}

impl Sizes {
    pub const FULL: Self = Self {
        rounds: 5,
        millis: 1000,
        events: 50_000,
        links: 10_000,
        most_links: 15_000,
        rest: 60,
    };
    pub const QUICK: Self =
        Self { rounds: 3, millis: 200, events: 10_000, links: 1000, most_links: 1500, rest: 12 };
}

/// The load of the loads: so many connections, so many requests in flight on each.
pub fn name(links: usize, in_flight: usize) -> String {
    match links {
        1 => format!("{in_flight} in flight"),
        _ => format!("{links} links, {in_flight} in flight on each"),
    }
}

/// The load of one link, at that place.
pub fn at(place: Place, in_flight: usize) -> String {
    match place {
        Place::MultiThread => format!("{}, multi-thread runtime", name(1, in_flight)),
        _ => name(1, in_flight),
    }
}

/// The load of a forwarded request.
pub fn forwarded(in_flight: usize) -> String {
    format!("forwarded, {}", name(1, in_flight))
}

/// The load of one busy link among so many.
pub fn among(links: usize) -> String {
    format!("one busy of {links} links")
}

/// The load of requests beside so many others.
pub fn beside(pending: usize) -> String {
    format!("{} pending on the link", pending + 64)
}

pub fn growing_links(sizes: &Sizes) -> [usize; 4] {
    [1, sizes.links / 100, sizes.links / 10, sizes.links]
}

/// With the 64 that come and go these make 1,000.
pub const PENDING: [usize; 4] = [0, 10, 100, 936];
pub const EVENTS: &str = "events one way";
pub const FLEET: &str = "fleet";
pub const MOST: &str = "most links";

/// Measures requests that go on for a while.
fn play(
    samples: &mut Samples,
    load: &str,
    stack: Stack,
    (server, client): (&mut Server, &mut Client),
    order: &str,
) -> Result<()> {
    let before = server.number("cpu")?;
    let outcome = client.ask(order)?;
    let cpu = server.number("cpu")? - before + outcome.cpu_ns;
    ensure!(outcome.requests > 0, "{load}: nothing was answered");
    let requests = outcome.requests as f64;
    samples.add(load, stack, "rate", requests / outcome.wall_ns as f64 * 1e9);
    samples.add(load, stack, "cpu", cpu as f64 / requests / 1e3);
    samples.add(load, stack, "slowest", outcome.slowest);
    if outcome.p50_ns > 0 {
        samples.add(load, stack, "p50", outcome.p50_ns as f64 / 1e3);
        samples.add(load, stack, "p99", outcome.p99_ns as f64 / 1e3);
    }
    Ok(())
}

/// Lets buffers grow and compilers finish: Node's takes its time.
fn warm_up(client: &mut Client, stack: Stack, play: &str, sizes: &Sizes) -> Result<()> {
    let millis = if stack == Stack::Clusterio { sizes.millis * 3 } else { sizes.millis / 2 };
    client.ask(&format!("{play} {millis}")).map(drop)
}

/// Requests in flight on one link.
pub const IN_FLIGHT: [usize; 3] = [1, 64, 256];

/// Requests on one link, and events where they can be compared.
pub fn link(samples: &mut Samples, stack: Stack, rig: &Rig, sizes: &Sizes) -> Result<()> {
    let mut server = Server::start(rig, stack, &[])?;
    let mut client = Client::start(rig, &server, stack, 1)?;
    warm_up(&mut client, stack, "play 1 64", sizes)?;
    for in_flight in IN_FLIGHT {
        let order = format!("play 1 {in_flight} {}", sizes.millis);
        let both = (&mut server, &mut client);
        play(samples, &at(rig.place(), in_flight), stack, both, &order)?;
    }
    if stack.has_events() && rig.place() == Place::OneCore {
        client.ask(&format!("stream {}", sizes.events / 10))?;
        let order = format!("stream {}", sizes.events);
        play(samples, EVENTS, stack, (&mut server, &mut client), &order)?;
    }
    Ok(())
}

/// Requests on many links.
pub fn thousand(samples: &mut Samples, stack: Stack, rig: &Rig, sizes: &Sizes) -> Result<()> {
    let mut server = Server::start(rig, stack, &[])?;
    let mut client = Client::start(rig, &server, stack, 1000)?;
    warm_up(&mut client, stack, "play 1000 4", sizes)?;
    let order = format!("play 1000 4 {}", sizes.millis * 2);
    play(samples, &name(1000, 4), stack, (&mut server, &mut client), &order)
}

/// Control → master → slave, three processes on one core.
pub fn forward(samples: &mut Samples, rig: &Rig, sizes: &Sizes) -> Result<()> {
    let stack = Stack::Seqlink;
    let mut server = Server::start(rig, stack, &[])?;
    let mut worker = Client::as_role(rig, &server, stack, 1, Role::Worker)?;
    let mut client = Client::as_role(rig, &server, stack, 1, Role::Forward)?;
    client.ask(&format!("play 1 64 {}", sizes.millis / 2))?;
    for in_flight in [1, 64] {
        let load = forwarded(in_flight);
        let before = worker.ask("cpu")?.cpu_ns + server.number("cpu")?;
        let outcome = client.ask(&format!("play 1 {in_flight} {}", sizes.millis))?;
        let others = worker.ask("cpu")?.cpu_ns + server.number("cpu")? - before;
        let requests = outcome.requests as f64;
        samples.add(&load, stack, "rate", requests / outcome.wall_ns as f64 * 1e9);
        samples.add(&load, stack, "cpu", (others + outcome.cpu_ns) as f64 / requests / 1e3);
        samples.add(&load, stack, "p50", outcome.p50_ns as f64 / 1e3);
        samples.add(&load, stack, "p99", outcome.p99_ns as f64 / 1e3);
    }
    Ok(())
}

/// Connecting, idle memory, broadcasts, and the return after a cut.
pub fn fleet(samples: &mut Samples, stack: Stack, rig: &Rig, sizes: &Sizes) -> Result<()> {
    let links = sizes.links;
    let mut server = Server::start(rig, stack, &[])?;
    let before = server.number("memory")?;
    let mut client = Client::start(rig, &server, stack, links)?;
    samples.add(FLEET, stack, "connect", client.connected.wall_ns as f64 / 1e6);
    pause(1);
    let kib = (server.number("memory")? - before) as f64 / links as f64;
    samples.add(FLEET, stack, "memory", kib);
    if stack == Stack::Floor {
        server = Server::start(rig, stack, &["--hold"])?;
        client = Client::start(rig, &server, stack, links)?;
        pause(1);
    }
    if stack.has_events() {
        client.ask("listen")?;
        broadcast(samples, stack, links, &mut server, &mut client)?;
    }
    if stack == Stack::Seqlink {
        client.ask("watch")?;
        client.order("resumed")?;
        let started = Instant::now();
        let cut = server.number("cut")?;
        client.outcome()?;
        let millis = started.elapsed().as_secs_f64() * 1e3;
        ensure!(cut == links as u64, "{cut} sockets were cut, and there are {links} links");
        samples.add(FLEET, stack, "resume", millis);
    }
    Ok(())
}

fn broadcast(
    samples: &mut Samples,
    stack: Stack,
    links: usize,
    server: &mut Server,
    client: &mut Client,
) -> Result<()> {
    // The first one is not counted: it makes the buffers.
    for warm in [false, true, true, true] {
        let before = server.number("cpu")?;
        client.order("outputs")?;
        let started = Instant::now();
        server.number("broadcast")?;
        client.outcome()?;
        let millis = started.elapsed().as_secs_f64() * 1e3;
        let cpu = (server.number("cpu")? - before) as f64;
        if warm {
            samples.add(FLEET, stack, "broadcast", millis);
            samples.add(FLEET, stack, "broadcast cpu", cpu / links as f64 / 1e3);
        }
    }
    Ok(())
}

/// How long the largest fleet takes to connect and register, and what it weighs.
pub fn register(samples: &mut Samples, stack: Stack, rig: &Rig, links: usize) -> Result<()> {
    let mut server = Server::start(rig, stack, &[])?;
    let before = server.number("memory")?;
    let client = Client::start(rig, &server, stack, links)?;
    samples.add(MOST, stack, "connect", client.connected.wall_ns as f64 / 1e6);
    pause(1);
    let kib = (server.number("memory")? - before) as f64 / links as f64;
    samples.add(MOST, stack, "memory", kib);
    Ok(())
}

/// Links that have each carried a large message.
pub struct Carried {
    stack: Stack,
    server: Server,
    _client: Client,
    links: usize,
    before: u64,
}

/// Has each of so many links carry a large message, there and back.
pub fn carry(samples: &mut Samples, stack: Stack, rig: &Rig, links: usize) -> Result<Carried> {
    let mut server = Server::start(rig, stack, &[])?;
    let before = server.number("memory")?;
    let mut client = Client::start(rig, &server, stack, links)?;
    client.ask("blobs")?;
    let mut carried = Carried { stack, server, _client: client, links, before };
    carried.weigh(samples, "memory, just carried")?;
    Ok(carried)
}

impl Carried {
    /// Memory of the links once they have rested.
    pub fn rested(mut self, samples: &mut Samples) -> Result<()> {
        self.weigh(samples, "memory, rested")
    }

    fn weigh(&mut self, samples: &mut Samples, quantity: &'static str) -> Result<()> {
        let kib = (self.server.number("memory")? - self.before) as f64 / self.links as f64;
        samples.add(FLEET, self.stack, quantity, kib);
        Ok(())
    }
}

/// The cost of a request among more and more links, and among more and more pending requests.
pub fn growth(samples: &mut Samples, rig: &Rig, sizes: &Sizes) -> Result<()> {
    let stack = Stack::Seqlink;
    let order = format!("play 1 64 {}", sizes.millis);
    let warm = format!("play 1 64 {}", sizes.millis / 2);
    for links in growing_links(sizes) {
        let mut server = Server::start(rig, stack, &[])?;
        let mut client = Client::start(rig, &server, stack, links)?;
        client.ask(&warm)?;
        let load = among(links);
        play(samples, &load, stack, (&mut server, &mut client), &order)?;
    }
    for pending in PENDING {
        let mut server = Server::start(rig, stack, &["--handlers", "2048"])?;
        let mut client = Client::start(rig, &server, stack, 1)?;
        client.ask(&format!("hang {pending}"))?;
        client.ask(&warm)?;
        let load = beside(pending);
        play(samples, &load, stack, (&mut server, &mut client), &order)?;
    }
    Ok(())
}

/// Instructions in user space of one request, client and server together.
pub fn instructions(samples: &mut Samples, stack: Stack, rig: &Rig) -> Result<()> {
    for in_flight in [1, 64] {
        let [few, many] = [2000, 6000];
        let count = |requests| count(rig, stack, in_flight, requests);
        let each = (count(many)? - count(few)?) as f64 / f64::from(many - few);
        samples.add(&name(1, in_flight), stack, "instructions", each);
    }
    Ok(())
}

fn count(rig: &Rig, stack: Stack, in_flight: usize, requests: u32) -> Result<u64> {
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
    command.arg(rig.program()).args(["both", stack.name()]);
    command.args(["--in-flight", &in_flight.to_string(), "--requests", &requests.to_string()]);
    let output = command.output().context("valgrind")?;
    let text = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{text}");
    let collected = text.lines().find_map(|line| line.split_once("Collected : "));
    Ok(collected.context("nothing collected")?.1.trim().parse()?)
}
