//! The stacks that are compared.

pub mod floor;
pub mod link;

use std::future::Future;

use anyhow::Result;

use crate::pace::{Pace, Tally};
use crate::payload::{Blob, PlayGame, Played};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Stack {
    Seqlink,
    Floor,
}

/// A client's end of one connection.
pub trait Caller: Clone + Send + Sync + 'static {
    fn play(&self, request: &PlayGame) -> impl Future<Output = Result<Played>> + Send;
    fn blob(&self, blob: &Blob) -> impl Future<Output = Result<Blob>> + Send;
}

/// Keeps `in_flight` requests under way on each connection, a task for each. One tally per
/// connection.
pub async fn play<C: Caller>(callers: &[C], in_flight: usize, pace: &Pace) -> Result<Vec<Tally>> {
    let mut links = Vec::with_capacity(callers.len());
    for caller in callers {
        let worker = || tokio::spawn(ask(caller.clone(), in_flight, pace.clone()));
        links.push((0..in_flight).map(|_| worker()).collect::<Vec<_>>());
    }
    let mut tallies = Vec::with_capacity(links.len());
    for workers in links {
        let mut link = Tally::default();
        for worker in workers {
            link.add(worker.await??);
        }
        tallies.push(link);
    }
    Ok(tallies)
}

async fn ask(caller: impl Caller, in_flight: usize, pace: Pace) -> Result<Tally> {
    let request = PlayGame::sample();
    let mut tally = Tally::new(in_flight);
    while pace.take() {
        let started = tally.starts();
        caller.play(&request).await?;
        tally.ends(started);
    }
    Ok(tally)
}
