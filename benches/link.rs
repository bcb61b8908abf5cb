//! What fits in a process: frames as text, and requests over memory. `benches/run.sh` measures the
//! rest, over sockets and against its peers.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use futures::future::join_all;
use seqlink::catalog::game_node::{Commands, Game, PlayGame};
use seqlink::transport::memory;
use seqlink::wire::{EncodedMessage, Frame, MessageClass, decode};
use seqlink::{Ctx, Link, Master, Request, Router, Slave};
use serde::{Deserialize, Serialize};

/// `play_game`, asked by the slave: which side asks makes no difference here.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct Play(PlayGame);

impl Request for Play {
    const NAME: &'static str = "play_game";
    type Response = Played;
}

#[derive(Serialize, Deserialize)]
struct Played {
    code: u16,
}

async fn play(_: Play, _: Ctx) -> Result<Played, String> {
    Ok(Played { code: 200 })
}

fn sample() -> Play {
    let text = |text: &str| text.to_owned();
    Play(PlayGame {
        user_id: 11,
        expected_save: Some(text("2026-11-21.tgz")),
        game: Game {
            id: 2,
            name: text("Counting until it is stopped"),
            process: text("sh"),
            commands: Commands { launch: text("sleep 600 && echo done"), shutdown: text("true") },
            backup: Vec::new(),
        },
    })
}

fn frames(c: &mut Criterion) {
    let request = sample();
    c.bench_function("write a request", |b| {
        b.iter(|| {
            EncodedMessage::request(Play::NAME, black_box(&request))
                .unwrap()
                .to_frame(Some(12_345))
                .unwrap()
        });
    });
    c.bench_function("write a response", |b| {
        b.iter(|| {
            let played = black_box(Played { code: 200 });
            EncodedMessage::response(Play::NAME, 12_345, &played)
                .unwrap()
                .to_frame(Some(12_345))
                .unwrap()
        });
    });
    let text =
        EncodedMessage::request(Play::NAME, &request).unwrap().to_frame(Some(12_345)).unwrap();
    c.bench_function("read a frame", |b| {
        b.iter(|| {
            let frame = Frame::parse(black_box(text.as_str())).unwrap();
            assert!(matches!(frame.class(), MessageClass::Request("play_game")));
            frame.numbered().unwrap()
        });
    });
    c.bench_function("read a frame and its data", |b| {
        b.iter(|| {
            let frame = Frame::parse(black_box(text.as_str())).unwrap();
            decode::<Play>(frame.data).unwrap()
        });
    });
}

/// A slave's link to a master, both in memory, with a session.
async fn pair() -> (Master, Link) {
    let master = Master::builder().router(Router::new(()).request(play)).build().unwrap();
    let (ours, theirs) = memory::session_pair();
    let slave = Slave::builder().id(7).sessions(true).attach(ours);
    let (_, link) = tokio::join!(master.attach(theirs), slave);
    (master, link.unwrap())
}

async fn timed(rounds: u64, round: impl AsyncFn()) -> Duration {
    let started = Instant::now();
    for _ in 0..rounds {
        round().await;
    }
    started.elapsed()
}

fn requests(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (_master, link) = runtime.block_on(pair());
    let request = sample();
    c.bench_function("a request over memory", |b| {
        b.iter_custom(|rounds| {
            runtime.block_on(timed(rounds, async || {
                link.request(&request).await.unwrap();
            }))
        });
    });
    c.bench_function("64 requests over memory", |b| {
        b.iter_custom(|rounds| {
            runtime.block_on(timed(rounds, async || {
                let asked = join_all((0..64).map(|_| link.request(&request))).await;
                assert!(asked.iter().all(Result::is_ok));
            }))
        });
    });
}

criterion_group!(benches, frames, requests);
criterion_main!(benches);
