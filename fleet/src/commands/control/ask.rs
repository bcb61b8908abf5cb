//! One function per command: asks the master, shows the answer.

use std::time::Duration;

use seqlink::catalog::clusterio::{ListSlaves, SLOW};
use seqlink::catalog::game_node::{
    CallSlave, Code, JoinQueue, LeaveQueue, NodeEntry, PlayerUpdate, RequestFrom, StopGame,
};
use seqlink::{Link, Request};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::settings::Failure;
use crate::terminal::{self, Output, printable, printable_json, table};

pub(crate) async fn slaves(link: &Link, output: Output) -> Result<(), Failure> {
    let answer = ask(link, &ListSlaves {}).await?;
    output.show(&answer.list, |list| {
        let rows: Vec<_> = list
            .iter()
            .map(|slave| {
                let state = if slave.connected { "connected" } else { "gone" }.to_owned();
                let (version, agent) = (slave.version.clone(), slave.agent.clone());
                [slave.id.to_string(), slave.name.clone(), state, version, agent]
            })
            .collect();
        table(["ID", "NAME", "STATE", "VERSION", "AGENT"], &rows)
    })
}

pub(crate) async fn nodes(link: &Link, output: Output) -> Result<(), Failure> {
    let nodes = terminal::nodes(link).await?;
    output.show(&nodes, |list| {
        let rows: Vec<_> = list.iter().map(node_row).collect();
        table(["ID", "NAME", "STATE", "USER", "GAME", "PACKAGES"], &rows)
    })
}

fn node_row(node: &NodeEntry) -> [String; 6] {
    let or_dash = |id: Option<i64>| id.map_or("-".to_owned(), |id| id.to_string());
    let state = match node.resuming_ms {
        Some(left) => format!("resuming, {} s left", left.div_ceil(1000)),
        None if node.connected => format!("{:?}", node.state).to_lowercase(),
        None => "gone".to_owned(),
    };
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
    let queue = terminal::queue(link).await?;
    output.show(&queue, |list| {
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
) -> Result<PlayerUpdate, Failure> {
    let join = JoinQueue { user_id: user, game_id: game, request_from: RequestFrom::Api };
    let answer = ask(link, &join).await?;
    let place = terminal::look_up(link, user, game, answer).await;
    output.show(&place, terminal::describe)?;
    Ok(place)
}

pub(crate) async fn stop(link: &Link, output: Output, user: i64, game: i64) -> Result<(), Failure> {
    let answer = ask(link, &StopGame { user_id: user, game_id: game }).await?;
    judge(answer.code, &answer.message)?;
    output.show(&answer, |answer| printable(&answer.message) + "\n")
}

pub(crate) async fn leave(link: &Link, output: Output, user: i64) -> Result<(), Failure> {
    let answer = ask(link, &LeaveQueue { user_id: user }).await?;
    judge(answer.code, &answer.message)?;
    output.show(&answer, |answer| printable(&answer.message) + "\n")
}

pub(crate) async fn call(
    link: &Link,
    output: Output,
    slave: i64,
    name: String,
    data: Box<RawValue>,
) -> Result<(), Failure> {
    let answer = ask(link, &CallSlave { slave_id: slave, kind: name, data }).await?;
    judge_any(&answer.data)?;
    output.show(&answer.data, |data| printable_json(data.get()) + "\n")
}

pub(crate) async fn ask_any(
    link: &Link,
    output: Output,
    name: &str,
    data: &RawValue,
) -> Result<(), Failure> {
    let answer = link.with_timeout(SLOW).request_raw(name, data).await;
    let answer = answer.map_err(Failure::failed)?;
    judge_any(&answer)?;
    output.show(&answer, |data| printable_json(data.get()) + "\n")
}

async fn ask<R: Request>(link: &Link, request: &R) -> Result<R::Response, Failure> {
    link.request(request).await.map_err(Failure::failed)
}

fn judge(code: Code, message: &str) -> Result<(), Failure> {
    if code.is_ok() {
        Ok(())
    } else {
        Err(Failure::failed(format_args!("{code}: {}", printable(message))))
    }
}

/// Judges the answer to any request: many have a code and a message, the others are good.
fn judge_any(answer: &RawValue) -> Result<(), Failure> {
    let fields: Value = serde_json::from_str(answer.get()).map_err(Failure::failed)?;
    match fields.get("code").and_then(Value::as_i64) {
        Some(code) => {
            let message = fields.get("message").and_then(Value::as_str);
            judge(Code(code), message.unwrap_or(answer.get()))
        }
        None => Ok(()),
    }
}
