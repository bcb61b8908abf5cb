//! One build of this program against another, in turn: the library as it was, and as it is.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use super::change::Change;
use super::loads::{self, FLEET, IN_FLIGHT, Sizes, at, name};
use super::pause;
use super::process::{Place, Rig};
use super::report::{machine, number};
use super::samples::Samples;
use crate::stacks::Stack::Seqlink;

/// A fleet is measured in each pair of so many.
const FLEETS: usize = 5;

#[derive(clap::Args)]
pub struct Comparison {
    /// This program, built with the library as it was.
    old: PathBuf,
    /// This program, built with the library as it is.
    new: PathBuf,
    /// What the two are, for the head of the results.
    #[arg(long, default_value = "")]
    title: String,
    /// A short pass, to see that it works; its numbers mean little.
    #[arg(long)]
    quick: bool,
    /// How often both are measured.
    #[arg(long, default_value_t = 15)]
    pairs: usize,
    /// A file to write the results to as well.
    #[arg(long)]
    output: Option<PathBuf>,
}

struct Side {
    rig: Rig,
    samples: Samples,
}

pub fn compare(options: &Comparison) -> Result<()> {
    let sizes = if options.quick { Sizes::QUICK } else { Sizes::FULL };
    let pairs = if options.quick { options.pairs.min(FLEETS) } else { options.pairs };
    let side = |program: &PathBuf| {
        let program = program.canonicalize().with_context(|| program.display().to_string())?;
        anyhow::Ok(Side { rig: Rig::new(program)?, samples: Samples::default() })
    };
    let mut sides = [side(&options.old)?, side(&options.new)?];
    for pair in 0..pairs {
        eprintln!("pair {} of {pairs}", pair + 1);
        for load in [link, multi_thread, thousand, forward, fleet] {
            // Old, new, new, old: a machine that gets slower all the while favours neither.
            let order = if pair % 2 == 0 { [0, 1] } else { [1, 0] };
            for side in order {
                load(&mut sides[side], pair, &sizes)?;
            }
        }
    }
    memory(&mut sides, &sizes)?;
    for Side { rig, samples } in &mut sides {
        loads::instructions(samples, Seqlink, rig)?;
    }
    let [old, new] = sides.map(|side| side.samples);
    let head = format!("{}\n\n{}.", options.title, machine(&format!("{pairs} pairs")));
    let text = format!("{head}\n\n{}", table(&old, &new, &sizes));
    print!("{text}");
    if let Some(output) = &options.output {
        std::fs::write(output, text).with_context(|| output.display().to_string())?;
        eprintln!("written to {}", output.display());
    }
    Ok(())
}

fn link(side: &mut Side, _: usize, sizes: &Sizes) -> Result<()> {
    loads::link(&mut side.samples, Seqlink, &side.rig, sizes)
}

fn multi_thread(side: &mut Side, _: usize, sizes: &Sizes) -> Result<()> {
    loads::link(&mut side.samples, Seqlink, &side.rig.at(Place::MultiThread), sizes)
}

fn thousand(side: &mut Side, _: usize, sizes: &Sizes) -> Result<()> {
    loads::thousand(&mut side.samples, Seqlink, &side.rig, sizes)
}

fn forward(side: &mut Side, _: usize, sizes: &Sizes) -> Result<()> {
    loads::forward(&mut side.samples, &side.rig, sizes)
}

fn fleet(side: &mut Side, pair: usize, sizes: &Sizes) -> Result<()> {
    if !pair.is_multiple_of(FLEETS) {
        return Ok(());
    }
    loads::fleet(&mut side.samples, Seqlink, &side.rig.at(Place::TwoCores), sizes)
}

fn memory(sides: &mut [Side; 2], sizes: &Sizes) -> Result<()> {
    let mut fleets = Vec::new();
    for Side { rig, samples } in sides.iter_mut() {
        let rig = rig.at(Place::TwoCores);
        fleets.push(loads::carry(samples, Seqlink, &rig, sizes.links)?);
    }
    pause(sizes.rest);
    for (fleet, side) in fleets.into_iter().zip(sides) {
        fleet.rested(&mut side.samples)?;
    }
    Ok(())
}

