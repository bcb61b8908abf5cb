//! The results as Markdown.

use std::fmt::Write as _;
use std::process::Command;

use super::loads::{self, Sizes, name};
use super::samples::Samples;
use crate::stacks::Stack::{self, Clusterio, Floor, Jsonrpsee, Seqlink, Tarpc};

const HEAD: &str = "\
# Results

Written by `benches/run.sh`; edit nothing here. What to keep are the ratios: absolute numbers change from
machine to machine.

`seqlink` is this library with sessions, time limits and limits, all as they are by default. The *floor* is
bare tokio-tungstenite, batched, with the same JSON parsed and written on both sides, and nothing else.
tarpc is over TCP with its JSON transport, jsonrpsee over a WebSocket; Clusterio are the link classes of
`@clusterio/lib` 2.0.0-alpha.12 over `ws`, on Node. Everybody carries the same `play_game` request, a frame of
about 240 bytes, answered by one of about 85.

Client and server are processes of their own, each with one thread; all of the Rust in one program, built with
link-time optimisation over all its crates. Where a CPU time per request stands, both share one core, and it is
the CPU time of both processes, the kernel's share included. The stacks take turns within each round; the
numbers are the medians of the rounds. Why a goal is not met: [profiles.md](profiles.md).
";

pub fn report(samples: &Samples, sizes: &Sizes) -> String {
    let mut text = HEAD.to_owned();
    let _ = writeln!(text, "\n{}\n", machine(sizes));
    goals(&mut text, samples, sizes);
    for in_flight in [1, 64, 256] {
        requests(&mut text, samples, "One link", &name(1, in_flight));
    }
    requests(&mut text, samples, "Many links", &name(1000, 4));
    requests(&mut text, samples, "One link", loads::EVENTS);
    for in_flight in [1, 64] {
        let load = loads::forwarded(in_flight);
        requests(&mut text, samples, "Control → master → slave", &load);
    }
    fleet(&mut text, samples, sizes);
    growth(&mut text, samples, sizes);
    text
}

fn machine(sizes: &Sizes) -> String {
    let say = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output();
        output.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned()).unwrap_or_default()
    };
    let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!(
        "{}, {} rounds, {} cores of {}, Linux {}, {}, Node {}, commit {}.",
        say("date", &["-u", "+%F"]),
        sizes.rounds,
        cores,
        model.map_or("unknown", |(_, model)| model),
        say("uname", &["-r"]),
        say("rustc", &["--version"]),
        say("node", &["--version"]),
        say("git", &["-C", env!("CARGO_MANIFEST_DIR"), "rev-parse", "--short", "HEAD"]),
    )
}

fn number(value: Option<f64>) -> String {
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

/// A table of the stacks under one load.
fn requests(text: &mut String, samples: &Samples, title: &str, load: &str) {
    if samples.median(load, Seqlink, "rate").is_none() {
        return;
    }
    let _ = writeln!(
        text,
        "## {title}: {load}\n\n\
         | stack | per second | p50, µs | CPU, µs each | × the floor's CPU | × seqlink's CPU \
         | slowest link ÷ median | instructions |\n|---|--:|--:|--:|--:|--:|--:|--:|"
    );
    for stack in Stack::ALL {
        if samples.median(load, stack, "rate").is_none() {
            continue;
        }
        let value = |quantity| number(samples.median(load, stack, quantity));
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {} | {} |",
            stack.name(),
            value("rate"),
            value("p50"),
            value("cpu"),
            number(samples.ratio(load, stack, Floor, "cpu")),
            number(samples.ratio(load, stack, Seqlink, "cpu")),
            if load.contains("links") { value("slowest") } else { "–".to_owned() },
            value("instructions"),
        );
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
    let _ = writeln!(text, "## {} links, server and client on a core each\n", sizes.links);
    let names = Stack::ALL.map(Stack::name).join(" | ");
    let _ = writeln!(text, "| | {names} |\n|---|--:|--:|--:|--:|--:|");
    for (load, quantity, title) in rows {
        let value = |stack| number(samples.median(load, stack, quantity));
        let _ = writeln!(text, "| {title} | {} |", Stack::ALL.map(value).join(" | "));
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
    for in_flight in [64, 256] {
        let load = name(1, in_flight);
        let cpu = samples.ratio(&load, Seqlink, Floor, "cpu");
        goals.push(most(format!("{load}: CPU × the floor's"), 1.10, cpu));
        for (stack, bound) in [(Jsonrpsee, 10.0), (Clusterio, 13.0), (Tarpc, 4.0)] {
            let rate = samples.ratio(&load, Seqlink, stack, "rate");
            goals.push(least(format!("{load}: rate × {}'s", stack.name()), bound, rate));
        }
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
