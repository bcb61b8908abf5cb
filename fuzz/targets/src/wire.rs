//! The other side of a WebSocket, by hand.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::time::timeout;

use crate::in_time;

const TEXT: u8 = 1;

/// What a side that is fuzzed has said.
pub(crate) struct Heard {
    bytes: Vec<u8>,
}

impl Heard {
    /// Writes `input` and then nothing more, and reads to the end meanwhile.
    pub(crate) async fn all(stream: DuplexStream, input: &[u8]) -> Self {
        let (mut reader, mut writer) = tokio::io::split(stream);
        let mut bytes = Vec::new();
        let write = async {
            // The other side may have hung up.
            let _ = writer.write_all(input).await;
            let _ = writer.shutdown().await;
        };
        let read = async {
            let _ = reader.read_to_end(&mut bytes).await;
        };
        in_time("the end of the stream", futures::future::join(write, read)).await;
        Self { bytes }
    }

    /// The text messages, which must be whole: frames as this library writes them, unmasked for a
    /// client. Their numbers must follow each other after `last`.
    pub(crate) fn check(&self, masked: bool, last: u64) {
        let mut rest = &self.bytes[..];
        let mut last = last;
        while let Some((opcode, payload, more)) = frame(rest, masked) {
            rest = more;
            if opcode != TEXT {
                continue;
            }
            let value: serde_json::Value =
                serde_json::from_slice(&payload).expect("what it says is JSON");
            let seq = &value["seq"];
            if value["type"] != "heartbeat" && value["type"] != "close" {
                assert!(value["data"].is_object(), "{value}");
                assert_eq!(*seq, last + 1, "{value}");
            }
            last = seq.as_u64().unwrap_or(last);
        }
        assert!(rest.is_empty(), "it says half a frame: {rest:?}");
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// The first frame of `bytes`, unmasked, and what follows it.
fn frame(bytes: &[u8], masked: bool) -> Option<(u8, Vec<u8>, &[u8])> {
    let (&first, &second) = (bytes.first()?, bytes.get(1)?);
    assert_eq!(second & 0x80 != 0, masked, "only a client masks");
    let (length, start) = match second & 0x7f {
        126 => (u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?).into(), 4),
        127 => (u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?) as usize, 10),
        short => (short as usize, 2),
    };
    let key = if masked { bytes.get(start..start + 4)? } else { &[] };
    let start = start + key.len();
    let mut payload = bytes.get(start..start.checked_add(length)?)?.to_vec();
    if let &[a, b, c, d] = key {
        payload.iter_mut().zip([a, b, c, d].iter().cycle()).for_each(|(byte, key)| *byte ^= key);
    }
    Some((first & 0x0f, payload, &bytes[start + length..]))
}

/// Writes a text message, in a frame with a zero mask for a master.
pub(crate) async fn say(stream: &mut DuplexStream, masked: bool, text: &str) {
    let mask = if masked { 0x80 } else { 0 };
    let mut bytes = vec![0x80 | TEXT];
    match text.len() {
        short @ 0..126 => bytes.push(mask | short as u8),
        long => {
            bytes.push(mask | 126);
            bytes.extend_from_slice(&(long as u16).to_be_bytes());
        }
    }
    if masked {
        bytes.extend_from_slice(&[0; 4]);
    }
    bytes.extend_from_slice(text.as_bytes());
    stream.write_all(&bytes).await.expect("the other side listens");
}

/// Reads one message. Returns its text.
pub(crate) async fn hear(stream: &mut DuplexStream, masked: bool) -> String {
    let mut bytes = Vec::new();
    loop {
        if let Some((opcode, payload, rest)) = frame(&bytes, masked) {
            assert!(rest.is_empty() && opcode == TEXT, "one message at a time");
            return String::from_utf8(payload).expect("a text");
        }
        let read = in_time("a message", stream.read_buf(&mut bytes)).await;
        assert!(read.is_ok_and(|read| read > 0), "it hung up");
    }
}

/// Reads a head of HTTP, and nothing behind it. What comes is what came until the end otherwise.
pub(crate) async fn head(stream: &mut DuplexStream) -> String {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(b"\r\n\r\n") {
        let read = timeout(std::time::Duration::from_secs(60), stream.read(&mut byte)).await;
        match read {
            Ok(Ok(1)) => bytes.push(byte[0]),
            _ => break,
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
