//! tarpc with its JSON transport over TCP: one direction, no events.

use anyhow::Result;
use futures::StreamExt as _;
use tarpc::client::Config;
use tarpc::context::{self, Context};
use tarpc::serde_transport::Transport;
use tarpc::server::{BaseChannel, Channel as _};
use tarpc::tokio_serde::formats::Json;
use tokio::net::{TcpListener, TcpStream};

use super::Caller;
use crate::payload::{Blob, PlayGame, Played};

#[tarpc::service]
trait Node {
    async fn play_game(request: PlayGame) -> Played;
    async fn blob(blob: Blob) -> Blob;
}

#[derive(Clone)]
struct Server;

impl Node for Server {
    async fn play_game(self, _: Context, request: PlayGame) -> Played {
        request.play()
    }

    async fn blob(self, _: Context, blob: Blob) -> Blob {
        blob
    }
}

pub async fn serve(listener: TcpListener) -> Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let transport = Transport::from((stream, Json::default()));
        let answers = BaseChannel::with_defaults(transport).execute(Server.serve());
        tokio::spawn(answers.for_each(async |answer| {
            tokio::spawn(answer);
        }));
    }
}

#[derive(Clone)]
pub struct Client(NodeClient);

impl Client {
    pub async fn connect(address: &str) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let transport = Transport::from((stream, Json::default()));
        let mut config = Config::default();
        config.pending_request_buffer = 4096;
        Ok(Self(NodeClient::new(config, transport).spawn()))
    }
}

impl Caller for Client {
    async fn play(&self, request: &PlayGame) -> Result<Played> {
        Ok(self.0.play_game(context::current(), request.clone()).await?)
    }

    async fn blob(&self, blob: &Blob) -> Result<Blob> {
        Ok(self.0.blob(context::current(), blob.clone()).await?)
    }
}