/// What a change must not do.
#[derive(Clone, Copy, Debug)]
enum Bound {
    None,
    /// The whole interval stays under this.
    Interval(f64),
    /// New by old stays at most this.
    Ratio(f64),
    /// The new value stays at most this.
    Value(f64),
}

impl Bound {
    fn tell(self, change: Change) -> String {
        let verdict = |met| if met { "met" } else { "**not met**" };
        match self {
            Self::None => String::new(),
            Self::Interval(bound) => {
                let met = match change.interval {
                    None => "too few pairs",
                    Some([from, to]) if from < bound && to >= bound => "**not shown**",
                    Some([_, to]) => verdict(to < bound),
                };
                format!("all of it < {bound}: {met}")
            }
            Self::Ratio(bound) => format!("ratio ≤ {bound}: {}", verdict(change.ratio() <= bound)),
            Self::Value(bound) => format!("new ≤ {bound}: {}", verdict(change.new <= bound)),
        }
    }
}

fn table(old: &Samples, new: &Samples, sizes: &Sizes) -> String {
    let mut text =
        "| | old | new | new ÷ old | 95 % | bound |\n|---|--:|--:|--:|---|---|\n".to_owned();
    let mut row = |what: &str, change: Option<Change>, bound: Bound| {
        let Some(change) = change else { return };
        let [old, new] = [change.old, change.new].map(|value| number(Some(value)));
        let interval = change.interval.map(|[from, to]| format!("{from:.3}–{to:.3}"));
        let _ = writeln!(
            text,
            "| {what} | {old} | {new} | {:.3} | {} | {} |",
            change.ratio(),
            interval.as_deref().unwrap_or("–"),
            bound.tell(change),
        );
    };
    let change = |load: &str, quantity| {
        Change::of(old.values(load, Seqlink, quantity), new.values(load, Seqlink, quantity))
    };
    let many = name(1000, 4);
    let one_core = IN_FLIGHT.map(|in_flight| at(Place::OneCore, in_flight));
    for load in one_core.iter().chain([&many]) {
        row(&format!("{load}: CPU, µs"), change(load, "cpu"), Bound::Interval(1.03));
        row(&format!("{load}: per second"), change(load, "rate"), Bound::None);
    }
    for load in IN_FLIGHT.map(|in_flight| at(Place::MultiThread, in_flight)) {
        row(&format!("{load}: CPU, µs"), change(&load, "cpu"), Bound::None);
        row(&format!("{load}: per second"), change(&load, "rate"), Bound::None);
        row(&format!("{load}: p99, µs"), change(&load, "p99"), Bound::None);
    }
    row("events one way: CPU, µs", change(loads::EVENTS, "cpu"), Bound::None);
    let forwarded = loads::forwarded(64);
    row(&format!("{forwarded}: CPU, µs"), change(&forwarded, "cpu"), Bound::None);
    let times = |samples: &Samples| {
        let of = |load: &str| samples.values(load, Seqlink, "cpu").to_vec();
        let direct = of(&one_core[1]);
        of(&forwarded).into_iter().zip(direct).map(|(one, other)| one / other).collect::<Vec<_>>()
    };
    let what = "forwarded request: CPU × a direct one's";
    row(what, Change::of(&times(old), &times(new)), Bound::Value(2.3));
    for load in &one_core {
        let what = format!("{load}: instructions a request");
        row(&what, change(load, "instructions"), Bound::Ratio(1.01));
    }
    row("idle link: KiB of memory on the master", change(FLEET, "memory"), Bound::Value(10.0));
    let carried = change(FLEET, "memory, just carried");
    row("after 60 KB there and back, KiB", carried, Bound::None);
    let rested = format!("the same {} s later, KiB", sizes.rest);
    row(&rested, change(FLEET, "memory, rested"), Bound::Value(16.0));
    let broadcast = format!("broadcast to {} links: ms", sizes.links);
    row(&broadcast, change(FLEET, "broadcast"), Bound::None);
    let resumed = format!("{} links resumed: ms", sizes.links);
    row(&resumed, change(FLEET, "resume"), Bound::None);
    text
}
