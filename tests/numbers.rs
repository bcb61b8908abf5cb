//! Every number that a peer can send in a handshake or a heartbeat, as it should not be: it is read
//! as it can be, or refused with a reason, and panics nobody.

mod common;

use std::panic;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::scripted::{Scripted, data_of};
use common::*;
use seqlink::transport::memory;
use seqlink::{Client, Master, Reconnect};
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};

const VALUES: [&str; 16] = [
    "0",
    "-0.0",
    "1e308",
    "1e19",
    "9007199254740991",
    "9007199254740992",
    "9007199254740993",
    "18446744073709551615",
    "18446744073709551616",
    "0.5",
    "1e-300",
    "-1",
    "\"ten\"",
    "null",
    "[5]",
    "{}",
];

/// Both tests count panics of the whole process.
static ALONE: Mutex<()> = Mutex::const_new(());
static PANICS: AtomicUsize = AtomicUsize::new(0);

fn count_panics() {
    PANICS.store(0, Ordering::SeqCst);
    panic::set_hook(Box::new(|info| {
        PANICS.fetch_add(1, Ordering::SeqCst);
        eprintln!("{info}");
    }));
}

/// The master's side of a script, with one number in it that is put in by the test.
struct Numbers {
    hello: String,
    ready: String,
    times: String,
    /// Of the `continue`.
    last: String,
    heartbeat: String,
}

impl Numbers {
    const FIELDS: usize = 7;

