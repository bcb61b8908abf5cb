//! `seqlink tour`: a master, two slaves and a control on real sockets, five players for two nodes, and a
//! cable that is cut and then pulled in the middle of a game.
//!
//! Everything that it prints is what the master or the control was told over its links, and the
//! exit code is 0 only when all of it came out as it should.

mod cable;
mod scene;
mod story;

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use tokio::time::timeout;
use tracing_subscriber::filter::LevelFilter;

use crate::settings::setup::{self, Interrupt};
use crate::settings::{self, Failure};
use scene::Scene;
use story::Story;

/// Plays a story in about eleven seconds, with everybody in it.
///
/// A master, two slaves and a control on real sockets, five players for two nodes, and a cable that
/// is cut and then pulled in the middle of a game.
#[derive(Debug, Args)]
#[command(after_help = "Exits with 0 only when everything came out well.")]
pub(crate) struct Arguments {}

/// The whole tour takes eleven seconds on an idle machine.
const LIMIT: Duration = Duration::from_secs(60);

/// The whole of the program.
pub(crate) fn main() -> ExitCode {
    let log = setup::logging(LevelFilter::ERROR);
    let outcome = run();
    // Nothing stands behind the last word.
    drop(log);
    settings::finish(outcome)
}

#[tokio::main]
async fn run() -> Result<(), Failure> {
    let mut interrupt = Interrupt::install().map_err(Failure::failed)?;
    println!("One master, two slaves, one control, and a cable to cut: about eleven seconds.");
    let mut scene = Scene::set().await?;
    let outcome = tokio::select! {
        outcome = timeout(LIMIT, Story::new().play(&mut scene)) => outcome
            .unwrap_or_else(|_| Err(Failure::failed(format_args!("not over after {LIMIT:?}")))),
        reason = interrupt.wait() => Err(Failure::failed(reason)),
    };
    scene.strike("The tour is over").await;
    outcome?;
    println!("Everything above was observed on the links as it happened.");
    Ok(())
}
