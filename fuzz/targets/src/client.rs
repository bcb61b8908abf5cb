//! A client, and what a master may send it.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use seqlink::transport::memory;
use seqlink::transport::websocket::WebSocket;
use seqlink::{ClientBuilder, Reconnect, Slave};
use tokio::io::{AsyncWriteExt as _, DuplexStream};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::in_time;
use crate::master::play;
use crate::messages::{Echo, config, router};
use crate::wire::{Heard, head, hear, say};

const MAX_FRAME: usize = 8 * 1024;

fn slave() -> ClientBuilder {
    Slave::builder().id(7).token("sesame").router(router()).config(config())
}

/// Reads a client's request. Returns the answer to its key.
async fn asked(stream: &mut DuplexStream) -> String {
    let request = head(stream).await;
    let key = request.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "));
    derive_accept_key(key.expect("a key").as_bytes())
}

/// A server's answer to the request for a WebSocket, in which `@ACCEPT@` stands for the right key,
/// and what it sends behind it.
pub(crate) async fn upgrade(input: &[u8]) {
    let (mut stream, theirs) = tokio::io::duplex(4 * 1024);
    let client = tokio::spawn(async move {
        let socket = WebSocket::connect(theirs, "ws://localhost/", MAX_FRAME, true).await?;
        match slave().attach(socket).await {
            Ok(link) => Ok(link.closed().await.to_string()),
            Err(error) => Ok(error.to_string()),
        }
    });
    let accept = asked(&mut stream).await;
    let mut answer = Vec::new();
    let mut rest = input;
    while let Some(at) = rest.windows(8).position(|window| window == b"@ACCEPT@") {
        answer.extend_from_slice(&rest[..at]);
        answer.extend_from_slice(accept.as_bytes());
        rest = &rest[at + 8..];
    }
    answer.extend_from_slice(rest);
    Heard::all(stream, &answer).await;
    let ended: io::Result<String> = in_time("the client", client).await.expect("no panic");
    let text = ended.unwrap_or_else(|error| error.to_string());
    assert!(!text.contains("sesame"));
}

/// The bytes of a WebSocket after `ready`. The first byte says whether sessions are spoken.
pub(crate) async fn socket(input: &[u8]) {
    let Some((mode, input)) = input.split_first() else { return };
    let extended = mode & 1 == 1;
    let (mut stream, theirs) = tokio::io::duplex(4 * 1024);
    let client = tokio::spawn(async move {
        let socket = WebSocket::connect(theirs, "ws://localhost/", MAX_FRAME, true).await;
        let link = slave().attach(socket.expect("an upgrade")).await.expect("a link");
        let text = "x".to_owned();
        let asked = link.request(&Echo { text });
        let _ = in_time("an answer", asked).await;
        in_time("the end of the link", link.closed()).await;
        assert_eq!(link.pending(), 0, "a request is left");
    });
    let accept = asked(&mut stream).await;
    let sessions = if extended { "Seqlink-Session: 1\r\n" } else { "" };
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n{sessions}\r\n"
    );
    stream.write_all(answer.as_bytes()).await.expect("room");
    let (one, two, plugins, ready) = match extended {
        true => ("null", "null", r#","plugins":{}"#, r#"{"session_token":"t"}"#),
        false => ("1", "2", "", "{}"),
    };
    let hello = format!(r#"{{"version":"2.0.0"{plugins}}}"#);
    say(&mut stream, false, &format!(r#"{{"seq":{one},"type":"hello","data":{hello}}}"#)).await;
    assert!(hear(&mut stream, true).await.contains(r#""type":"register_slave""#));
    say(&mut stream, false, &format!(r#"{{"seq":{two},"type":"ready","data":{ready}}}"#)).await;
    let heard = Heard::all(stream, input).await;
    heard.check(true, if extended { 0 } else { 1 });
    in_time("the client", client).await.expect("no panic");
}

/// What a master says in the handshake, in lines; behind a line `!cut` it is another socket. The
/// first byte says whether sessions are spoken.
pub(crate) async fn handshake(input: &[u8]) {
    let Some((mode, input)) = input.split_first() else { return };
    let Ok(text) = std::str::from_utf8(input) else { return };
    let extended = mode & 1 == 1;
    let sockets: Vec<String> = text.split("!cut\n").take(8).map(str::to_owned).collect();
    let left = Arc::new(Mutex::new(sockets.into_iter()));
    let dial = move || {
        let left = Arc::clone(&left);
        async move {
            let lines = left.lock().expect("no panic").next();
            // Silence rather than a refusal: the attempt has to end by its own clock.
            let lines = lines.unwrap_or_else(|| "!wait".to_owned());
            let (ours, theirs) = if extended { memory::session_pair() } else { memory::pair() };
            tokio::spawn(async move {
                for text in play(ours, &lines).await {
                    assert!(text.len() <= 16 * 1024, "longer than a handshake frame");
                }
            });
            Ok::<_, io::Error>(theirs)
        }
    };
    let mut reconnect = Reconnect::default();
    reconnect.attempts = Some(10);
    let client = slave().reconnect(reconnect).connect_by(dial);
    let Ok(client) = in_time("the first link", client).await else { return };
    if let Ok(link) = client.link().await {
        let _ =
            tokio::time::timeout(Duration::from_secs(1), link.request(&Echo { text: "x".into() }))
                .await;
    }
    tokio::time::sleep(Duration::from_secs(u64::from(mode >> 4))).await;
    in_time("the end of the client", client.close("done")).await;
}
