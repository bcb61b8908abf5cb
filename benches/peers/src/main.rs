//! Load programs: client and server as separate processes, and the measuring run.

mod pace;
mod payload;
mod stacks;

use std::time::Duration;

use anyhow::Result;
use clap::Parser;
use tokio::net::TcpListener;

use pace::{Clock, Outcome, Pace};
use stacks::{Stack, floor, link};

#[derive(Parser)]
enum Command {
    /// Client and server in one process and one thread, for callgrind.
    Both {
        stack: Stack,
        #[arg(long, default_value_t = 64)]
        in_flight: usize,
        /// For a time instead of a number.
        #[arg(long)]
        millis: Option<u64>,
        #[arg(long, default_value_t = 2000)]
        requests: u64,
    },
}

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match Command::parse() {
        Command::Both { stack, in_flight, requests, millis } => runtime.block_on(async {
            let outcome = both(stack, in_flight, requests, millis).await?;
            println!("{}", serde_json::to_string(&outcome)?);
            Ok(())
        }),
    }
}

async fn both(stack: Stack, in_flight: usize, requests: u64, ms: Option<u64>) -> Result<Outcome> {
    let pace = || match ms {
        Some(ms) => Pace::time(Duration::from_millis(ms)),
        None => Pace::count(requests),
    };
    match stack {
        Stack::Floor => {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            let address = listener.local_addr()?.to_string();
            tokio::spawn(floor::serve(listener));
            let mut socket = floor::Socket::connect(&address).await?;
            let clock = Clock::start();
            let tally = socket.play(in_flight, &pace()).await?;
            Ok(Outcome::of(&clock, vec![tally]))
        }
        Stack::Seqlink => {
            let (_master, port) = link::serve(None).await?;
            let slave = link::slave(&format!("127.0.0.1:{port}"), 1, &Default::default()).await?;
            let asker = link::Asker(slave.link().await?);
            let clock = Clock::start();
            Ok(Outcome::of(&clock, stacks::play(&[asker], in_flight, &pace()).await?))
        }
    }
}
