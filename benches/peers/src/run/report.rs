//! The results as Markdown.

use std::fmt::Write as _;
use std::process::Command;

use super::loads::{self, IN_FLIGHT, Sizes, at, name};
use super::process::Place;
use super::samples::Samples;
use crate::stacks::Stack::{self, Clusterio, Floor, Jsonrpsee, OneLoop, Seqlink, Tarpc};

const HEAD: &str = "\
# Results

Written by `benches/run.sh`; edit nothing here. What to keep are the ratios: absolute numbers change from
machine to machine.

![Requests per second, by stack and load](rates.svg)

`seqlink` is this library with sessions, time limits and limits, all as they are by default; whoever asks is a
task that waits for its answer, one for each request in flight. The *floor* is bare tokio-tungstenite, batched,
with the same JSON parsed and written on both sides, and nothing else: a task for each socket, which asks anew with
each answer. The floor of *one loop* has the same server, and a client that reads all answers that have come, asks
as often anew, and flushes once. tarpc is over TCP with its JSON transport, jsonrpsee over a WebSocket; Clusterio
are the link classes of `@clusterio/lib` 2.0.0-alpha.12 over `ws`, on Node. Everybody carries the same `play_game`
request, a frame of about 240 bytes, answered by one of about 85.

Client and server are processes of their own; all of the Rust in one program, built with link-time optimisation
over all its crates. Unless a table says otherwise each has one thread, and where a CPU time per request stands,
both share one core. With the *multi-thread runtime* each has tokio's as it is by default, with a worker thread for
each core, and the system places them all (Node has no such runtime: its processes are only not bound to a core).
CPU time is that of both processes, the kernel's share included. The stacks take turns within each round; the
numbers are the medians of the rounds. Why a goal is not met: [profiles.md](profiles.md). To compare two revisions of
this library: `benches/ab.sh`.
";

pub fn report(samples: &Samples, sizes: &Sizes) -> String {
    let mut text = HEAD.to_owned();
    let commit = say("git", &["-C", env!("CARGO_MANIFEST_DIR"), "rev-parse", "--short", "HEAD"]);
    let machine = machine(&format!("{} rounds", sizes.rounds));
    let _ = writeln!(text, "\n{machine}, commit {commit}.\n");
    goals(&mut text, samples, sizes);
    for place in [Place::OneCore, Place::MultiThread] {
        for in_flight in IN_FLIGHT {
            requests(&mut text, samples, "One link", &at(place, in_flight), OneLoop);
        }
    }
    requests(&mut text, samples, "Many links", &name(1000, 4), Floor);
    requests(&mut text, samples, "One link", loads::EVENTS, Floor);
    for in_flight in [1, 64] {
        let load = loads::forwarded(in_flight);
        requests(&mut text, samples, "Control → master → slave", &load, Floor);
    }
    fleet(&mut text, samples, sizes);
    growth(&mut text, samples, sizes);
    text
}

fn say(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned()).unwrap_or_default()
}

/// The day, how often, and on what.
pub fn machine(often: &str) -> String {
    let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    format!(
        "{}, {often}, {} cores of {}, Linux {}, {}, Node {}",
        say("date", &["-u", "+%F"]),
        std::thread::available_parallelism().map_or(0, usize::from),
        model.map_or("unknown", |(_, model)| model),
        say("uname", &["-r"]),
        say("rustc", &["--version"]),
        say("node", &["--version"]),
    )
}

pub fn number(value: Option<f64>) -> String {
    match value {
        None => "–".to_owned(),
        Some(value) if value >= 1000.0 => {
            let digits = format!("{value:.0}");
            let from = |end: usize| end.saturating_sub(3)..end;
            let mut end = digits.len();
            let mut groups = Vec::new();
            while end > 0 {
                groups.push(&digits[from(end)]);
                end = from(end).start;
            }
            groups.reverse();
            groups.join(",")
        }
        Some(value) if value >= 100.0 => format!("{value:.0}"),
        Some(value) if value >= 10.0 => format!("{value:.1}"),
        Some(value) => format!("{value:.2}"),
    }
}

