//! The floor: bare tokio-tungstenite, batched, and the JSON on both sides. No pending requests by
//! name, no time limits, no sessions, no tasks but one per connection.

use std::borrow::Cow;
use std::future::poll_fn;
use std::io;
use std::task::{Poll, ready};

use anyhow::{Context as _, Result, bail};
use futures::{SinkExt as _, StreamExt as _};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};
use tokio_tungstenite::{WebSocketStream, accept_async_with_config, client_async_with_config};

use crate::pace::{Pace, Tally};
use crate::payload::{Blob, Output, PlayGame, Played, Stream};

#[derive(Deserialize)]
struct Received<'a> {
    seq: u64,
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    data: &'a RawValue,
}

#[derive(Serialize)]
struct Sent<'a, T> {
    seq: u64,
    #[serde(rename = "type")]
    kind: &'a str,
    data: &'a T,
}

/// A response's data: the protocol's `seq` and the data itself, read and written in one go.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PlayedData {
    pub(super) seq: u64,
    code: u16,
    game_id: i64,
}

#[derive(Serialize, Deserialize)]
struct BlobData {
    seq: u64,
    text: String,
}

fn config() -> WebSocketConfig {
    WebSocketConfig::default().read_buffer_size(8 * 1024).write_buffer_size(16 * 1024)
}

/// One WebSocket, its two directions and its numbers.
#[derive(Debug)]
pub struct Socket {
    pub(super) stream: WebSocketStream<TcpStream>,
    pub(super) last_seq: u64,
    unflushed: bool,
}

impl Socket {
    fn new(stream: WebSocketStream<TcpStream>) -> Self {
        Self { stream, last_seq: 0, unflushed: false }
    }

    pub async fn connect(address: &str) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let url = format!("ws://{address}/");
        let (stream, _) = client_async_with_config(url, stream, Some(config())).await?;
        Ok(Self::new(stream))
    }

    pub async fn accept(stream: TcpStream) -> Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self::new(accept_async_with_config(stream, Some(config())).await?))
    }

    /// The next message. What was written is flushed when there is nothing left to read.
    async fn next(&mut self) -> Option<Result<Message, Error>> {
        poll_fn(|cx| {
            if let Poll::Ready(message) = self.stream.poll_next_unpin(cx) {
                return Poll::Ready(message);
            }
            if self.unflushed {
                if let Err(error) = ready!(self.stream.poll_flush_unpin(cx)) {
                    return Poll::Ready(Some(Err(error)));
                }
                self.unflushed = false;
            }
            Poll::Pending
        })
        .await
    }

    async fn text(&mut self) -> Result<Utf8Bytes> {
        loop {
            match self.next().await.context("the connection has ended")?? {
                Message::Text(text) => return Ok(text),
                Message::Close(_) => bail!("closed"),
                _ => {}
            }
        }
    }

    async fn write(&mut self, text: Utf8Bytes) -> Result<()> {
        self.unflushed = true;
        Ok(self.stream.feed(Message::Text(text)).await?)
    }

    async fn send<T: Serialize>(&mut self, kind: &str, data: &T) -> Result<u64> {
        self.last_seq += 1;
        self.write(text(self.last_seq, kind, data, 384)?).await?;
        Ok(self.last_seq)
    }

    /// The next message, which must be of this type.
    async fn receive<T: DeserializeOwned>(&mut self, kind: &str) -> Result<T> {
        read(kind, &self.text().await?)
    }

    pub async fn play(&mut self, in_flight: usize, pace: &Pace) -> Result<Tally> {
        let request = PlayGame::sample();
        let mut tally = Tally::new(in_flight);
        let mut timed = None;
        let mut waiting = 0;
        while waiting < in_flight && pace.take() {
            self.send("play_game_request", &request).await?;
            waiting += 1;
        }
        while waiting > 0 {
            let played: PlayedData = self.receive("play_game_response").await?;
            let of = timed.take_if(|(seq, _)| *seq == played.seq);
            tally.ends(of.map(|(_, started)| started));
            if pace.take() {
                let started = if timed.is_none() { tally.starts() } else { None };
                let seq = self.send("play_game_request", &request).await?;
                timed = started.map(|started| (seq, started)).or(timed);
            } else {
                waiting -= 1;
            }
        }
        Ok(tally)
    }

    /// A large message, there and back.
    pub async fn blob(&mut self, blob: &Blob) -> Result<()> {
        self.send("blob_request", blob).await?;
        let back: BlobData = self.receive("blob_response").await?;
        anyhow::ensure!(back.text == blob.text, "another text came back");
        Ok(())
    }

    pub async fn stream(&mut self, events: u64) -> Result<()> {
        self.send("stream_request", &Stream { events }).await?;
        for _ in 0..events {
            self.output().await?;
        }
        Ok(())
    }

    pub async fn output(&mut self) -> Result<Output> {
        self.receive("output_event").await
    }

    async fn answer(&mut self) -> Result<()> {
        loop {
            let text = self.text().await?;
            let request: Received<'_> = serde_json::from_str(&text)?;
            let (seq, data) = (request.seq, request.data.get());
            match &*request.kind {
                "play_game_request" => {
                    let Played { code, game_id } = serde_json::from_str::<PlayGame>(data)?.play();
                    let played = PlayedData { seq, code, game_id };
                    self.send("play_game_response", &played).await?;
                }
                "blob_request" => {
                    let Blob { text } = serde_json::from_str(data)?;
                    self.send("blob_response", &BlobData { seq, text }).await?;
                }
                "stream_request" => {
                    let output = Output::sample();
                    for _ in 0..serde_json::from_str::<Stream>(data)?.events {
                        self.send("output_event", &output).await?;
                    }
                }
                other => bail!("{other}"),
            }
        }
    }
}

/// A message, which must be of this type.
pub(super) fn read<T: DeserializeOwned>(kind: &str, text: &str) -> Result<T> {
    let received: Received<'_> = serde_json::from_str(text)?;
    if received.kind != kind {
        bail!("received {} and not {kind}", received.kind);
    }
    Ok(serde_json::from_str(received.data.get())?)
}

pub(super) fn text<T: Serialize>(
    seq: u64,
    kind: &str,
    data: &T,
    capacity: usize,
) -> Result<Utf8Bytes> {
    let mut text = Vec::with_capacity(capacity);
    serde_json::to_writer(&mut text, &Sent { seq, kind, data })?;
    Ok(Utf8Bytes::try_from(text)?)
}

/// Answers on every connection.
pub async fn serve(listener: TcpListener) -> io::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(async move {
            if let Ok(mut socket) = Socket::accept(stream).await {
                let _ = socket.answer().await;
            }
        });
    }
}

/// Keeps every connection, and sends one text to all of them when it is told.
pub async fn broadcast(
    listener: TcpListener,
    mut orders: tokio::sync::mpsc::Receiver<()>,
) -> Result<()> {
    let mut sockets = Vec::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => sockets.push(Socket::accept(accepted?.0).await?),
            order = orders.recv() => {
                order.context("no more orders")?;
                let text = text(1, "output_event", &Output::sample(), 384)?;
                for socket in &mut sockets {
                    socket.stream.send(Message::Text(text.clone())).await?;
                }
            }
        }
    }
}
