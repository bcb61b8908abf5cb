//! This library: a master and slaves, with sessions, and everything else by default.

use std::sync::{Arc, OnceLock};

use anyhow::{Context as _, Result};
use seqlink::{Client, Config, Control, Ctx, Link, Master, MasterBuilder, Router, Slave};

use super::Caller;
use crate::pace::Counter;
use crate::payload::{Blob, Forwarded, Hang, Output, PlayGame, Played, Stream};

/// The slave that forwarded requests go to.
pub const WORKER: i64 = 1_000_000;

async fn play(request: PlayGame, _: Ctx<State>) -> Result<Played, String> {
    Ok(request.play())
}

async fn blob(blob: Blob, _: Ctx<State>) -> Result<Blob, String> {
    Ok(blob)
}

async fn hang(_: Hang, _: Ctx<State>) -> Result<Hang, String> {
    std::future::pending().await
}

async fn send_events(stream: Stream, ctx: Ctx<State>) -> Result<Stream, String> {
    let link = ctx.link().clone();
    tokio::spawn(async move {
        let output = Output::sample();
        for _ in 0..stream.events {
            if link.event(&output).await.is_err() {
                return;
            }
        }
    });
    Ok(stream)
}

#[derive(Default)]
struct State {
    master: OnceLock<Master>,
}

fn worker(_: &Forwarded, ctx: &Ctx<State>) -> Result<Link, &'static str> {
    ctx.state().master.get().and_then(|master| master.slave(WORKER)).ok_or("no worker")
}

/// A master that answers everything. `handlers` replaces the default limit.
pub async fn serve(handlers: Option<usize>) -> Result<(Master, u16)> {
    serve_with(Master::builder(), handlers).await
}

/// The same, set up further.
pub async fn serve_with(builder: MasterBuilder, handlers: Option<usize>) -> Result<(Master, u16)> {
    let state = Arc::new(State::default());
    let router = Router::with_state(Arc::clone(&state))
        .request(play)
        .request(blob)
        .request(hang)
        .request(send_events)
        .forward(worker);
    let mut config = Config::default();
    config.handlers = handlers.unwrap_or(config.handlers);
    let master = builder.router(router).config(config).build()?;
    let address = master.listen("127.0.0.1:0").await?;
    state.master.set(master.clone()).ok();
    Ok((master, address.port()))
}

/// One event to every slave.
pub async fn broadcast(master: &Master) -> Result<()> {
    let output = Output::sample();
    Ok(Link::broadcast(&output, &master.slaves())?)
}

async fn output(_: Output, ctx: Ctx<Counter>) {
    ctx.state().one();
}

async fn forwarded(request: Forwarded, _: Ctx) -> Result<Played, String> {
    Ok(request.0.play())
}

/// A registered slave with a session.
pub async fn slave(address: &str, id: i64, counter: &Arc<Counter>) -> Result<Client> {
    let router = Router::with_state(Arc::clone(counter)).event(output);
    let slave = Slave::builder().url(format!("ws://{address}/")).id(id);
    Ok(slave.router(router).sessions(true).connect().await?)
}

/// The slave that forwarded requests go to.
pub async fn forward_target(address: &str) -> Result<Client> {
    let router = Router::new(()).request(forwarded);
    let slave = Slave::builder().url(format!("ws://{address}/")).id(WORKER);
    Ok(slave.router(router).sessions(true).connect().await?)
}

#[derive(Clone)]
pub struct Asker(pub Link);

impl Caller for Asker {
    async fn play(&self, request: &PlayGame) -> Result<Played> {
        Ok(self.0.request(request).await?)
    }

    async fn blob(&self, blob: &Blob) -> Result<Blob> {
        Ok(self.0.request(blob).await?)
    }
}

/// Asks the worker by way of the master.
#[derive(Clone)]
pub struct Forwarder(Link, Arc<Forwarded>);

impl Forwarder {
    pub async fn connect(address: &str) -> Result<Self> {
        let control = Control::builder().url(format!("ws://{address}/")).sessions(true);
        let request = Arc::new(Forwarded(PlayGame::sample()));
        Ok(Self(control.connect().await?.link().await?, request))
    }
}

impl Caller for Forwarder {
    async fn play(&self, _: &PlayGame) -> Result<Played> {
        Ok(self.0.request(&*self.1).await?)
    }

    async fn blob(&self, _: &Blob) -> Result<Blob> {
        anyhow::bail!("not forwarded")
    }
}

/// Asks for events and waits until they are handled.
pub async fn stream(link: &Link, counter: &Counter, events: u64) -> Result<()> {
    link.request(&Stream { events }).await.context("asking for events")?;
    counter.more(events).await;
    Ok(())
}
