use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};

use futures::FutureExt as _;
use semver::Version;

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
pub(in crate::link) fn outlet(change: impl FnOnce(&mut Config)) -> Outlet {
    let mut config = Config::default();
    change(&mut config);
    let (version, agent, role) = (Version::new(2, 0, 0), String::new(), Role::Control);
    let peer = Peer { role, id: None, name: None, agent, version: version.clone() };
    let session = Session::continuing(Dialect::PLAIN, 0);
    Outlet::new(Handle::new(
        Role::Master,
        peer,
        Claims::default(),
        version,
        config,
        session.sending,
        None,
    ))
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
    let rounds: Vec<Outlet> = (0..ROUNDS).map(|_| outlet(|_| {})).collect();
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
            let mut request = request(handle.handle());
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
    let outlet = outlet(|_| {});
    let handle = outlet.handle().clone();
    let (woken, refused) = (AtomicBool::new(false), AtomicBool::new(false));
    let asks = Arc::new(AsksAgain { handle, woken, refused });
    let mut first = request(outlet.handle());
    let waker = Waker::from(Arc::clone(&asks));
    assert!(first.poll_unpin(&mut Context::from_waker(&waker)).is_pending());
    outlet.end(Closed::lost("cut"));
    assert!(asks.woken.load(Ordering::SeqCst) && asks.refused.load(Ordering::SeqCst));
}

/// What has waited for room until the link drains is refused, and takes no room along.
#[tokio::test]
async fn what_is_refused_in_turn_gives_its_room_back() {
    let outlet = outlet(|config| config.outbox = 1000);
    outlet.event(&event(600)).await.unwrap();
    let late = event(700);
    let mut waiting = pin!(outlet.event(&late));
    assert!((&mut waiting).now_or_never().is_none(), "there is no room");
    outlet.drain(false, false);
    outlet.wrote(1);
    assert!(matches!(waiting.now_or_never(), Some(Err(EventError::Closed(_)))));
    assert!(outlet.is_idle());
    assert!(outlet.with(|state, _| state.room.try_take(1000)), "all of it is free again");
}

/// The same for what is handed on, for which no task waits.
#[tokio::test]
async fn what_is_not_handed_on_any_more_gives_its_room_back() {
    let outlet = outlet(|config| config.outbox = 1000);
    outlet.hand_on(&event(600));
    outlet.hand_on(&event(700));
    let next = event(300);
    outlet.hand_on(&next);
    outlet.drain(false, false);
    outlet.wrote(1);
    assert!(outlet.is_idle());
    assert!(outlet.with(|state, _| state.room.try_take(1000)), "all of it is free again");
}

/// The task begins to close ahead of what is queued, and sends the close frame behind it, once.
#[tokio::test]
async fn the_close_frame_goes_out_once_behind_all_that_is_queued() {
    let outlet = outlet(|_| {});
    outlet.event(&event(100)).await.unwrap();
    let closed = Closed::local(CloseCode::NORMAL, "bye");
    outlet.ask_close(closed.clone());
    assert!(matches!(outlet.next::<8>(), NextWrite::Asked));
    outlet.begin_close(&closed, closed.code);
    // The event and the `close` message.
    assert!(matches!(outlet.next::<3>(), NextWrite::Frames([Some(_), Some(_), None])));
    outlet.wrote(2);
    let NextWrite::Close(code, reason) = outlet.next::<8>() else { panic!("no close frame") };
    assert_eq!((code, reason.as_str()), (CloseCode::NORMAL, "bye"));
    outlet.sent_close_frame();
    assert!(matches!(outlet.next::<8>(), NextWrite::Nothing));
}
