//! What a master answers: to its slaves about their nodes, to its controls about their players.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use seqlink::catalog::clusterio::session::{ListSlaves, ListSlavesResponse, SlaveEntry};
use seqlink::catalog::game_node::{
    CallSlave, CallSlaveResponse, Code, CodeResponse, GameResponse, Heartbeat, JoinError,
    JoinQueue, JoinQueueResponse, LeaveError, LeaveQueue, Leaving, ListNodes, ListNodesResponse,
    ListQueue, ListQueueResponse, NodeEntry, NodeRegistration, NotifyStopFinish, PlayGame,
    PrepareGame, RegisterNode, StopGame,
};
use seqlink::{Ctx, Empty, Link, Request, RequestError, Router};
use tracing::warn;

use super::Dispatcher;

/// The slowest request of a catalog may take that long at a slave.
const CALL: Duration = seqlink::catalog::clusterio::SLOW;

/// What the queue alone should send: a node that is made busy behind its back refuses the next
/// player, whom that costs one of two tries.
const QUEUES: [&str; 3] = [PrepareGame::NAME, PlayGame::NAME, StopGame::NAME];

/// Most bytes of the nodes in one answer, as [`weight`] counts them. As JSON they may be six times
/// as long, and that has to fit a frame.
const PART: usize = 128 * 1024;

/// Most players in one answer, for the same reason.
const PLAYERS: usize = 4096;

/// The state of a master's handlers.
#[derive(Debug)]
pub struct Desk {
    pub(crate) queue: Arc<Dispatcher>,
}

/// The handlers of a master with the queue of `dispatcher`.
pub fn router(dispatcher: &Arc<Dispatcher>) -> Router<Desk> {
    Router::new(Desk { queue: Arc::clone(dispatcher) })
        .request(register_node)
        .request(notify_stop_finish)
        .request(heartbeat)
        .request(join_queue)
        .request(leave_queue)
        .request(stop_game)
        .request(list_queue)
        .request(list_nodes)
        .request(list_slaves)
        .request(call_slave)
}

async fn register_node(request: RegisterNode, ctx: Ctx<Desk>) -> Result<CodeResponse, Infallible> {
    let peer = ctx.peer();
    let registered = ctx.state().queue.act(|state, now| {
        let present = state.slaves.number(ctx.link()).zip(peer.id);
        let (link, node) =
            present.ok_or((Code::CONFLICT, "this is not the slave's present link".to_owned()))?;
        let registration = NodeRegistration {
            node,
            link,
            name: peer.name.clone().unwrap_or_default(),
            installed_packages: request.installed_packages,
        };
        let registered = state.queue.handle_registered(now, registration);
        registered.map_err(|error| (error.code(), error.to_string()))
    });
    Ok(match registered {
        Ok(()) => CodeResponse::ok(),
        Err((code, reason)) => {
            warn!(node = peer.id, %code, reason, "a node is not registered");
            CodeResponse::new(code, reason)
        }
    })
}

async fn notify_stop_finish(
    request: NotifyStopFinish,
    ctx: Ctx<Desk>,
) -> Result<CodeResponse, Infallible> {
    let NotifyStopFinish { user_id, game_id } = request;
    let node = ctx.peer().id.unwrap_or_default();
    let finished = ctx.state().queue.act(|state, now| match state.slaves.number(ctx.link()) {
        Some(_) => state
            .queue
            .handle_stop_finish(now, node, user_id, game_id)
            .map_err(|error| error.to_string()),
        None => Err("this is not the slave's present link".to_owned()),
    });
    Ok(match finished {
        Ok(()) => CodeResponse::ok(),
        Err(reason) => CodeResponse::new(Code::NOT_FOUND, reason),
    })
}

async fn heartbeat(_: Heartbeat, _: Ctx<Desk>) -> Result<Empty, Infallible> {
    Ok(Empty {})
}

async fn join_queue(request: JoinQueue, ctx: Ctx<Desk>) -> Result<JoinQueueResponse, String> {
    let JoinQueue { user_id, game_id, request_from } = request;
    let joined =
        ctx.state().queue.act(|state, now| state.queue.join(now, user_id, game_id, request_from));
    joined.map_err(|error| match error {
        JoinError::UnknownGame { .. } => {
            format!("{error}; there are {}", ctx.state().queue.games())
        }
        error => error.to_string(),
    })
}

