//! No secret in what this library logs, at any level, nor in the text of its types and errors. Other crates are
//! capped at DEBUG here, as the documentation says that programs must: the fleet's own do.

mod common;

use std::fmt::Debug;
use std::future::ready;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use common::raw::{self, Raw};
use common::scripted::{Scripted, Session, data_of};
use common::*;
use seqlink::catalog::game_node::{GameResponse, PrepareGame};
use seqlink::transport::memory;
use seqlink::{Control, Ctx, Link, Master, Reconnect, Registration, Router, Slave, Verdict};
use serde_json::json;
use tokio::time::timeout;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

const TOKEN: &str = "canary-token-4a1f";
const OTHER: &str = "canary-other-token-77b0";
const BEARER: &str = "canary-authorization-0c2d";
const COOKIE: &str = "canary-cookie-9e31";
const QUERY: &str = "canary-query-51aa";
const USERINFO: &str = "canary-userinfo-c09d";
const PASSWORD: &str = "canary-storage-password-e8f2";
const PLAYER: &str = "canary-player-session-1d7c";
const DATA: &str = "canary-wrong-data-2b6e";
const KEY: &str = "canary-auth-secret-key-of-32-bytes";

/// Everything that was logged or shown.
#[derive(Clone, Default)]
struct Output(Arc<Mutex<Vec<u8>>>);

