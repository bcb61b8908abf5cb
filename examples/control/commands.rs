//! One function per command: asks the master, shows the answer.

use std::time::Duration;

use seqlink::catalog::clusterio::ListSlaves;
use seqlink::catalog::game_node::{
    CallSlave, Code, JoinQueue, JoinQueueResponse, LeaveQueue, ListNodes, ListQueue, NodeEntry,
    PlayerStatus, RequestFrom, StopGame,
};
use seqlink::{Link, Request};
use serde_json::value::RawValue;

use crate::exit::Failure;
use crate::output::Output;
use crate::table::table;
use crate::text::printable;

pub(crate) async fn slaves(link: &Link, output: Output) -> Result<(), Failure> {
    let answer = ask(link, &ListSlaves {}).await?;
    output.show(&answer.list, |list| {
        let rows: Vec<_> = list
            .iter()
            .map(|slave| {
                let (version, agent) = (slave.version.clone(), slave.agent.clone());
                [slave.id.to_string(), slave.name.clone(), version, agent]
            })
            .collect();
        table(["ID", "NAME", "VERSION", "AGENT"], &rows)
    })
}

pub(crate) async fn nodes(link: &Link, output: Output) -> Result<(), Failure> {
    let answer = ask(link, &ListNodes {}).await?;
    output.show(&answer.list, |list| {
        let rows: Vec<_> = list.iter().map(node_row).collect();
        table(["ID", "NAME", "STATE", "USER", "GAME", "PACKAGES"], &rows)
    })
}

fn node_row(node: &NodeEntry) -> [String; 6] {
    let or_dash = |id: Option<i64>| id.map_or("-".to_owned(), |id| id.to_string());
    let state =
        if node.connected { format!("{:?}", node.state).to_lowercase() } else { "gone".to_owned() };
    let packages = node.installed_packages.join(",");
    [
        node.id.to_string(),
        node.name.clone(),
        state,
        or_dash(node.user_id),
        or_dash(node.game_id),
        packages,
    ]
}

pub(crate) async fn queue(link: &Link, output: Output) -> Result<(), Failure> {
    let answer = ask(link, &ListQueue {}).await?;
    output.show(&answer.list, |list| {
        let rows: Vec<_> = list
            .iter()
            .map(|entry| {
                let waited = Duration::from_millis(entry.waited_ms).as_secs_f64();
                let (user, game) = (entry.user_id.to_string(), entry.game_id.to_string());
                [entry.position.to_string(), user, game, format!("{waited:.1} s")]
            })
            .collect();
        table(["POSITION", "USER", "GAME", "WAITED"], &rows)
    })
}

pub(crate) async fn play(
    link: &Link,
    output: Output,
    user: i64,
    game: i64,
) -> Result<JoinQueueResponse, Failure> {
    let join = JoinQueue { user_id: user, game_id: game, request_from: RequestFrom::Api };
    let answer = ask(link, &join).await?;
    output.show(&answer, |answer| match answer.status {
        PlayerStatus::Queued => format!("user {user}: queued, position {}\n", answer.position),
        status => format!("user {user}: {}\n", status_name(status)),
    })?;
    Ok(answer)
}

pub(crate) async fn stop(link: &Link, output: Output, user: i64, game: i64) -> Result<(), Failure> {
    let answer = ask(link, &StopGame { user_id: user, game_id: game }).await?;
    output.show(&answer, |answer| good(answer.code, &answer.message))?;
    judge(answer.code, &answer.message)
}

pub(crate) async fn leave(link: &Link, output: Output, user: i64) -> Result<(), Failure> {
    let answer = ask(link, &LeaveQueue { user_id: user }).await?;
    output.show(&answer, |answer| good(answer.code, &answer.message))?;
    judge(answer.code, &answer.message)
}

pub(crate) async fn call(
    link: &Link,
    output: Output,
    slave: i64,
    name: String,
    data: Box<RawValue>,
) -> Result<(), Failure> {
    let answer = ask(link, &CallSlave { slave_id: slave, kind: name, data }).await?;
    output.show(&answer.data, |data| printable(data.get()) + "\n")
}

async fn ask<R: Request>(link: &Link, request: &R) -> Result<R::Response, Failure> {
    // The text may hold words of the peer.
    link.request(request).await.map_err(|error| Failure::failed(printable(&error.to_string())))
}

/// What is said of an answer: a bad one becomes the program's failure, so not here.
fn good(code: Code, message: &str) -> String {
    if code.is_ok() { printable(message) + "\n" } else { String::new() }
}

fn judge(code: Code, message: &str) -> Result<(), Failure> {
    if code.is_ok() {
        Ok(())
    } else {
        Err(Failure::failed(format_args!("{code}: {}", printable(message))))
    }
}

/// The wire's own word for `status`.
pub(crate) fn status_name(status: PlayerStatus) -> &'static str {
    match status {
        PlayerStatus::Queued => "queued",
        PlayerStatus::Preparing => "preparing",
        PlayerStatus::Playing => "playing",
        PlayerStatus::Stopped => "stopped",
        PlayerStatus::Failed => "failed",
    }
}
