//! A cable between a Clusterio program and a master that notes every frame, and can be cut.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::{Value, json};

/// Passes connections on and notes what they carry.
pub struct Tap {
    /// Where it listens.
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
}

struct State {
    target: SocketAddr,
    /// What comes is noted and passed on to nobody.
    swallows: bool,
    connections: usize,
    ends: Vec<TcpStream>,
    frames: Vec<Frame>,
}

/// One WebSocket message.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Which connection carried it; the first is 1.
    pub connection: usize,
    /// From the client to the master.
    pub up: bool,
    /// Whether it was passed on, at least in part.
    pub passed: bool,
    /// A text, or `{"type":"close frame","code":CODE,"reason":TEXT}`.
    pub json: Value,
}

impl Frame {
    pub fn kind(&self) -> &str {
        self.json["type"].as_str().unwrap_or_default()
    }

    /// Its number, if it has one.
    pub fn seq(&self) -> Option<u64> {
        self.json["seq"].as_u64()
    }
}

impl Tap {
    /// A cable to the master at `target`.
    pub fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (ends, frames) = (Vec::new(), Vec::new());
        let state = State { target, swallows: false, connections: 0, ends, frames };
        let state = Arc::new(Mutex::new(state));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                connect(&client.unwrap(), &shared);
            }
        });
        Self { address, state }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Loses what is sent for so long, then ends the connections. The next gets through.
    pub fn cut_after(&self, lossy: Duration) {
        self.state().swallows = true;
        std::thread::sleep(lossy);
        let mut state = self.state();
        state.swallows = false;
        for end in state.ends.drain(..) {
            let _ = end.shutdown(Shutdown::Both);
        }
    }

    /// Leads somewhere else from now on.
    pub fn lay_to(&self, target: SocketAddr) {
        self.state().target = target;
    }

    /// All that was noted.
    pub fn frames(&self) -> Vec<Frame> {
        self.state().frames.clone()
    }

    /// How many connections have come.
    pub fn connections(&self) -> usize {
        self.state().connections
    }

    /// How many frames of a kind went up or down, on all connections.
    pub fn count(&self, up: bool, kind: &str) -> usize {
        self.state().frames.iter().filter(|frame| frame.up == up && frame.kind() == kind).count()
    }
}

fn connect(client: &TcpStream, shared: &Arc<Mutex<State>>) {
    let mut state = shared.lock().unwrap();
    // Both are on this machine: this takes no time.
    let Ok(server) = TcpStream::connect(state.target) else { return };
    state.connections += 1;
    for (from, to, up) in [(client, &server, true), (&server, client, false)] {
        let _ = from.set_nodelay(true);
        state.ends.push(from.try_clone().unwrap());
        let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
        let notes = Notes { connection: state.connections, up, head: true, bytes: Vec::new() };
        let shared = Arc::clone(shared);
        std::thread::spawn(move || pass(from, to, notes, &shared));
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, mut notes: Notes, shared: &Mutex<State>) {
    let mut bytes = [0; 4096];
    while let Ok(read @ 1..) = from.read(&mut bytes) {
        let mut state = shared.lock().unwrap();
        let passed = !state.swallows;
        state.frames.extend(notes.take(&bytes[..read], passed));
        drop(state);
        if passed && to.write_all(&bytes[..read]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}

/// Reads one direction of one connection.
struct Notes {
    connection: usize,
    up: bool,
    /// The HTTP head is not over.
    head: bool,
    bytes: Vec<u8>,
}

impl Notes {
    fn take(&mut self, bytes: &[u8], passed: bool) -> Vec<Frame> {
        self.bytes.extend_from_slice(bytes);
        if self.head {
            let Some(end) = self.bytes.windows(4).position(|end| end == b"\r\n\r\n") else {
                return Vec::new();
            };
            self.bytes.drain(..end + 4);
            self.head = false;
        }
        let (connection, up) = (self.connection, self.up);
        let messages = std::iter::from_fn(|| self.message()).flatten();
        messages.map(|json| Frame { connection, up, passed, json }).collect()
    }

    /// The next whole message, `Some(None)` for a ping or pong.
    fn message(&mut self) -> Option<Option<Value>> {
        let (first, second) = (*self.bytes.first()?, *self.bytes.get(1)?);
        assert_eq!(first & 0xf0, 0x80, "a message in one frame, not compressed");
        let (length, mut start) = match second & 0x7f {
            126 => (u16::from_be_bytes(self.bytes.get(2..4)?.try_into().unwrap()).into(), 4),
            127 => (u64::from_be_bytes(self.bytes.get(2..10)?.try_into().unwrap()) as usize, 10),
            short => (usize::from(short), 2),
        };
        let mask = if second & 0x80 == 0 {
            [0; 4]
        } else {
            start += 4;
            self.bytes.get(start - 4..start)?.try_into().unwrap()
        };
        let payload = self.bytes.get(start..start + length)?;
        let payload: Vec<u8> =
            payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
        self.bytes.drain(..start + length);
        Some(match first & 0x0f {
            1 => Some(serde_json::from_slice(&payload).unwrap()),
            8 => {
                let code = payload.first_chunk().map(|code| u16::from_be_bytes(*code));
                let reason = String::from_utf8_lossy(payload.get(2..).unwrap_or_default());
                Some(json!({"type": "close frame", "code": code, "reason": reason}))
            }
            _ => None,
        })
    }
}
