//! The buffers of a master's socket are given up and made anew while a link lives: whatever the
//! bytes come in, nothing is lost by it.

mod common;

use std::time::Duration;

use common::raw::{PING, PONG, Raw, TEXT, head};
use common::*;
use seqlink::{Config, Master};
use tokio::time::sleep;

/// Messages of this length have the buffers made anew as soon as they are handled.
const LARGE: usize = 40_000;

async fn world(change: impl FnOnce(&mut Config)) -> (Master, Raw) {
    let master = Master::builder().router(router()).config(config(change)).build().unwrap();
    let address = master.listen("127.0.0.1:0").await.unwrap();
    let raw = Raw::control(address).await;
    (master, raw)
}

fn request(seq: u64, bytes: usize) -> Vec<u8> {
    let text = "x".repeat(bytes);
    let text = format!(r#"{{"seq":{seq},"type":"echo_request","data":{{"text":"{text}"}}}}"#);
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
