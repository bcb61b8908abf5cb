//! Two ends over cables that are cut: each message arrives once and in order, and each request ends.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arbitrary::{Arbitrary, Unstructured};
use futures::FutureExt as _;
use seqlink::transport::memory::{self, Cable};
use seqlink::{Control, Ctx, Link, Master, RequestError, Router};
use tokio::time::sleep;

use crate::in_time;
use crate::messages::{Echo, Tick, Wait, config};

#[derive(Debug, Arbitrary)]
enum Action {
    Event(Side),
    Ask(Side, u16),
    /// A request whose handler is still at work for a while.
    Wait(Side),
    /// A request that is given up after so many polls.
    GiveUp(Side, u8),
    Cut,
    /// Nothing arrives any more, and both ends have to notice.
    Silence,
    Yield(u8),
    Sleep(u16),
}

#[derive(Clone, Copy, Debug, Arbitrary)]
enum Side {
    Master,
    Client,
}

/// What one side has received.
#[derive(Default)]
struct Received(Mutex<Vec<u64>>);

impl Received {
    fn all(&self) -> Vec<u64> {
        self.0.lock().expect("no panic").clone()
    }
}

fn router(received: &Arc<Received>) -> Router<Received> {
    async fn on_tick(tick: Tick, ctx: Ctx<Received>) {
        ctx.state().0.lock().expect("no panic").push(tick.n);
    }
    async fn on_echo(echo: Echo, _: Ctx<Received>) -> Result<Echo, String> {
        Ok(echo)
    }
    async fn on_wait(_: Wait, _: Ctx<Received>) -> Result<seqlink::Empty, String> {
        sleep(Duration::from_secs(1)).await;
        Ok(seqlink::Empty {})
    }
    Router::with_state(Arc::clone(received)).event(on_tick).request(on_echo).request(on_wait)
}

pub(crate) async fn session(input: &[u8]) {
    let mut input = Unstructured::new(input);
    let (at_master, at_client) = (Arc::default(), Arc::default());
    // No request may end because of time alone, and no session either.
    let config = config().with_request_timeout(Duration::from_secs(500));
    let config = config.with_session_timeout(Duration::from_secs(86_400));
    let master = Master::builder().router(router(&at_master)).config(config.clone());
    let master = master.build().expect("a master");
    let cables = Arc::new(Mutex::new(Vec::<Cable>::new()));
    let dial = {
        let (master, cables) = (master.clone(), Arc::clone(&cables));
        move || {
            let (ours, theirs) = memory::session_pair();
            cables.lock().expect("no panic").push(ours.cable());
            let master = master.clone();
            tokio::spawn(async move { master.attach(theirs).await });
            async move { Ok::<_, io::Error>(ours) }
        }
    };
    let client = Control::builder().router(router(&at_client)).config(config);
    let client = in_time("a link", client.connect_by(dial)).await.expect("a link");
    let ours = client.link().await.expect("a link");
    let theirs = master.controls().pop().expect("a link");
    let link = |side| -> &Link {
        match side {
            Side::Master => &theirs,
            Side::Client => &ours,
        }
    };

    let mut sent = [0; 2];
    let mut asked = Vec::new();
    for action in input.arbitrary_iter::<Action>().into_iter().flatten().map_while(Result::ok) {
        match action {
            Action::Event(side) => {
                let sent = &mut sent[side as usize];
                // Without room it is not queued: a sender that does not wait sends nothing.
                if let Some(queued) = link(side).event(&Tick { n: *sent }).now_or_never() {
                    queued.expect("the link lives");
                    *sent += 1;
                }
            }
            Action::Ask(side, bytes) => {
                let text = "x".repeat((bytes % 4096).into());
                let request = link(side).request(&Echo { text: text.clone() });
                asked.push(tokio::spawn(async move {
                    match request.await {
                        Ok(answer) => assert!(answer.text == text, "another's answer"),
                        Err(RequestError::Remote(error)) if error.message().starts_with("busy") => {
                        }
                        Err(error) => panic!("{error}"),
                    }
                }));
            }
            Action::Wait(side) => {
                let request = link(side).request(&Wait {});
                asked.push(tokio::spawn(async move {
                    // More at once than are handled are answered `busy`.
                    let _ = request.await;
                }));
            }
            Action::GiveUp(side, polls) => {
                let mut request = Box::pin(link(side).request(&Wait {}).into_future());
                for _ in 0..polls % 8 {
                    if futures::poll!(&mut request).is_ready() {
                        break;
                    }
                    tokio::task::yield_now().await;
                }
            }
            Action::Cut | Action::Silence => {
                let cable = cables.lock().expect("no panic").last().cloned();
                let cable = cable.expect("a cable");
                if matches!(action, Action::Cut) { cable.cut() } else { cable.silence() }
            }
            Action::Yield(times) => {
                for _ in 0..times {
                    tokio::task::yield_now().await;
                }
            }
            Action::Sleep(ms) => sleep(Duration::from_millis(ms.into())).await,
        }
    }
    for request in asked {
        in_time("an answer", request).await.expect("a right answer");
    }
    // What was given up is at work no more either.
    sleep(Duration::from_secs(60)).await;
    // Behind everything: what was sent before has arrived when these are answered.
    for link in [&ours, &theirs] {
        let last = link.request(&Echo { text: "last".into() });
        assert!(in_time("the last answer", last).await.is_ok());
    }
    in_time("the end of the client", client.close("done")).await;
    in_time("the end of the link", theirs.closed()).await;
    assert_eq!((ours.pending(), theirs.pending()), (0, 0));
    for (received, side) in [(&at_client, Side::Master), (&at_master, Side::Client)] {
        let all = received.all();
        assert!(all.iter().copied().eq(0..sent[side as usize]), "{all:?} of {sent:?}");
    }
}
