//! A WebSocket client by hand, over a bare socket: it sends what no library would.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub const TEXT: u8 = 1;
pub const BINARY: u8 = 2;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;

/// Longer than anything should take on a busy machine, shorter than a hung test.
const PATIENCE: Duration = Duration::from_secs(20);

pub struct Raw {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// How the peer ended the link.
#[derive(Debug, PartialEq)]
pub struct Ended {
    /// The reason of its `close` message.
    pub message: Option<String>,
    /// Code and reason of its close frame.
    pub frame: Option<(u16, String)>,
}

impl Raw {
    /// Opens the WebSocket.
    pub async fn open(address: SocketAddr) -> Self {
        let mut raw = Self::tcp(address).await;
        let head = raw.http(&upgrade("/api/socket")).await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        raw
    }

    pub async fn tcp(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: Vec::new() }
    }

    /// Opens the WebSocket and registers as a control.
    pub async fn control(address: SocketAddr) -> Self {
        let mut raw = Self::open(address).await;
        assert_eq!(raw.json().await["type"], "hello");
        raw.text(r#"{"seq":1,"type":"register_control","data":{"agent":"raw","version":"2.0.0"}}"#)
            .await;
        assert_eq!(raw.json().await["type"], "ready");
        raw
    }

    /// Sends an HTTP request, reads the head of the answer.
    pub async fn http(&mut self, request: &str) -> String {
        self.bytes(request.as_bytes()).await;
        loop {
            if let Some(at) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                let head: Vec<u8> = self.buffer.drain(..at + 4).collect();
                return String::from_utf8(head).unwrap();
            }
            assert!(self.fill().await, "the server hung up");
        }
    }

    /// Sends no more.
    pub async fn end(&mut self) {
        let _ = self.stream.shutdown().await;
    }

    /// Everything up to the end of the stream.
    pub async fn rest(&mut self) -> String {
        while self.fill().await {}
        String::from_utf8_lossy(&std::mem::take(&mut self.buffer)).into_owned()
    }

    pub async fn bytes(&mut self, bytes: &[u8]) {
        // A peer that has hung up is what some of these tests want.
        let _ = self.stream.write_all(bytes).await;
    }

    /// Sends one masked frame.
    pub async fn frame(&mut self, opcode: u8, payload: &[u8]) {
        self.bytes(&head(0x80 | opcode, payload.len() as u64)).await;
        // The mask is zero: the payload goes as it is.
        self.bytes(payload).await;
    }

    pub async fn text(&mut self, text: &str) {
        self.frame(TEXT, text.as_bytes()).await;
    }

    /// The next frame that is neither ping nor pong; `None` at the end of the stream.
    pub async fn next(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            match self.any().await? {
                (PING, payload) => self.frame(PONG, &payload).await,
                (PONG, _) => {}
                other => return Some(other),
            }
        }
    }

    /// The next frame of any kind, unanswered.
    pub async fn any(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            if let Some(frame) = self.take() {
                return Some(frame);
            }
            if !self.fill().await {
                return None;
            }
        }
    }

    /// The next text message.
    pub async fn json(&mut self) -> Value {
        match self.next().await {
            Some((TEXT, payload)) => serde_json::from_slice(&payload).unwrap(),
            other => panic!("no text but {other:?}"),
        }
    }

    /// Reads to the end and answers the close frame.
    pub async fn ended(&mut self) -> Ended {
        let mut ended = Ended { message: None, frame: None };
        while let Some((opcode, payload)) = self.next().await {
            match opcode {
                TEXT => {
                    let json: Value = serde_json::from_slice(&payload).unwrap();
                    if json["type"] == "close" {
                        ended.message = json["data"]["reason"].as_str().map(str::to_owned);
                    }
                }
                CLOSE => {
                    let code = u16::from_be_bytes([payload[0], payload[1]]);
                    let reason = String::from_utf8(payload[2..].to_vec()).unwrap();
                    ended.frame = Some((code, reason));
                    self.frame(CLOSE, &payload).await;
                }
                _ => {}
            }
        }
        ended
    }

    /// Throws away what has come so far.
    pub async fn drain(&mut self) {
        let mut waste = [0; 4096];
        while self.stream.try_read(&mut waste).is_ok_and(|bytes| bytes > 0) {}
        tokio::task::yield_now().await;
    }

    /// Reads up to `bytes` and throws them away.
    pub async fn read_slowly(&mut self, bytes: usize) {
        let mut waste = vec![0; bytes];
        let _ = self.stream.try_read(&mut waste);
        tokio::task::yield_now().await;
    }

    fn take(&mut self) -> Option<(u8, Vec<u8>)> {
        let (first, second) = (*self.buffer.first()?, *self.buffer.get(1)?);
        let (length, start) = match second & 0x7f {
            126 => (u16::from_be_bytes(self.buffer.get(2..4)?.try_into().unwrap()).into(), 4),
            127 => (u64::from_be_bytes(self.buffer.get(2..10)?.try_into().unwrap()) as usize, 10),
            short => (short as usize, 2),
        };
        let payload = self.buffer.get(start..start + length)?.to_vec();
        self.buffer.drain(..start + length);
        Some((first & 0x0f, payload))
    }

    async fn fill(&mut self) -> bool {
        let reading = self.stream.read_buf(&mut self.buffer);
        let read = tokio::time::timeout(PATIENCE, reading).await.expect("the peer says nothing");
        read.is_ok_and(|bytes| bytes > 0)
    }
}

pub fn upgrade(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
}

/// The head of a client's frame with a zero mask.
pub fn head(first: u8, length: u64) -> Vec<u8> {
    let mut head = vec![first];
    match length {
        0..126 => head.push(0x80 | length as u8),
        126..65536 => {
            head.push(0x80 | 126);
            head.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            head.push(0x80 | 127);
            head.extend_from_slice(&length.to_be_bytes());
        }
    }
    head.extend_from_slice(&[0; 4]);
    head
}
