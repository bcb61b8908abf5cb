//! One event over many links.

mod common;

use std::time::Duration;

use common::scripted::Scripted;
use common::world::{Ticks, counting};
use common::*;
use seqlink::{CloseCode, Direction, Event, Link, Master, SendError};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::sleep;

#[derive(Serialize, Deserialize)]
struct Line {
    n: u64,
    text: String,
}

impl Event for Line {
    const NAME: &'static str = "line";
}

/// Only a control may be told.
#[derive(Serialize, Deserialize)]
struct News {}

impl Event for News {
    const NAME: &'static str = "news";
    const DIRECTION: Direction = Direction::MASTER_TO_CONTROL;
}

fn line(n: u64, bytes: usize) -> Line {
    Line { n, text: "x".repeat(bytes) }
}

async fn number(peer: &mut Scripted) -> (u64, u64) {
    let frame: Value = serde_json::from_str(&soon(peer.hear()).await).unwrap();
    assert_eq!(frame["type"], "line_event");
    (frame["seq"].as_u64().unwrap(), frame["data"]["n"].as_u64().unwrap())
}

async fn many(master: &Master, count: usize) -> Vec<(Scripted, Link)> {
    let mut all = Vec::new();
    for _ in 0..count {
        all.push(Scripted::control(master).await);
    }
    all
}

fn links(all: &[(Scripted, Link)]) -> impl Iterator<Item = &Link> {
    all.iter().map(|(_, link)| link)
}

#[tokio::test(start_paused = true)]
async fn each_link_gets_it_once_under_its_own_number_and_in_order() {
    let master = Master::builder().build().unwrap();
    let mut all = many(&master, 50).await;
    // Every link has sent another number of frames before.
    for (before, (_, link)) in all.iter().enumerate() {
        for _ in 0..before {
            link.event(&line(0, 1)).await.unwrap();
        }
    }
    Link::broadcast(&line(1, 10), links(&all)).unwrap();
    for link in links(&all) {
        link.event(&line(2, 1)).await.unwrap();
    }
    Link::broadcast(&line(3, 10), links(&all)).unwrap();
    Link::broadcast(&line(4, 10), links(&all)).unwrap();
    for (before, (peer, link)) in all.iter_mut().enumerate() {
        let before = before as u64;
        for n in 0..before {
            assert_eq!(number(peer).await, (3 + n, 0));
        }
        for n in 1..=4 {
            assert_eq!(number(peer).await, (2 + before + n, n));
        }
        link.close("done");
        assert!(peer.hear().await.contains(r#""type":"close""#), "and nothing more");
    }
}

/// Who does not read is closed, by name of the fault, and holds up nobody.
#[tokio::test(start_paused = true)]
async fn a_link_that_does_not_read_holds_up_nobody() {
    let config = config(|config| (config.max_frame, config.outbox) = (64 * 1024, 64 * 1024));
    let master = Master::builder().config(config).build().unwrap();
    let mut all = many(&master, 5).await;
    let (_stuck, lame) = all.remove(2);
    for n in 0..2000 {
        let to = links(&all).chain([&lame]);
        Link::broadcast(&line(n, 1000), to).unwrap();
        for (peer, _) in &mut all {
            assert_eq!(number(peer).await, (3 + n, n));
        }
    }
    let closed = soon(lame.closed()).await;
    assert_eq!(closed.code, CloseCode::POLICY, "{closed}");
    assert!(closed.reason.as_str().starts_with("The outbox is full: "), "{closed}");
    assert!(links(&all).all(|link| link.ended().is_none()));
}

/// A link that may not be told is passed over, wherever it stands; one that has ended is no error.
#[tokio::test(start_paused = true)]
async fn what_is_wrong_for_one_link_reaches_the_others() {
    let master = Master::builder().build().unwrap();
    let mut all = many(&master, 3).await;
    let (ours, theirs) = seqlink::transport::memory::pair();
    let (slave, ours) = tokio::join!(master.attach(theirs), slave().attach(ours));
    let (slave, _ours) = (slave.unwrap(), ours.unwrap());
    for place in 0..=3 {
        let mut to: Vec<&Link> = links(&all).collect();
        to.insert(place, &slave);
        let error = Link::broadcast(&News {}, to).unwrap_err();
        assert!(matches!(error, SendError::Direction { .. }), "{error}");
        for (peer, _) in &mut all {
            assert!(soon(peer.hear()).await.contains(r#""type":"news_event""#));
        }
    }
    assert!(slave.ended().is_none());
    let (mut peer, gone) = all.remove(0);
    peer.say(r#"{"seq":2,"type":"close","data":{"reason":"bye"}}"#).await;
    drop(peer);
    soon(gone.closed()).await;
    sleep(Duration::from_secs(1)).await;
    Link::broadcast(&News {}, links(&all).chain([&gone])).unwrap();
    for (peer, _) in &mut all {
        assert!(soon(peer.hear()).await.contains(r#""type":"news_event""#));
    }
}

/// What the application does outside of a runtime is as good as inside: a link that is full takes
/// what is handed on in front of it.
#[test]
fn a_broadcast_to_a_full_link_needs_no_runtime() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let config = config(|config| {
        config.outbox = 8 * 1024;
        config.max_frame = 8 * 1024;
    });
    let seen: Ticks = Ticks::default();
    let pair = runtime.block_on(async {
        let slave = slave().router(counting(&seen));
        pair_of(Master::builder().config(config), slave).await
    });
    for n in 0..150 {
        Link::broadcast(&Tick { n }, [&pair.theirs]).unwrap();
    }
    let told = async {
        while seen.lock().unwrap().len() < 150 {
            tokio::task::yield_now().await;
        }
    };
    runtime.block_on(soon(told));
    assert_eq!(*seen.lock().unwrap(), (0..150).collect::<Vec<_>>());
}