/// A table of the stacks under one load, and their ratios to that of one of them.
fn requests(text: &mut String, samples: &Samples, title: &str, load: &str, base: Stack) {
    let measured = |stack: &Stack| samples.median(load, *stack, "rate").is_some();
    let stacks: Vec<Stack> = Stack::ALL.into_iter().filter(measured).collect();
    if stacks.is_empty() {
        return;
    }
    let mut rows = vec![vec!["stack".to_owned()], vec!["---".to_owned()]];
    rows.extend(stacks.iter().map(|stack| vec![stack.name().to_owned()]));
    let mut column = |title: &str, value: &dyn Fn(Stack) -> Option<f64>| {
        let values: Vec<Option<f64>> = stacks.iter().map(|stack| value(*stack)).collect();
        if values.iter().all(Option::is_none) {
            return;
        }
        let cells = [title.to_owned(), "--:".to_owned()].into_iter();
        for (row, cell) in rows.iter_mut().zip(cells.chain(values.into_iter().map(number))) {
            row.push(cell);
        }
    };
    let quantities =
        [("rate", "per second"), ("p50", "p50, µs"), ("p99", "p99, µs"), ("cpu", "CPU, µs each")];
    for (quantity, title) in quantities {
        column(title, &|stack| samples.median(load, stack, quantity));
        let times = format!("× {}'s", base.name());
        column(&times, &|stack| samples.ratio(load, stack, base, quantity));
    }
    if load.contains("links") {
        column("slowest link ÷ median", &|stack| samples.median(load, stack, "slowest"));
    }
    column("instructions", &|stack| samples.median(load, stack, "instructions"));
    let _ = writeln!(text, "## {title}: {load}\n");
    for row in rows {
        let _ = writeln!(text, "| {} |", row.join(" | "));
    }
    text.push('\n');
}

fn fleet(text: &mut String, samples: &Samples, sizes: &Sizes) {
    let rows = [
        (loads::FLEET, "connect", format!("{} links connected and registered, ms", sizes.links)),
        (loads::MOST, "connect", format!("{} links connected, ms", sizes.most_links)),
        (loads::FLEET, "memory", "memory of an idle link on the server, KiB".to_owned()),
        (loads::MOST, "memory", format!("the same among {}, KiB", sizes.most_links)),
        (loads::FLEET, "memory, just carried", "after 60 KB there and back, KiB".to_owned()),
        (loads::FLEET, "memory, rested", format!("the same {} s later, KiB", sizes.rest)),
        (loads::FLEET, "broadcast", "one event to all, until the last has it, ms".to_owned()),
        (loads::FLEET, "broadcast cpu", "the server's CPU time for it, µs a link".to_owned()),
        (loads::FLEET, "resume", "all sockets cut, until all are resumed, ms".to_owned()),
    ];
    let measured = |stack: Stack, (load, quantity, _): &(&str, &'static str, String)| {
        samples.median(load, stack, quantity)
    };
    let stacks = Stack::ALL.into_iter().filter(|stack| stack.has_fleets()).collect::<Vec<_>>();
    let _ = writeln!(text, "## {} links, server and client on a core each\n", sizes.links);
    let names = stacks.iter().map(|stack| stack.name()).collect::<Vec<_>>().join(" | ");
    let _ = writeln!(text, "| | {names} |\n|---|{}", "--:|".repeat(stacks.len()));
    for row in &rows {
        let values = stacks.iter().map(|stack| number(measured(*stack, row)));
        let _ = writeln!(text, "| {} | {} |", row.2, values.collect::<Vec<_>>().join(" | "));
    }
    text.push('\n');
}

fn growth(text: &mut String, samples: &Samples, sizes: &Sizes) {
    let _ = writeln!(
        text,
        "## Growth: CPU of a request with 64 in flight on one link\n\n\
         Among other links that idle, and beside other requests that wait for their answers on the \
         same link\n(for these the server handles more than the default 256 at once).\n\n\
         | | µs each | × the first |\n|---|--:|--:|"
    );
    let links = loads::growing_links(sizes).map(loads::among);
    let pending = loads::PENDING.map(loads::beside);
    for loads in [links, pending] {
        let first = samples.median(&loads[0], Seqlink, "cpu");
        for load in &loads {
            let cpu = samples.median(load, Seqlink, "cpu");
            let times = cpu.zip(first).map(|(cpu, first)| cpu / first);
            let _ = writeln!(text, "| {load} | {} | {} |", number(cpu), number(times));
        }
    }
}

/// A goal, its bound, and what was measured.
struct Goal {
    what: String,
    measured: Option<f64>,
    bound: f64,
    at_most: bool,
}

fn goals(text: &mut String, samples: &Samples, sizes: &Sizes) {
    text.push_str("## Goals\n\n| goal | bound | measured | |\n|---|--:|--:|---|\n");
    for Goal { what, measured, bound, at_most } in all_goals(samples, sizes) {
        let met = measured.map(|value| if at_most { value <= bound } else { value >= bound });
        let verdict = met.map_or("not measured", |met| if met { "met" } else { "**not met**" });
        let sign = if at_most { '≤' } else { '≥' };
        let measured = number(measured);
        let _ =
            writeln!(text, "| {what} | {sign} {} | {measured} | {verdict} |", number(Some(bound)));
    }
    text.push('\n');
}

