//! A master, and what a client may send it.

use seqlink::transport::memory::{self, Memory};
use seqlink::transport::{Incoming, Outgoing, Transport};
use seqlink::{CloseCode, Master, Reason};
use std::future::poll_fn;
use std::time::Duration;
use tokio::io::DuplexStream;

use crate::in_time;
use crate::messages::{config, router};
use crate::wire::{Heard, head, hear, say};

/// What a stream holds before its writer waits.
const STREAM: usize = 4 * 1024;

const TOKEN: &str = "sesame";

const UPGRADE: &str = "GET /api/socket HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
                       Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";

fn master() -> Master {
    Master::builder().router(router()).config(config()).build().expect("a master")
}

/// The stream to a master that takes it for a client's.
fn accepted(master: &Master) -> (DuplexStream, tokio::task::JoinHandle<bool>) {
    let (ours, theirs) = tokio::io::duplex(STREAM);
    let master = master.clone();
    (ours, tokio::spawn(async move { master.accept(theirs).await.is_ok() }))
}

/// The end: all that is left of the client goes too.
async fn end(master: &Master) {
    in_time("a shutdown", master.shutdown("done", Duration::ZERO)).await;
    assert!(master.controls().is_empty() && master.slaves().is_empty());
}

/// The bytes of a connection from its first one.
pub(crate) async fn upgrade(input: &[u8]) {
    let master = master();
    let (stream, accepting) = accepted(&master);
    let heard = Heard::all(stream, input).await;
    let said = heard.bytes();
    assert!(said.is_empty() || said.starts_with(b"HTTP/1.1 "), "it answers in HTTP");
    let is_linked = in_time("accept", accepting).await.expect("no panic");
    assert!(!is_linked || said.starts_with(b"HTTP/1.1 101 "), "a link takes an upgrade");
    end(&master).await;
}

/// The bytes of a WebSocket after `ready`. The first byte says whether sessions are spoken.
pub(crate) async fn socket(input: &[u8]) {
    let Some((mode, input)) = input.split_first() else { return };
    let extended = mode & 1 == 1;
    let master = master();
    let (mut stream, accepting) = accepted(&master);
    let sessions = if extended { "Seqlink-Session: 1\r\n" } else { "" };
    let request = format!("{UPGRADE}{sessions}\r\n");
    tokio::io::AsyncWriteExt::write_all(&mut stream, request.as_bytes()).await.expect("room");
    assert!(head(&mut stream).await.starts_with("HTTP/1.1 101 "));
    assert!(hear(&mut stream, false).await.contains(r#""type":"hello""#));
    let seq = if extended { "null" } else { "1" };
    let data = r#"{"agent":"fuzz","version":"2.0.0"}"#;
    let register = format!(r#"{{"seq":{seq},"type":"register_control","data":{data}}}"#);
    say(&mut stream, true, &register).await;
    assert!(hear(&mut stream, false).await.contains(r#""type":"ready""#));
    assert!(in_time("accept", accepting).await.expect("no panic"));
    let heard = Heard::all(stream, input).await;
    heard.check(false, if extended { 0 } else { 2 });
    end(&master).await;
}

/// What a client says in the handshake, in lines. The first byte says whether sessions are spoken,
/// and whether a session is there to go on with, whose token stands where a line has `@TOKEN@`.
pub(crate) async fn handshake(input: &[u8]) {
    let Some((mode, input)) = input.split_first() else { return };
    let Ok(text) = std::str::from_utf8(input) else { return };
    let master = Master::builder()
        .router(router())
        .config(config())
        .authenticate(async |registration: seqlink::Registration| match registration.token {
            Some(token) if token.expose() == TOKEN => Ok(()),
            _ => Err("it is another"),
        })
        .build()
        .expect("a master");
    let extended = mode & 1 == 1;
    let held = if mode & 2 == 2 { Some(held(&master).await) } else { None };
    let known = master.controls().len();
    let (ours, theirs) = if extended { memory::session_pair() } else { memory::pair() };
    let lines = text.replace("@TOKEN@", held.as_deref().unwrap_or("nothing"));
    let attaching = tokio::spawn({
        let master = master.clone();
        async move { master.attach(theirs).await }
    });
    let said = play(ours, &lines).await;
    let link = in_time("attach", attaching).await.expect("no panic");
    if let Ok(link) = &link {
        let resumed = held.is_some_and(|token| lines.contains(&token));
        assert!(lines.contains(TOKEN) || resumed, "let in without a token");
        let peer = link.peer();
        assert!(peer.agent.len() <= 256 && peer.name.as_ref().is_none_or(|it| it.len() <= 256));
        assert!(said.iter().any(|text| text.contains("ready") || text.contains("continue")));
    } else {
        assert_eq!(master.controls().len(), known, "no link is left of a refused client");
        assert!(master.slaves().is_empty());
    }
    end(&master).await;
}

/// Makes a session whose socket is gone. Returns its token.
async fn held(master: &Master) -> String {
    let (mut ours, theirs) = memory::session_pair();
    let register = async {
        receive(&mut ours).await;
        let data = format!(r#"{{"token":"{TOKEN}","agent":"fuzz","version":"2.0.0"}}"#);
        send(&mut ours, &format!(r#"{{"seq":null,"type":"register_control","data":{data}}}"#))
            .await;
        let ready = receive(&mut ours).await.expect("`ready`");
        let ready: serde_json::Value = serde_json::from_str(&ready).expect("JSON");
        ready["data"]["session_token"].as_str().expect("a session").to_owned()
    };
    let (link, token) = tokio::join!(master.attach(theirs), register);
    link.expect("a session");
    token
}

/// Says `lines`, then nothing more, and hears all that is said.
pub(crate) async fn play(mut ours: Memory, lines: &str) -> Vec<String> {
    let mut said = Vec::new();
    let hear = async |ours: &mut Memory, said: &mut Vec<String>, most: Duration| {
        while let Ok(Some(text)) = tokio::time::timeout(most, receive(ours)).await {
            let frame: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            assert!(frame["type"].is_string() && frame["data"].is_object(), "{text}");
            said.push(text);
        }
    };
    for line in lines.split('\n') {
        hear(&mut ours, &mut said, Duration::from_millis(10)).await;
        match line {
            "!close" => {
                let close = Outgoing::Close(CloseCode(1000), Reason::new(""));
                if poll_fn(|cx| ours.poll_ready(cx)).await.is_ok() {
                    let _ = ours.send(close);
                }
            }
            "!wait" => tokio::time::sleep(Duration::from_secs(6)).await,
            text => send(&mut ours, text).await,
        }
    }
    hear(&mut ours, &mut said, Duration::from_millis(10)).await;
    said
}

pub(crate) async fn send(ours: &mut Memory, text: &str) {
    // The other side may have hung up, or read no more.
    let sending = poll_fn(|cx| ours.poll_ready(cx));
    if tokio::time::timeout(Duration::from_secs(60), sending).await.is_ok_and(|it| it.is_ok()) {
        let _ = ours.send(Outgoing::Text(text.into()));
    }
}

/// The next text; `None` at the end.
pub(crate) async fn receive(ours: &mut Memory) -> Option<String> {
    loop {
        match poll_fn(|cx| ours.poll_receive(cx)).await.ok()? {
            Incoming::Text(text) => return Some(text.as_str().to_owned()),
            Incoming::Close(..) => return None,
            _ => {}
        }
    }
}
