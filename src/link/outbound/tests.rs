use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Wake, Waker};

use futures::FutureExt as _;
use semver::Version;

use super::send_state::BudgetKind;
use super::*;
use crate::close::{CloseCode, Closed};
use crate::error::EventError;
use crate::link::config::Config;
use crate::message::Peer;
use crate::message::Role;
use crate::session::Session;
use crate::trust::Claims;
use crate::wire::{Dialect, EncodedMessage};

/// A link without a task: what is queued stays until a test takes it.
pub(in crate::link) fn without_task(change: impl FnOnce(&mut Config)) -> Handle {
    let mut config = Config::default();
    change(&mut config);
    let (version, agent, role) = (Version::new(2, 0, 0), String::new(), Role::Control);
    let peer = Peer { role, id: None, name: None, agent, version: version.clone() };
    let session = Session::continuing(Dialect::PLAIN, 0);
    Handle::new(Role::Master, peer, Claims::default(), version, config, session.sending, None)
}

fn request(handle: &Handle) -> RequestFuture<()> {
    let message = EncodedMessage::request("ask", &crate::message::Empty {}).unwrap();
    RequestFuture::new(handle.clone(), Ok(message), None, |_| Ok(()))
}

/// An event that takes so many bytes of room.
fn event(bytes: usize) -> EncodedMessage {
    let text =
        |length| EncodedMessage::event("tick", &serde_json::json!({ "text": "x".repeat(length) }));
    let message = text(bytes - text(0).unwrap().bytes()).unwrap();
    assert_eq!(message.bytes(), bytes);
    message
}

/// Whatever the order of a request and the end, no caller waits for ever.
#[test]
fn a_request_beside_the_end_is_told() {
    const ROUNDS: usize = 5_000;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _inside = runtime.enter();
    let rounds: Vec<Handle> = (0..ROUNDS).map(|_| without_task(|_| {})).collect();
    let barrier = std::sync::Barrier::new(2);
    let mut left = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for handle in &rounds {
                barrier.wait();
                handle.end(Closed::lost("cut"));
                barrier.wait();
            }
        });
        for handle in &rounds {
            let mut request = request(handle);
            barrier.wait();
            let first = (&mut request).now_or_never();
            barrier.wait();
            // Either it was refused, or the end has told it.
            left += usize::from(first.is_none() && request.now_or_never().is_none());
        }
    });
    assert_eq!(left, 0, "of {ROUNDS} would wait for ever");
    assert!(rounds.iter().all(|handle| handle.pending() == 0));
}

/// Sends a request as soon as it is woken.
struct AsksAgain {
    handle: Handle,
    woken: AtomicBool,
    refused: AtomicBool,
}

impl Wake for AsksAgain {
    fn wake(self: Arc<Self>) {
        self.woken.store(true, Ordering::SeqCst);
        let refused = request(&self.handle).now_or_never().is_some();
        self.refused.store(refused, Ordering::SeqCst);
    }
}

/// Nothing is admitted any more when the first caller learns of the end: it may ask again at once.
#[tokio::test]
async fn who_is_told_of_the_end_and_asks_again_is_told_again() {
    let handle = without_task(|_| {});
    let (woken, refused) = (AtomicBool::new(false), AtomicBool::new(false));
    let asks = Arc::new(AsksAgain { handle: handle.clone(), woken, refused });
    let mut first = request(&handle);
    let waker = Waker::from(Arc::clone(&asks));
    assert!(first.poll_unpin(&mut Context::from_waker(&waker)).is_pending());
    handle.end(Closed::lost("cut"));
    assert!(asks.woken.load(Ordering::SeqCst) && asks.refused.load(Ordering::SeqCst));
}

/// What has waited for room until the link drains is refused, and takes no room along.
#[tokio::test]
async fn what_is_refused_in_turn_gives_its_room_back() {
    let handle = without_task(|config| config.outbox = 1000);
    handle.event(&event(600)).await.unwrap();
    let late = event(700);
    let mut waiting = pin!(handle.event(&late));
    assert!((&mut waiting).now_or_never().is_none(), "there is no room");
    handle.drain(false, false);
    handle.wrote(1);
    assert!(matches!(waiting.now_or_never(), Some(Err(EventError::Closed(_)))));
    assert!(handle.is_idle());
    assert!(handle.with(|state, _| state.room.try_take(1000)), "all of it is free again");
}

/// The same for what is handed on, for which no task waits.
#[tokio::test]
async fn what_is_not_handed_on_any_more_gives_its_room_back() {
    let handle = without_task(|config| config.outbox = 1000);
    handle.hand_on(&event(600));
    handle.hand_on(&event(700));
    let next = event(300);
    handle.hand_on(&next);
    handle.drain(false, false);
    handle.wrote(1);
    assert!(handle.is_idle());
    assert!(handle.with(|state, _| state.room.try_take(1000)), "all of it is free again");
}

