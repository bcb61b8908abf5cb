//! What a link of a master takes of the heap, counted by the allocator itself: no clock and no
//! system's opinion. The clients are bare sockets of the standard library, which are not on the heap.

mod common;

use std::alloc::System;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::Duration;

use common::raw::{TEXT, head};
use common::{config, control, echo, router};
use futures::future::join_all;
use seqlink::Master;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use tokio::runtime::{Builder, Runtime};

#[global_allocator]
static HEAP: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const LINKS: usize = 200;
/// What one quiet link with a session may take, its share of the master's tables included. 4 %
/// above what was measured on 64-bit Linux; see "Memory of a link" in docs/design.md.
const BUDGET: usize = 10_240;
/// On a machine that is busy with other things the peers here may be late by more than a second.
const HEARTBEAT: Duration = Duration::from_millis(600);

/// One test at a time: another would be counted too.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn on_heap() -> usize {
    let stats = HEAP.stats();
    stats.bytes_allocated - stats.bytes_deallocated
}

/// A client without anything on the heap between its calls.
struct Peer {
    stream: TcpStream,
    /// The number of the last frame that was received.
    last: Option<u64>,
}

impl Peer {
    fn new(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut peer = Self { stream, last: None };
        let upgrade = common::raw::upgrade("/api/socket");
        let upgrade = upgrade.replace("\r\n\r\n", "\r\nSeqlink-Session: 1\r\n\r\n");
        peer.stream.write_all(upgrade.as_bytes()).unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(peer.byte());
        }
        assert!(peer.hear().contains(r#""type":"hello""#));
        let data = r#"{"agent":"raw","version":"2.0.0"}"#;
        peer.say(&format!(r#"{{"seq":null,"type":"register_control","data":{data}}}"#));
        let ready = peer.hear();
        assert!(ready.contains("session_token"), "{ready}");
        peer
    }

    fn byte(&mut self) -> u8 {
        let mut byte = [0];
        self.stream.read_exact(&mut byte).unwrap();
        byte[0]
    }

    fn say(&mut self, text: &str) {
        let mut frame = head(0x80 | TEXT, text.len() as u64);
        frame.extend_from_slice(text.as_bytes());
        self.stream.write_all(&frame).unwrap();
    }

    /// The next text.
    fn hear(&mut self) -> String {
        let first = self.byte();
        assert_eq!(first, 0x80 | TEXT, "no text");
        let length = match self.byte() {
            126 => u64::from(u16::from_be_bytes([self.byte(), self.byte()])),
            127 => u64::from_be_bytes(std::array::from_fn(|_| self.byte())),
            short => short.into(),
        };
        let mut text = vec![0; usize::try_from(length).unwrap()];
        self.stream.read_exact(&mut text).unwrap();
        String::from_utf8(text).unwrap()
    }

    fn beat(&mut self) {
        let seq = self.last.map_or("null".to_owned(), |seq| seq.to_string());
        self.say(&format!(r#"{{"seq":null,"type":"heartbeat","data":{{"seq":{seq}}}}}"#));
    }

    /// Throws away what has come, which are heartbeats.
    fn read_slowly(&mut self) {
        self.stream.set_nonblocking(true).unwrap();
        let mut waste = [0; 4096];
        while self.stream.read(&mut waste).is_ok_and(|bytes| bytes > 0) {}
        self.stream.set_nonblocking(false).unwrap();
    }
}

struct World {
    runtime: Runtime,
    master: Master,
    peers: Vec<Peer>,
}

impl World {
    fn new() -> (Self, SocketAddr) {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let config = config(|config| config.heartbeat_interval = HEARTBEAT);
        let master = Master::builder().router(router()).config(config).build().unwrap();
        let address = runtime.block_on(master.listen("127.0.0.1:0")).unwrap();
        (Self { runtime, master, peers: Vec::with_capacity(2 * LINKS) }, address)
    }

    /// Nothing but heartbeats, for as many intervals.
    fn rest(&mut self, intervals: u32) {
        for _ in 0..2 * intervals {
            self.peers.iter_mut().for_each(|peer| {
                peer.beat();
                peer.read_slowly();
            });
            sleep(HEARTBEAT / 2);
        }
        assert_eq!(self.master.controls().len(), self.peers.len(), "all links are there");
    }
}

#[test]
fn a_quiet_link_is_small_and_small_again_after_a_large_message() {
    let _alone = alone();
    let (mut world, address) = World::new();
    // The tables, the threads and what is made once exist before it is counted.
    world.peers.extend((0..LINKS / 4).map(|_| Peer::new(address)));
    world.rest(3);
    let before = on_heap();
    world.peers.extend((0..LINKS).map(|_| Peer::new(address)));
    world.rest(4);
    let quiet = (on_heap() - before) / LINKS;
    eprintln!("a quiet link takes {quiet} bytes");

    let text = "x".repeat(60_000);
    for at in LINKS / 4..world.peers.len() {
        // Who waits for its turn is alive.
        world.peers.iter_mut().for_each(Peer::beat);
        let peer = &mut world.peers[at];
        peer.say(&format!(r#"{{"seq":1,"type":"echo_request","data":{{"text":"{text}"}}}}"#));
        let answer = loop {
            let heard = peer.hear();
            if !heard.contains(r#""type":"heartbeat""#) {
                break heard;
            }
        };
        assert!(answer.len() > 60_000 && answer.starts_with(r#"{"seq":1,"type":"echo_response""#));
        peer.last = Some(1);
        peer.beat();
    }
    drop(text);
    world.rest(6);
    let after = (on_heap() - before) / LINKS;
    eprintln!("after 60,000 bytes there and back it takes {after} bytes");
    assert!(quiet <= BUDGET, "a quiet link takes {quiet} bytes of {BUDGET}");
    assert!(after <= BUDGET + 1024, "it takes {after} bytes after a large message");
}

/// Both ends of links whose clients are the library's too.
#[test]
fn a_client_is_small_again_after_much_at_once() {
    const CLIENTS: usize = 50;
    let _alone = alone();
    let (world, address) = World::new();
    let clients = (0..CLIENTS).map(|_| {
        world.runtime.block_on(control().url(format!("ws://{address}")).router(router()).connect())
    });
    let clients: Vec<_> = clients.map(Result::unwrap).collect();
    let links = world.runtime.block_on(join_all(clients.iter().map(|client| client.link())));
    let mut links: Vec<_> = links.into_iter().map(Result::unwrap).collect();
    links.extend(world.master.controls());
    assert_eq!(links.len(), 2 * CLIENTS);
    // Each end asks so many times at once, one after the other.
    let ask = |times: usize, bytes: usize| {
        let text = "x".repeat(bytes);
        for link in &links {
            let asked = (0..times).map(|_| link.request(&echo(&text)));
            for answer in world.runtime.block_on(join_all(asked)) {
                assert_eq!(answer.unwrap().text.len(), bytes);
            }
        }
        drop(text);
        sleep(4 * HEARTBEAT);
        on_heap() / CLIENTS
    };
    // What is kept for each request is another matter.
    let before = ask(20, 10);
    for (what, times, bytes) in
        [("60,000 bytes", 1, 60_000), ("20 times 3,000 bytes at once", 20, 3000)]
    {
        let more = ask(times, bytes).saturating_sub(before);
        eprintln!("both ends keep {more} bytes after {what} there and back");
        assert!(more <= 1024, "they keep {more} bytes after {what}");
    }
}
