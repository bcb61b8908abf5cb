//! Sessions on real sockets behind a proxy that breaks every connection: resets, ends, silence,
//! single bytes, and bytes that are delivered late on the old connection.
//!
//! `SEQLINK_LONG=1` makes it long: 64 links and 50,000 cuts. `SEQLINK_SEED=N` repeats one run.

mod common;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::faults::{Dice, Faults, proxy};
use common::*;
use futures::future::join_all;
use seqlink::{Ctx, Link, Master, Reconnect, Router, Slave};

type Seen = Mutex<Vec<u64>>;

fn handlers(seen: &Arc<Seen>) -> Router<Seen> {
    async fn on_tick(tick: Tick, ctx: Ctx<Seen>) {
        ctx.state().lock().unwrap().push(tick.n);
    }
    async fn on_echo(echo: Echo, ctx: Ctx<Seen>) -> Result<Echo, String> {
        // Some answers are ready at once, others come from a later turn.
        if echo.text.len().is_multiple_of(2) {
            tokio::task::yield_now().await;
        }
        ctx.state().lock().unwrap().push(echo.text.len() as u64 + 1_000_000_000);
        Ok(echo)
    }
    Router::shared(Arc::clone(seen)).event(on_tick).request(on_echo)
}

/// Sends numbered events and requests until there were enough cuts; says how many of each.
async fn talk(link: Link, mut dice: Dice, faults: &Faults, cuts: u64) -> u64 {
    let link = link.timeout(Duration::from_secs(120));
    for n in 0.. {
        if faults.cuts.load(Ordering::Relaxed) >= cuts {
            return n;
        }
        link.event(&Tick { n }).await.unwrap();
        let text = "x".repeat(dice.roll(600) as usize);
        let answers = (0..dice.roll(4)).map(|_| link.request(&echo(&text)));
        for answer in join_all(answers).await {
            assert_eq!(answer.unwrap().text, text);
        }
        tokio::time::sleep(Duration::from_millis(dice.roll(3))).await;
    }
    unreachable!()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exactly_once_and_in_order_through_faults() {
    let long = std::env::var_os("SEQLINK_LONG").is_some();
    let (links, cuts) = if long { (64, 50_000) } else { (8, 400) };
    let given = std::env::var("SEQLINK_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(|| u64::from(std::process::id()));
    println!("SEQLINK_SEED={seed}");

    let config = config(|config| config.heartbeat_interval = Duration::from_millis(150));
    // The first registrations are left alone: one whose `ready` is lost is made again, and that is
    // another link.
    let faults = Arc::new(Faults::default());
    faults.over.store(true, Ordering::Relaxed);
    let mut ends = Vec::new();
    let mut masters = Vec::new();
    for id in 0..links {
        // A master of its own for each link, so that what arrives can be told apart.
        let (up, down): (Arc<Seen>, Arc<Seen>) = Default::default();
        let master = Master::builder().router(handlers(&up)).config(config.clone());
        let master = master.build().unwrap();
        let target = master.listen("127.0.0.1:0").await.unwrap();
        let through = proxy(target, seed.wrapping_add(id), Arc::clone(&faults)).await;
        let mut reconnect = Reconnect::default();
        (reconnect.base, reconnect.most) = (Duration::from_millis(1), Duration::from_millis(8));
        let client = Slave::builder().url(format!("ws://{through}/")).id(7).sessions(true);
        let client = client.config(config.clone()).reconnect(reconnect).router(handlers(&down));
        let client = client.connect().await.unwrap();
        let ours = client.link().await.unwrap();
        ours.request(&echo("registered")).await.unwrap();
        let theirs = master.slave(7).unwrap();
        ends.push((ours, up));
        ends.push((theirs, down));
        masters.push((master, client));
    }
    faults.over.store(false, Ordering::Relaxed);
    let talks = ends
        .iter()
        .enumerate()
        .map(|(n, (link, _))| talk(link.clone(), Dice::new(seed ^ n as u64), &faults, cuts));
    let limit = Duration::from_secs(if long { 3600 } else { 120 });
    let sent = tokio::time::timeout(limit, join_all(talks)).await;
    let sent = sent.unwrap_or_else(|_| panic!("not over in {limit:?}; SEQLINK_SEED={seed}"));

    faults.over.store(true, Ordering::Relaxed);
    for ((link, seen), sent) in ends.iter().zip(sent) {
        // Behind everything that was sent: when it is answered, all has arrived.
        let last = link.timeout(Duration::from_secs(60)).request(&echo("")).await;
        last.unwrap_or_else(|error| panic!("{error}; SEQLINK_SEED={seed}"));
        let events = seen.lock().unwrap();
        let events: Vec<u64> = events.iter().copied().filter(|n| *n < 1_000_000_000).collect();
        let expected: Vec<u64> = (0..sent).collect();
        assert!(events == expected, "{} of {sent}; SEQLINK_SEED={seed}", events.len());
        assert_eq!(link.pending(), 0);
        assert!(link.ended().is_none());
    }
    let cuts = faults.cuts.load(Ordering::Relaxed);
    println!("{cuts} cuts");
}