/// The task begins to close ahead of what is queued, and sends the close frame behind it, once.
#[tokio::test]
async fn the_close_frame_goes_out_once_behind_all_that_is_queued() {
    let handle = without_task(|_| {});
    handle.event(&event(100)).await.unwrap();
    let closed = Closed::local(CloseCode::NORMAL, "bye");
    handle.ask_close(closed.clone());
    assert!(matches!(handle.next::<8>(), NextWrite::Asked(_)));
    handle.begin_close(&closed, closed.code);
    // The event and the `close` message.
    assert!(matches!(handle.next::<3>(), NextWrite::Frames([Some(_), Some(_), None])));
    handle.wrote(2);
    let NextWrite::Close(code, reason) = handle.next::<8>() else { panic!("no close frame") };
    assert_eq!((code, reason.as_str()), (CloseCode::NORMAL, "bye"));
    handle.sent_close_frame();
    assert!(matches!(handle.next::<8>(), NextWrite::Nothing));
}

/// Tasks take, wait, give up and give back at the same time: no permit is lost or doubled, and
/// no task waits for one that is free.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn permits_are_neither_lost_nor_doubled() {
    const PERMITS: usize = 5;
    let (handle, taken) =
        (without_task(|config| config.requests_in_flight = PERMITS), Arc::default());
    let worker = |n: usize| {
        let (handle, taken) = (handle.clone(), Arc::<AtomicUsize>::clone(&taken));
        tokio::spawn(async move {
            for round in 0..2000 {
                let count = 1 + (n + round) % 3;
                let permits = if round % 7 == 0 {
                    handle.0.send_state.permits(BudgetKind::Slots, count).now_or_never()
                } else {
                    Some(handle.0.send_state.permits(BudgetKind::Slots, count).await)
                };
                let Some(permits) = permits else { continue };
                assert!(taken.fetch_add(count, Ordering::SeqCst) + count <= PERMITS);
                tokio::task::yield_now().await;
                taken.fetch_sub(count, Ordering::SeqCst);
                drop(permits.unwrap());
            }
        })
    };
    for worker in (0..16).map(worker).collect::<Vec<_>>() {
        worker.await.unwrap();
    }
    assert!(
        handle.0.send_state.permits(BudgetKind::Slots, PERMITS).now_or_never().is_some(),
        "all are free again"
    );
}

/// A waiting task is woken by permits that are given back, and by the end.
#[tokio::test(start_paused = true)]
async fn who_waits_is_woken() {
    for ends in [false, true] {
        let handle = without_task(|config| config.requests_in_flight = 1);
        let mut taken = Some(handle.0.send_state.permits(BudgetKind::Slots, 1).await.unwrap());
        let waiting = tokio::spawn({
            let handle = handle.clone();
            async move { handle.0.send_state.permits(BudgetKind::Slots, 1).await.is_ok() }
        });
        tokio::task::yield_now().await;
        if ends {
            handle.end(crate::close::Closed::lost("gone"));
        } else {
            taken = None;
        }
        let woken = tokio::time::timeout(std::time::Duration::from_secs(1), waiting).await;
        assert_eq!(woken.expect("it is woken").unwrap(), !ends);
        drop(taken);
    }
}

#[tokio::test]
async fn who_leaves_lets_those_behind_it_through() {
    let handle = without_task(|config| config.requests_in_flight = 3);
    let _taken = handle.0.send_state.permits(BudgetKind::Slots, 2).await.unwrap();
    let mut large = Box::pin(handle.0.send_state.permits(BudgetKind::Slots, 3));
    let mut small = Box::pin(handle.0.send_state.permits(BudgetKind::Slots, 1));
    assert!((&mut large).now_or_never().is_none() && (&mut small).now_or_never().is_none());
    drop(large);
    assert!(small.now_or_never().is_some());
}

#[tokio::test]
async fn at_the_end_nobody_waits() {
    let handle = without_task(|config| config.requests_in_flight = 1);
    let taken = handle.0.send_state.permits(BudgetKind::Slots, 1).await.unwrap();
    let mut waiting = Box::pin(handle.0.send_state.permits(BudgetKind::Slots, 1));
    assert!((&mut waiting).now_or_never().is_none());
    handle.end(crate::close::Closed::lost("gone"));
    assert!(matches!(waiting.now_or_never(), Some(Err(SendRefused::Closed))));
    drop(taken);
    assert!(matches!(
        handle.0.send_state.permits(BudgetKind::Slots, 1).await,
        Err(SendRefused::Closed)
    ));
}

/// Nothing but the close frame goes out, without a `close` message whose number would leave a gap.
#[tokio::test]
async fn what_an_aborted_link_has_queued_is_dropped() {
    let handle = without_task(|_| {});
    handle.event(&event(600)).await.unwrap();
    assert_eq!(handle.bytes(), 600);
    let full = Closed::local(CloseCode::TRY_AGAIN, "full");
    handle.abort(full.clone());
    assert_eq!((handle.bytes(), handle.held()), (0, 0));
    assert!(matches!(handle.next::<8>(), NextWrite::Asked(_)) && handle.is_abort());
    handle.begin_close(&full, full.code);
    assert!(matches!(handle.next::<8>(), NextWrite::Close(..)));
}

/// The application may keep its handles for long.
#[tokio::test]
async fn a_link_that_has_ended_holds_nothing() {
    let handle = without_task(|_| {});
    handle.event(&event(600)).await.unwrap();
    handle.end(Closed::lost("cut"));
    assert_eq!((handle.bytes(), handle.held()), (0, 0));
}
