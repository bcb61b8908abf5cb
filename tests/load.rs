//! Row 23: no false death under load. In a file of its own, because it keeps all cores busy.
//!
//! `SEQLINK_LONG=1` makes it ten minutes with the default times.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::line::Line;
use common::*;
use futures::future::join_all;
use seqlink::{Client, LinkState, Master, Slave};
use tokio::time::{Instant, sleep};

fn long() -> bool {
    std::env::var_os("SEQLINK_LONG").is_some()
}

/// Threads that do nothing but keep the cores busy.
struct Burners(Arc<AtomicBool>);

impl Burners {
    fn new() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from).min(4) {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        Self(stop)
    }
}

impl Drop for Burners {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Row 23: all cores are busy, frames of 1 MiB pass in both directions, over one line that takes
/// longer for each than a silent peer is given: nobody is taken for dead. Ten minutes with the
/// default times when it is long.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_taken_for_dead_under_load() {
    // A frame takes a fifth longer than two intervals on the slow line.
    let (interval, time) = match long() {
        true => (Duration::from_secs(5), Duration::from_secs(600)),
        false => (Duration::from_secs(1), Duration::from_secs(6)),
    };
    const MIB: usize = 1 << 20;
    let rate = (MIB as f64 / interval.as_secs_f64() / 2.4) as usize;
    let config = config(|config| config.heartbeat_interval = interval);
    let master = Master::builder().router(router()).config(config.clone()).build().unwrap();
    let address = master.listen("127.0.0.1:0").await.unwrap();
    let lines = [Line::new(address, None).await, Line::new(address, Some(rate)).await];
    let mut clients: Vec<Client> = Vec::new();
    for (id, line) in lines.iter().enumerate() {
        let client = Slave::builder().id(id as i64).sessions(true).url(line.url());
        clients.push(client.config(config.clone()).router(router()).connect().await.unwrap());
    }
    let mut links = Vec::new();
    for (id, client) in clients.iter().enumerate() {
        let link = client.link().await.unwrap();
        link.request(&echo("here")).await.unwrap();
        links.extend([link, master.slave(id as i64).unwrap()]);
    }
    let _burners = Burners::new();
    let text = "x".repeat(MIB - 200);
    let until = Instant::now() + time;
    let talks = links.iter().map(|link| {
        let (link, text) = (link.with_timeout(Duration::from_secs(300)), echo(&text));
        async move {
            let mut frames = 0;
            while Instant::now() < until {
                assert_eq!(link.request(&text).await.unwrap().text.len(), MIB - 200);
                frames += 1;
                // One line after the other would be idle otherwise; the cores are busy enough.
                sleep(Duration::from_millis(20)).await;
            }
            frames
        }
    });
    let frames = join_all(talks).await;
    for link in &links {
        assert!(matches!(link.states().now(), LinkState::Connected), "{:?}", link.states().now());
    }
    println!("{time:?}: {frames:?} frames of 1 MiB there and back, no cut");
    assert!(frames.iter().all(|frames| *frames > 0), "{frames:?}");
}
