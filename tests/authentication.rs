//! Who may connect, who may come back, and for how long: the application decides.

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use common::world::World;
use common::*;
use futures::StreamExt as _;
use seqlink::trust::{Resumption, Verdict};
use seqlink::{
    Authenticator, Claims, CloseCode, ConnectError, Control, Ctx, Direction, LinkState, Master,
    MasterBuilder, Reconnect, Registration, Request, RequestError, Router,
};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

struct Account {
    name: String,
}

#[derive(Serialize, Deserialize)]
struct Whoami {}

#[derive(Debug, Serialize, Deserialize)]
struct You {
    name: String,
}

impl Request for Whoami {
    const NAME: &'static str = "whoami";
    const DIRECTION: Direction = Direction::CONTROL_TO_MASTER.and(Direction::SLAVE_TO_MASTER);
    type Response = You;
}

async fn whoami(_: Whoami, ctx: Ctx) -> Result<You, String> {
    let account: &Account = ctx.claims().ok_or("no claims")?;
    Ok(You { name: account.name.clone() })
}

fn alice() -> Claims {
    Claims::new(Account { name: "alice".to_owned() })
}

#[tokio::test(start_paused = true)]
async fn claims_reach_the_handlers_of_their_link_and_no_others() {
    let decide = |registration: Registration| async move {
        let token = registration.token.ok_or("no token")?;
        match token.expose() {
            "none" => Ok(Claims::default()),
            name => Ok::<_, &str>(Claims::new(Account { name: name.to_owned() })),
        }
    };
    let master = || Master::builder().authenticate(decide).router(Router::new(()).request(whoami));
    for name in ["alice", "bob"] {
        let pair = pair_of(master(), control().token(name)).await;
        assert_eq!(pair.ours.request(&Whoami {}).await.unwrap().name, name);
        assert_eq!(pair.theirs.claims::<Account>().unwrap().name, name);
        assert!(
            pair.theirs.claims::<String>().is_none() && pair.ours.claims::<Account>().is_none()
        );
    }
    let pair = pair_of(master(), control().token("none")).await;
    let error = pair.ours.request(&Whoami {}).await.unwrap_err();
    assert!(matches!(&error, RequestError::Remote(_)), "{error}");
}

/// Three attempts, no more.
fn thrice() -> Reconnect {
    let mut reconnect = Reconnect::default();
    reconnect.attempts = Some(3);
    reconnect
}