async fn leave_queue(request: LeaveQueue, ctx: Ctx<Desk>) -> Result<CodeResponse, Infallible> {
    let left = ctx.state().queue.act(|state, now| state.queue.leave(now, request.user_id));
    let (code, message) = describe(left);
    Ok(CodeResponse::new(code, message))
}

async fn stop_game(request: StopGame, ctx: Ctx<Desk>) -> Result<GameResponse, Infallible> {
    let StopGame { user_id, game_id } = request;
    let left = ctx.state().queue.act(|state, now| state.queue.stop(now, user_id, game_id));
    let (code, message) = describe(left);
    Ok(GameResponse::new(code, message, user_id, game_id))
}

fn describe(left: Result<Leaving, LeaveError>) -> (Code, String) {
    match left {
        Ok(Leaving::Left) => (Code::OK, "left the queue".to_owned()),
        Ok(Leaving::Stopping { node }) => (Code::OK, format!("node {node} stops the game")),
        Err(error) => (error.code(), error.to_string()),
    }
}

async fn list_queue(request: ListQueue, ctx: Ctx<Desk>) -> Result<ListQueueResponse, Infallible> {
    let after = request.after.unwrap_or(0);
    Ok(ctx.state().queue.act(|state, now| {
        let mut waiting = state.queue.waiting_after(now, after);
        let list = waiting.by_ref().take(PLAYERS).collect();
        ListQueueResponse { list, more: waiting.next().is_some() }
    }))
}

async fn list_nodes(request: ListNodes, ctx: Ctx<Desk>) -> Result<ListNodesResponse, Infallible> {
    Ok(ctx.state().queue.act(|state, _| {
        let mut answer = ListNodesResponse::default();
        let mut bytes = 0;
        for mut node in state.queue.nodes_after(request.after) {
            bytes += weight(&node);
            answer.more = bytes > PART;
            if answer.more {
                break;
            }
            let left = state.slaves.get(node.id).and_then(|link| link.states().now().time_left());
            node.resuming_ms = left.map(|left| left.as_millis().try_into().unwrap_or(u64::MAX));
            answer.list.push(node);
        }
        answer
    }))
}

/// What a node weighs in an answer; none weighs as much as [`PART`].
fn weight(node: &NodeEntry) -> usize {
    let packages = node.installed_packages.iter().map(|package| 4 + package.len());
    256 + node.name.len() + packages.sum::<usize>()
}

async fn list_slaves(_: ListSlaves, ctx: Ctx<Desk>) -> Result<ListSlavesResponse, Infallible> {
    let list = ctx.state().queue.act(|state, _| state.slaves.iter().map(slave_entry).collect());
    Ok(ListSlavesResponse { list })
}

fn slave_entry(link: &Link) -> SlaveEntry {
    let peer = link.peer();
    SlaveEntry {
        agent: peer.agent.clone(),
        version: peer.version.to_string(),
        name: peer.name.clone().unwrap_or_default(),
        id: peer.id.unwrap_or_default(),
        // A session lives on while its slave is away.
        connected: true,
        public_address: None,
    }
}

async fn call_slave(request: CallSlave, ctx: Ctx<Desk>) -> Result<CallSlaveResponse, String> {
    let CallSlave { slave_id, kind, data } = request;
    let link = ctx.state().queue.act(|state, _| state.slaves.get(slave_id));
    let link = link.ok_or_else(|| format!("there is no slave {slave_id}"))?;
    if let Some(request) = QUEUES.iter().find(|name| **name == kind) {
        warn!(slave_id, request, "handed on past the queue, which does not know of it");
    }
    match link.with_timeout(CALL).request_raw(&kind, &data).await {
        Ok(data) => Ok(CallSlaveResponse { data }),
        // The slave's own words.
        Err(RequestError::Remote(error)) => Err(error.message().to_owned()),
        Err(error) => Err(format!("slave {slave_id} did not answer {kind}: {error}")),
    }
}
