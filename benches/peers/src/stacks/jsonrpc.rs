//! jsonrpsee over a WebSocket. Its server cannot ask its clients, and events are subscriptions.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use jsonrpsee::core::client::{ClientT, Subscription, SubscriptionClientT};
use jsonrpsee::core::params::ArrayParams;
use jsonrpsee::core::{RpcResult, SubscriptionResult, to_json_raw_value};
use jsonrpsee::server::{ServerBuilder, ServerConfig, ServerHandle};
use jsonrpsee::ws_client::{WsClient, WsClientBuilder};
use jsonrpsee::{PendingSubscriptionSink, RpcModule, rpc_params};
use serde_json::value::RawValue;
use tokio::sync::broadcast;

use super::Caller;
use crate::payload::{Blob, Output, PlayGame, Played};

pub struct Server {
    _handle: ServerHandle,
    pub port: u16,
    /// What goes to every subscriber, already as JSON.
    pub all: broadcast::Sender<Arc<RawValue>>,
}

pub async fn serve() -> Result<Server> {
    let (all, _) = broadcast::channel::<Arc<RawValue>>(16);
    let mut module = RpcModule::new(all.clone());
    module.register_method("play_game", |params, _, _| {
        RpcResult::Ok(params.one::<PlayGame>()?.play())
    })?;
    module.register_method("blob", |params, _, _| params.one::<Blob>())?;
    module.register_subscription(
        "stream",
        "output",
        "stop_stream",
        async |params, pending, _, _| stream(params.one()?, pending).await,
    )?;
    module.register_subscription(
        "listen",
        "output",
        "stop_listening",
        async |_, pending, all, _| listen(all.subscribe(), pending).await,
    )?;
    let config =
        ServerConfig::builder().ws_only().max_connections(20_000).set_tcp_no_delay(true).build();
    let server = ServerBuilder::with_config(config).build("127.0.0.1:0").await?;
    let port = server.local_addr()?.port();
    Ok(Server { _handle: server.start(module), port, all })
}

async fn stream(events: u64, pending: PendingSubscriptionSink) -> SubscriptionResult {
    let sink = pending.accept().await?;
    let output = Output::sample();
    for _ in 0..events {
        sink.send(to_json_raw_value(&output)?).await?;
    }
    sink.closed().await;
    Ok(())
}

async fn listen(
    mut all: broadcast::Receiver<Arc<RawValue>>,
    pending: PendingSubscriptionSink,
) -> SubscriptionResult {
    let sink = pending.accept().await?;
    while let Ok(text) = all.recv().await {
        sink.send((*text).to_owned()).await?;
    }
    Ok(())
}

#[derive(Clone)]
pub struct Client(Arc<WsClient>);

impl Client {
    pub async fn connect(address: &str) -> Result<Self> {
        let client = WsClientBuilder::new()
            .max_concurrent_requests(4096)
            .max_buffer_capacity_per_subscription(1 << 20)
            .request_timeout(Duration::from_secs(10));
        Ok(Self(Arc::new(client.build(format!("ws://{address}")).await?)))
    }

    pub async fn listen(&self) -> Result<Subscription<Output>> {
        Ok(self.0.subscribe("listen", ArrayParams::new(), "stop_listening").await?)
    }

    pub async fn stream(&self, events: u64) -> Result<()> {
        let mut outputs: Subscription<Output> =
            self.0.subscribe("stream", rpc_params![events], "stop_stream").await?;
        for _ in 0..events {
            outputs.next().await.context("the subscription has ended")??;
        }
        Ok(())
    }
}

impl Caller for Client {
    async fn play(&self, request: &PlayGame) -> Result<Played> {
        Ok(self.0.request("play_game", rpc_params![request]).await?)
    }

    async fn blob(&self, blob: &Blob) -> Result<Blob> {
        Ok(self.0.request("blob", rpc_params![blob]).await?)
    }
}
