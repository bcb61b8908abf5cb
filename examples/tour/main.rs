//! A tour in one command: a master, two slaves and a control on real sockets, five players for two
//! nodes, and a cable that is cut and then pulled in the middle of a game.
//!
//! ```sh
//! cargo run --example tour
//! ```
//!
//! Everything that it prints is what the master or the control was told over its links, and the
//! exit code is 0 only when all of it came out as it should.

mod cable;
#[path = "../common/cluster.rs"]
mod cluster;
#[path = "../common/connect.rs"]
mod connect;
#[path = "../common/dispatcher.rs"]
mod dispatcher;
#[path = "../common/environment.rs"]
mod environment;
#[path = "../common/exit.rs"]
mod exit;
#[path = "../common/games.rs"]
mod games;
#[path = "../common/group.rs"]
mod group;
#[path = "../common/host.rs"]
mod host;
#[path = "../common/node.rs"]
mod node;
#[path = "../common/random.rs"]
mod random;
#[path = "../common/reaper.rs"]
mod reaper;
#[path = "../common/registration.rs"]
mod registration;
#[path = "../common/reported.rs"]
mod reported;
#[path = "../common/runner.rs"]
mod runner;
#[path = "../common/service.rs"]
mod service;
#[path = "../common/setup.rs"]
mod setup;
#[path = "../common/slaves.rs"]
mod slaves;
mod stage;
#[path = "../common/states.rs"]
mod states;
#[path = "../common/storage.rs"]
mod storage;
mod story;
#[path = "../common/text.rs"]
mod text;
#[path = "../common/updates.rs"]
mod updates;
#[path = "../common/words.rs"]
mod words;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use tokio::time::timeout;
use tracing_subscriber::filter::LevelFilter;

use crate::exit::Failure;
use crate::setup::Interrupt;
use crate::stage::Stage;
use crate::story::Story;

/// Plays a story in about eleven seconds: a master, two slaves and a control on real sockets, five
/// players for two nodes, and a cable that is cut and then pulled in the middle of a game.
#[derive(Debug, Parser)]
#[command(name = "tour", version, after_help = "Exits with 0 only when everything came out well.")]
struct Arguments {}

/// The whole tour takes eleven seconds on an idle machine.
const LIMIT: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|first| first == reaper::ARGUMENT) {
        reaper::run();
        return ExitCode::SUCCESS;
    }
    let Arguments {} = Arguments::parse();
    let log = setup::logging(LevelFilter::ERROR);
    let outcome = run();
    // Nothing stands behind the last word.
    drop(log);
    exit::finish(outcome)
}

#[tokio::main]
async fn run() -> Result<(), Failure> {
    let mut interrupt = Interrupt::install().map_err(Failure::failed)?;
    println!("One master, two slaves, one control, and a cable to cut: about eleven seconds.");
    let mut stage = Stage::set().await?;
    let outcome = tokio::select! {
        outcome = timeout(LIMIT, Story::new().play(&mut stage)) => outcome
            .unwrap_or_else(|_| Err(Failure::failed(format_args!("not over after {LIMIT:?}")))),
        reason = interrupt.wait() => Err(Failure::failed(reason)),
    };
    stage.strike("The tour is over").await;
    outcome?;
    println!("Everything above was observed on the links as it happened.");
    Ok(())
}
