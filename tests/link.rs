//! What a link does for its users, both ends in memory and with made-up time.

mod common;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::scripted::Scripted;
use common::*;
use seqlink::{ClosedBy, Ctx, Delivery, Master, RequestError, Router};

#[tokio::test(start_paused = true)]
async fn both_sides_ask_and_answer() {
    let pair = pair().await;
    let (there, back) = (echo("there"), echo("back"));
    let (a, b) = tokio::join!(pair.ours.request(&there), pair.theirs.request(&back));
    assert_eq!(a.unwrap(), echo("there"));
    assert_eq!(b.unwrap(), echo("back"));
    assert_eq!((pair.ours.pending(), pair.theirs.pending()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn events_arrive_in_order_one_at_a_time() {
    let seen: Arc<Mutex<Vec<u64>>> = Arc::default();
    async fn on_tick(tick: Tick, ctx: Ctx<Mutex<Vec<u64>>>) {
        // The earlier ones take longer: run side by side, they would end in another order.
        tokio::time::sleep(Duration::from_millis(100 - tick.n)).await;
        ctx.state().lock().unwrap().push(tick.n);
    }
    let router = Router::with_state(Arc::clone(&seen))
        .event(on_tick)
        .request(|echo: Echo, _: Ctx<_>| async move { Ok::<_, String>(echo) });
    let pair = pair_of(Master::builder().router(router), slave()).await;
    for n in 0..100 {
        pair.ours.event(&Tick { n }).await.unwrap();
    }
    pair.ours.close("done");
    pair.ours.closed().await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(*seen.lock().unwrap(), (0..100).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn both_sides_learn_who_closed_and_why() {
    let pair = pair().await;
    pair.ours.close("enough for today");
    let (ours, theirs) = tokio::join!(pair.ours.closed(), pair.theirs.closed());
    assert_eq!((ours.by, theirs.by), (ClosedBy::Local, ClosedBy::Remote));
    assert_eq!(ours.reason.as_str(), "enough for today");
    assert_eq!(theirs.reason.as_str(), "enough for today");
}

#[tokio::test(start_paused = true)]
async fn a_cut_ends_every_wait() {
    let pair = pair().await;
    let asked = tokio::spawn(pair.ours.request(&Sleep { ms: 60_000 }));
    tokio::time::sleep(Duration::from_millis(1)).await;
    pair.cable.cut();
    let error = soon(asked).await.unwrap().unwrap_err();
    assert!(matches!(error, RequestError::Closed { delivery: Delivery::Unknown, .. }), "{error}");
    let error = pair.ours.request(&echo("late")).await.unwrap_err();
    let RequestError::Closed { delivery, closed } = error else { panic!("{error}") };
    assert_eq!((delivery, closed.by), (Delivery::NotDelivered, ClosedBy::Lost));
}

/// The link's task rests when there is nothing to do; what is queued then does not wait for its next
/// heartbeat.
#[tokio::test(start_paused = true)]
async fn what_is_queued_on_an_idle_link_leaves_at_once() {
    let master = Master::builder().build().unwrap();
    let (mut peer, link) = Scripted::control(&master).await;
    for n in 0..10 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let begun = tokio::time::Instant::now();
        link.event(&Tick { n }).await.unwrap();
        assert!(peer.hear().await.contains("tick_event"));
        assert!(begun.elapsed() < Duration::from_millis(50), "{:?}", begun.elapsed());
    }
}
