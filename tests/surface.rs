//! What is only there to be convenient: streams beside callbacks, numbers and names of links, setters.

mod common;

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use common::*;
use futures::{FutureExt as _, StreamExt as _};
use seqlink::transport::memory;
use seqlink::{
    Config, Control, Ctx, Direction, Link, LinkState, Master, MembershipEvent, Request, Router,
};
use serde::{Deserialize, Serialize};

async fn join(master: &Master, client: seqlink::ClientBuilder) -> Link {
    let (ours, theirs) = memory::pair();
    let (joined, link) = tokio::join!(master.attach(theirs), client.attach(ours));
    link.unwrap();
    joined.unwrap()
}

/// `+` and the peer for one that has joined, `-` for one that has left.
fn describe(event: &MembershipEvent) -> String {
    match event {
        MembershipEvent::Joined(link) => format!("+{}", link.peer()),
        MembershipEvent::Left(link, _) => format!("-{}", link.peer()),
        _ => unreachable!("an event of no kind"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_members_begins_with_those_that_are_there_and_tells_each_change_once() {
    let master = Master::builder().build().unwrap();
    let first = join(&master, slave().id(1)).await;
    let control = join(&master, control()).await;
    let mut members = master.membership();
    let second = join(&master, slave().id(2)).await;
    // The newer link of a slave takes the place of the older one.
    let newer = join(&master, slave().id(1)).await;
    control.close("done");
    control.closed().await;
    first.closed().await;
    soon(master.shutdown("over", Duration::ZERO)).await;
    let mut told = Vec::new();
    while let Some(event) = members.next().now_or_never() {
        told.push(event.expect("it goes on"));
    }
    let text: Vec<_> = told.iter().map(describe).collect();
    assert_eq!(text[..5], ["+slave 1", "+control", "+slave 2", "-slave 1", "+slave 1"]);
    let rest: HashSet<_> = text[5..].iter().map(String::as_str).collect();
    assert_eq!((rest, text.len()), (HashSet::from(["-control", "-slave 1", "-slave 2"]), 8));
    let left = |link: &Link| {
        let is_it =
            |event: &&MembershipEvent| matches!(event, MembershipEvent::Left(it, _) if it == link);
        told.iter().filter(is_it).count()
    };
    assert_eq!([&first, &second, &newer, &control].map(left), [1; 4]);
}

/// Joins and leaves while streams begin: a snapshot and what follows it fit together.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_of_members_has_no_gap_whenever_it_begins() {
    let master = Master::builder().build().unwrap();
    let churn = tokio::spawn({
        let master = master.clone();
        async move {
            for n in 0..200 {
                let link = join(&master, slave().id(n % 5)).await;
                if n % 3 == 0 {
                    link.close("gone");
                    link.closed().await;
                }
            }
        }
    });
    let mut streams = Vec::new();
    while !churn.is_finished() {
        if streams.len() < 100 {
            streams.push(master.membership());
        }
        tokio::task::yield_now().await;
    }
    churn.await.unwrap();
    let last = join(&master, slave().id(99)).await;
    assert!(streams.len() > 10, "only {}", streams.len());
    for mut stream in streams {
        let mut members = BTreeSet::new();
        loop {
            let event = tokio::time::timeout(Duration::from_secs(20), stream.next()).await;
            match event.expect("it comes").expect("it goes on") {
                MembershipEvent::Joined(link) => {
                    assert!(members.insert(link.number()), "{link:?} has joined twice");
                    if link == last {
                        break;
                    }
                }
                MembershipEvent::Left(link, _) => {
                    assert!(members.remove(&link.number()), "{link:?} was not there")
                }
                _ => unreachable!("an event of no kind"),
            }
        }
        assert_eq!(members, master.slaves().iter().map(Link::number).collect());
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_members_that_nobody_reads_ends() {
    let master = Master::builder().build().unwrap();
    let mut members = master.membership();
    for _ in 0..1025 {
        join(&master, slave().id(1)).await;
    }
    assert!(soon(members.next()).await.is_none());
    assert!(matches!(soon(master.membership().next()).await, Some(MembershipEvent::Joined(_))));
}

#[tokio::test(start_paused = true)]
async fn the_states_of_a_link_are_a_stream_that_ends_with_it() {
    let Pair { ours, .. } = pair().await;
    let states = ours.states().into_stream();
    ours.close("enough");
    let states: Vec<_> = soon(states.collect()).await;
    assert!(
        matches!(&states[..], [LinkState::Closed(closed)] if closed.reason.as_str() == "enough")
    );
}

#[tokio::test(start_paused = true)]
async fn links_are_equal_by_their_number_and_later_ones_have_greater_ones() {
    let master = Master::builder().build().unwrap();
    let one = join(&master, slave()).await;
    let other = join(&master, slave()).await;
    assert!(one.number() < other.number() && one != other && !one.same_link(&other));
    let again = master.slave(7).unwrap().with_timeout(Duration::from_secs(1));
    assert!(again == other && again.same_link(&other));
    assert_eq!(HashSet::from([one.clone(), other, again, one]).len(), 2);
}

#[derive(Serialize, Deserialize)]
struct Whoami {}

#[derive(Debug, Serialize, Deserialize)]
struct You {
    id: i64,
}

impl Request for Whoami {
    const NAME: &'static str = "whoami";
    const DIRECTION: Direction = Direction::SLAVE_TO_MASTER.and(Direction::CONTROL_TO_MASTER);
    type Response = You;
}

#[tokio::test(start_paused = true)]
async fn a_handler_asks_for_the_id_of_the_slave_and_a_control_is_told_that_it_is_none() {
    async fn whoami(_: Whoami, ctx: Ctx) -> Result<You, String> {
        Ok(You { id: ctx.slave_id()? })
    }
    let master = || Master::builder().router(Router::new(()).request(whoami));
    let asking = pair_of(master(), slave()).await;
    assert_eq!(asking.ours.request(&Whoami {}).await.unwrap().id, 7);
    let asking = pair_of(master(), Control::builder()).await;
    let error = asking.ours.request(&Whoami {}).await.unwrap_err();
    assert!(error.to_string().contains("only a slave"), "{error}");
}

#[test]
fn a_config_can_be_written_as_a_chain() {
    let chained = Config::default().with_handlers(3).with_request_timeout(Duration::from_secs(4));
    let set = config(|config| {
        config.handlers = 3;
        config.request_timeout = Duration::from_secs(4);
    });
    assert_eq!(chained, set);
}

/// When the older link of a slave is told to have left, the newer is registered and not told yet.
#[tokio::test(start_paused = true)]
async fn a_stream_of_members_that_begins_within_a_change_tells_it_once() {
    let shared = std::sync::Arc::new(std::sync::OnceLock::<Master>::new());
    let (sender, mut streams) = tokio::sync::mpsc::unbounded_channel();
    let master = Master::builder().on_change({
        let shared = std::sync::Arc::clone(&shared);
        move |event| {
            if let MembershipEvent::Left(..) = event {
                let _ = sender.send(shared.get().unwrap().membership());
            }
        }
    });
    let master = master.build().unwrap();
    shared.set(master.clone()).unwrap();
    join(&master, slave()).await;
    let newer = join(&master, slave()).await;
    let mut members = streams.recv().await.unwrap();
    assert_eq!(describe(&soon(members.next()).await.unwrap()), "+slave 7");
    newer.close("done");
    assert_eq!(describe(&soon(members.next()).await.unwrap()), "-slave 7");
}
