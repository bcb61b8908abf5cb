//! Row 16: one conversation of 200 messages, cut once at each byte of each direction, in each
//! manner. After the cut the client resumes, and everything arrives exactly once and in order.
//!
//! A byte stream in memory and made-up time. By default every thirteenth byte is a cut, each
//! run another; `SEQLINK_LONG=1` cuts at all of them, in all manners.

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use common::cutting::{Cutting, Manner};
use common::*;
use seqlink::transport::websocket::WebSocket;
use seqlink::{Ctx, Link, Master, Reconnect, Router};

/// 25 times two events and a request with its answer, from each side.
const ROUNDS: u64 = 25;

type Seen = Mutex<Vec<u64>>;

fn handlers(seen: &Arc<Seen>) -> Router<Seen> {
    async fn on_tick(tick: Tick, ctx: Ctx<Seen>) {
        ctx.state().lock().unwrap().push(tick.n);
    }
    async fn on_echo(echo: Echo, ctx: Ctx<Seen>) -> Result<Echo, String> {
        ctx.state().lock().unwrap().push(echo.text.parse().unwrap());
        Ok(echo)
    }
    Router::with_state(Arc::clone(seen)).event(on_tick).request(on_echo)
}

/// One side of the conversation: all of it leaves as one burst after the other.
async fn talk(link: Link) {
    let link = link.with_timeout(Duration::from_secs(100));
    for round in 0..ROUNDS {
        let n = round * 3;
        let text = echo(&(n + 1).to_string());
        link.event(&Tick { n }).await.unwrap();
        let answer = link.request(&text);
        let (answer, next) = tokio::join!(answer, link.event(&Tick { n: n + 2 }));
        assert_eq!(answer.unwrap(), text);
        next.unwrap();
    }
}

/// Has the conversation over a first connection on which so many bytes pass, and as many others
/// as it takes. Returns how many bytes passed over the first.
async fn conversation(left: [usize; 2], manner: Manner) -> [usize; 2] {
    let (up, down): (Arc<Seen>, Arc<Seen>) = Default::default();
    let master = Master::builder().router(handlers(&up)).build().unwrap();
    let dials = Arc::new(AtomicUsize::new(0));
    let first = Arc::new(Mutex::new(Arc::default()));
    let dial = {
        let (master, dials, first) = (master.clone(), Arc::clone(&dials), Arc::clone(&first));
        move || {
            let (ours, theirs) = tokio::io::duplex(64 * 1024);
            let left = match dials.fetch_add(1, Ordering::Relaxed) {
                0 => left,
                _ => [usize::MAX; 2],
            };
            let ours = Cutting::new(ours, left, manner);
            if left[0].min(left[1]) < usize::MAX || dials.load(Ordering::Relaxed) == 1 {
                *first.lock().unwrap() = Arc::clone(&ours.passed);
            }
            let master = master.clone();
            tokio::spawn(async move {
                let socket = WebSocket::accept(theirs, 1 << 20).await.ok()?;
                master.attach(socket).await.ok()
            });
            WebSocket::connect(ours, "ws://master/", 1 << 20, true)
        }
    };
    let mut reconnect = Reconnect::default();
    reconnect.most = Duration::from_millis(1);
    let client = slave().reconnect(reconnect).router(handlers(&down)).connect_by(dial);
    let client = client.await.unwrap();
    let ours = client.link().await.unwrap();
    let theirs = loop {
        match master.slave(7) {
            Some(link) => break link,
            None => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    };
    tokio::join!(talk(ours.clone()), talk(theirs.clone()));
    // What was cut behind the last answer is still to arrive.
    let settled = ours.with_timeout(Duration::from_secs(100)).request(&echo("75"));
    settled.await.unwrap();
    theirs.with_timeout(Duration::from_secs(100)).request(&echo("75")).await.unwrap();
    let all: Vec<u64> = (0..=ROUNDS * 3).collect();
    for seen in [&up, &down] {
        // A request's handler and an event's may take turns; neither comes twice.
        let mut seen = seen.lock().unwrap().clone();
        let events: Vec<u64> = seen.iter().copied().filter(|n| n % 3 != 1).collect();
        assert!(events.is_sorted(), "{left:?} {manner:?}: {events:?}");
        seen.sort_unstable();
        assert_eq!(seen, all, "{left:?} {manner:?}");
    }
    assert_eq!((ours.pending(), theirs.pending()), (0, 0), "{left:?} {manner:?}");
    assert!(ours.ended().is_none() && theirs.ended().is_none(), "{left:?} {manner:?}");
    let passed = first.lock().unwrap();
    [passed[0].load(Ordering::Relaxed), passed[1].load(Ordering::Relaxed)]
}

/// In a world of its own, with made-up time.
fn run(left: [usize; 2], manner: Manner) -> [usize; 2] {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async { soon(conversation(left, manner)).await })
}

#[test]
fn a_cut_at_each_byte_loses_and_doubles_nothing() {
    let whole = run([usize::MAX; 2], Manner::End);
    let long = std::env::var_os("SEQLINK_LONG").is_some();
    let (step, start) = if long { (1, 0) } else { (13, std::process::id() as usize % 13) };
    let mut cuts = Vec::new();
    for direction in [0, 1] {
        for at in (start..=whole[direction]).step_by(step) {
            let mut left = [usize::MAX; 2];
            left[direction] = at;
            let manners = [Manner::End, Manner::Silence, Manner::Late];
            let some = if long { &manners[..] } else { std::slice::from_ref(&manners[at % 3]) };
            cuts.extend(some.iter().map(|manner| (left, *manner)));
        }
    }
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                while let Some((left, manner)) = cuts.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let passed = run(*left, *manner);
                    let direction = usize::from(left[0] == usize::MAX);
                    assert_eq!(passed[direction], left[direction], "it was cut there");
                }
            });
        }
    });
    println!("{whole:?} bytes, {} cuts", cuts.len());
}
