//! The bugs that links of this kind have had elsewhere, one test each, in memory with made-up time.

mod common;

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use common::scripted::Scripted;
use common::*;
use seqlink::transport::Incoming;
use seqlink::{ClosedBy, Ctx, Delivery, Empty, Link, Master, RequestError, Router};
use tokio::time::{Instant, sleep, timeout};

/// Gives every other task its turn.
async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

/// Row 1: nothing stays behind an answer. (A million of them: in `link/pending.rs`.)
#[tokio::test(start_paused = true)]
async fn answered_requests_leave_nothing_behind() {
    let pair = pair().await;
    for _ in 0..20 {
        let calls = (0..1000).map(|n| {
            let link = pair.ours.clone();
            async move { link.request(&echo(&n.to_string())).await.unwrap() }
        });
        assert_eq!(futures::future::join_all(calls).await.len(), 1000);
        assert_eq!(pair.ours.pending(), 0);
    }
}

/// Row 2: a call that is dropped after any number of polls takes its entry and its place along.
#[tokio::test(start_paused = true)]
async fn a_dropped_call_leaves_nothing_behind() {
    let config = config(|config| config.requests_in_flight = 1);
    let pair = pair_of(Master::builder().router(router()), slave().config(config)).await;
    for polls in 0..12 {
        let mut call = Box::pin(pair.ours.request(&echo("dropped")));
        for _ in 0..polls {
            // The drop follows the last poll at once: an answer on its way comes too late.
            tokio::task::yield_now().await;
            let mut cx = Context::from_waker(Waker::noop());
            if call.as_mut().poll(&mut cx).is_ready() {
                break;
            }
        }
        drop(call);
        assert_eq!(pair.ours.pending(), 0, "after {polls} polls");
        // The only place is free again.
        let next = timeout(Duration::from_secs(1), pair.ours.request(&echo("next"))).await;
        assert_eq!(next.expect("a place").unwrap(), echo("next"), "after {polls} polls");
    }
    // Late answers found nobody, and that is all.
    assert!(pair.ours.ignored().responses > 0);
}

