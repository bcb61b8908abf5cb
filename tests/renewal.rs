//! The buffers of a socket are given up and made anew at a heartbeat: whatever pieces the bytes come
//! in, nothing is lost by it. First bare sockets, of a master and of a client, then whole links.

mod common;

use std::future::poll_fn;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::raw::{PING, PONG, Raw, TEXT};
use common::*;
use futures::FutureExt as _;
use seqlink::transport::websocket::WebSocket;
use seqlink::transport::{Incoming, Outgoing, Transport as _};
use seqlink::{Client, Link, Master};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::task::unconstrained;
use tokio::time::sleep;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

const CONTINUED: u8 = 0;
const LAST: u8 = 0x80;
const MAX_FRAME: usize = 1 << 20;

/// One frame, with a mask if a client sends it.
fn frame(first: u8, payload: &str, mask: Option<[u8; 4]>) -> Vec<u8> {
    let masked = if mask.is_some() { 0x80 } else { 0 };
    let length = payload.len() as u64;
    let mut frame = match length {
        0..126 => vec![first, masked | length as u8],
        126..0x1_0000 => [&[first, masked | 126][..], &length.to_be_bytes()[6..]].concat(),
        _ => [&[first, masked | 127][..], &length.to_be_bytes()].concat(),
    };
    let key = mask.unwrap_or_default();
    frame.extend_from_slice(&key[..4 * mask.iter().len()]);
    frame.extend(payload.bytes().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

/// What a peer says, as bytes and as the messages that shall be heard.
#[derive(Default)]
struct Said {
    mask: Option<[u8; 4]>,
    bytes: Vec<u8>,
    texts: Vec<String>,
    pings: usize,
}

impl Said {
    fn text(&mut self, length: usize) {
        self.parts(&[length]);
    }

    /// A message in parts of these lengths, with a ping behind each part but the last.
    fn parts(&mut self, lengths: &[usize]) {
        let mut text = String::new();
        for (at, &length) in lengths.iter().enumerate() {
            let number = self.texts.len();
            let part = format!("{number:3}.{at}{}", "\r\n\r\n~".repeat(length / 5 + 1));
            let opcode = if at == 0 { TEXT } else { CONTINUED };
            let is_last = at + 1 == lengths.len();
            let first = opcode | if is_last { LAST } else { 0 };
            self.bytes.extend(frame(first, &part[..length], self.mask));
            text.push_str(&part[..length]);
            if !is_last {
                self.bytes.extend(frame(LAST | PING, "there?", self.mask));
                self.pings += 1;
            }
        }
        self.texts.push(text);
    }

    /// A large message, for which a heartbeat has the buffers made anew, before messages of all
    /// other forms.
    fn all_forms(mask: Option<[u8; 4]>, large: usize) -> Self {
        let mut said = Self { mask, ..Self::default() };
        for small in [1, 0, 125, 126] {
            said.text(large);
            said.text(small);
            said.text(small);
        }
        for parts in [&[7, 0][..], &[0, 7, 130], &[large / 2, large - large / 2]] {
            said.text(large);
            said.parts(parts);
            said.text(5);
        }
        said
    }
}

/// A socket under test, and the bare stream of its peer.
struct Ends {
    socket: WebSocket<DuplexStream>,
    peer: DuplexStream,
    texts: Vec<String>,
    mask: Option<[u8; 4]>,
}

impl Ends {
    fn of_master() -> Self {
        let (stream, peer) = duplex(MAX_FRAME);
        let socket = WebSocket::upgraded(stream, MAX_FRAME);
        Self { socket, peer, texts: Vec::new(), mask: Some([0x81, 0x7e, 0, 0xff]) }
    }

    /// Behind the answer to the upgrade come a text and, after `split` bytes, a pause.
    async fn of_client(split: usize, eol: &str) -> Self {
        let (stream, mut peer) = duplex(MAX_FRAME);
        let serving = async {
            let mut bytes = answer(&mut peer, eol).await;
            // It has what could be taken for the end of the answer.
            bytes.extend(frame(LAST | TEXT, "\r\n\r\n\n!", None));
            let (first, second) = bytes.split_at(split.min(bytes.len()));
            peer.write_all(first).await.unwrap();
            tokio::task::yield_now().await;
            peer.write_all(second).await.unwrap();
        };
        let connecting = WebSocket::connect(stream, "ws://h/", MAX_FRAME, false);
        let (socket, ()) = tokio::join!(connecting, serving);
        let mut ends = Self { socket: socket.unwrap(), peer, texts: Vec::new(), mask: None };
        ends.look();
        assert_eq!(ends.texts, ["\r\n\r\n\n!"], "split at {split}");
        ends.texts.clear();
        ends
    }

    /// Takes all that has come, however much of the task's share of time that needs.
    fn look(&mut self) {
        while let Some(next) =
            unconstrained(poll_fn(|cx| self.socket.poll_receive(cx))).now_or_never()
        {
            match next.expect("a fault") {
                Incoming::Text(text) => self.texts.push(text.as_str().to_owned()),
                Incoming::Ping => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Hears it in pieces, with a heartbeat before each look.
    async fn hear(&mut self, said: &Said, pieces: impl Iterator<Item = &[u8]>) {
        for piece in pieces {
            self.peer.write_all(piece).await.unwrap();
            self.socket.shrink();
            self.look();
        }
        assert!(self.texts == said.texts, "{} of {} texts", self.texts.len(), said.texts.len());
        self.texts.clear();
        // All pings have been answered, by a client with a mask.
        let pong = "there?".len() + if self.mask.is_none() { 6 } else { 2 };
        let mut pongs = vec![0; said.pings * pong];
        let read = unconstrained(self.peer.read_exact(&mut pongs)).now_or_never();
        assert!(matches!(read, Some(Ok(_))), "not all of {} pings", said.pings);
    }
}

/// Reads the request for an upgrade. Returns what agrees to it.
async fn answer(stream: &mut DuplexStream, eol: &str) -> Vec<u8> {
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

async fn hears_all_in_pieces_of_any_length(ends: &mut Ends) {
    // Large is what is longer than 4 KiB; the other needs the longest head.
    for (large, shortest) in [(4097, 0), (66_000, 100)] {
        let said = Said::all_forms(ends.mask, large);
        let lengths = [1, 2, 3, 5, 7, 131, 1000, 4096, 4111, 5000, said.bytes.len()];
        for length in lengths.into_iter().filter(|&length| length > shortest) {
            ends.hear(&said, said.bytes.chunks(length)).await;
        }
    }
}

#[tokio::test]
async fn a_master_hears_all_in_pieces_of_any_length() {
    hears_all_in_pieces_of_any_length(&mut Ends::of_master()).await;
}

#[tokio::test]
async fn a_client_hears_all_in_pieces_of_any_length() {
    let mut ends = Ends::of_client(usize::MAX, "\r\n").await;
    hears_all_in_pieces_of_any_length(&mut ends).await;
}

/// Behind a large message, each kind of other, at each byte of it.
async fn hears_all_however_it_is_split(ends: &mut Ends) {
    let (mut first, mut second) = (Said::default(), Said::default());
    (first.mask, second.mask) = (ends.mask, ends.mask);
    first.text(5000);
    second.text(10);
    second.parts(&[3, 0, 140]);
    second.text(130);
    for split in 0..=second.bytes.len() {
        let (piece, rest) = second.bytes.split_at(split);
        let texts = [&first.texts[..], &second.texts].concat();
        let bytes = [&first.bytes[..], piece].concat();
        let said = Said { mask: ends.mask, texts, pings: second.pings, bytes: Vec::new() };
        ends.hear(&said, [&bytes[..], rest].into_iter()).await;
    }
}

#[tokio::test]
async fn a_master_hears_all_however_it_is_split() {
    hears_all_however_it_is_split(&mut Ends::of_master()).await;
}

/// What a client received begins with the answer to its upgrade, wherever that ends in what is
/// read at once.
#[tokio::test]
async fn a_client_hears_all_however_it_is_split() {
    for eol in ["\r\n", "\n"] {
        for split in 0..150 {
            let mut ends = Ends::of_client(split, eol).await;
            if split % 10 == 0 {
                hears_all_however_it_is_split(&mut ends).await;
            } else {
                let said = Said::all_forms(None, 5000);
                ends.hear(&said, said.bytes.chunks(997)).await;
            }
        }
    }
}

/// What waits to be written when the heartbeat comes is written all the same.
#[tokio::test]
async fn nothing_that_waits_to_be_written_is_lost() {
    let (stream, mut peer) = duplex(1000);
    let mut socket = WebSocket::upgraded(stream, MAX_FRAME);
    let mut sent = Vec::new();
    for length in (0..100_000).step_by(9001) {
        let text = "x".repeat(length);
        if poll_fn(|cx| socket.poll_ready(cx)).now_or_never().is_none() {
            // Ten bytes make no room, and no look may take that for an end.
            let mut some = [0; 10];
            peer.read_exact(&mut some).await.unwrap();
            assert_eq!(sent.drain(..10).collect::<Vec<u8>>(), some);
            let reading = async {
                let mut rest = vec![0; sent.len()];
                peer.read_exact(&mut rest).await.unwrap();
                assert!(rest == sent, "behind {length}");
                sent.clear();
            };
            let flushing = poll_fn(|cx| socket.poll_flush(cx));
            let (flushed, ()) = tokio::join!(flushing, reading);
            flushed.unwrap();
        }
        sent.extend(frame(LAST | TEXT, &text, None));
        socket.send(Outgoing::Text(text.into())).unwrap();
        socket.shrink();
        assert!(poll_fn(|cx| socket.poll_receive(cx)).now_or_never().is_none());
    }
}

/// A master's link, over a bare socket: the longest message comes through, again and again.
#[tokio::test]
async fn the_longest_message_comes_behind_a_heartbeat() {
    let config = config(|config| config.heartbeat_interval = Duration::from_millis(100));
    let master = Master::builder().router(router()).config(config).build().unwrap();
    let mut raw = Raw::control(master.listen("127.0.0.1:0").await.unwrap()).await;
    for seq in [2, 4, 6] {
        for (seq, length) in [(seq, MAX_FRAME - 200), (seq + 1, 10)] {
            let text = "x".repeat(length);
            let request =
                format!(r#"{{"seq":{seq},"type":"echo_request","data":{{"text":"{text}"}}}}"#);
            raw.text(&request).await;
            let answer = raw.json().await;
            assert_eq!(answer["data"]["seq"], seq);
            assert!(answer["data"]["text"] == text, "{length} bytes");
            let (opcode, payload) = raw.any().await.unwrap();
            assert_eq!(opcode, PING);
            raw.frame(PONG, &payload).await;
        }
    }
}

/// Both ends of a link over byte streams, for weeks of made-up time.
async fn linked() -> (Master, Client, [Link; 2]) {
    let master = Master::builder().router(router()).build().unwrap();
    let accepting = master.clone();
    let dial = move || {
        let (ours, theirs) = duplex(1500);
        let master = accepting.clone();
        tokio::spawn(async move { master.accept(theirs).await });
        WebSocket::connect(ours, "ws://h/", MAX_FRAME, true)
    };
    let client = slave().router(router()).connect_by(dial).await.unwrap();
    let links = [client.link().await.unwrap(), master.slave(7).unwrap()];
    (master, client, links)
}

#[tokio::test(start_paused = true)]
async fn links_carry_messages_of_all_lengths_between_their_heartbeats() {
    let (_master, _client, links) = linked().await;
    let failures = Arc::new(Mutex::new(Vec::new()));
    let mut asking = Vec::new();
    for (at, link) in links.iter().cloned().enumerate() {
        for asker in 0..4 {
            let (link, failures) = (link.clone(), Arc::clone(&failures));
            asking.push(tokio::spawn(async move {
                for n in 0..60_usize {
                    let text = format!("{asker}.{n} ").repeat(1 + (n * 2311 + asker) % 5000);
                    match link.request(&echo(&text)).await {
                        Ok(answer) if answer.text == text => {}
                        other => failures.lock().unwrap().push((at, n, other.map(|_| "other"))),
                    }
                    // Heartbeats come every 15 s.
                    sleep(Duration::from_secs([0, 1, 20, 3, 40][n % 5])).await;
                }
            }));
        }
    }
    for asking in asking {
        asking.await.unwrap();
    }
    assert!(failures.lock().unwrap().is_empty(), "{failures:?}");
    assert!(links.iter().all(|link| !link.is_closed()));
}