    /// A good master but for one field.
    fn with(field: usize, value: &str) -> Self {
        let of = |n: usize, usual: &str| if n == field { value } else { usual }.to_owned();
        let (timeout, interval) = (of(0, "60"), of(1, "5"));
        Self {
            hello: of(2, "null"),
            ready: of(3, "null"),
            times: format!(r#""session_timeout":{timeout},"heartbeat_interval":{interval}"#),
            last: of(4, "null"),
            heartbeat: format!(
                r#"{{"seq":{},"type":"heartbeat","data":{{"seq":{}}}}}"#,
                of(5, "null"),
                of(6, "null")
            ),
        }
    }
}

/// Serves a client by the script, the first time and after a cut, and says whether it has answered
/// a request over its link.
async fn serve(mut peer: Scripted, numbers: &Numbers) -> bool {
    let Numbers { hello, ready, times, last, heartbeat } = numbers;
    peer.say(&format!(
        r#"{{"seq":{hello},"type":"hello","data":{{"version":"2.0.0","plugins":{{}}}}}}"#
    ))
    .await;
    let Some(answer) = peer.text().await else { return false };
    if answer.contains(r#""type":"resume""#) {
        let data = format!(r#"{{"last_seq":{last},{times}}}"#);
        peer.say(&format!(r#"{{"seq":{ready},"type":"continue","data":{data}}}"#)).await;
    } else if answer.contains(r#""type":"register_slave""#) {
        let data = format!(r#"{{"session_token":"t",{times}}}"#);
        peer.say(&format!(r#"{{"seq":{ready},"type":"ready","data":{data}}}"#)).await;
    } else {
        return false;
    }
    peer.say(heartbeat).await;
    peer.say(r#"{"seq":1,"type":"echo_request","data":{"text":"here"}}"#).await;
    let answered = async {
        while let Some(text) = peer.text().await {
            if text.contains("echo_response") {
                return true;
            }
        }
        false
    };
    timeout(Duration::from_millis(5), answered).await.unwrap_or(false)
}

/// A client of masters that follow `first`, and after the cut `then`.
async fn client_of(first: Numbers, then: Numbers) -> (Option<Client>, bool, bool) {
    let (sender, mut sockets) = tokio::sync::mpsc::unbounded_channel();
    let dial = move || {
        let (ours, theirs) = memory::session_pair();
        let _ = sender.send(theirs);
        async move { Ok(ours) }
    };
    let mut reconnect = Reconnect::default();
    reconnect.most = Duration::from_millis(20);
    let client = slave().router(router()).reconnect(reconnect);
    let connecting = tokio::spawn(timeout(Duration::from_secs(1), client.connect_by(dial)));
    let theirs = Scripted(sockets.recv().await.unwrap());
    let cable = theirs.0.cable();
    let registered = serve(theirs, &first).await;
    cable.cut();
    let again = timeout(Duration::from_secs(1), sockets.recv()).await.ok().flatten();
    let resumed = match again {
        Some(theirs) => serve(Scripted(theirs), &then).await,
        None => false,
    };
    drop(sockets);
    let client = connecting.await.unwrap().ok().and_then(Result::ok);
    assert!(!registered || client.is_some(), "a client with a link is connected");
    (client, registered, resumed)
}

#[tokio::test(start_paused = true)]
async fn a_master_cannot_break_its_client_with_a_number() {
    let _alone = ALONE.lock().await;
    count_panics();
    let good = || Numbers::with(usize::MAX, "");
    let (_, registered, resumed) = client_of(good(), good()).await;
    assert!(registered && resumed, "the script itself is good");
    for value in VALUES {
        for field in 0..Numbers::FIELDS {
            for (first, then) in
                [(Numbers::with(field, value), good()), (good(), Numbers::with(field, value))]
            {
                let (client, ..) = client_of(first, then).await;
                // Whatever was agreed on is lived by for a while.
                sleep(Duration::from_secs(3)).await;
                let at = format!("field {field} = {value}");
                assert_eq!(PANICS.load(Ordering::SeqCst), 0, "{at}");
                if let Some(client) = client {
                    soon(client.close("done")).await;
                }
            }
        }
    }
    // Times within what a clock holds are taken, and those that are not are brought there.
    let times =
        ["0", "-0.0", "1e308", "1e19", "9007199254740993", "18446744073709551615", "0.5", "1e-300"];
    for value in times {
        for field in [0, 1] {
            let numbers = || Numbers::with(field, value);
            let (_, registered, resumed) = client_of(numbers(), numbers()).await;
            assert!(registered && resumed, "field {field} = {value}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_cannot_break_its_master_with_a_number() {
    let _alone = ALONE.lock().await;
    count_panics();
    let master = Master::builder().router(router()).build().unwrap();
    for value in VALUES {
        for field in 0..7 {
            let of = |n: usize, usual: &str| if n == field { value } else { usual }.to_owned();
            let (ours, theirs) = memory::session_pair();
            let attaching = tokio::spawn({
                let master = master.clone();
                async move { master.attach(theirs).await }
            });
            let mut peer = Scripted(ours);
            peer.hear().await;
            let (seq, id) = (of(0, "null"), of(1, "7"));
            let data = format!(r#"{{"agent":"a","version":"2.0.0","id":{id},"name":"n"}}"#);
            peer.say(&format!(r#"{{"seq":{seq},"type":"register_slave","data":{data}}}"#)).await;
            let ready = peer.text().await.filter(|text| text.contains(r#""type":"ready""#));
            if let Some(ready) = ready {
                let token = data_of(&ready, "ready")["session_token"].clone();
                let (seq, acked) = (of(2, "null"), of(3, "null"));
                peer.say(&format!(
                    r#"{{"seq":{seq},"type":"heartbeat","data":{{"seq":{acked}}}}}"#
                ))
                .await;
                peer.say(&format!(
                    r#"{{"seq":{},"type":"tick_event","data":{{"n":1}}}}"#,
                    of(4, "1")
                ))
                .await;
                sleep(Duration::from_millis(10)).await;
                peer.0.cable().cut();
                let (ours, theirs) = memory::session_pair();
                let master = master.clone();
                tokio::spawn(async move { master.attach(theirs).await });
                let mut peer = Scripted(ours);
                peer.hear().await;
                let (seq, last) = (of(5, "null"), of(6, "null"));
                let data = format!(r#"{{"session_token":{token},"last_seq":{last}}}"#);
                peer.say(&format!(r#"{{"seq":{seq},"type":"resume","data":{data}}}"#)).await;
                let answer = soon(peer.text()).await;
                assert!(answer.is_some(), "field {field} = {value}: not a word");
            }
            sleep(Duration::from_secs(3)).await;
            assert_eq!(PANICS.load(Ordering::SeqCst), 0, "field {field} = {value}");
            let _ = soon(attaching).await.unwrap();
            // Others are served as before.
            let (mut other, _) = Scripted::control(&master).await;
            other.say(r#"{"seq":2,"type":"echo_request","data":{"text":"a"}}"#).await;
            assert!(other.hear().await.contains("echo_response"), "field {field} = {value}");
        }
    }
}