/// One place for requests is one place, also for those who have waited for it in turn.
#[tokio::test(start_paused = true)]
async fn a_place_that_was_waited_for_is_one() {
    let config = config(|config| config.requests_in_flight = 1);
    let master = Master::builder().config(config).build().unwrap();
    let (mut peer, link) = Scripted::control(&master).await;
    let calls: Vec<_> = (0..4).map(|_| tokio::spawn(link.request(&echo("a")))).collect();
    for seq in 3..7 {
        let asked = peer.hear().await;
        assert!(asked.starts_with(&format!(r#"{{"seq":{seq},"type":"echo_request""#)), "{asked}");
        let early = timeout(Duration::from_millis(100), peer.hear()).await;
        assert!(early.is_err(), "before the answer to {seq}: {early:?}");
        let data = format!(r#"{{"seq":{seq},"text":"a"}}"#);
        let answer = format!(r#"{{"seq":{},"type":"echo_response","data":{data}}}"#, seq - 1);
        peer.say(&answer).await;
    }
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap(), echo("a"));
    }
}

/// Row 2 again: a timeout frees the entry and the place, and a late answer goes nowhere.
#[tokio::test(start_paused = true)]
async fn a_timeout_leaves_nothing_behind() {
    let config = config(|config| config.requests_in_flight = 1);
    let pair = pair_of(Master::builder().router(router()), slave().config(config)).await;
    let started = Instant::now();
    let hasty = pair.ours.with_timeout(Duration::from_millis(250));
    let error = hasty.request(&Sleep { ms: 1000 }).await.unwrap_err();
    assert!(
        matches!(error, RequestError::Timeout { after } if after.as_millis() == 250),
        "{error}"
    );
    assert_eq!(started.elapsed().as_millis(), 250);
    assert_eq!(pair.ours.pending(), 0);
    pair.ours.request(&echo("next")).await.unwrap();
    sleep(Duration::from_secs(2)).await;
    assert_eq!(pair.ours.ignored().responses, 1);
}

/// Which limit holds: the call's own, else the type's, else the link's.
#[tokio::test(start_paused = true)]
async fn the_nearest_timeout_holds() {
    let config = config(|config| config.request_timeout = Duration::from_secs(3));
    let (master, cable) = (Master::builder().router(router()), slave().config(config));
    let pair = pair_of(master, cable).await;
    pair.cable.silence();
    let after = |error: RequestError| match error {
        RequestError::Timeout { after } => after.as_secs(),
        other => panic!("{other}"),
    };
    let patient = pair.ours.with_timeout(Duration::from_secs(2));
    assert_eq!(after(patient.request(&Sleep { ms: 0 }).await.unwrap_err()), 2);
    assert_eq!(after(pair.ours.request(&echo("a")).await.unwrap_err()), 3);
    let link = pair.ours.clone();
    let typed = tokio::spawn(async move { link.request(&Sleep { ms: 0 }).await });
    // The type's own 100 s are longer than the link lives.
    assert!(matches!(typed.await.unwrap(), Err(RequestError::Closed { .. })));
}

/// A limit that ends before the others holds, also when the peer reads nothing and much waits to
/// be written.
#[tokio::test(start_paused = true)]
async fn a_shorter_limit_is_not_put_off_by_a_longer_one() {
    let master = Master::builder().build().unwrap();
    let (_peer, link) = Scripted::control(&master).await;
    sleep(Duration::from_millis(100)).await;
    for n in 0..3 {
        link.event(&Big { n, text: "x".repeat(100_000) }).await.unwrap();
    }
    let mut calls = Vec::new();
    for ms in [2600, 300, 1400] {
        sleep(Duration::from_millis(10)).await;
        let request = link.with_timeout(Duration::from_millis(ms)).request(&echo("a"));
        calls.push(tokio::spawn(async move {
            let begun = Instant::now();
            let error = request.await.unwrap_err();
            assert!(matches!(error, RequestError::Timeout { .. }), "{error}");
            (ms, begun.elapsed().as_millis())
        }));
    }
    for call in calls {
        let (ms, took) = soon(call).await.unwrap();
        assert!((u128::from(ms)..=u128::from(ms) + 2).contains(&took), "{ms} ms took {took}");
    }
}

/// Row 3: once the link is given up, no call is left waiting; and a silent peer is given up after
/// two to three intervals.
#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_noticed_and_ends_every_wait() {
    let pair = pair().await;
    // Just before or just after a heartbeat.
    sleep(Duration::from_millis(4_990)).await;
    let calls: Vec<_> =
        (0..50).map(|_| tokio::spawn(pair.ours.request(&Sleep { ms: 90_000 }))).collect();
    settle().await;
    assert_eq!(pair.ours.pending(), 50);
    pair.cable.silence();
    let cut = Instant::now();
    let closed = soon(pair.ours.closed()).await;
    assert_eq!(closed.by, ClosedBy::Lost);
    assert_eq!(closed.reason.as_str(), "Not a byte came for 10s");
    let noticed = cut.elapsed();
    assert!((10..=15).contains(&noticed.as_secs()), "noticed after {noticed:?}");
    for call in calls {
        let error = soon(call).await.unwrap().unwrap_err();
        assert!(matches!(error, RequestError::Closed { delivery: Delivery::Unknown, .. }));
    }
    assert_eq!(pair.ours.pending(), 0);
    assert_eq!(soon(pair.theirs.closed()).await.by, ClosedBy::Lost);
}

/// A quiet link is not a dead one.
#[tokio::test(start_paused = true)]
async fn an_idle_link_stays() {
    let pair = pair().await;
    sleep(Duration::from_secs(24 * 3600)).await;
    assert_eq!(pair.ours.request(&echo("morning")).await.unwrap(), echo("morning"));
}

/// Row 5: the runtime of one side goes away with its links. Callers elsewhere are told.
#[test]
fn a_dropped_driver_is_a_typed_error() {
    let here = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let there =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let link = there.block_on(pair()).ours;
    let waiting = here.spawn(link.request(&Sleep { ms: 60_000 }));
    here.block_on(async {
        for _ in 0..1000 {
            if link.pending() == 1 {
                return;
            }
            sleep(Duration::from_millis(1)).await;
        }
        panic!("not asked");
    });
    // It is queued; the other runtime has yet to write it.
    std::thread::sleep(Duration::from_millis(200));
    there.shutdown_background();
    let told = here.block_on(async { timeout(Duration::from_secs(10), waiting).await });
    let error = told.expect("nobody is told").unwrap().unwrap_err();
    let RequestError::Closed { delivery, closed } = error else { panic!("{error}") };
    assert_eq!((delivery, closed.by), (Delivery::Unknown, ClosedBy::Lost));
    let late = here.block_on(link.request(&echo("late"))).unwrap_err();
    assert!(matches!(late, RequestError::Closed { delivery: Delivery::NotDelivered, .. }));
    assert!(here.block_on(link.event(&Tick { n: 1 })).is_err());
}

/// Row 6: one caller that goes away takes nobody along.
#[tokio::test(start_paused = true)]
async fn one_cancelled_of_a_hundred() {
    let pair = pair().await;
    let calls: Vec<_> =
        (0..100).map(|_| tokio::spawn(pair.ours.request(&Sleep { ms: 500 }))).collect();
    settle().await;
    calls[42].abort();
    let mut answers = 0;
    for call in calls {
        answers += usize::from(matches!(soon(call).await, Ok(Ok(Empty {}))));
    }
    assert_eq!(answers, 99);
}

/// Rows 17 and 19: a peer that never reads costs the outbox and no more. Senders wait, and when it
/// has taken nothing for two to three intervals the link ends with the reason.
#[tokio::test(start_paused = true)]
async fn a_peer_that_never_reads_costs_the_outbox() {
    let config = config(|config| (config.max_frame, config.outbox) = (64 * 1024, 64 * 1024));
    let master = Master::builder().config(config).build().unwrap();
    let (mut peer, link) = Scripted::control(&master).await;
    let queued = Arc::new(AtomicUsize::new(0));
    let sender = tokio::spawn({
        let link = link.clone();
        async move {
            let text = Echo { text: "x".repeat(1000) };
            match link.with_timeout(Duration::from_secs(600)).request(&text).await {
                Err(RequestError::Closed { closed, .. }) => closed,
                other => panic!("{other:?}"),
            }
        }
    });
    let events: Vec<_> = (0..1000)
        .map(|n| {
            let (link, queued) = (link.clone(), Arc::clone(&queued));
            tokio::spawn(async move {
                let big = Big { n, text: "x".repeat(1000) };
                let sent = link.event(&big).await;
                queued.fetch_add(1000 * usize::from(sent.is_ok()), Ordering::Relaxed);
            })
        })
        .collect();
    settle().await;
    sleep(Duration::from_secs(1)).await;
    // What the memory transport holds, as a socket's buffers would, and the outbox.
    let bytes = queued.load(Ordering::Relaxed);
    assert!(bytes > 64 * 1000 && bytes < 2 * 64 * 1024 + 1024, "{bytes} bytes are queued");
    // It does not read, and yet it talks: silence is not what ends the link.
    let talking = async {
        for seq in 2.. {
            peer.say(&format!(r#"{{"seq":{seq},"type":"tick_event","data":{{"n":1}}}}"#)).await;
            sleep(Duration::from_secs(1)).await;
        }
    };
    let closed = tokio::select! {
        closed = link.closed() => closed,
        () = talking => unreachable!(),
    };
    assert_eq!(closed.reason.as_str(), "The peer took not a byte for 10s");
    for event in events {
        soon(event).await.unwrap();
    }
    assert_eq!(soon(sender).await.unwrap(), closed);
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Big {
    n: u64,
    text: String,
}

impl seqlink::Event for Big {
    const NAME: &'static str = "big";
}

/// Row 19: the requests of this side, at the limit and one above.
#[tokio::test(start_paused = true)]
async fn requests_above_the_limit_wait_for_a_place() {
    let config = config(|config| config.requests_in_flight = 3);
    let pair = pair_of(Master::builder().router(router()), slave().config(config)).await;
    let calls: Vec<_> =
        (0..4).map(|_| tokio::spawn(pair.ours.request(&Sleep { ms: 1000 }))).collect();
    settle().await;
    assert_eq!(pair.ours.pending(), 3);
    let started = Instant::now();
    for call in calls {
        soon(call).await.unwrap().unwrap();
    }
    assert_eq!(started.elapsed().as_secs(), 2, "the fourth began when one had ended");
}

/// Row 19: the handlers, at the limit and one above.
#[tokio::test(start_paused = true)]
async fn requests_above_the_handlers_are_answered_busy() {
    let config = config(|config| config.handlers = 3);
    let pair = pair_of(Master::builder().router(router()).config(config), slave()).await;
    let calls: Vec<_> =
        (0..4).map(|_| tokio::spawn(pair.ours.request(&Sleep { ms: 1000 }))).collect();
    let mut outcomes = Vec::new();
    for call in calls {
        outcomes.push(soon(call).await.unwrap().map_err(|error| error.to_string()));
    }
    let busy = Err("busy: all 3 `handlers` are at work".to_owned());
    assert_eq!(outcomes, [Ok(Empty {}), Ok(Empty {}), Ok(Empty {}), busy]);
    // The link stays, and there is room again.
    pair.ours.request(&Sleep { ms: 1 }).await.unwrap();
}

/// Row 19: the inbox. A request above it is answered `busy`, an event ends the link with a reason,
/// and what had been taken in before still reaches its handler.
#[tokio::test(start_paused = true)]
async fn the_inbox_is_bounded() {
    async fn slow(_: Big, ctx: Ctx<Mutex<u64>>) {
        sleep(Duration::from_secs(1)).await;
        *ctx.state().lock().unwrap() += 1;
    }
    async fn on_echo(echo: Echo, _: Ctx<Mutex<u64>>) -> Result<Echo, String> {
        Ok(echo)
    }
    let handled = Arc::new(Mutex::new(0));
    let router = Router::with_state(Arc::clone(&handled)).event(slow).request(on_echo);
    let config = config(|config| (config.max_frame, config.inbox) = (10_000, 12_500));
    let pair = pair_of(Master::builder().router(router).config(config), slave()).await;
    let big = |n| Big { n, text: "x".repeat(1000) };
    for n in 0..9 {
        pair.ours.event(&big(n)).await.unwrap();
    }
    let error = pair.ours.request(&echo(&"x".repeat(1000))).await.unwrap_err();
    assert!(error.to_string().starts_with("busy"), "{error}");
    assert_eq!(pair.ours.request(&echo("small")).await.unwrap(), echo("small"));
    pair.ours.event(&big(9)).await.unwrap();
    let closed = soon(pair.ours.closed()).await;
    assert_eq!(
        closed.reason.as_str(),
        "The inbox is full: events come faster than they are handled"
    );
    sleep(Duration::from_secs(20)).await;
    assert_eq!(*handled.lock().unwrap(), 9);
}

/// A peer that asks and does not read the answers cannot make this side hold them.
#[tokio::test(start_paused = true)]
async fn answers_that_nobody_reads_are_bounded() {
    let config = config(|config| (config.max_frame, config.outbox) = (16 * 1024, 16 * 1024));
    let master = Master::builder().config(config).build().unwrap();
    let (mut peer, link) = Scripted::control(&master).await;
    let asking = async {
        for seq in 2.. {
            peer.say(&format!(r#"{{"seq":{seq},"type":"unknown_request","data":{{}}}}"#)).await;
            sleep(Duration::from_millis(1)).await;
        }
    };
    let closed = tokio::select! {
        closed = link.closed() => closed,
        () = asking => unreachable!(),
    };
    assert_eq!(
        closed.reason.as_str(),
        "The outbox is full: the peer asks and does not read the answers"
    );
}

/// Row 22: a peer that swallows the close frame cannot hold up the end.
#[tokio::test(start_paused = true)]
async fn close_does_not_wait_for_ever() {
    let master = Master::builder().build().unwrap();
    let (mut peer, link) = Scripted::control(&master).await;
    let started = Instant::now();
    link.close("bye");
    assert_eq!(link.closed().await.by, ClosedBy::Local);
    assert_eq!(started.elapsed(), Duration::from_secs(2));
    assert_eq!(peer.hear().await, r#"{"seq":3,"type":"close","data":{"reason":"bye"}}"#);
    assert!(matches!(peer.any().await, Some(Incoming::Close(..))));
}

/// The same of a peer that reads nothing at all, when much waits for it.
#[tokio::test(start_paused = true)]
async fn close_does_not_wait_for_what_nobody_reads() {
    let master = Master::builder().build().unwrap();
    let (_peer, link) = Scripted::control(&master).await;
    // More than a cable holds, so that some of it waits.
    for n in 0..5 {
        link.event(&Big { n, text: "x".repeat(50_000) }).await.unwrap();
    }
    settle().await;
    let started = Instant::now();
    link.close("bye");
    assert_eq!(link.closed().await.reason.as_str(), "bye");
    assert_eq!(started.elapsed(), Duration::from_secs(2));
}

/// Row 25: both directions full, both sides busy with sending: neither waits for the other to read.
#[tokio::test(start_paused = true)]
async fn two_full_directions_still_move() {
    let config = config(|config| (config.max_frame, config.outbox) = (32 * 1024, 32 * 1024));
    let pair = pair_of(
        Master::builder().router(router()).config(config.clone()),
        slave().router(router()).config(config),
    )
    .await;
    let text = "x".repeat(10_000);
    let ask = |link: &Link| {
        let link = link.with_timeout(Duration::from_secs(600));
        futures::future::join_all((0..500).map(move |_| link.request(&echo(&text))))
    };
    let both = async { tokio::join!(ask.clone()(&pair.ours), ask(&pair.theirs)) };
    let (ours, theirs) = soon(both).await;
    let mut answered = 0;
    for outcome in ours.into_iter().chain(theirs) {
        match outcome {
            Ok(echo) => answered += usize::from(echo.text.len() == 10_000),
            // 256 handlers wait for room at the same time: more are refused, and told so.
            Err(error) => assert!(error.to_string().starts_with("busy"), "{error}"),
        }
    }
    assert!(answered >= 512, "{answered} of 1000");
    pair.ours.request(&echo("still here")).await.unwrap();
}

/// Row 26: a handler asks on its own link, whose handler asks back, eight times.
#[tokio::test(start_paused = true)]
async fn handlers_ask_on_their_own_link() {
    let pair = pair_of(Master::builder().router(router()), slave().router(router())).await;
    let (ours, theirs) =
        (pair.ours.request(&Nest { depth: 8 }), pair.theirs.request(&Nest { depth: 8 }));
    let (ours, theirs) = soon(async { tokio::join!(ours, theirs) }).await;
    assert_eq!((ours.unwrap().depth, theirs.unwrap().depth), (8, 8));
}

/// Row 26 with an event: its handler asks back, although events wait for each other.
#[tokio::test(start_paused = true)]
async fn the_handler_of_an_event_asks_on_its_own_link() {
    async fn on_tick(tick: Tick, ctx: Ctx<Mutex<Vec<u64>>>) {
        let answer = ctx.link().request(&echo(&tick.n.to_string())).await.unwrap();
        ctx.state().lock().unwrap().push(answer.text.parse().unwrap());
    }
    let seen: Arc<Mutex<Vec<u64>>> = Arc::default();
    let events = Router::with_state(Arc::clone(&seen)).event(on_tick);
    let pair = pair_of(Master::builder().router(events), slave().router(router())).await;
    for n in 0..20 {
        pair.ours.event(&Tick { n }).await.unwrap();
    }
    sleep(Duration::from_secs(1)).await;
    assert_eq!(*seen.lock().unwrap(), (0..20).collect::<Vec<_>>());
}

/// Row 28: whatever becomes of a handler, its caller is told, at once.
#[tokio::test(start_paused = true)]
async fn a_handler_that_dies_is_an_error_at_the_caller() {
    async fn aborted(_: Tock, _: Ctx) -> Result<Empty, tokio::task::JoinError> {
        let task = tokio::spawn(std::future::pending::<()>());
        task.abort();
        task.await.map(|()| Empty {})
    }
    let pair = pair_of(Master::builder().router(router().request(aborted)), slave()).await;
    let started = Instant::now();
    for how in ["panic", "late panic"] {
        let error = pair.ours.request(&Fail { how: how.into() }).await.unwrap_err();
        assert_eq!(error.to_string(), "The handler of fail_request panicked");
    }
    let error = pair.ours.request(&Fail { how: "no game".into() }).await.unwrap_err();
    assert!(matches!(&error, RequestError::Remote(error) if error.message() == "no game"));
    assert!(pair.ours.request(&Tock {}).await.unwrap_err().to_string().contains("cancelled"));
    assert!(started.elapsed() < Duration::from_millis(100));
    // The link stays.
    pair.ours.request(&Fail { how: "not".into() }).await.unwrap();
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Tock {}

impl seqlink::Request for Tock {
    const NAME: &'static str = "tock";
    type Response = Empty;
}

/// A panic in the handler of an event is that event's end and nobody else's.
#[tokio::test(start_paused = true)]
async fn a_panic_in_an_event_leaves_the_next() {
    async fn on_tick(tick: Tick, ctx: Ctx<Mutex<Vec<u64>>>) {
        assert_ne!(tick.n % 2, 1, "as told");
        ctx.state().lock().unwrap().push(tick.n);
    }
    let seen: Arc<Mutex<Vec<u64>>> = Arc::default();
    let router = Router::with_state(Arc::clone(&seen)).event(on_tick);
    let pair = pair_of(Master::builder().router(router), slave()).await;
    for n in 0..6 {
        pair.ours.event(&Tick { n }).await.unwrap();
    }
    sleep(Duration::from_secs(1)).await;
    assert_eq!(*seen.lock().unwrap(), [0, 2, 4]);
}

/// Row 29: one request whose data is broken is that request's error; those in flight finish.
#[tokio::test(start_paused = true)]
async fn one_bad_request_cancels_nothing() {
    let master = Master::builder().router(router()).build().unwrap();
    let (mut peer, _link) = Scripted::control(&master).await;
    for seq in 2..12 {
        let data = if seq == 5 { r#"{"ms":"many"}"# } else { r#"{"ms":300}"# };
        peer.say(&format!(r#"{{"seq":{seq},"type":"sleep_request","data":{data}}}"#)).await;
    }
    let (mut good, mut bad) = (0, 0);
    for _ in 2..12 {
        let text = soon(peer.hear()).await;
        if text.contains("error") { bad += 1 } else { good += 1 }
    }
    assert_eq!((good, bad), (9, 1));
}

/// What is queued when the link is closed still goes out, in front of the reason.
#[tokio::test(start_paused = true)]
async fn what_was_queued_before_close_arrives() {
    let master = Master::builder().build().unwrap();
    let (mut peer, link) = Scripted::control(&master).await;
    for n in 0..100 {
        link.event(&Tick { n }).await.unwrap();
    }
    link.close("done");
    for n in 0..100 {
        let seq = n + 3;
        let tick = format!(r#"{{"seq":{seq},"type":"tick_event","data":{{"n":{n}}}}}"#);
        assert_eq!(peer.hear().await, tick);
    }
    assert_eq!(peer.hear().await, r#"{"seq":103,"type":"close","data":{"reason":"done"}}"#);
    assert!(link.event(&Tick { n: 100 }).await.is_err(), "closing: nothing is queued any more");
}

/// A request that is still queued when the link is lost was not delivered, and says so.
#[tokio::test(start_paused = true)]
async fn a_lost_link_tells_what_was_not_delivered() {
    let master = Master::builder().build().unwrap();
    let (peer, link) = Scripted::control(&master).await;
    let ask = |n: usize| tokio::spawn(link.request(&echo(&n.to_string().repeat(30_000))));
    let calls: Vec<_> = (1..9).map(ask).collect();
    settle().await;
    drop(peer);
    let mut deliveries = Vec::new();
    for call in calls {
        match soon(call).await.unwrap() {
            Err(RequestError::Closed { delivery, .. }) => deliveries.push(delivery),
            other => panic!("{other:?}"),
        }
    }
    // The memory transport takes 64 KiB before it is full: the first three.
    let unknown = deliveries.iter().filter(|delivery| **delivery == Delivery::Unknown).count();
    assert_eq!(unknown, 3, "{deliveries:?}");
    assert!(deliveries[3..].iter().all(|delivery| *delivery == Delivery::NotDelivered));
}

/// Ten thousand requests each way at once, over one link; and row 27: on one thread, where a lock
/// that is held across an await stops everything.
#[tokio::test(start_paused = true)]
async fn ten_thousand_each_way_at_once() {
    let pair = pair_of(Master::builder().router(router()), slave().router(router())).await;
    let ask = |link: &Link| {
        let link = link.with_timeout(Duration::from_secs(3600));
        futures::future::join_all((0..10_000).map(move |n| {
            let text = n.to_string();
            let call = link.request(&echo(&text));
            async move { assert_eq!(call.await.unwrap().text, text) }
        }))
    };
    tokio::join!(ask(&pair.ours), ask(&pair.theirs));
    assert_eq!((pair.ours.pending(), pair.theirs.pending()), (0, 0));
    assert_eq!(pair.ours.ignored(), Default::default());
}

/// A call's future does nothing before it is polled.
#[tokio::test(start_paused = true)]
async fn nothing_is_sent_before_the_first_poll() {
    let master = Master::builder().build().unwrap();
    let (mut peer, link) = Scripted::control(&master).await;
    let idle = link.request(&echo("never polled"));
    let mut polled = pin!(link.event(&Tick { n: 1 }));
    let first = poll_fn(|cx| Poll::Ready(polled.as_mut().poll(cx))).await;
    assert!(first.is_ready());
    assert_eq!(peer.hear().await, r#"{"seq":3,"type":"tick_event","data":{"n":1}}"#);
    assert_eq!(link.pending(), 0);
    drop(idle);
}
