//! The client's process: connects, then takes orders, one a line, and answers each with an outcome.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use futures::StreamExt as _;
use futures::future::try_join_all;
use futures::stream::{self, TryStreamExt as _};
use jsonrpsee::core::client::Subscription;
use seqlink::{Client, Link, LinkState};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::task::JoinHandle;

use crate::pace::{Clock, Counter, Outcome, Pace, Tally, cpu_ns};
use crate::payload::{Blob, Hang, Output};
use crate::stacks::{self, Stack, floor, jsonrpc, link, tarpc_json};

/// Connections that are being made at the same time.
const DIALLING: usize = 64;

/// The clients of one process, all of one stack.
enum Fleet {
    Seqlink {
        clients: Vec<Client>,
        links: Vec<link::Asker>,
        counter: Arc<Counter>,
    },
    Forward(link::Forwarder),
    /// Of the floor, or of the floor of one loop.
    Floor(Stack, Vec<floor::Socket>),
    /// The floor's sockets wait for broadcasts, each on a task of its own.
    Listening(u64, Arc<Counter>),
    Tarpc(Vec<tarpc_json::Client>),
    Jsonrpsee {
        clients: Vec<jsonrpc::Client>,
        outputs: Vec<Subscription<Output>>,
    },
}

/// Connects `links` times and obeys until there are no more orders.
pub async fn drive(stack: Stack, address: &str, links: usize, role: Role) -> Result<()> {
    if role == Role::Worker {
        let _worker = link::forward_target(address).await?;
        tell(&Outcome::default())?;
        return obey(async |order| match order {
            "cpu" => Ok(Outcome { cpu_ns: cpu_ns(), ..Outcome::default() }),
            _ => bail!("what is {order}?"),
        })
        .await;
    }
    let clock = Clock::start();
    let fleet = match role {
        Role::Forward => Fleet::Forward(link::Forwarder::connect(address).await?),
        _ => connect(stack, address, links).await?,
    };
    let (wall_ns, cpu_ns) = clock.read();
    tell(&Outcome { requests: links as u64, wall_ns, cpu_ns, ..Outcome::default() })?;
    let fleet = tokio::sync::Mutex::new(Driver { fleet, resuming: Vec::new() });
    obey(async |order| fleet.lock().await.obey(order).await).await
}

/// What the process is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Role {
    /// Asks the server itself.
    Direct,
    /// Asks the worker by way of the server.
    Forward,
    /// Answers what the server hands on.
    Worker,
}

fn tell(outcome: &Outcome) -> Result<()> {
    println!("{}", serde_json::to_string(outcome)?);
    Ok(())
}

async fn obey(act: impl AsyncFn(&str) -> Result<Outcome>) -> Result<()> {
    let mut orders = BufReader::new(tokio::io::stdin()).lines();
    while let Some(order) = orders.next_line().await? {
        match act(&order).await {
            Ok(outcome) => tell(&outcome)?,
            Err(error) => println!("error: {order}: {error:#}"),
        }
    }
    Ok(())
}

async fn connect(stack: Stack, address: &str, links: usize) -> Result<Fleet> {
    async fn each<T>(links: usize, one: impl AsyncFn(i64) -> Result<T>) -> Result<Vec<T>> {
        let dialling = stream::iter(1..=links as i64).map(|id| one(id)).buffer_unordered(DIALLING);
        dialling.try_collect().await
    }
    Ok(match stack {
        Stack::Seqlink => {
            let counter = Arc::<Counter>::default();
            let clients = each(links, async |id| link::slave(address, id, &counter).await).await?;
            let askers =
                clients.iter().map(async |client| anyhow::Ok(link::Asker(client.link().await?)));
            Fleet::Seqlink { links: try_join_all(askers).await?, clients, counter }
        }
        Stack::Floor | Stack::OneLoop => {
            let sockets = each(links, async |_| floor::Socket::connect(address).await).await?;
            Fleet::Floor(stack, sockets)
        }
        Stack::Tarpc => {
            Fleet::Tarpc(each(links, async |_| tarpc_json::Client::connect(address).await).await?)
        }
        Stack::Jsonrpsee => {
            let clients = each(links, async |_| jsonrpc::Client::connect(address).await).await?;
            Fleet::Jsonrpsee { clients, outputs: Vec::new() }
        }
        Stack::Clusterio => bail!("its client is clusterio/drive.mjs"),
    })
}

struct Driver {
    fleet: Fleet,
    /// Ends when each link has resumed its session.
    resuming: Vec<JoinHandle<Result<()>>>,
}

impl Driver {
    async fn obey(&mut self, order: &str) -> Result<Outcome> {
        let words: Vec<&str> = order.split(' ').collect();
        let clock = Clock::start();
        let tallies = match words[..] {
            ["play", links, in_flight, millis] => {
                let pace = Pace::time(Duration::from_millis(millis.parse()?));
                self.play(links.parse()?, in_flight.parse()?, &pace).await?
            }
            ["stream", events] => {
                let events = events.parse()?;
                self.stream(events).await?;
                vec![Tally::of(events)]
            }
            ["blobs"] => self.blobs().await?,
            ["listen"] => self.listen().await?,
            ["outputs"] => self.outputs().await?,
            ["hang", requests] => self.hang(requests.parse()?).await?,
            ["watch"] => self.watch()?,
            ["resumed"] => self.resumed().await?,
            _ => bail!("what is {order}?"),
        };
        Ok(Outcome::of(&clock, tallies))
    }

