//! Game nodes: slaves that prepare, play and stop games for players who wait their turn.
//!
//! The messages carry the fields of the node's control-server document, letter by letter: camelCase
//! where it has that, `sesison_token` as it spells it, `request_from` with its underscore. The
//! control's messages follow the same manner.
//!
//! | type | from → to | what it is for |
//! |---|---|---|
//! | [`RegisterNode`] | slave → master | a node says what it is and which packages it has |
//! | [`PrepareGame`] | master → slave | fetch a player's data |
//! | [`PlayGame`] | master → slave | start the game |
//! | [`StopGame`] | master → slave, control → master | end the game |
//! | [`NotifyStopFinish`] | slave → master | the game is gone, the node is free |
//! | [`Heartbeat`] | either way | a sign of life |
//! | [`JoinQueue`], [`LeaveQueue`] | control → master | a player takes or gives up a place |
//! | [`ListQueue`], [`ListNodes`] | control → master | who waits; what the nodes do |
//! | [`CallSlave`] | control → master | any request, handed on to a slave |
//! | [`PlayerUpdate`] | master → control | event: what became of a player |
//!
//! Ids are integers of 64 bits, times say their unit. A node is a slave: its id is the slave's.
//! Codes are those of HTTP, see [`Code`].
//!
//! [`WaitingQueue`] decides who gets which node when. It is a state machine without I/O or clock:
//! tell it what happened, and it returns what to send.

mod code;
mod node;
mod player;
mod queue;
#[cfg(test)]
mod tests;

pub use code::{Code, CodeResponse, GameResponse};
pub use node::{
    Backup, Commands, Game, Heartbeat, MAX_PACKAGE, MAX_PACKAGES, MAX_TEXT, Node, NotifyStopFinish,
    NotifyStopFinishResponse, PlayGame, PlayGameResponse, PrepareGame, PrepareGameResponse,
    RegisterNode, RegisterNodeResponse, RequestFrom, Secure, StopGame, StopGameResponse, Storage,
    StorageTimeout, Streamer,
};
pub use player::{
    CallSlave, CallSlaveResponse, JoinQueue, JoinQueueResponse, LeaveQueue, LeaveQueueResponse,
    ListNodes, ListNodesResponse, ListQueue, ListQueueResponse, NodeEntry, NodeState, PlayerStatus,
    PlayerUpdate, QueueEntry,
};
pub use queue::{
    Action, Assignment, FinishError, JoinError, LeaveError, Leaving, NodeRegistration, Outcome,
    RegisterError, Settings, WaitingQueue,
};

use crate::message::{Entry, Routing};

/// All messages of this catalog.
pub const MESSAGES: &[Entry] = &[
    Entry::request::<RegisterNode>(),
    Entry::request::<PrepareGame>(),
    Entry::request::<PlayGame>(),
    Entry::request::<StopGame>().needs("game_node.game.stop"),
    Entry::request::<Heartbeat>(),
    Entry::request::<NotifyStopFinish>(),
    Entry::request::<JoinQueue>().needs("game_node.queue.join"),
    Entry::request::<LeaveQueue>().needs("game_node.queue.leave"),
    Entry::request::<ListQueue>().needs("game_node.queue.list"),
    Entry::request::<ListNodes>().needs("game_node.node.list"),
    Entry::request::<CallSlave>().routed(Routing::ToSlave).needs("game_node.slave.call"),
    Entry::event::<PlayerUpdate>(),
];
