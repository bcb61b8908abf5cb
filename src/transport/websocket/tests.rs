use std::future::poll_fn;
use std::time::Duration;

use futures::{FutureExt as _, SinkExt as _, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::pace::LARGEST;
use super::*;

/// tungstenite's own write buffer has no limit unless it is given one (tungstenite-rs #490).
#[tokio::test]
async fn the_buffers_below_are_bounded() {
    let (stream, _peer) = tokio::io::duplex(64);
    let socket = WebSocket::upgraded(stream, 1 << 20);
    let config = socket.protocol.get_config();
    assert_eq!(config.read_buffer_size, 1024);
    assert_eq!(config.max_write_buffer_size, (1 << 20) + 20 * 1024);
    assert_eq!(config.max_message_size, Some(1 << 20));
    assert_eq!(config.max_frame_size, Some(1 << 20));
}

/// What a peer does not take waits in front of the socket, and not in its buffers.
#[tokio::test]
async fn a_socket_that_takes_nothing_is_not_ready() {
    let (stream, _peer) = tokio::io::duplex(64);
    let mut socket = WebSocket::upgraded(stream, 1 << 20);
    for sent in 0.. {
        let Some(ready) = poll_fn(|cx| socket.poll_ready(cx)).now_or_never() else { break };
        ready.unwrap();
        assert!(sent <= WRITE_BUFFER / 1000, "{sent} messages of 1000 bytes");
        socket.send(Outgoing::Text("x".repeat(1000).into())).unwrap();
    }
}

/// The buffers are made anew when they are empty, and at no other time: not a byte is lost.
#[tokio::test]
async fn buffers_that_hold_anything_are_kept() {
    let (stream, peer) = tokio::io::duplex(16 * 1024);
    let mut socket = WebSocket::upgraded(stream, 1 << 20);
    let mut peer = WebSocketStream::from_raw_socket(peer, Role::Client, None).await;
    let text = |length: usize| "x".repeat(length);
    poll_fn(|cx| socket.poll_ready(cx)).await.unwrap();
    socket.send(Outgoing::Text(text(20_000).into())).unwrap();
    assert!(poll_fn(|cx| socket.poll_flush(cx)).now_or_never().is_none(), "nobody reads");
    let speaking = async {
        for n in 1..=30 {
            peer.send(Message::text(text(n * 500))).await.unwrap();
        }
    };
    let hearing = async {
        for n in 1..=30 {
            let incoming = poll_fn(|cx| socket.poll_receive(cx)).await.unwrap();
            assert!(matches!(&incoming, Incoming::Text(text) if text.len() == n * 500));
        }
    };
    tokio::join!(speaking, hearing);
    let look = |socket: &mut WebSocket<_>| {
        assert!(poll_fn(|cx| socket.poll_receive(cx)).now_or_never().is_none());
        socket.pace.buffer
    };
    assert_eq!(look(&mut socket), SMALLEST, "something waits to be written");
    let (flushed, heard) = tokio::join!(poll_fn(|cx| socket.poll_flush(cx)), peer.next());
    flushed.unwrap();
    assert_eq!(heard.unwrap().unwrap(), Message::text(text(20_000)));
    // Piece by piece: none of the looks between two pieces finds the buffers empty.
    let hearing = async {
        poll_fn(|cx| socket.poll_receive(cx)).await.unwrap();
        poll_fn(|cx| socket.poll_receive(cx)).await
    };
    let speaking = async {
        peer.send(Message::text(text(40_000))).await.unwrap();
        peer.send(Message::text(text(999))).await.unwrap();
    };
    let both = async { tokio::join!(speaking, hearing).1 };
    let heard = tokio::time::timeout(Duration::from_secs(5), both).await.unwrap();
    assert!(matches!(heard, Ok(Incoming::Text(heard)) if heard.as_str() == text(999)));
    assert_eq!(look(&mut socket), LARGEST);
    peer.send(Message::text("on")).await.unwrap();
    let incoming = poll_fn(|cx| socket.poll_receive(cx)).await.unwrap();
    assert!(matches!(&incoming, Incoming::Text(text) if text.as_str() == "on"));
}

/// Agrees to the upgrade and sends a frame; in two pieces, the first of `split` bytes.
async fn agree(stream: &mut DuplexStream, split: usize, frame: &[u8]) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        assert!(stream.read_buf(&mut request).await.unwrap() > 0);
    }
    let request = String::from_utf8(request).unwrap();
    let (_, key) = request.split_once("Sec-WebSocket-Key: ").unwrap();
    let accept = derive_accept_key(key.lines().next().unwrap().as_bytes());
    let answer = format!(
        "HTTP/1.1 101 Yes\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    let bytes = [answer.as_bytes(), frame].concat();
    let (first, second) = bytes.split_at(split.min(bytes.len()));
    stream.write_all(first).await.unwrap();
    tokio::task::yield_now().await;
    stream.write_all(second).await.unwrap();
}

/// What a client's socket holds is told from what came behind the answer to its upgrade.
#[tokio::test]
async fn a_clients_buffers_grow_wherever_the_answer_to_its_upgrade_ends() {
    let address = Address::parse("ws://h").unwrap();
    for split in 0..150 {
        let (stream, mut server) = tokio::io::duplex(16 * 1024);
        let serving = agree(&mut server, split, b"\x81\x05\r\n\r\n!");
        let connecting = upgrade::connect(stream, &address, 1 << 20, false);
        let (socket, ()) = tokio::join!(connecting, serving);
        let mut socket = socket.unwrap();
        let heard = poll_fn(|cx| socket.poll_receive(cx)).await;
        assert!(matches!(heard, Ok(Incoming::Text(text)) if text.as_str() == "\r\n\r\n!"));
        for _ in 0..4 {
            server.write_all(&[&b"\x81\x7e\x13\x88"[..], &[b'x'; 5000]].concat()).await.unwrap();
            let heard = poll_fn(|cx| socket.poll_receive(cx)).await;
            assert!(matches!(heard, Ok(Incoming::Text(text)) if text.len() == 5000));
            assert!(poll_fn(|cx| socket.poll_receive(cx)).now_or_never().is_none());
        }
        assert_eq!(socket.pace.buffer, LARGEST, "split at {split}");
    }
}
