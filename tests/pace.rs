//! The buffers of a socket are given up and made anew while a link lives: whatever pieces the
//! bytes come in, nothing is lost by it. First a master's sockets, then a client's.

mod common;

use std::time::Duration;

use common::raw::{PING, PONG, Raw, TEXT, head};
use common::*;
use seqlink::{Client, Config, Master, Reconnect};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// Messages of this length have the buffers made anew as soon as they are handled.
const LARGE: usize = 40_000;

async fn world(change: impl FnOnce(&mut Config)) -> (Master, Raw) {
    let master = Master::builder().router(router()).config(config(change)).build().unwrap();
    let address = master.listen("127.0.0.1:0").await.unwrap();
    let raw = Raw::control(address).await;
    (master, raw)
}

fn echo_request(seq: u64, bytes: usize) -> String {
    let text = "x".repeat(bytes);
    format!(r#"{{"seq":{seq},"type":"echo_request","data":{{"text":"{text}"}}}}"#)
}

fn request(seq: u64, bytes: usize) -> Vec<u8> {
    let text = echo_request(seq, bytes);
    let mut frame = head(0x80 | TEXT, text.len() as u64);
    frame.extend_from_slice(text.as_bytes());
    frame
}

async fn is_answered(raw: &mut Raw, seq: u64, bytes: usize) {
    let answer = raw.json().await;
    assert_eq!(answer["data"]["seq"], seq);
    assert_eq!(answer["data"]["text"].as_str().map(str::len), Some(bytes));
}

/// Long enough for the master to have read what is there.
async fn pause() {
    sleep(Duration::from_millis(2)).await;
}

#[tokio::test]
async fn a_message_may_be_split_at_any_byte_around_a_renewal() {
    let (_master, mut raw) = world(|_| {}).await;
    let (mut seq, whole) = (2, request(100, 10).len());
    for large in [LARGE, 17_000] {
        for split in 0..=whole {
            let (first, second) = (request(seq, large), request(seq + 1, 10));
            let second = &second[..];
            let split = split.min(second.len());
            // The start of one message comes with the end of the other.
            raw.bytes(&[&first[..], &second[..split]].concat()).await;
            pause().await;
            raw.bytes(&second[split..]).await;
            is_answered(&mut raw, seq, large).await;
            is_answered(&mut raw, seq + 1, 10).await;
            seq += 2;
        }
    }
}

#[tokio::test]
async fn bytes_that_come_one_by_one_arrive_whole_after_a_renewal() {
    let (_master, mut raw) = world(|_| {}).await;
    for seq in (2..8).step_by(2) {
        raw.bytes(&request(seq, LARGE)).await;
        is_answered(&mut raw, seq, LARGE).await;
        for byte in request(seq + 1, 10) {
            raw.bytes(&[byte]).await;
            tokio::task::yield_now().await;
        }
        is_answered(&mut raw, seq + 1, 10).await;
    }
}

/// The parts of a message may be of any length, with a ping between, which is answered at once.
#[tokio::test]
async fn a_message_in_parts_with_a_ping_between_arrives_whole() {
    for split in [0, 1, 7, 30, 59] {
        let (_master, mut raw) = world(|_| {}).await;
        raw.bytes(&request(2, LARGE)).await;
        is_answered(&mut raw, 2, LARGE).await;
        for seq in 3..6 {
            let text = request(seq, 20);
            let text = &text[6..];
            raw.bytes(&head(TEXT, split as u64)).await;
            raw.bytes(&text[..split]).await;
            pause().await;
            raw.frame(PING, b"there?").await;
            assert_eq!(raw.any().await, Some((PONG, b"there?".to_vec())), "split at {split}");
            raw.bytes(&head(0x80, (text.len() - split) as u64)).await;
            raw.bytes(&text[split..]).await;
            is_answered(&mut raw, seq, 20).await;
        }
        raw.bytes(&request(6, LARGE)).await;
        is_answered(&mut raw, 6, LARGE).await;
    }
}

/// A calm link takes the longest message, and so does one that became calm again.
#[tokio::test]
async fn the_longest_message_comes_through_the_smallest_buffer() {
    let (_master, mut raw) =
        world(|config| config.heartbeat_interval = Duration::from_millis(100)).await;
    let longest = (1 << 20) - 200;
    for seq in [2, 4, 6] {
        raw.bytes(&request(seq, longest)).await;
        is_answered(&mut raw, seq, longest).await;
        // Four pings: two of them find it calm.
        for _ in 0..4 {
            let (opcode, payload) = raw.any().await.unwrap();
            assert_eq!(opcode, PING);
            raw.frame(PONG, &payload).await;
        }
        raw.bytes(&request(seq + 1, 10)).await;
        is_answered(&mut raw, seq + 1, 10).await;
    }
}

/// A frame from a server, which has no mask.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = head(first, payload.len() as u64);
    frame.truncate(frame.len() - 4);
    frame[1] &= 0x7f;
    frame.extend_from_slice(payload);
    frame
}

