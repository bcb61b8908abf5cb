//! Many requests of one link with time limits of their own: each ends at its time, whatever becomes
//! of the others and of the link.

mod common;

use std::time::Duration;

use common::dialled::Place;
use common::scripted::Scripted;
use common::*;
use seqlink::{Link, Master, RequestError};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

const LIMITS: [u64; 12] = [1, 2, 3, 5, 50, 51, 400, 1000, 5000, 9999, 20_000, 30_000];

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Asks what is never answered in time, and says how long that took.
async fn ask(link: Link, limit: u64) -> (u64, Duration, RequestError) {
    let start = Instant::now();
    let error = link.with_timeout(ms(limit)).request(&Sleep { ms: 90_000 }).await.unwrap_err();
    (limit, start.elapsed(), error)
}

fn ask_all(link: &Link, limits: &[u64]) -> JoinSet<(u64, Duration, RequestError)> {
    // The longest first, then the shortest: the timer is set forth and back.
    let (mut all, mut limits) = (JoinSet::new(), limits.to_vec());
    while let Some(limit) = limits.pop() {
        all.spawn(ask(link.clone(), limit));
        limits.reverse();
    }
    all
}

/// The clock of tokio's timers ticks in milliseconds.
fn is_at_its_time((limit, took, error): &(u64, Duration, RequestError)) {
    assert!(matches!(error, RequestError::Timeout { after } if *after == ms(*limit)), "{error}");
    assert!(*took >= ms(*limit) && *took <= ms(limit + 2), "{limit} ms took {took:?}");
}

#[tokio::test(start_paused = true)]
async fn each_request_ends_at_its_time_while_others_are_answered() {
    let Pair { ours, theirs, master: _master, .. } = pair().await;
    for link in [ours, theirs] {
        let mut all = ask_all(&link, &LIMITS);
        let mut answered = 0;
        while !all.is_empty() {
            tokio::select! {
                over = all.join_next() => is_at_its_time(&over.unwrap().unwrap()),
                answer = link.request(&Sleep { ms: 7 }) => {
                    answer.unwrap();
                    answered += 1;
                }
            }
        }
        assert!(answered > 1000, "only {answered}");
        assert_eq!(link.pending(), 0);
    }
}

/// A timer that has gone off is not taken for one that is set.
#[tokio::test(start_paused = true)]
async fn no_time_at_all_is_over_at_once() {
    let Pair { ours, master: _master, .. } = pair().await;
    for _ in 0..20 {
        is_at_its_time(&ask(ours.clone(), 5).await);
        is_at_its_time(&ask(ours.clone(), 0).await);
    }
}

#[tokio::test(start_paused = true)]
async fn time_goes_on_while_the_link_has_no_socket() {
    let place = Place::new(Master::builder().router(router()).build().unwrap());
    let client = place.connect(control()).await;
    let link = client.link().await.unwrap();
    let mut early = ask_all(&link, &LIMITS);
    sleep(Duration::from_micros(500)).await;
    place.kill();
    sleep(Duration::from_micros(100)).await;
    let mut late = ask_all(&link, &LIMITS);
    let mut over = 0;
    while let Some(done) = early.join_next().await {
        is_at_its_time(&done.unwrap());
        over += 1;
    }
    while let Some(done) = late.join_next().await {
        is_at_its_time(&done.unwrap());
        over += 1;
    }
    assert_eq!(over, 2 * LIMITS.len());
    assert!(link.ended().is_none(), "all this in the time of the session");
    drop(client);
}

/// The peer does not hang up: what still waits ends at its time or with the link, 2 s later.
#[tokio::test(start_paused = true)]
async fn time_goes_on_while_the_link_closes() {
    let master = Master::builder().router(router()).build().unwrap();
    let (mut peer, link) = Scripted::control(&master).await;
    let mut all = ask_all(&link, &LIMITS);
    sleep(Duration::from_micros(100)).await;
    for _ in LIMITS {
        peer.hear().await;
    }
    peer.say(r#"{"seq":2,"type":"close","data":{"reason":"enough"}}"#).await;
    let mut timed_out = 0;
    while let Some(done) = all.join_next().await {
        let done = done.unwrap();
        if matches!(done.2, RequestError::Timeout { .. }) {
            is_at_its_time(&done);
            timed_out += 1;
        } else {
            assert!(done.0 >= 2000 && done.1 <= ms(2002), "{done:?}");
        }
    }
    assert_eq!(timed_out, LIMITS.iter().filter(|limit| **limit < 2000).count());
}

/// The wait for a slot or for room counts, and who gave up has taken neither.
#[tokio::test(start_paused = true)]
async fn the_time_of_a_request_passes_while_it_waits_for_its_turn() {
    for slots in [true, false] {
        let config = config(|config| {
            config.requests_in_flight = if slots { 2 } else { 100 };
            (config.max_frame, config.outbox) = (8 * 1024, 8 * 1024);
        });
        let master = Master::builder().router(router()).config(config);
        let place = Place::new(master.build().unwrap());
        let client = place.connect(control().router(router())).await;
        let link = place.master().controls().remove(0);
        let mut first = JoinSet::new();
        if slots {
            (0..2).for_each(|_| drop(first.spawn(ask(link.clone(), 8000))));
        } else {
            // Without a socket nothing makes room.
            place.cable().silence();
            let text = echo(&"x".repeat(7900));
            let asked = link.with_timeout(ms(8000)).request(&text);
            first.spawn(async move {
                let start = Instant::now();
                (8000, start.elapsed(), asked.await.unwrap_err())
            });
        }
        sleep(Duration::from_micros(100)).await;
        let mut waiting = JoinSet::new();
        for limit in [1, 3, 50, 400, 5000] {
            let link = link.clone();
            waiting.spawn(async move {
                let start = Instant::now();
                let asked = link.with_timeout(ms(limit)).request(&echo(&"y".repeat(500)));
                let error = asked.await.unwrap_err();
                (limit, start.elapsed(), error)
            });
        }
        while let Some(done) = waiting.join_next().await {
            is_at_its_time(&done.unwrap());
        }
        assert_eq!(link.pending(), first.len());
        first.abort_all();
        drop(client);
    }
}
