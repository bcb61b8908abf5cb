//! The loads. Each runs one stack once.

use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};

use super::pause;
use super::process::{Client, Cores, Server};
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
    }
    Ok(())
}

/// Lets buffers grow and compilers finish: Node's takes its time.
fn warm_up(client: &mut Client, stack: Stack, play: &str, sizes: &Sizes) -> Result<()> {
    let millis = if stack == Stack::Clusterio { sizes.millis * 3 } else { sizes.millis / 2 };
    client.ask(&format!("{play} {millis}")).map(drop)
}

/// Requests and events on one link.
pub fn link(samples: &mut Samples, stack: Stack, cores: Cores, sizes: &Sizes) -> Result<()> {
    let mut server = Server::start(stack, cores.server, &[])?;
    let mut client = Client::start(&server, stack, cores.client, 1)?;
    warm_up(&mut client, stack, "play 1 64", sizes)?;
    for in_flight in [1, 64, 256] {
        let order = format!("play 1 {in_flight} {}", sizes.millis);
        let both = (&mut server, &mut client);
        play(samples, &name(1, in_flight), stack, both, &order)?;
    }
    if stack.has_events() {
        client.ask(&format!("stream {}", sizes.events / 10))?;
        let order = format!("stream {}", sizes.events);
        play(samples, EVENTS, stack, (&mut server, &mut client), &order)?;
    }
    Ok(())
}

/// Requests on many links.
pub fn thousand(samples: &mut Samples, stack: Stack, cores: Cores, sizes: &Sizes) -> Result<()> {
    let mut server = Server::start(stack, cores.server, &[])?;
    let mut client = Client::start(&server, stack, cores.client, 1000)?;
    warm_up(&mut client, stack, "play 1000 4", sizes)?;
    let order = format!("play 1000 4 {}", sizes.millis * 2);
    play(samples, &name(1000, 4), stack, (&mut server, &mut client), &order)
}

/// Control → master → slave, three processes on one core.
pub fn forward(samples: &mut Samples, cores: Cores, sizes: &Sizes) -> Result<()> {
    let stack = Stack::Seqlink;
    let mut server = Server::start(stack, cores.server, &[])?;
    let mut worker = Client::as_role(&server, stack, cores.client, 1, Role::Worker)?;
    let mut client = Client::as_role(&server, stack, cores.client, 1, Role::Forward)?;
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
    }
    Ok(())
}

/// Connecting, idle memory, broadcasts, and the return after a cut.
pub fn fleet(samples: &mut Samples, stack: Stack, cores: Cores, sizes: &Sizes) -> Result<()> {
    let links = sizes.links;
    let mut server = Server::start(stack, cores.server, &[])?;
    let before = server.number("memory")?;
    let mut client = Client::start(&server, stack, cores.client, links)?;
    samples.add(FLEET, stack, "connect", client.connected.wall_ns as f64 / 1e6);
    pause(1);
    let kib = (server.number("memory")? - before) as f64 / links as f64;
    samples.add(FLEET, stack, "memory", kib);
    if stack == Stack::Floor {
        server = Server::start(stack, cores.server, &["--hold"])?;
        client = Client::start(&server, stack, cores.client, links)?;
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
pub fn register(samples: &mut Samples, stack: Stack, cores: Cores, links: usize) -> Result<()> {
    let mut server = Server::start(stack, cores.server, &[])?;
    let before = server.number("memory")?;
    let client = Client::start(&server, stack, cores.client, links)?;
    samples.add(MOST, stack, "connect", client.connected.wall_ns as f64 / 1e6);
    pause(1);
    let kib = (server.number("memory")? - before) as f64 / links as f64;
    samples.add(MOST, stack, "memory", kib);
    Ok(())
}

/// Memory of links that have each carried a large message, a while ago.
pub fn grown(samples: &mut Samples, stacks: &[Stack], cores: Cores, sizes: &Sizes) -> Result<()> {
    let mut fleets = Vec::new();
    for stack in stacks.iter().filter(|stack| matches!(stack, Stack::Seqlink | Stack::Floor)) {
        let mut server = Server::start(*stack, cores.server, &[])?;
        let before = server.number("memory")?;
        let mut client = Client::start(&server, *stack, cores.client, sizes.links)?;
        client.ask("blobs")?;
        let kib = (server.number("memory")? - before) as f64 / sizes.links as f64;
        samples.add(FLEET, *stack, "memory, just carried", kib);
        fleets.push((*stack, server, client, before));
    }
    pause(sizes.rest);
    for (stack, server, _client, before) in &mut fleets {
        let kib = (server.number("memory")? - *before) as f64 / sizes.links as f64;
        samples.add(FLEET, *stack, "memory, rested", kib);
    }
    Ok(())
}

/// The cost of a request among more and more links, and among more and more pending requests.
pub fn growth(samples: &mut Samples, cores: Cores, sizes: &Sizes) -> Result<()> {
    let stack = Stack::Seqlink;
    let order = format!("play 1 64 {}", sizes.millis);
    let warm = format!("play 1 64 {}", sizes.millis / 2);
    for links in growing_links(sizes) {
        let mut server = Server::start(stack, cores.server, &[])?;
        let mut client = Client::start(&server, stack, cores.client, links)?;
        client.ask(&warm)?;
        let load = among(links);
        play(samples, &load, stack, (&mut server, &mut client), &order)?;
    }
    for pending in PENDING {
        let mut server = Server::start(stack, cores.server, &["--handlers", "2048"])?;
        let mut client = Client::start(&server, stack, cores.client, 1)?;
        client.ask(&format!("hang {pending}"))?;
        client.ask(&warm)?;
        let load = beside(pending);
        play(samples, &load, stack, (&mut server, &mut client), &order)?;
    }
    Ok(())
}

/// Instructions in user space of one request, client and server together.
pub fn instructions(samples: &mut Samples, stacks: &[Stack]) -> Result<()> {
    for stack in stacks.iter().filter(|stack| **stack != Stack::Clusterio) {
        for in_flight in [1, 64] {
            let [few, many] = [2000, 6000];
            let between = count(*stack, in_flight, many)? - count(*stack, in_flight, few)?;
            let each = between as f64 / f64::from(many - few);
            samples.add(&name(1, in_flight), *stack, "instructions", each);
        }
    }
    Ok(())
}

fn count(stack: Stack, in_flight: usize, requests: u32) -> Result<u64> {
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
    command.arg(std::env::current_exe()?).args(["both", stack.name()]);
    command.args(["--in-flight", &in_flight.to_string(), "--requests", &requests.to_string()]);
    let output = command.output().context("valgrind")?;
    let text = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{text}");
    let collected = text.lines().find_map(|line| line.split_once("Collected : "));
    Ok(collected.context("nothing collected")?.1.trim().parse()?)
}
