//! The rows of faults that comparable systems had, as far as they concern sessions and time.
//!
//! | row | fault | tests |
//! |---|---|---|
//! | 7 | a number is used again when a message is forwarded | `worlds`, `forward` |
//! | 8 | off by one at the replay | `src/session/tests.rs`: what lies above, a replayed frame |
//! | 9 | the old socket still acts on the session | `session` a resume takes over; `faults`, `offsets`: late |
//! | 10 | the resume comes before the old socket's death is seen | the same; `session` a silent cable |
//! | 11 | numbering restarts at the resume | `src/session/tests.rs`: what lies above; `replay` |
//! | 12 | what is replayed is handled twice | below; `src/session/tests.rs`: exactly once |
//! | 13 | state survives a lost session | below |
//! | 14 | a quiet link cannot resume | below; `src/session/tests.rs`: a quiet session |
//! | 15 | a flag of the socket is lost at the resume | below |
//! | 16 | `Ok`, and lost in a buffer | `offsets`: a cut at each byte |
//! | 21 | a half-open link is never noticed | below; `reliability` a silent peer; `session` a silent cable |
//! | 23 | false death under load or behind a large frame | `load` |
//! | 32 | no descriptors left: spins, or accepts no more | `fleet/tests/kept.rs` |
//! | 34 | all come back at once | below |