/// A failing authenticator has denied nothing: clients come back, and are let in when it works again.
#[tokio::test(start_paused = true)]
async fn a_client_comes_back_while_it_cannot_be_decided_on() {
    for how in ["unavailable", "panics", "hangs", "panics before it is polled"] {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let master = Master::builder().authenticate(move |_: Registration| {
            let first = count.fetch_add(1, Ordering::SeqCst) < 2;
            assert!(!first || how != "panics before it is polled");
            async move {
                match how {
                    "unavailable" if first => Verdict::Unavailable("the database is away".into()),
                    "panics" if first => panic!("as told"),
                    "hangs" if first => std::future::pending().await,
                    _ => Verdict::admit(alice()),
                }
            }
        });
        let world = World::new(master.build().unwrap());
        let client = soon(world.connect(control())).await;
        assert_eq!(asked.load(Ordering::SeqCst), 3, "{how}");
        assert_eq!(world.dials(), 3, "{how}");
        client.close("done").await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_is_told_that_it_cannot_be_decided_on() {
    let decide = |_: Registration| async { Verdict::Unavailable("the database is away".into()) };
    let master = Master::builder().authenticate(decide).build().unwrap();
    let (ours, theirs) = seqlink::transport::memory::session_pair();
    let client = control().reconnect(thrice());
    let (refused, error) = tokio::join!(master.attach(theirs), client.attach(ours));
    let text = "Authentication is not available: the database is away";
    assert!(refused.unwrap_err().to_string().contains(text));
    let error = error.unwrap_err();
    assert!(error.to_string().contains(text) && !error.is_final(), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_denial_is_final() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let master = Master::builder().authenticate(move |_: Registration| {
        count.fetch_add(1, Ordering::SeqCst);
        async { Err::<(), _>("banned") }
    });
    let world = World::new(master.build().unwrap());
    let dial = {
        let master = world.master.clone();
        move || {
            let (ours, theirs) = seqlink::transport::memory::session_pair();
            let master = master.clone();
            tokio::spawn(async move { master.attach(theirs).await });
            async move { Ok(ours) }
        }
    };
    let error = soon(control().connect_by(dial)).await.unwrap_err();
    assert!(
        matches!(&error, ConnectError::Authentication(reason) if reason.as_str() == "Authentication failed: banned")
    );
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

/// Lets everyone in, and decides on resumptions as it is told.
#[derive(Clone, Default)]
struct Doorman {
    verdicts: Arc<Mutex<Vec<Verdict>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Authenticator for Doorman {
    async fn register(&self, _: Registration) -> Verdict {
        Verdict::admit(alice())
    }

    async fn resume(&self, resumption: Resumption) -> Verdict {
        let name = resumption.claims.get().map_or("nobody", |account: &Account| &account.name);
        self.asked.lock().unwrap().push(format!("{} {name}", resumption.peer));
        let next = self.verdicts.lock().unwrap().pop();
        next.unwrap_or_else(|| Verdict::admit(Claims::default()))
    }
}

fn guarded(doorman: &Doorman) -> MasterBuilder {
    Master::builder().authenticator(doorman.clone()).router(Router::new(()).request(whoami))
}

#[tokio::test(start_paused = true)]
async fn a_resumption_is_asked_for_with_the_claims_of_the_registration() {
    let doorman = Doorman::default();
    let world = World::new(guarded(&doorman).token("shared").build().unwrap());
    let client = world.connect(slave().token("shared")).await;
    let link = client.link().await.unwrap();
    let mut states = Box::pin(link.states().into_stream());
    world.cable().cut();
    while !matches!(soon(states.next()).await, Some(LinkState::Resumed { .. })) {}
    assert_eq!(*doorman.asked.lock().unwrap(), ["slave 7 alice"]);
    assert_eq!(link.request(&Whoami {}).await.unwrap().name, "alice", "its claims stay");
}

#[tokio::test(start_paused = true)]
async fn a_session_is_held_while_its_resumption_cannot_be_decided_on() {
    let doorman = Doorman::default();
    *doorman.verdicts.lock().unwrap() = vec![Verdict::Unavailable("away".into()); 3];
    let world = World::new(guarded(&doorman).build().unwrap());
    let client = world.connect(slave()).await;
    let link = client.link().await.unwrap();
    world.cable().cut();
    let asked = soon(link.request(&Whoami {})).await;
    assert_eq!(asked.unwrap().name, "alice");
    assert_eq!(doorman.asked.lock().unwrap().len(), 4);
    assert!(link == client.link().await.unwrap(), "it is the same link");
}

#[tokio::test(start_paused = true)]
async fn a_session_that_may_not_be_resumed_ends_on_both_sides() {
    let doorman = Doorman::default();
    *doorman.verdicts.lock().unwrap() = vec![Verdict::Deny("banned".into())];
    let world = World::new(guarded(&doorman).build().unwrap());
    let client = world.connect(slave()).await;
    let theirs = world.master.slave(7).unwrap();
    world.cable().cut();
    let stopped = soon(client.stopped()).await;
    let why = stopped.error().expect("an error").to_string();
    assert!(why.contains("Authentication failed: banned"), "{why}");
    let closed = soon(theirs.closed()).await;
    assert_eq!(
        (closed.code, closed.reason.as_str()),
        (CloseCode::AUTHENTICATION, "Authentication failed: banned")
    );
    assert!(world.master.slaves().is_empty());
    let asked = doorman.asked.lock().unwrap().len();
    assert_eq!(asked, 1);
}

/// With a socket and without one.
#[tokio::test(start_paused = true)]
async fn a_link_ends_with_its_credential() {
    for is_cut in [false, true] {
        let decide = |_: Registration| async {
            Verdict::admit_until(alice(), SystemTime::now() + Duration::from_secs(30))
        };
        let world = World::new(Master::builder().authenticate(decide).build().unwrap());
        let client = world.connect(slave().reconnect(Reconnect::never())).await;
        let theirs = world.master.slave(7).unwrap();
        sleep(Duration::from_secs(25)).await;
        assert!(!theirs.is_closed());
        if is_cut {
            client.link().await.unwrap();
            world.cable().cut();
        }
        let closed = soon(theirs.closed()).await;
        assert_eq!(closed.reason.as_str(), "Authentication failed: expired");
        if !is_cut {
            let why = soon(client.stopped()).await.error().expect("an error").to_string();
            assert!(why.contains("expired"), "{why}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_credential_that_has_expired_already_admits_for_no_time() {
    let decide = |_: Registration| async { Verdict::admit_until(alice(), SystemTime::UNIX_EPOCH) };
    let pair = pair_of(Master::builder().authenticate(decide), slave()).await;
    assert_eq!(soon(pair.theirs.closed()).await.reason.as_str(), "Authentication failed: expired");
}

#[tokio::test(start_paused = true)]
async fn a_revoked_client_does_not_come_back() {
    let world = World::new(Master::builder().build().unwrap());
    let client = world.connect(slave()).await;
    world.master.slave(7).unwrap().deny("revoked");
    let why = soon(client.stopped()).await.error().expect("an error").to_string();
    assert!(why.contains("Authentication failed: revoked"), "{why}");
    assert_eq!(world.dials(), 1);
}

#[tokio::test]
async fn the_authenticator_sees_where_a_client_comes_from_and_its_headers() {
    let (sender, mut seen) = tokio::sync::mpsc::unbounded_channel();
    let decide = move |registration: Registration| {
        sender.send(registration.connection).unwrap();
        async { Ok::<(), String>(()) }
    };
    let master = Master::builder().authenticate(decide).build().unwrap();
    let address = master.listen("127.0.0.1:0").await.unwrap();
    let client = Control::builder().url(format!("ws://{address}/")).connect().await.unwrap();
    let connection = seen.recv().await.unwrap();
    let remote = connection.remote.unwrap();
    assert!(remote.ip().is_loopback() && remote.port() != 0 && remote.port() != address.port());
    let host = connection.headers.get("Host").unwrap();
    assert_eq!(host, address.to_string().as_bytes());
    assert_eq!(connection.headers.get("seqlink-session"), Some(&b"1"[..]));
    assert!(connection.headers.get("authorization").is_none());
    assert!(!format!("{connection:?}").contains(&*String::from_utf8_lossy(host)), "{connection:?}");
    client.close("done").await;
    master.shutdown("done", DRAIN).await;
}

/// The authenticator is slow with a connection that its client gives up, and not with the next one.
#[tokio::test(start_paused = true)]
async fn a_late_admission_takes_nothing_from_a_newer_connection() {
    let (asked, slow) = (AtomicUsize::new(0), Arc::new(tokio::sync::Notify::new()));
    let gate = Arc::clone(&slow);
    let master = Master::builder().authenticate(move |_: Registration| {
        let (first, gate) = (asked.fetch_add(1, Ordering::SeqCst) == 0, Arc::clone(&gate));
        async move {
            if first {
                gate.notified().await;
            }
            Ok::<(), String>(())
        }
    });
    let master = master.build().unwrap();
    let attach = || {
        let (ours, theirs) = seqlink::transport::memory::session_pair();
        let master = master.clone();
        let theirs = tokio::spawn(async move { master.attach(theirs).await });
        (tokio::spawn(slave().attach(ours)), theirs)
    };
    let (given_up, late) = attach();
    sleep(Duration::from_millis(10)).await;
    given_up.abort();
    let (ours, theirs) = attach();
    let (ours, good) = (ours.await.unwrap().unwrap(), theirs.await.unwrap().unwrap());
    slow.notify_one();
    if let Ok(late) = soon(late).await.unwrap() {
        assert_eq!(soon(late.closed()).await.reason.as_str(), "Registered from another connection");
    }
    sleep(Duration::from_secs(1)).await;
    assert!(master.slave(7).is_some_and(|link| link == good) && !ours.is_closed());
}

/// The same of a session: a socket whose resumption is admitted late takes nothing over.
#[tokio::test(start_paused = true)]
async fn a_late_resumption_takes_nothing_from_a_newer_socket() {
    #[derive(Clone, Default)]
    struct Slow(Arc<AtomicUsize>, Arc<tokio::sync::Notify>);
    impl Authenticator for Slow {
        async fn register(&self, _: Registration) -> Verdict {
            Verdict::admit(Claims::default())
        }
        async fn resume(&self, _: Resumption) -> Verdict {
            if self.0.fetch_add(1, Ordering::SeqCst) == 0 {
                self.1.notified().await;
            }
            Verdict::Deny("late".into())
        }
    }
    let slow = Slow::default();
    slow.0.store(0, Ordering::SeqCst);
    let decide = slow.clone();
    let world = World::new(Master::builder().authenticator(decide).build().unwrap());
    let client = world.connect(slave()).await;
    let link = world.master.slave(7).unwrap();
    // The first resumption hangs and its cable is cut; the second is denied, and ends the session.
    world.cable().cut();
    while slow.0.load(Ordering::SeqCst) < 1 {
        sleep(Duration::from_millis(10)).await;
    }
    world.cable().cut();
    assert!(soon(link.closed()).await.reason.as_str().contains("late"));
    slow.1.notify_one();
    assert!(soon(client.stopped()).await.error().is_some());
}

/// Two questions, of which one would be left out.
#[test]
fn a_second_authenticator_is_a_config_error() {
    let decide = |_: Registration| async { Ok::<(), String>(()) };
    let error = Master::builder().authenticate(decide).authenticate(decide).build().unwrap_err();
    assert!(error.to_string().contains(".authenticate(…)"), "{error}");
}

/// What it sends after that is not handled, however long it takes to hang up.
#[tokio::test(start_paused = true)]
async fn a_denied_client_is_not_listened_to() {
    use common::scripted::Scripted;
    use common::world::{Ticks, counting};
    for (is_denied, handled) in [(true, 1), (false, 2)] {
        let seen = Ticks::default();
        let master = Master::builder().router(counting(&seen)).build().unwrap();
        let (mut peer, link) = Scripted::control(&master).await;
        peer.say(r#"{"seq":2,"type":"tick_event","data":{"n":1}}"#).await;
        sleep(Duration::from_millis(10)).await;
        if is_denied {
            link.deny("revoked")
        } else {
            link.close("done")
        }
        sleep(Duration::from_millis(10)).await;
        peer.say(r#"{"seq":3,"type":"tick_event","data":{"n":2}}"#).await;
        soon(link.closed()).await;
        sleep(Duration::from_millis(10)).await;
        assert_eq!(seen.lock().unwrap().len(), handled, "denied: {is_denied}");
    }
}
