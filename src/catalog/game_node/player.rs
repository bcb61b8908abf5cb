//! What a control asks for its players, and what it is told.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{CodeResponse, RequestFrom};
use crate::catalog::fields::{Unshown, raw_object};
use crate::message::{Direction, Event, Request};

/// `join_queue`: a player wants to play a game.
///
/// A player has one place, whatever the game: who has one already is told how it stands, and
/// nothing changes. To change the game, leave first. A game that the master does not know is an
/// error response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JoinQueue {
    /// The player.
    pub user_id: i64,
    /// The game.
    pub game_id: i64,
    /// Where the player came from. Written `request_from`.
    #[serde(rename = "request_from")]
    pub request_from: RequestFrom,
}

/// The answer to [`JoinQueue`]: the player's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinQueueResponse {
    /// How far the player is.
    pub status: PlayerStatus,
    /// The place among all who wait, counted from 1; 0 when not waiting.
    pub position: u64,
}

impl Request for JoinQueue {
    const NAME: &'static str = "join_queue";
    const DIRECTION: Direction = Direction::CONTROL_TO_MASTER;
    type Response = JoinQueueResponse;
}

/// How far a player is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PlayerStatus {
    /// Waits for a node.
    Queued,
    /// A node prepares or starts the game.
    Preparing,
    /// The game runs or is being stopped, until the node says that it is gone.
    Playing,
    /// The game is over, or the player left. The place is gone.
    Stopped,
    /// It did not work twice. The place is gone.
    Failed,
}

/// `leave_queue`: a player gives up the place. Who waits is taken out, whose game runs has it
/// stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LeaveQueue {
    /// The player.
    pub user_id: i64,
}

/// The answer to [`LeaveQueue`].
pub type LeaveQueueResponse = CodeResponse;

impl Request for LeaveQueue {
    const NAME: &'static str = "leave_queue";
    const DIRECTION: Direction = Direction::CONTROL_TO_MASTER;
    type Response = LeaveQueueResponse;
}

/// `list_queue`: asks who waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListQueue {
    /// Only who waits behind this position; left out for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
}

/// The answer to [`ListQueue`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListQueueResponse {
    /// Who waits, by position: the first of those that were asked for, as many as fit an answer.
    pub list: Vec<QueueEntry>,
    /// Whether there are others behind them; left out when there are none.
    #[serde(default, skip_serializing_if = "is_false")]
    pub more: bool,
}

impl Request for ListQueue {
    const NAME: &'static str = "list_queue";
    const DIRECTION: Direction = Direction::CONTROL_TO_MASTER;
    type Response = ListQueueResponse;
}

/// A player who waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QueueEntry {
    /// The player.
    pub user_id: i64,
    /// The game.
    pub game_id: i64,
    /// The place among all who wait, counted from 1.
    pub position: u64,
    /// How long the player has waited, in milliseconds. Who is put back in front starts anew.
    pub waited_ms: u64,
}

/// `list_nodes`: asks what the nodes do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListNodes {
    /// Only those with a greater id; left out for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<i64>,
}

/// The answer to [`ListNodes`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListNodesResponse {
    /// The nodes that are known, by id: the first of those that were asked for, as many as fit an
    /// answer.
    pub list: Vec<NodeEntry>,
    /// Whether there are others behind them; left out when there are none.
    #[serde(default, skip_serializing_if = "is_false")]
    pub more: bool,
}

impl Request for ListNodes {
    const NAME: &'static str = "list_nodes";
    const DIRECTION: Direction = Direction::CONTROL_TO_MASTER;
    type Response = ListNodesResponse;
}

/// A node as the master knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeEntry {
    /// Its id, which is the slave's.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// Whether it has a link now.
    pub connected: bool,
    /// While it has lost its socket: for how many milliseconds its session is still held. It counts
    /// as connected meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resuming_ms: Option<u64>,
    /// What it does; `idle` while it is not connected.
    pub state: NodeState,
    /// The player that has the node; null when none. None has it while it only clears away a game
    /// that a player no longer plays there.
    pub user_id: Option<i64>,
    /// The game that it prepares, plays or stops; null when none.
    pub game_id: Option<i64>,
    /// The packages that it said it has.
    pub installed_packages: Vec<String>,
}

/// What a node does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeState {
    /// Nothing.
    Idle,
    /// It prepares or starts a game.
    Preparing,
    /// A game runs.
    Playing,
    /// A game is being ended.
    Stopping,
}

/// `player_update`: what became of a player. Sent to every control.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlayerUpdate {
    /// The player.
    pub user_id: i64,
    /// The game.
    pub game_id: i64,
    /// How far the player is now.
    pub status: PlayerStatus,
    /// The place among all who wait, counted from 1; 0 when not waiting.
    pub position: u64,
    /// The node that this is about; null when none.
    pub slave_id: Option<i64>,
    /// The reason; null when there is none.
    pub message: Option<String>,
}

impl Event for PlayerUpdate {
    const NAME: &'static str = "player_update";
    const DIRECTION: Direction = Direction::MASTER_TO_CONTROL;
}

/// `call_slave`: the master hands a request on to a slave, and the answer back.
///
/// The slave's error response comes back as this request's error response. `Debug` does not show
/// the data, which may carry passwords.
///
/// The asker waits 130 seconds: the slowest request of the catalogs, at 120, runs out of time first
/// and the answer says so.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CallSlave {
    /// The slave.
    pub slave_id: i64,
    /// The request's name without its `_request` ending.
    #[serde(rename = "type")]
    pub kind: String,
    /// The request's data, an object.
    #[serde(deserialize_with = "raw_object")]
    pub data: Box<RawValue>,
}

/// The answer to [`CallSlave`].
#[derive(Clone, Serialize, Deserialize)]
pub struct CallSlaveResponse {
    /// The data of the slave's answer, an object without the `seq` that it came with.
    #[serde(deserialize_with = "raw_object")]
    pub data: Box<RawValue>,
}

impl Request for CallSlave {
    const NAME: &'static str = "call_slave";
    const DIRECTION: Direction = Direction::CONTROL_TO_MASTER;
    const TIMEOUT: Option<Duration> = Some(Duration::from_secs(130));
    type Response = CallSlaveResponse;
}

impl fmt::Debug for CallSlave {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallSlave")
            .field("slave_id", &self.slave_id)
            .field("type", &self.kind)
            .field("data", &Unshown(&self.data))
            .finish()
    }
}

impl fmt::Debug for CallSlaveResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallSlaveResponse").field("data", &Unshown(&self.data)).finish()
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's own form")]
fn is_false(value: &bool) -> bool {
    !value
}