fn most(what: impl Into<String>, bound: f64, measured: Option<f64>) -> Goal {
    Goal { what: what.into(), measured, bound, at_most: true }
}

fn least(what: impl Into<String>, bound: f64, measured: Option<f64>) -> Goal {
    Goal { what: what.into(), measured, bound, at_most: false }
}

fn all_goals(samples: &Samples, sizes: &Sizes) -> Vec<Goal> {
    let mut goals = request_goals(samples);
    goals.extend(fleet_goals(samples, sizes));
    let growing = [
        ("links", loads::growing_links(sizes).map(loads::among)),
        ("pending", loads::PENDING.map(loads::beside)),
    ];
    for (what, loads) in growing {
        let [first, .., last] = loads.map(|load| samples.median(&load, Seqlink, "cpu"));
        let what = format!("growth with the {what}: CPU, the last × the first");
        goals.push(most(what, 1.10, by(last, first)));
    }
    goals
}

fn by(one: Option<f64>, other: Option<f64>) -> Option<f64> {
    Some(one? / other?)
}

fn request_goals(samples: &Samples) -> Vec<Goal> {
    let round_trip = samples.ratio(&name(1, 1), Seqlink, Floor, "p50");
    let mut goals = vec![most("1 in flight: round trip × the floor's", 1.08, round_trip)];
    for in_flight in IN_FLIGHT {
        let load = name(1, in_flight);
        let cpu = samples.ratio(&load, Seqlink, OneLoop, "cpu");
        goals.push(most(format!("{load}: CPU × one loop's"), 1.10, cpu));
    }
    for in_flight in [64, 256] {
        let load = name(1, in_flight);
        let cpu = samples.ratio(&load, Seqlink, Floor, "cpu");
        goals.push(most(format!("{load}: CPU × the floor's"), 1.10, cpu));
        for (stack, bound) in [(Jsonrpsee, 10.0), (Clusterio, 13.0), (Tarpc, 4.0)] {
            let rate = samples.ratio(&load, Seqlink, stack, "rate");
            goals.push(least(format!("{load}: rate × {}'s", stack.name()), bound, rate));
        }
    }
    for (in_flight, bound) in [(64, 1.6), (256, 1.4)] {
        let load = at(Place::MultiThread, in_flight);
        let cpu = samples.ratio(&load, Seqlink, OneLoop, "cpu");
        goals.push(most(format!("{load}: CPU × one loop's"), bound, cpu));
        let rate = samples.ratio(&load, Seqlink, OneLoop, "rate");
        goals.push(least(format!("{load}: rate × one loop's"), 0.9, rate));
    }
    let instructions = samples.median(&name(1, 64), Seqlink, "instructions");
    goals.push(most("64 in flight: instructions a request", 25_000.0, instructions));
    let many = name(1000, 4);
    let rate = samples.ratio(&many, Seqlink, Floor, "rate");
    goals.push(least(format!("{many}: rate × the floor's"), 0.8, rate));
    let slowest = samples.median(&many, Seqlink, "slowest");
    goals.push(least(format!("{many}: slowest ÷ median"), 0.5, slowest));
    let forwarded = samples.median(&loads::forwarded(64), Seqlink, "cpu");
    let times = by(forwarded, samples.median(&name(1, 64), Seqlink, "cpu"));
    goals.push(most("forwarded request: CPU × a direct one's", 2.3, times));
    goals
}

fn fleet_goals(samples: &Samples, sizes: &Sizes) -> [Goal; 5] {
    let of = |quantity| samples.median(loads::FLEET, Seqlink, quantity);
    let broadcast = samples.ratio(loads::FLEET, Seqlink, Floor, "broadcast");
    let registered = samples.ratio(loads::MOST, Seqlink, Floor, "connect");
    let Sizes { links, most_links, rest, .. } = sizes;
    [
        most(format!("broadcast to {links}: time × the floor's"), 1.3, broadcast),
        most("idle link: KiB of memory on the master", 10.0, of("memory")),
        most(format!("the same {rest} s after 60 KB"), 16.0, of("memory, rested")),
        most(
            format!("{most_links} links registered: time × the floor's to connect"),
            3.0,
            registered,
        ),
        most(
            format!("{links} links resumed: time × registering"),
            2.0,
            by(of("resume"), of("connect")),
        ),
    ]
}
