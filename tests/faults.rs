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

/// What reached the handlers of one side.
#[derive(Default)]
struct Arrived {
    events: Vec<u64>,
    requests: Vec<u64>,
}

type Seen = Mutex<Arrived>;

fn handlers(seen: &Arc<Seen>) -> Router<Seen> {
    async fn on_tick(tick: Tick, ctx: Ctx<Seen>) {
        ctx.state().lock().unwrap().events.push(tick.n);
    }
    async fn on_echo(echo: Echo, ctx: Ctx<Seen>) -> Result<Echo, String> {
        // Some answers are ready at once, others come from a later turn.
        if echo.text.len().is_multiple_of(2) {
            tokio::task::yield_now().await;
        }
        let number = echo.text.split(' ').next().unwrap().parse().unwrap();
        ctx.state().lock().unwrap().requests.push(number);
        Ok(echo)
    }
    Router::with_state(Arc::clone(seen)).event(on_tick).request(on_echo)
}

/// Sends numbered events and requests until there were enough cuts. Returns how many of each.
async fn talk(link: Link, mut dice: Dice, faults: &Faults, cuts: u64) -> (u64, u64) {
    let link = link.with_timeout(Duration::from_secs(120));
    let mut asked = 0;
    for n in 0.. {
        if faults.cuts.load(Ordering::Relaxed) >= cuts {
            return (n, asked);
        }
        link.event(&Tick { n }).await.unwrap();
        let many = dice.roll(4);
        let texts =
            (asked..asked + many).map(|id| format!("{id} {:x<1$}", "", dice.roll(600) as usize));
        let answers = texts.map(|text| {
            let answer = link.request(&echo(&text));
            async move { assert_eq!(answer.await.unwrap().text, text) }
        });
        join_all(answers).await;
        asked += many;
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
        ours.request(&echo("0 registered")).await.unwrap();
        up.lock().unwrap().requests.clear();
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
    let mut sums = (0, 0);
    for ((link, seen), (events, requests)) in ends.iter().zip(sent) {
        // Behind everything that was sent: when it is answered, all has arrived.
        let last = format!("{requests} the last");
        let last = link.with_timeout(Duration::from_secs(60)).request(&echo(&last)).await;
        last.unwrap_or_else(|error| panic!("{error}; SEQLINK_SEED={seed}"));
        let mut arrived = seen.lock().unwrap();
        let expected = |many| (0..many).collect::<Vec<u64>>();
        let many = arrived.events.len();
        assert!(arrived.events == expected(events), "{many} of {events}; SEQLINK_SEED={seed}");
        // Handlers of requests take turns; each was called once.
        arrived.requests.sort_unstable();
        let many = arrived.requests.len();
        let each_once = arrived.requests == expected(requests + 1);
        assert!(each_once, "{many} of {} requests; SEQLINK_SEED={seed}", requests + 1);
        assert_eq!(link.pending(), 0);
        assert!(link.ended().is_none());
        sums = (sums.0 + events, sums.1 + requests);
    }
    let cuts = faults.cuts.load(Ordering::Relaxed);
    println!("{cuts} cuts, {} events and {} requests", sums.0, sums.1);
}