fn asked(seq: u64, bytes: usize) -> Vec<u8> {
    frame(0x80 | TEXT, echo_request(seq, bytes).as_bytes())
}

/// A master by hand, over a bare socket, with one client of the library.
struct Server {
    stream: TcpStream,
    /// What was read and not yet taken.
    heard: Vec<u8>,
    /// Kept, so that the link lives.
    _client: Client,
}

impl Server {
    /// Whose answer to the upgrade and first frame come in two pieces, the first of `split` bytes;
    /// the lines of the answer end in `eol`.
    async fn new(split: usize, eol: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}", listener.local_addr().unwrap());
        let client = control().url(url).router(router()).reconnect(Reconnect::never());
        let serving = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            let mut heard = Vec::new();
            let mut first = answer(&mut stream, eol).await;
            // The text has what could be taken for the end of the answer.
            let hello = "{\"seq\":1,\"type\":\"hello\",\r\n\r\n\n\"data\":{\"version\":\"2.0.0\"}}";
            first.extend(frame(0x80 | TEXT, hello.as_bytes()));
            let split = split.min(first.len());
            stream.write_all(&first[..split]).await.unwrap();
            pause().await;
            stream.write_all(&first[split..]).await.unwrap();
            assert_eq!(json(&mut stream, &mut heard).await["type"], "register_control");
            let ready = frame(0x80 | TEXT, br#"{"seq":2,"type":"ready","data":{}}"#);
            stream.write_all(&ready).await.unwrap();
            (stream, heard)
        };
        let both = async { tokio::join!(client.connect(), serving) };
        let (client, (stream, heard)) = timeout(PATIENCE, both).await.expect("no link");
        Self { stream, heard, _client: client.unwrap() }
    }

    async fn bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    async fn is_answered(&mut self, seq: u64, bytes: usize) {
        let answer = timeout(PATIENCE, json(&mut self.stream, &mut self.heard));
        let answer = answer.await.expect("the client says nothing");
        assert_eq!(answer["data"]["seq"], seq);
        assert_eq!(answer["data"]["text"].as_str().map(str::len), Some(bytes));
    }
}

const PATIENCE: Duration = Duration::from_secs(20);

/// Reads the request for an upgrade; says what agrees to it.
async fn answer(stream: &mut TcpStream, eol: &str) -> Vec<u8> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        assert!(stream.read_buf(&mut request).await.unwrap() > 0, "{request:?}");
    }
    let request = String::from_utf8(request).unwrap();
    let headers = request.lines().filter_map(|line| line.split_once(": "));
    let mut keys = headers.filter(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-key"));
    let accept = derive_accept_key(keys.next().unwrap().1.as_bytes());
    let accept = format!("Sec-WebSocket-Accept: {accept}");
    let status = "HTTP/1.1 101 Switching Protocols";
    let lines = [status, "Upgrade: websocket", "Connection: Upgrade", &accept, "", ""];
    lines.join(eol).into_bytes()
}

/// The next text message of a client, whose mask is taken off.
async fn json(stream: &mut TcpStream, heard: &mut Vec<u8>) -> Value {
    let head = |heard: &[u8]| {
        let (length, start) = match *heard.get(1)? & 0x7f {
            126 => (u16::from_be_bytes(heard.get(2..4)?.try_into().unwrap()).into(), 4),
            127 => (u64::from_be_bytes(heard.get(2..10)?.try_into().unwrap()) as usize, 10),
            short => (usize::from(short), 2),
        };
        (heard.len() >= start + 4 + length).then_some((start, length))
    };
    loop {
        let Some((start, length)) = head(heard) else {
            assert!(stream.read_buf(heard).await.unwrap() > 0, "the client hung up");
            continue;
        };
        let frame: Vec<u8> = heard.drain(..start + 4 + length).collect();
        let (mask, masked) = frame[start..].split_at(4);
        let unmasked = masked.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask);
        let text: Vec<u8> = unmasked.collect();
        if frame[0] == 0x80 | TEXT {
            return serde_json::from_slice(&text).unwrap();
        }
    }
}

