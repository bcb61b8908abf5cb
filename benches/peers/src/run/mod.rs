//! The measuring run: starts servers and clients, the stacks in turn, and writes the results.

mod change;
mod chart;
mod compare;
mod loads;
mod process;
mod report;
mod samples;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::stacks::Stack;
pub use compare::{Comparison, compare};
use loads::Sizes;
use process::{Place, Rig};
use samples::Samples;

#[derive(clap::Args)]
pub struct Options {
    /// A short pass: three rounds, a tenth of the links.
    #[arg(long)]
    quick: bool,
    /// Only these stacks.
    #[arg(long, value_enum, value_delimiter = ',')]
    stacks: Vec<Stack>,
    /// Only these parts.
    #[arg(long, value_enum, value_delimiter = ',')]
    parts: Vec<Part>,
    /// Where to write the results, instead of benches/RESULTS.md; the chart goes beside them.
    #[arg(long)]
    output: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    Link,
    MultiThread,
    Thousand,
    Forward,
    Fleet,
    Growth,
    Grown,
    Instructions,
}

pub fn run(options: &Options) -> Result<()> {
    let stacks = match &options.stacks[..] {
        [] => &Stack::ALL[..],
        some => some,
    };
    let parts = match &options.parts[..] {
        [] => <Part as clap::ValueEnum>::value_variants(),
        some => some,
    };
    let sizes = if options.quick { Sizes::QUICK } else { Sizes::FULL };
    let rig = Rig::new(std::env::current_exe()?)?;
    let mut samples = Samples::default();
    for round in 1..=sizes.rounds {
        for part in parts {
            eprintln!("round {round} of {}: {part:?}", sizes.rounds);
            part.round(&mut samples, stacks, &rig, &sizes)?;
        }
    }
    for part in parts {
        part.once(&mut samples, stacks, &rig, &sizes)?;
    }
    let default = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../RESULTS.md");
    let output = options.output.clone().unwrap_or(default);
    std::fs::write(&output, report::report(&samples, &sizes))
        .with_context(|| output.display().to_string())?;
    eprintln!("written to {}", output.display());
    if let Some(drawing) = chart::rates(&samples, &sizes)? {
        let drawn = output.with_file_name("rates.svg");
        std::fs::write(&drawn, drawing).with_context(|| drawn.display().to_string())?;
        eprintln!("drawn in {}", drawn.display());
    }
    Ok(())
}

impl Part {
    /// What is measured in every round, by the stacks in turn.
    fn round(
        self,
        samples: &mut Samples,
        stacks: &[Stack],
        rig: &Rig,
        sizes: &Sizes,
    ) -> Result<()> {
        let fleets = || stacks.iter().copied().filter(|stack| stack.has_fleets());
        let ours = stacks.contains(&Stack::Seqlink);
        match self {
            Self::Link | Self::MultiThread => {
                let place = if self == Self::Link { Place::OneCore } else { Place::MultiThread };
                let rig = rig.at(place);
                stacks.iter().try_for_each(|stack| loads::link(samples, *stack, &rig, sizes))
            }
            Self::Thousand => {
                fleets().try_for_each(|stack| loads::thousand(samples, stack, rig, sizes))
            }
            Self::Forward if ours => loads::forward(samples, rig, sizes),
            Self::Fleet => {
                let rig = rig.at(Place::TwoCores);
                fleets().try_for_each(|stack| loads::fleet(samples, stack, &rig, sizes))?;
                most(stacks)
                    .try_for_each(|stack| loads::register(samples, stack, &rig, sizes.most_links))
            }
            Self::Growth if ours => loads::growth(samples, rig, sizes),
            _ => Ok(()),
        }
    }

    /// What is measured once, after the rounds.
    fn once(self, samples: &mut Samples, stacks: &[Stack], rig: &Rig, sizes: &Sizes) -> Result<()> {
        match self {
            Self::Grown => {
                let rig = rig.at(Place::TwoCores);
                let fleets = most(stacks)
                    .map(|stack| loads::carry(samples, stack, &rig, sizes.links))
                    .collect::<Result<Vec<_>>>()?;
                pause(sizes.rest);
                fleets.into_iter().try_for_each(|fleet| fleet.rested(samples))
            }
            Self::Instructions => {
                let counted = stacks.iter().filter(|stack| **stack != Stack::Clusterio);
                counted.copied().try_for_each(|stack| loads::instructions(samples, stack, rig))
            }
            _ => Ok(()),
        }
    }
}

/// The stacks that are measured with the most links.
fn most(stacks: &[Stack]) -> impl Iterator<Item = Stack> {
    stacks.iter().copied().filter(|stack| matches!(stack, Stack::Seqlink | Stack::Floor))
}

/// A pause in which nothing is measured.
fn pause(seconds: u64) {
    std::thread::sleep(Duration::from_secs(seconds));
}
