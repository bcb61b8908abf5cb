//! What a client may ask for: looked at once, in front of the handlers.

mod common;

use common::raw::Raw;
use common::*;
use seqlink::catalog::clusterio::session::ListInstances;
use seqlink::catalog::game_node::{
    self, CallSlave, CallSlaveResponse, JoinQueue, JoinQueueResponse, RequestFrom,
};
use seqlink::catalog::{clusterio, link};
use seqlink::error::Denied;
use seqlink::{
    Claims, Ctx, Master, Received, Registration, Request as _, RequestError, Router, Verdict,
};
use serde_json::value::RawValue;

/// What an account may do, in the claims of a link.
struct Account(&'static [&'static str]);

fn admitted_with(permissions: &'static [&'static str]) -> seqlink::MasterBuilder {
    Master::builder().authenticate(move |_: Registration| async move {
        Verdict::admit(Claims::new(Account(permissions)))
    })
}

fn may(permission: &str, ctx: &Ctx<()>) -> bool {
    ctx.claims::<Account>().is_some_and(|Account(all)| all.contains(&permission))
}

async fn join(_: JoinQueue, _: Ctx) -> Result<JoinQueueResponse, String> {
    Err("reached".to_owned())
}

async fn list(
    _: ListInstances,
    _: Ctx,
) -> Result<clusterio::session::ListInstancesResponse, String> {
    Err("reached".to_owned())
}

async fn call(_: CallSlave, _: Ctx) -> Result<CallSlaveResponse, String> {
    Err("reached".to_owned())
}

fn served() -> Router<()> {
    let messages = game_node::MESSAGES.iter().chain(clusterio::session::MESSAGES);
    // In the midst: it counts for the handlers before and behind.
    Router::new(()).request(join).permissions(messages, may).request(list).request(call)
}

fn text(error: RequestError) -> String {
    match error {
        RequestError::Remote(error) => error.message().to_owned(),
        other => panic!("{other}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_control_does_what_its_claims_permit_and_is_told_what_is_missing() {
    let call = |kind: &str| CallSlave {
        slave_id: 1,
        kind: kind.to_owned(),
        data: RawValue::from_string("{}".into()).unwrap(),
    };
    let join = JoinQueue { user_id: 1, game_id: 1, request_from: RequestFrom::Api };
    let permitted: &[&str] =
        &["game_node.queue.join", "game_node.slave.call", "core.instance.start", "heartbeat"];
    let pair = pair_of(admitted_with(permitted).router(served()), control()).await;
    assert_eq!(text(pair.ours.request(&join).await.unwrap_err()), "reached");
    assert_eq!(
        text(pair.ours.request(&ListInstances {}).await.unwrap_err()),
        "Permission denied: list_instances needs core.instance.list"
    );
    // What is handed on needs its own permission as well.
    for (kind, answer) in [
        ("start_instance", "reached"),
        ("heartbeat", "reached"),
        ("kill_instance", "Permission denied: call_slave needs core.instance.kill"),
        ("shell", "Permission denied: call_slave needs shell"),
    ] {
        assert_eq!(text(pair.ours.request(&call(kind)).await.unwrap_err()), answer);
    }
    let pair = pair_of(admitted_with(&["core.instance.start"]).router(served()), control()).await;
    let answer = text(pair.ours.request(&call("start_instance")).await.unwrap_err());
    assert_eq!(answer, "Permission denied: call_slave needs game_node.slave.call");
}

/// The catalogs' permissions are a control's.
#[tokio::test(start_paused = true)]
async fn a_slave_needs_none() {
    async fn ping(_: link::Ping, _: Ctx) -> Result<seqlink::Empty, String> {
        Err("reached".to_owned())
    }
    const MESSAGES: &[seqlink::message::Entry] =
        &[seqlink::message::Entry::request::<link::Ping>().needs("ping")];
    let router = || Router::new(()).permissions(MESSAGES, may).request(ping);
    let pair = pair_of(admitted_with(&[]).router(router()), slave()).await;
    assert_eq!(text(pair.ours.request(&link::Ping {}).await.unwrap_err()), "reached");
    let pair = pair_of(admitted_with(&[]).router(router()), control()).await;
    let answer = text(pair.ours.request(&link::Ping {}).await.unwrap_err());
    assert_eq!(answer, "Permission denied: ping needs ping");
}

fn only_short_echoes(message: &Received<'_>, _: &Ctx<()>) -> Result<(), Denied> {
    if message.name != Echo::NAME {
        return Err(Denied::needs(message.name));
    }
    let Ok(Echo { text }) = message.decode() else { return Ok(()) };
    if text.len() < 4 { Ok(()) } else { Err(Denied::needs("echo.long")) }
}

#[tokio::test(start_paused = true)]
async fn checks_see_the_message_and_all_of_them_count() {
    async fn tick(_: Tick, _: Ctx) {
        panic!("reached");
    }
    let no_x = |message: &Received<'_>, _: &Ctx<()>| match message.decode::<Echo>() {
        Ok(echo) if echo.text.contains('x') => Err(Denied::needs("echo.x")),
        _ => Ok(()),
    };
    let router = router().event(tick).authorize(only_short_echoes).authorize(no_x);
    let pair = pair_of(Master::builder().router(router), control()).await;
    assert_eq!(pair.ours.request(&echo("abc")).await.unwrap().text, "abc");
    for (what, permission) in [("abcd", "echo.long"), ("x", "echo.x"), ("wxyz", "echo.long")] {
        let answer = text(pair.ours.request(&echo(what)).await.unwrap_err());
        assert_eq!(answer, format!("Permission denied: echo needs {permission}"));
    }
    pair.ours.event(&Tick { n: 1 }).await.unwrap();
    // Behind the event, on the same link.
    pair.ours.request(&echo("abc")).await.unwrap();
    assert_eq!(pair.theirs.ignored().events, 1);
}

/// A denial saves nobody from the rules of the wire, and data of the wrong type is denied as well: what a
/// handler takes is not told to a client that may not call it.
#[tokio::test]
async fn what_is_denied_is_looked_at_as_json_and_no_further() {
    let deny = |_: &Received<'_>, _: &Ctx<()>| Err(Denied::needs("all"));
    let master = Master::builder().router(router().authorize(deny)).build().unwrap();
    let address = master.listen("127.0.0.1:0").await.unwrap();
    let mut raw = Raw::control(address).await;
    raw.text(r#"{"seq":2,"type":"echo_request","data":{"text":7}}"#).await;
    let answer = raw.json().await;
    assert_eq!(answer["data"]["error"], "Permission denied: echo needs all");
    raw.text(r#"{"seq":3,"type":"echo_request","data":{"text":}}"#).await;
    let ended = raw.ended().await;
    assert!(ended.message.unwrap().starts_with("Invalid message: "));
    master.shutdown("done", DRAIN).await;
}
