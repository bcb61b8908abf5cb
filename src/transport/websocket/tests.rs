use std::future::poll_fn;

use futures::FutureExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::*;

/// tungstenite's own write buffer has no limit unless it is given one (tungstenite-rs #490).
#[tokio::test]
async fn the_buffers_below_are_bounded() {
    let (stream, _peer) = tokio::io::duplex(64);
    let socket = WebSocket::upgraded(stream, 1 << 20);
    let config = socket.protocol.get_config();
    assert_eq!(config.read_buffer_size, READ_BUFFER);
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

/// The limit before `ready` holds for all bytes together: whole messages, parts of one, pings.
#[tokio::test]
async fn an_allowance_is_for_all_that_comes() {
    for first in [0x81, 0x00, 0x89] {
        let (stream, mut peer) = tokio::io::duplex(64 * 1024);
        let mut socket = WebSocket::upgraded(stream, 1 << 20);
        socket.set_limit(1000);
        if first == 0 {
            peer.write_all(&text(0x01, 0)).await.unwrap();
        }
        let (mut taken, mut fault) = (0, None);
        while fault.is_none() && taken < 5000 {
            let frame = if first == 0x89 { ping(100) } else { text(first, 300) };
            peer.write_all(&frame).await.unwrap();
            taken += frame.len();
            let looked = poll_fn(|cx| socket.poll_receive(cx)).now_or_never();
            fault = looked.and_then(Result::err);
        }
        assert!(matches!(fault, Some(TransportError::TooLong { limit: 1000 })), "{fault:?}");
        assert!((1000..2000).contains(&taken), "after {taken} bytes of {first:x}");
    }
}

/// A look that finds nothing, behind a heartbeat; whether the buffers are those of a new protocol.
fn shrink(socket: &mut WebSocket<DuplexStream>) -> bool {
    socket.shrink();
    assert!(poll_fn(|cx| socket.poll_receive(cx)).now_or_never().is_none());
    socket.largest == 0
}

async fn hear(socket: &mut WebSocket<DuplexStream>) -> usize {
    match poll_fn(|cx| socket.poll_receive(cx)).await {
        Ok(Incoming::Text(text)) => text.len(),
        other => panic!("{other:?}"),
    }
}

/// One of the client's, whose mask is zero.
fn text(first: u8, length: usize) -> Vec<u8> {
    let head = u16::try_from(length).unwrap().to_be_bytes();
    [&[first, 0xfe, head[0], head[1], 0, 0, 0, 0][..], &vec![b'x'; length]].concat()
}

/// The same for a ping.
fn ping(length: u8) -> Vec<u8> {
    [&[0x89, 0x80 | length, 0, 0, 0, 0][..], &vec![b'x'; length.into()]].concat()
}

/// The protocol is made anew at a heartbeat, when it has carried something large and holds nothing.
#[tokio::test]
async fn buffers_that_hold_anything_are_kept() {
    let (stream, mut peer) = tokio::io::duplex(64 * 1024);
    let mut socket = WebSocket::upgraded(stream, 1 << 20);
    peer.write_all(&text(0x81, LARGE)).await.unwrap();
    hear(&mut socket).await;
    assert!(!shrink(&mut socket), "nothing was large");
    for split in [0, 1, 3, 7, 8, 9, 5007] {
        peer.write_all(&text(0x81, LARGE + 1)).await.unwrap();
        hear(&mut socket).await;
        assert!(poll_fn(|cx| socket.poll_receive(cx)).now_or_never().is_none());
        assert_ne!(socket.largest, 0, "not before a heartbeat");
        let next = text(0x01, 5000);
        peer.write_all(&next[..split]).await.unwrap();
        assert_eq!(shrink(&mut socket), split == 0, "{split} bytes of the next");
        peer.write_all(&next[split..]).await.unwrap();
        assert_eq!(shrink(&mut socket), split == 0, "between its parts");
        peer.write_all(&text(0x80, 1)).await.unwrap();
        assert_eq!(hear(&mut socket).await, 5001);
        assert!(shrink(&mut socket));
    }
}

/// Many small messages that are written at once have room made for them, as one large one has.
#[tokio::test]
async fn what_was_written_at_once_is_large_too() {
    let (stream, mut peer) = tokio::io::duplex(1000);
    let mut socket = WebSocket::upgraded(stream, 1 << 20);
    for (messages, is_large) in [(4, false), (5, true), (3, false), (2, false)] {
        for _ in 0..messages {
            poll_fn(|cx| socket.poll_ready(cx)).await.unwrap();
            socket.send(Outgoing::Text("x".repeat(1000).into())).unwrap();
        }
        assert!(!shrink(&mut socket), "it waits to be written");
        let mut heard = vec![0; messages * 1004];
        let flushing = poll_fn(|cx| socket.poll_flush(cx));
        let (flushed, read) = tokio::join!(flushing, peer.read_exact(&mut heard));
        flushed.unwrap();
        read.unwrap();
        assert_eq!(shrink(&mut socket), is_large, "{messages} messages");
    }
}

/// What comes behind a close frame is a fault, and belongs to no other WebSocket.
#[tokio::test]
async fn a_websocket_that_closes_is_not_made_anew() {
    let address = Address::parse("ws://h").unwrap();
    let (stream, mut server) = tokio::io::duplex(16 * 1024);
    let large = [&b"\x81\x7e\x13\x88"[..], &[b'x'; 5000]].concat();
    let serving = agree(&mut server, usize::MAX, &large);
    let connecting = upgrade::connect(stream, &address, 1 << 20, false);
    let (socket, ()) = tokio::join!(connecting, serving);
    let mut socket = socket.unwrap();
    assert_eq!(hear(&mut socket).await, 5000);
    server.write_all(b"\x88\x02\x03\xe8").await.unwrap();
    let closed = poll_fn(|cx| socket.poll_receive(cx)).await;
    assert!(matches!(closed, Ok(Incoming::Close(CloseCode::NORMAL, _))), "{closed:?}");
    assert!(!shrink(&mut socket));
    server.write_all(b"\x81\x02on").await.unwrap();
    let late = poll_fn(|cx| socket.poll_receive(cx)).await;
    assert!(matches!(late, Err(TransportError::WebSocket(_))), "{late:?}");
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
async fn a_clients_buffers_are_made_anew_wherever_the_answer_to_its_upgrade_ends() {
    let address = Address::parse("ws://h").unwrap();
    for split in 0..150 {
        let (stream, mut server) = tokio::io::duplex(16 * 1024);
        let serving = agree(&mut server, split, b"\x81\x05\r\n\r\n!");
        let connecting = upgrade::connect(stream, &address, 1 << 20, false);
        let (socket, ()) = tokio::join!(connecting, serving);
        let mut socket = socket.unwrap();
        assert_eq!(hear(&mut socket).await, 5);
        server.write_all(&[&b"\x81\x7e\x13\x88"[..], &[b'x'; 5000]].concat()).await.unwrap();
        assert_eq!(hear(&mut socket).await, 5000);
        assert!(shrink(&mut socket), "split at {split}");
    }
}