    async fn play(&mut self, links: usize, in_flight: usize, pace: &Pace) -> Result<Vec<Tally>> {
        match &mut self.fleet {
            Fleet::Seqlink { links: askers, .. } => {
                stacks::play(&askers[..links], in_flight, pace).await
            }
            Fleet::Forward(forwarder) => {
                stacks::play(std::slice::from_ref(forwarder), in_flight, pace).await
            }
            Fleet::Tarpc(clients) => stacks::play(&clients[..links], in_flight, pace).await,
            Fleet::Jsonrpsee { clients, .. } => {
                stacks::play(&clients[..links], in_flight, pace).await
            }
            Fleet::Listening(..) => bail!("these connections only listen"),
            Fleet::Floor(stack, sockets) => {
                let one_loop = *stack == Stack::OneLoop;
                let playing = std::mem::take(sockets).into_iter().map(|mut socket| {
                    let pace = pace.clone();
                    tokio::spawn(async move {
                        let tally = match one_loop {
                            true => socket.play_in_one_loop(in_flight, &pace).await?,
                            false => socket.play(in_flight, &pace).await?,
                        };
                        anyhow::Ok((socket, tally))
                    })
                });
                let mut tallies = Vec::new();
                for played in playing.collect::<Vec<_>>() {
                    let (socket, tally) = played.await??;
                    sockets.push(socket);
                    tallies.push(tally);
                }
                Ok(tallies)
            }
        }
    }

    async fn blobs(&mut self) -> Result<Vec<Tally>> {
        match &mut self.fleet {
            Fleet::Seqlink { links, .. } => stacks::blobs(links).await?,
            Fleet::Tarpc(clients) => stacks::blobs(clients).await?,
            Fleet::Jsonrpsee { clients, .. } => stacks::blobs(clients).await?,
            Fleet::Floor(_, sockets) => {
                let blob = Blob::sample();
                for sockets in sockets.chunks_mut(64) {
                    try_join_all(sockets.iter_mut().map(|socket| socket.blob(&blob))).await?;
                }
            }
            Fleet::Forward(_) | Fleet::Listening(..) => bail!("not with these"),
        }
        Ok(Vec::new())
    }

    async fn stream(&mut self, events: u64) -> Result<()> {
        match &mut self.fleet {
            Fleet::Seqlink { links, counter, .. } => {
                link::stream(&first(links)?.0, counter, events).await
            }
            Fleet::Floor(_, sockets) => {
                sockets.first_mut().context("no connection")?.stream(events).await
            }
            Fleet::Jsonrpsee { clients, .. } => first(clients)?.stream(events).await,
            _ => bail!("there are no events"),
        }
    }

    /// Gets ready for broadcasts.
    async fn listen(&mut self) -> Result<Vec<Tally>> {
        match &mut self.fleet {
            Fleet::Jsonrpsee { clients, outputs } => {
                for clients in clients.chunks(64) {
                    let listening = clients.iter().map(jsonrpc::Client::listen);
                    outputs.extend(try_join_all(listening).await?);
                }
            }
            Fleet::Floor(_, sockets) => {
                let counter = Arc::<Counter>::default();
                let links = sockets.len() as u64;
                for mut socket in std::mem::take(sockets) {
                    let counter = Arc::clone(&counter);
                    tokio::spawn(async move {
                        while socket.output().await.is_ok() {
                            counter.one();
                        }
                    });
                }
                self.fleet = Fleet::Listening(links, counter);
            }
            _ => {}
        }
        Ok(Vec::new())
    }

    /// Waits until every connection has got one more event.
    async fn outputs(&mut self) -> Result<Vec<Tally>> {
        match &mut self.fleet {
            Fleet::Seqlink { links, counter, .. } => counter.more(links.len() as u64).await,
            Fleet::Listening(links, counter) => counter.more(*links).await,
            Fleet::Jsonrpsee { outputs, .. } => {
                let next = async |output: &mut Subscription<Output>| {
                    output.next().await.context("the subscription has ended")??;
                    anyhow::Ok(())
                };
                try_join_all(outputs.iter_mut().map(next)).await?;
            }
            _ => bail!("nobody listens"),
        }
        Ok(Vec::new())
    }

    /// Leaves requests on the first link that are never answered.
    async fn hang(&mut self, requests: usize) -> Result<Vec<Tally>> {
        let Fleet::Seqlink { links, .. } = &self.fleet else { bail!("only seqlink") };
        let link = &first(links)?.0;
        for _ in 0..requests {
            tokio::spawn(link.request(&Hang {}));
        }
        while link.pending() < requests {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(Vec::new())
    }

    fn watch(&mut self) -> Result<Vec<Tally>> {
        let Fleet::Seqlink { links, .. } = &self.fleet else { bail!("only seqlink") };
        let watching = links.iter().map(|link| tokio::spawn(until_resumed(link.0.clone())));
        self.resuming = watching.collect();
        Ok(Vec::new())
    }

    /// Waits until every session has been resumed.
    async fn resumed(&mut self) -> Result<Vec<Tally>> {
        for link in self.resuming.drain(..) {
            link.await??;
        }
        let Fleet::Seqlink { clients, links, .. } = &self.fleet else { bail!("only seqlink") };
        for (client, link) in clients.iter().zip(links) {
            ensure!(
                client.link().await?.same_link(&link.0),
                "a client has another link than before"
            );
        }
        Ok(Vec::new())
    }
}

fn first<T>(all: &[T]) -> Result<&T> {
    all.first().context("no connection")
}

async fn until_resumed(link: Link) -> Result<()> {
    let mut states = link.states();
    while let Some(state) = states.next().await {
        if matches!(state, LinkState::Resumed { .. }) {
            return Ok(());
        }
    }
    bail!("a session was lost")
}