/// What a client received begins with the answer to its upgrade, wherever that ends in what is
/// read at once.
#[tokio::test]
async fn the_answer_to_an_upgrade_may_be_split_at_any_byte() {
    for eol in ["\r\n", "\n"] {
        for split in 0..205 {
            let mut server = Server::new(split, eol).await;
            let (first, second) = (asked(3, LARGE), asked(4, 10));
            let (piece, rest) = second.split_at(split % second.len());
            server.bytes(&[&first[..], piece].concat()).await;
            pause().await;
            server.bytes(rest).await;
            server.is_answered(3, LARGE).await;
            server.is_answered(4, 10).await;
        }
    }
}

#[tokio::test]
async fn a_message_to_a_client_may_be_split_at_any_byte_around_a_renewal() {
    let mut server = Server::new(usize::MAX, "\r\n").await;
    let (mut seq, whole) = (3, asked(100, 10).len());
    for large in [LARGE, 17_000, 66_000] {
        for split in 0..=whole {
            let (first, second) = (asked(seq, large), asked(seq + 1, 10));
            let (piece, rest) = second.split_at(split.min(second.len()));
            server.bytes(&[&first[..], piece].concat()).await;
            pause().await;
            server.bytes(rest).await;
            server.is_answered(seq, large).await;
            server.is_answered(seq + 1, 10).await;
            seq += 2;
        }
    }
}

/// The two heads of a long message in two parts are shorter than the one that it could have had:
/// who counts by the length of the message takes the next two bytes for its end.
#[tokio::test]
async fn a_long_message_to_a_client_may_come_in_two_parts() {
    let mut server = Server::new(usize::MAX, "\r\n").await;
    let (length, mut seq) = (66_000, 3);
    for split in 0..asked(100, 10).len() {
        let text = echo_request(seq, length);
        let (one, other) = text.as_bytes().split_at(length / 2);
        let first = [frame(TEXT, one), frame(0x80, other)].concat();
        let second = asked(seq + 1, 10);
        let (piece, rest) = second.split_at(split);
        server.bytes(&[&first[..], piece].concat()).await;
        server.is_answered(seq, length).await;
        pause().await;
        server.bytes(rest).await;
        server.is_answered(seq + 1, 10).await;
        seq += 2;
    }
}

/// Between two parts of a message nothing is held in the read buffer, and yet the first part is
/// held: a read buffer that should grow waits for the last part.
#[tokio::test]
async fn the_first_part_of_a_message_is_kept_when_the_buffers_should_change() {
    for large in [20_000, LARGE] {
        let mut server = Server::new(usize::MAX, "\r\n").await;
        let text = echo_request(3, large);
        let (one, other) = text.as_bytes().split_at(large / 2);
        // More bursts than it takes to grow.
        for piece in frame(TEXT, one).chunks(2000) {
            server.bytes(piece).await;
            pause().await;
        }
        server.bytes(&frame(0x80, other)).await;
        server.is_answered(3, large).await;
    }
}

/// The read buffer grows and shrinks again and again while messages come in pieces of any length.
#[tokio::test]
async fn nothing_is_lost_to_a_client_while_its_buffers_change() {
    let mut server = Server::new(usize::MAX, "\r\n").await;
    let mut seq = 3;
    for round in 0..6 {
        for (count, bytes) in [(12, 9000 + round), (80, 10 * round)] {
            for _ in 0..count {
                let whole = [asked(seq, bytes), asked(seq + 1, 7)].concat();
                let (piece, rest) = whole.split_at(seq as usize % whole.len());
                server.bytes(piece).await;
                tokio::task::yield_now().await;
                server.bytes(rest).await;
                server.is_answered(seq, bytes).await;
                server.is_answered(seq + 1, 7).await;
                seq += 2;
            }
        }
    }
}