impl Output {
    fn show(&self, it: impl Debug) {
        writeln!(self.clone(), "{it:?}\n{it:#?}").unwrap();
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

async fn prepare(game: PrepareGame, ctx: Ctx<Output>) -> Result<GameResponse, String> {
    ctx.state().show(&game);
    Err("no storage".into())
}

/// A game to prepare, with `password` as JSON.
fn game(password: &str) -> String {
    let game = json!({
        "userId": 11, "gameId": 2, "sesison_token": PLAYER, "request_from": "api",
        "synchronizeRequired": false,
        "storage": {
            "host": "192.0.2.5", "port": 21, "username": "ann", "password": "@",
            "secure": {"enabled": false, "validation": false}, "timeout": {"connection": 1, "operation": 1},
        },
    });
    game.to_string().replace("\"@\"", password)
}

#[tokio::test]
async fn nothing_that_is_secret_is_shown() {
    let output = Output::default();
    let writer = output.clone();
    let levels = Targets::new().with_default(tracing::Level::DEBUG);
    tracing_subscriber::registry()
        .with(levels.with_target("seqlink", tracing::Level::TRACE))
        .with(tracing_subscriber::fmt::layer().with_ansi(false).with_writer(move || writer.clone()))
        .init();

    let mut secrets: Vec<String> =
        [TOKEN, OTHER, BEARER, COOKIE, QUERY, USERINFO, PASSWORD, PLAYER, DATA, KEY]
            .map(str::to_owned)
            .into();
    let seen = output.clone();
    let master = Master::builder().router(router().event(async |_: Tick, _: Ctx| {})).authenticate(
        move |registration: Registration| {
            seen.show(&registration);
            ready(match registration.token {
                Some(token) if token.expose() == TOKEN => Ok(()),
                Some(_) => Err("it is another"),
                None => Err("there is none"),
            })
        },
    );
    output.show(&master);
    let master = master.build().unwrap();
    let address = master.listen("127.0.0.1:0").await.unwrap();

    // Clients of this library: let in, refused, and with a URL that holds secrets.
    let url = format!("ws://ann:{USERINFO}@{address}/?token={QUERY}");
    let states = Router::with_state(Arc::new(output.clone())).request(prepare);
    let builder = Slave::builder().url(&url).id(7).token(TOKEN).router(states);
    output.show(&builder);
    let slave = builder.connect().await.unwrap();
    output.show((&slave, master.slave(7)));
    let refused = Control::builder().url(&url).token(OTHER).reconnect(Reconnect::never());
    output.show(refused.connect().await.unwrap_err());
    for wrong in [
        format!("ws://ann:{USERINFO}@{address}:99999/?token={QUERY}"),
        format!("ftp://ann:{USERINFO}@{address}/a?token={QUERY}#token={QUERY}"),
        format!("ws://ann:{USERINFO}@?token={QUERY}"),
        format!("ws://ann:{USERINFO}@127.0.0.1:1/?token={QUERY}"),
        format!("ws://ann:a?{USERINFO}@127.0.0.1:1/?token={QUERY}"),
        format!("ws://ann:a/{USERINFO}@127.0.0.1:1/?token={QUERY}"),
        format!("ws://127.0.0.1:0/?token=a@{QUERY}"),
        format!("?token={QUERY}"),
    ] {
        let builder = Control::builder().url(wrong).token(TOKEN).reconnect(Reconnect::never());
        output.show(&builder);
        let error = builder.connect().await.unwrap_err();
        writeln!(output.clone(), "{error}").unwrap();
        output.show(error);
    }

    // A game's storage, rightly and wrongly.
    let link: Link = master.slave(7).unwrap();
    let right =
        PrepareGame::clone(&serde_json::from_str(&game(&format!("\"{PASSWORD}\""))).unwrap());
    output.show(link.request(&right).await.unwrap_err());
    for wrong in [format!("[\"{PASSWORD}\"]"), format!("{{\"{DATA}\":\"{PASSWORD}\"}}")] {
        let error = serde_json::from_str::<PrepareGame>(&game(&wrong)).unwrap_err();
        assert!(!error.to_string().contains(PASSWORD), "{error}");
    }

    // A bare client, with headers that a proxy would look at.
    let headers = format!("Authorization: Bearer {BEARER}\r\nCookie: id={COOKIE}\r\n");
    for lines in [
        &headers,
        &format!("{headers}Origin: https://a.test\r\n"),
        &format!("{headers}Upgrade: h2\r\n"),
    ] {
        let request = raw::upgrade(&format!("/api/socket?token={QUERY}"));
        let mut raw = Raw::tcp(address).await;
        let head = raw.http(&request.replace("Host:", &format!("{lines}Host:"))).await;
        if !head.starts_with("HTTP/1.1 101 ") {
            continue;
        }
        raw.json().await;
        let data = json!({"agent": "raw", "version": "2.0.0", "token": TOKEN});
        raw.text(&format!(r#"{{"seq":1,"type":"register_control","data":{data}}}"#)).await;
        raw.json().await;
        for (seq, data) in (2..).zip([r#"{"n":["@"]}"#, r#"{"n":"@"}"#, r#""@""#]) {
            let data = data.replace('@', DATA);
            raw.text(&format!(r#"{{"seq":{seq},"type":"tick_event","data":{data}}}"#)).await;
        }
        raw.text(&format!(r#"{{"seq":5,"type":"echo_request","data":{{"text":["{DATA}"]}}}}"#))
            .await;
        writeln!(output.clone(), "{}", raw.json().await).unwrap();
        raw.text(&format!(r#"{{"seq":6,"type":"{DATA}"#)).await;
        output.show(timeout(Duration::from_secs(20), raw.ended()).await.unwrap());
    }

    // A session: resumed, renewed, and with a token that is another.
    let open = Master::builder().router(router()).build().unwrap();
    let (peer, _link, session) = Session::control(&open).await;
    let first: serde_json::Value = serde_json::from_str(&session.frame(None)).unwrap();
    secrets.push(first["data"]["session_token"].as_str().unwrap().to_owned());
    drop(peer);
    let (ours, theirs) = memory::session_pair();
    let mut peer = Scripted(ours);
    let resume = async {
        peer.hear().await;
        peer.say(&session.frame(None)).await;
        data_of(&peer.hear().await, "continue")
    };
    let (link, cont) = tokio::join!(open.attach(theirs), resume);
    output.show(link.unwrap());
    secrets.push(cont["session_token"].as_str().unwrap().to_owned());
    let (ours, theirs) = memory::session_pair();
    let mut peer = Scripted(ours);
    let unknown = async {
        peer.hear().await;
        let data = json!({"session_token": OTHER, "last_seq": null});
        peer.say(&format!(r#"{{"seq":null,"type":"resume","data":{data}}}"#)).await;
        assert!(peer.hear().await.contains("invalidate"));
        peer.say(&format!(r#"{{"seq":null,"type":"{DATA}","data":{{"token":["{OTHER}"]}}}}"#))
            .await;
        drop(peer);
    };
    let (link, ()) = tokio::join!(open.attach(theirs), unknown);
    output.show(link.unwrap_err());

    output.show(Verdict::Deny("no".into()));
    slave.close("done").await;
    output.show(slave.stopped().await);
    master.shutdown("done", Duration::from_secs(2)).await;
    open.shutdown("done", Duration::ZERO).await;
    #[cfg(feature = "clusterio-tokens")]
    {
        let tokens = seqlink::tokens::ClusterioTokens::from_key(KEY).unwrap();
        let token = tokens.slave_token(7);
        secrets.push(token.expose().to_owned());
        output.show((&tokens, &token));
        let master =
            Master::builder().authenticate(tokens.clone().authenticator()).build().unwrap();
        for id in [7, 8] {
            let (ours, theirs) = memory::pair();
            let client = Slave::builder().id(id).token(token.clone()).attach(ours);
            let (theirs, ours) = tokio::join!(master.attach(theirs), client);
            output.show((theirs, ours));
        }
        output.show(seqlink::tokens::ClusterioTokens::from_secret(KEY).unwrap_err());
    }
    #[cfg(feature = "tls")]
    {
        use seqlink::tls::{ClientTls, ServerTls};
        let signed = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (chain, key) = (signed.cert.pem(), signed.signing_key.serialize_pem());
        let lines = key.lines().filter(|line| !line.starts_with('-'));
        secrets.extend(lines.map(str::to_owned));
        output.show(ServerTls::from_pem(&chain, &key).unwrap());
        output.show(ClientTls::ca_pem(&chain).unwrap().identity(&chain, &key).unwrap());
        // Swapped, broken, and no key at all.
        output.show(ServerTls::from_pem(&key, &chain).unwrap_err());
        output.show(ServerTls::from_pem(&chain, key.replace('A', "!")).unwrap_err());
        output.show(ServerTls::from_pem(&chain, KEY).unwrap_err());
    }

    let text = output.text();
    // Or nothing would be found because nothing was said.
    for said in ["Authentication failed", "DEBUG", "Validation failed", "hidden", "Slave"] {
        assert!(text.contains(said), "{said:?} is not in:\n{text}");
    }
    for secret in &secrets {
        assert!(secret.len() > 10, "{secret:?} may stand there by chance");
        let line = text.lines().find(|line| line.contains(secret.as_str()));
        assert_eq!(line, None, "{secret}");
    }
}
