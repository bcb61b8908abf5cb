//! The stacks that are compared.

pub mod floor;
pub mod jsonrpc;
pub mod link;
mod one_loop;
pub mod tarpc_json;

use std::future::Future;

use anyhow::Result;
use futures::future::try_join_all;

use crate::pace::{Pace, Tally};
use crate::payload::{Blob, PlayGame, Played};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Stack {
    Seqlink,
    Floor,
    /// The floor's server, and a client that is one loop over one socket.
    OneLoop,
    Tarpc,
    Jsonrpsee,
    /// Two programs of Node's.
    Clusterio,
}

impl Stack {
    pub const ALL: [Self; 6] =
        [Self::Seqlink, Self::OneLoop, Self::Floor, Self::Tarpc, Self::Jsonrpsee, Self::Clusterio];

    pub fn name(self) -> &'static str {
        match self {
            Self::Seqlink => "seqlink",
            Self::Floor => "floor",
            Self::OneLoop => "one-loop",
            Self::Tarpc => "tarpc",
            Self::Jsonrpsee => "jsonrpsee",
            Self::Clusterio => "clusterio",
        }
    }

    /// Whether the server can send what it was not asked for.
    pub fn has_events(self) -> bool {
        !matches!(self, Self::Tarpc | Self::OneLoop)
    }

    /// Whether a client can have many connections.
    pub fn has_fleets(self) -> bool {
        self != Self::OneLoop
    }
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

/// A large message on each connection, there and back, 64 at a time.
pub async fn blobs<C: Caller>(callers: &[C]) -> Result<()> {
    let blob = Blob::sample();
    for callers in callers.chunks(64) {
        let back = callers.iter().map(|caller| caller.blob(&blob));
        for back in try_join_all(back).await? {
            anyhow::ensure!(back.text == blob.text, "another text came back");
        }
    }
    Ok(())
}