mod common;

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::dialled::Place;
use common::line::Line;
use common::scripted::Scripted;
use common::*;
use futures::future::join_all;
use seqlink::transport::memory;
use seqlink::{
    Client, Ctx, Dialect, Empty, EventError, Link, LinkState, Master, Reconnect, RequestError,
    Router, Slave,
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

fn long() -> bool {
    std::env::var_os("SEQLINK_LONG").is_some()
}

type Ticks = Mutex<Vec<u64>>;

/// All handlers, and one that writes down the events.
fn handlers(seen: &Arc<Ticks>) -> Router<Ticks> {
    Router::with_state(Arc::clone(seen))
        .event(|tick: Tick, ctx: Ctx<Ticks>| async move {
            ctx.state().lock().unwrap().push(tick.n);
        })
        .request(|echo: Echo, _: Ctx<Ticks>| async move { Ok::<_, String>(echo) })
        .request(|wait: Sleep, _: Ctx<Ticks>| async move {
            sleep(Duration::from_millis(wait.ms)).await;
            Ok::<_, String>(Empty {})
        })
        .request(|fail: Fail, _: Ctx<Ticks>| async move { Err::<Empty, _>(fail.how) })
}

fn quick() -> Reconnect {
    let mut reconnect = Reconnect::default();
    reconnect.most = Duration::from_millis(20);
    reconnect
}

const REGISTER: &str =
    r#"{"seq":null,"type":"register_control","data":{"agent":"a","version":"2.0.0-alpha.12"}}"#;

/// A peer that the test speaks for, and that has heard `hello`.
async fn greeted(master: &Master) -> Scripted {
    let (ours, theirs) = memory::pair();
    let master = master.clone();
    tokio::spawn(async move { master.attach(theirs).await });
    let mut peer = Scripted(ours);
    assert!(peer.hear().await.contains("\"hello\""));
    peer
}

/// The same as a registered control, and its session token.
async fn registered(master: &Master) -> (Scripted, String) {
    let mut peer = greeted(master).await;
    peer.say(REGISTER).await;
    let ready: Value = serde_json::from_str(&peer.hear().await).unwrap();
    (peer, ready["data"]["session_token"].as_str().unwrap().to_owned())
}

/// Row 12: whatever a peer sends again of what it had sent, nothing is handled twice.
#[tokio::test(start_paused = true)]
async fn each_prefix_of_a_session_may_come_again() {
    const FRAMES: usize = 30;
    let seen = Arc::new(Ticks::default());
    let master = Master::builder().dialect(Dialect::SESSION).router(handlers(&seen));
    let master = master.build().unwrap();
    let (mut peer, token) = registered(&master).await;
    let frame = |seq: usize| match seq % 3 {
        0 => format!(r#"{{"seq":{seq},"type":"echo_request","data":{{"text":"{seq}"}}}}"#),
        _ => format!(r#"{{"seq":{seq},"type":"tick_event","data":{{"n":{seq}}}}}"#),
    };
    for seq in 1..=FRAMES {
        peer.say(&frame(seq)).await;
    }
    let answers = FRAMES / 3;
    for answer in 1..=answers {
        let heard: Value = serde_json::from_str(&peer.hear().await).unwrap();
        assert_eq!(
            (heard["seq"].clone(), heard["data"]["seq"].clone()),
            (json!(answer), json!(answer * 3))
        );
    }
    for prefix in 0..=FRAMES {
        let mut peer = greeted(&master).await;
        let data = format!(r#"{{"session_token":"{token}","last_seq":{answers}}}"#);
        peer.say(&format!(r#"{{"seq":null,"type":"resume","data":{data}}}"#)).await;
        assert!(peer.hear().await.contains(&format!(r#""last_seq":{FRAMES},"#)));
        for seq in 1..=prefix {
            peer.say(&frame(seq)).await;
        }
        sleep(Duration::from_millis(1)).await;
    }
    let once: Vec<u64> = (1..=FRAMES as u64).filter(|seq| seq % 3 > 0).collect();
    assert_eq!(*seen.lock().unwrap(), once);
    // And no request was answered twice: the next number is the next one.
    let link = master.controls().remove(0);
    assert!(link.ended().is_none());
    let mut peer = greeted(&master).await;
    let data = format!(r#"{{"session_token":"{token}","last_seq":{answers}}}"#);
    peer.say(&format!(r#"{{"seq":null,"type":"resume","data":{data}}}"#)).await;
    peer.hear().await;
    link.event(&Tick { n: 0 }).await.unwrap();
    assert!(
        peer.hear().await.starts_with(&format!(r#"{{"seq":{},"type":"tick_event""#, answers + 1))
    );
}

/// A client gives the handshake up while `ready` is on its way: its reason is what counts.
#[tokio::test(start_paused = true)]
async fn a_handshake_that_is_given_up_late_is_no_fault() {
    let master = Master::builder().dialect(Dialect::SESSION).build().unwrap();
    let (ours, theirs) = memory::pair();
    let attached = tokio::spawn(async move { master.attach(theirs).await });
    let mut peer = Scripted(ours);
    peer.say(REGISTER).await;
    peer.say(r#"{"seq":null,"type":"close","data":{"reason":"too slow"}}"#).await;
    let link = attached.await.unwrap().unwrap();
    assert_eq!(soon(link.closed()).await.to_string(), "closed by the peer: too slow");
}

/// A `close` message is meant, also from a peer that has not prepared for it.
#[tokio::test(start_paused = true)]
async fn a_close_message_ends_its_session() {
    let master = Master::builder().dialect(Dialect::SESSION).build().unwrap();
    let (mut peer, _) = registered(&master).await;
    let link = master.controls().remove(0);
    peer.say(r#"{"seq":1,"type":"close","data":{"reason":"bye"}}"#).await;
    drop(peer);
    assert_eq!(soon(link.closed()).await.to_string(), "closed by the peer: bye");
}

/// A client gives a resume up while `continue` is on its way: it dials again, and the session goes
/// on.
#[tokio::test(start_paused = true)]
async fn a_resume_that_is_given_up_late_ends_no_session() {
    let master = Master::builder().dialect(Dialect::SESSION).build().unwrap();
    let (_, token) = registered(&master).await;
    let resume = format!(r#"{{"session_token":"{token}","last_seq":null}}"#);
    for _ in 0..3 {
        let mut peer = greeted(&master).await;
        peer.say(&format!(r#"{{"seq":null,"type":"resume","data":{resume}}}"#)).await;
        assert!(peer.hear().await.contains("\"continue\""));
        peer.say(r#"{"seq":null,"type":"close","data":{"reason":"too slow"}}"#).await;
        sleep(Duration::from_secs(2)).await;
        assert!(master.controls()[0].ended().is_none());
    }
}

/// A request that was answered in the moment in which its socket was lost, or later, is not under way
/// any more: a side that finishes begins nothing for it.
#[tokio::test(start_paused = true)]
async fn nothing_is_under_way_when_its_answer_is_queued() {
    for request in [
        r#"{"seq":1,"type":"echo_request","data":{"text":"a"}}"#,
        r#"{"seq":1,"type":"sleep_request","data":{"ms":5}}"#,
    ] {
        let master = Master::builder().dialect(Dialect::SESSION).router(router()).build().unwrap();
        let (mut peer, _) = registered(&master).await;
        peer.say(request).await;
        drop(peer);
        sleep(Duration::from_millis(10)).await;
        let link = master.controls().remove(0);
        assert!(matches!(link.states().now(), LinkState::Resuming { .. }));
        let _ending = tokio::spawn({
            let link = link.clone();
            async move { link.disconnect("done").await }
        });
        sleep(Duration::from_millis(1)).await;
        let refused = link.event(&Tick { n: 0 }).await;
        assert!(matches!(refused, Err(EventError::Closed(_))), "{request}: {refused:?}");
    }
}

/// What a link is doing when its session is lost.
#[derive(Clone, Copy, Debug)]
enum Doing {
    Nothing,
    /// A request waits for its answer.
    Asking,
    /// A handler of the peer's request runs.
    Answering,
    /// The outbox is full, and senders wait for room.
    Sending,
    /// All places for requests are taken, and callers wait for one.
    Crowding,
    /// It has no socket, and messages are queued.
    Resuming,
}

/// Row 13: the session is lost in each state; whoever waited is told, and the next session begins
/// as if there had been none before.
#[tokio::test(start_paused = true)]
async fn a_lost_session_leaves_nothing_to_the_next() {
    use Doing::*;
    for doing in [Nothing, Asking, Answering, Sending, Crowding, Resuming] {
        let small = config(|config| {
            (config.max_frame, config.outbox) = (16 * 1024, 16 * 1024);
            config.requests_in_flight = 4;
        });
        let seen = Arc::new(Ticks::default());
        let build = || {
            let master = Master::builder().router(handlers(&seen)).config(small.clone());
            master.build().unwrap()
        };
        let place = Place::new(build());
        let client = slave().router(router()).config(small.clone()).reconnect(quick());
        let client = place.connect(client).await;
        let link = client.link().await.unwrap();
        link.request(&echo("first")).await.unwrap();
        let calls = begin(doing, &place, &link).await;
        place.kill();
        sleep(Duration::from_millis(100)).await;
        place.settle(build());
        for call in calls {
            let error = soon(call).await.unwrap().unwrap_err();
            assert!(matches!(error, RequestError::Closed { .. }), "{doing:?}: {error}");
        }
        soon(link.closed()).await;
        assert_eq!(link.pending(), 0, "{doing:?}");
        let next = soon(client.link()).await.unwrap();
        assert!(!next.same_link(&link), "{doing:?}");
        seen.lock().unwrap().clear();
        for n in 0..100 {
            next.event(&Tick { n }).await.unwrap();
            next.request(&echo("next")).await.unwrap();
        }
        assert_eq!(*seen.lock().unwrap(), (0..100).collect::<Vec<u64>>(), "{doing:?}");
        assert_eq!(next.pending(), 0, "{doing:?}");
    }
}

type Call = tokio::task::JoinHandle<Result<(), RequestError>>;

async fn begin(doing: Doing, place: &Place, link: &Link) -> Vec<Call> {
    let ask = |ms| {
        let answer = link.request(&Sleep { ms });
        tokio::spawn(async move { answer.await.map(|_| ()) })
    };
    let calls = match doing {
        Doing::Nothing => Vec::new(),
        Doing::Asking => vec![ask(90_000)],
        Doing::Answering => {
            let theirs = place.master().slave(7).unwrap();
            tokio::spawn(theirs.request(&Sleep { ms: 90_000 }));
            Vec::new()
        }
        Doing::Sending => {
            place.cable().silence();
            let text = "x".repeat(6_000);
            (0..4)
                .map(|_| {
                    let answer = link.with_timeout(Duration::from_secs(100)).request(&echo(&text));
                    tokio::spawn(async move { answer.await.map(|_| ()) })
                })
                .collect()
        }
        Doing::Crowding => (0..9).map(|_| ask(90_000)).collect(),
        Doing::Resuming => {
            place.kill();
            sleep(Duration::from_millis(50)).await;
            assert!(matches!(link.states().now(), LinkState::Resuming { .. }));
            link.event(&Tick { n: 666 }).await.unwrap();
            vec![ask(90_000)]
        }
    };
    sleep(Duration::from_millis(10)).await;
    calls
}

/// Row 14: idle for a day, cut, and the session goes on.
#[tokio::test(start_paused = true)]
async fn an_idle_day_does_not_age_a_session() {
    let seen = Arc::new(Ticks::default());
    let place = Place::new(Master::builder().router(handlers(&seen)).build().unwrap());
    let client = place.connect(slave().reconnect(quick())).await;
    let link = client.link().await.unwrap();
    for day in 0..3 {
        sleep(Duration::from_secs(24 * 3600)).await;
        assert_eq!(place.dials().len(), 1 + day, "no cut by itself");
        place.cable().cut();
        link.event(&Tick { n: day as u64 }).await.unwrap();
        assert_eq!(link.request(&echo("morning")).await.unwrap(), echo("morning"));
    }
    assert_eq!(*seen.lock().unwrap(), [0, 1, 2]);
    assert!(link.same_link(&client.link().await.unwrap()));
}

/// Row 15: what a link can, it can after a resume, from either side.
#[tokio::test(start_paused = true)]
async fn nothing_that_a_link_can_is_lost_at_the_resume() {
    let (up, down): (Arc<Ticks>, Arc<Ticks>) = Default::default();
    let changes = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&changes);
    let small = config(|config| config.handlers = 8);
    let master = Master::builder().router(handlers(&up)).config(small.clone());
    let master = master.on_change(move |_| *counted.lock().unwrap() += 1).build().unwrap();
    let place = Place::new(master.clone());
    let client = slave().router(handlers(&down)).config(small).reconnect(quick());
    let client = place.connect(client).await;
    let ours = client.link().await.unwrap();
    let theirs = master.slave(7).unwrap();
    let running = tokio::spawn(ours.request(&Sleep { ms: 2_000 }));
    for cut in 0..3 {
        place.cable().cut();
        for (link, seen) in [(&ours, &up), (&theirs, &down)] {
            works(link, seen).await;
        }
        assert_eq!(place.dials().len(), 2 + cut);
    }
    running.await.unwrap().unwrap();
    // A silent peer is still noticed, and a stream that is larger than the outbox still flows.
    place.cable().silence();
    let started = Instant::now();
    ours.with_timeout(Duration::from_secs(60)).request(&echo("late")).await.unwrap();
    let noticed = started.elapsed().as_secs_f64();
    assert!((10.0..=15.5).contains(&noticed), "{noticed} s");
    let large = "x".repeat(100_000);
    let flow = (0..50).map(|_| ours.request(&echo(&large)));
    assert!(join_all(flow).await.into_iter().all(|answer| answer.is_ok()));
    assert_eq!((ours.peer().role, theirs.peer().id), (seqlink::Role::Master, Some(7)));
    assert_eq!(ours.version(), theirs.version());
    assert_eq!(*changes.lock().unwrap(), 1, "nobody has come or gone");
    client.close("all done").await;
    assert_eq!(soon(theirs.closed()).await.reason.as_str(), "all done");
}

/// Requests, errors, events in order, large frames, limits, timeouts, cancelling.
async fn works(link: &Link, seen: &Arc<Ticks>) {
    seen.lock().unwrap().clear();
    for n in 0..20 {
        link.event(&Tick { n }).await.unwrap();
    }
    assert_eq!(link.request(&echo("a")).await.unwrap(), echo("a"));
    assert_eq!(*seen.lock().unwrap(), (0..20).collect::<Vec<u64>>());
    let large = echo(&"x".repeat(1_000_000));
    assert_eq!(link.request(&large).await.unwrap(), large);
    let error = link.request(&Fail { how: "as told".into() }).await.unwrap_err();
    assert!(
        matches!(&error, RequestError::Remote(error) if error.message() == "as told"),
        "{error}"
    );
    let error = link.request(&Nest { depth: 1 }).await.unwrap_err();
    assert!(matches!(error, RequestError::Remote(_)), "no handler: {error}");
    let error = link.with_timeout(Duration::from_millis(50)).request(&Sleep { ms: 100 }).await;
    assert!(matches!(error, Err(RequestError::Timeout { .. })));
    let crowd = (0..12).map(|_| link.request(&Sleep { ms: 100 }));
    let busy = join_all(crowd).await.into_iter().filter(Result::is_err).count();
    assert!(busy >= 3, "{busy} above the limit of 8");
    drop(tokio::time::timeout(Duration::from_millis(10), link.request(&Sleep { ms: 100 })).await);
    sleep(Duration::from_millis(200)).await;
    assert!(link.pending() <= 1, "only what runs all the time");
}

/// Row 21, configured: on real sockets and with sessions, a dead peer is noticed in less than half
/// a second, and what was under way arrives over the next socket.
#[tokio::test]
async fn a_dead_peer_is_noticed_as_soon_as_configured() {
    let config = config(|config| config.heartbeat_interval = Duration::from_millis(120));
    let master = Master::builder().router(router()).config(config.clone()).build().unwrap();
    let address = master.listen("127.0.0.1:0").await.unwrap();
    let line = Line::new(address, None).await;
    let client = Slave::builder().id(7).sessions(true).url(line.url()).reconnect(quick());
    let client = client.config(config).connect().await.unwrap();
    let link = client.link().await.unwrap();
    let theirs = master.slave(7).unwrap();
    // By the middle of three tries on a busy machine.
    let mut noticed = Vec::new();
    for _ in 0..3 {
        link.request(&echo("there")).await.unwrap();
        let (mut ours, mut masters) = (link.states(), theirs.states());
        line.silence();
        let cut = std::time::Instant::now();
        tokio::join!(resuming(&mut ours), resuming(&mut masters));
        noticed.push(cut.elapsed());
        line.mend();
    }
    noticed.sort();
    assert!(noticed[1] < Duration::from_millis(500), "{noticed:?}");
    assert_eq!(link.request(&echo("again")).await.unwrap(), echo("again"));
}

async fn resuming(states: &mut seqlink::States) {
    while !matches!(states.next().await, Some(LinkState::Resuming { .. }) | None) {}
}

/// Row 34: the master of many slaves is killed and is back after three seconds. They do not come
/// at once, and they all come.
#[tokio::test(start_paused = true)]
async fn a_restarted_master_is_not_run_over() {
    let many = if long() { 10_000 } else { 1_000 };
    let build = || Master::builder().router(router()).build().unwrap();
    let place = Place::new(build());
    let clients = (0..many).map(|id| place.connect(Slave::builder().id(id)));
    let clients: Vec<Client> = join_all(clients).await;
    // The links have lasted: the delays start anew.
    sleep(Duration::from_secs(60)).await;
    let killed = Instant::now();
    let dialled = place.dials().len();
    place.kill();
    sleep(Duration::from_secs(3)).await;
    let master = build();
    place.settle(master.clone());
    let back = Instant::now();
    while master.slaves().len() < many as usize {
        sleep(Duration::from_millis(10)).await;
        assert!(back.elapsed() < Duration::from_secs(60), "{} are back", master.slaves().len());
    }
    // Each tries soon, not at once; and when the master is back they come spread over seconds.
    let dials = &place.dials()[dialled..];
    let mut tenths = vec![0; 1000];
    for dial in dials {
        tenths[(dial.duration_since(killed).as_millis() / 100) as usize] += 1;
    }
    let first = tenths[..3].iter().sum::<usize>();
    assert!(first >= many as usize, "each tries soon: {first}");
    let most = tenths[30..].iter().max().unwrap();
    assert!(*most < many as usize / 8, "{most} of {many} in a tenth of a second");
    let early = dials.iter().filter(|dial| dial.duration_since(killed).as_millis() < 50).count();
    assert!(early < many as usize / 3, "{early} of {many} at once");
    let ids: HashSet<Option<i64>> = master.slaves().iter().map(|link| link.peer().id).collect();
    assert_eq!(ids.len(), many as usize);
    let took = back.elapsed();
    println!(
        "{many} are back after {took:?}, with {} dials, {most} in the fullest tenth",
        dials.len()
    );
    drop(clients);
}
