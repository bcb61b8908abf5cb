//! The measuring run: starts servers and clients, the stacks in turn, and writes the results.

mod loads;
mod process;
mod report;
mod samples;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;

use crate::stacks::Stack;
use loads::{Sizes, growth, instructions};
use process::Cores;
use samples::Samples;

#[derive(clap::Args)]
pub struct Options {
    /// A short pass: three rounds, a tenth of the links.
    #[arg(long)]
    quick: bool,
    /// Only these stacks.
    #[arg(long, value_enum, value_delimiter = ',')]
    stacks: Vec<Stack>,
    /// Only these parts: link, thousand, forward, fleet, grown, growth, instructions.
    #[arg(long, value_delimiter = ',')]
    parts: Vec<String>,
    /// Where to write the results, instead of benches/RESULTS.md.
    #[arg(long)]
    output: Option<PathBuf>,
}

pub fn run(options: &Options) -> Result<()> {
    let stacks = match &options.stacks[..] {
        [] => &Stack::ALL[..],
        some => some,
    };
    let wanted = |part: &str| options.parts.is_empty() || options.parts.iter().any(|p| p == part);
    let sizes = if options.quick { Sizes::QUICK } else { Sizes::FULL };
    let cores = Cores::find()?;
    let mut samples = Samples::default();
    for round in 1..=sizes.rounds {
        eprintln!("round {round} of {}", sizes.rounds);
        if wanted("link") {
            stacks.iter().try_for_each(|s| loads::link(&mut samples, *s, cores.one(), &sizes))?;
        }
        if wanted("thousand") {
            stacks
                .iter()
                .try_for_each(|s| loads::thousand(&mut samples, *s, cores.one(), &sizes))?;
        }
        if wanted("forward") && stacks.contains(&Stack::Seqlink) {
            loads::forward(&mut samples, cores.one(), &sizes)?;
        }
        if wanted("fleet") {
            stacks.iter().try_for_each(|s| loads::fleet(&mut samples, *s, cores, &sizes))?;
            let largest = stacks.iter().filter(|s| matches!(s, Stack::Seqlink | Stack::Floor));
            for stack in largest {
                loads::register(&mut samples, *stack, cores, sizes.most_links)?;
            }
        }
        if wanted("growth") && stacks.contains(&Stack::Seqlink) {
            growth(&mut samples, cores.one(), &sizes)?;
        }
    }
    if wanted("grown") {
        loads::grown(&mut samples, stacks, cores, &sizes)?;
    }
    if wanted("instructions") {
        instructions(&mut samples, stacks)?;
    }
    let default = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../RESULTS.md");
    let output = options.output.clone().unwrap_or(default);
    std::fs::write(&output, report::report(&samples, &sizes))?;
    eprintln!("written to {}", output.display());
    Ok(())
}

/// A pause in which nothing is measured.
fn pause(seconds: u64) {
    std::thread::sleep(Duration::from_secs(seconds));
}
