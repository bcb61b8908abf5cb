//! What goes into the waiting queue and what comes out.

use std::time::Duration;

use thiserror::Error;

use crate::catalog::game_node::{
    Code, GameResponse, MAX_PACKAGE, MAX_PACKAGES, MAX_TEXT, PlayerUpdate, RequestFrom,
};

/// Times and limits of a waiting queue. Times are at most a day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How long a node may take to end a game before it is told again, and before the player's
    /// place ends: 60 seconds, at least a millisecond. It may have saves to upload.
    pub stop_timeout: Duration,
    /// How long a node gets nobody after a bad answer; doubles with each further one: 1 second.
    /// Zero for no rest.
    pub rest: Duration,
    /// The longest rest: 30 seconds.
    pub longest_rest: Duration,
    /// Most players that wait: 100,000. More are refused.
    pub most_waiting: usize,
    /// Most bytes that nodes may take together, those that are away included: 16 MiB. A node takes
    /// 256, the length of its name, and for each package 32 and the length of its name. Those that
    /// are away the longest make room for one that registers; when there is none, it is refused.
    pub node_memory: usize,
    /// Most nodes that are remembered while they are away: 1,000. The one that is away the longest
    /// goes first.
    pub most_away: usize,
    /// How long a node is remembered while it is away: an hour.
    pub forget_after: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            stop_timeout: Duration::from_secs(60),
            rest: Duration::from_secs(1),
            longest_rest: Duration::from_secs(30),
            most_waiting: 100_000,
            node_memory: 16 * 1024 * 1024,
            most_away: 1_000,
            forget_after: Duration::from_secs(60 * 60),
        }
    }
}

impl Settings {
    /// Within the limits that keep time arithmetic from overflowing and a timer from spinning.
    pub(super) fn in_range(self) -> Self {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        Self {
            stop_timeout: self.stop_timeout.clamp(Duration::from_millis(1), DAY),
            rest: self.rest.min(DAY),
            longest_rest: self.longest_rest.min(DAY),
            forget_after: self.forget_after.min(DAY),
            ..self
        }
    }
}

/// A node that registers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// The node's id.
    pub node: i64,
    /// Tells the node's links apart: any number, as long as a later link has a greater one.
    pub link: u64,
    /// The node's name; at most [`MAX_TEXT`] bytes.
    pub name: String,
    /// The packages that it has; at most [`MAX_PACKAGES`] of [`MAX_PACKAGE`] bytes each.
    pub installed_packages: Vec<String>,
}

impl Registration {
    pub(super) fn check(&self) -> Result<(), RegisterError> {
        let (count, bytes) = (self.installed_packages.len(), self.name.len());
        let longest = self.installed_packages.iter().map(String::len).max().unwrap_or(0);
        match () {
            () if count > MAX_PACKAGES => Err(RegisterError::Packages { count }),
            () if longest > MAX_PACKAGE => Err(RegisterError::Package { bytes: longest }),
            () if bytes > MAX_TEXT => Err(RegisterError::Name { bytes }),
            () => Ok(()),
        }
    }
}

/// A node that is to play a game for a player.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Assignment {
    /// Told apart from every other assignment by this, also of the same player to the same node.
    pub number: u64,
    /// The node.
    pub node: i64,
    /// The link that the node registered on. What is to be sent, is to be sent there or nowhere.
    pub link: u64,
    /// The player.
    pub user: i64,
    /// The game.
    pub game: i64,
    /// Where the player came from.
    pub request_from: RequestFrom,
}

/// What to do. Each of them matters, so there is no catch-all to be written for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send a [`PrepareGame`](crate::catalog::game_node::PrepareGame), and tell
    /// [`handle_prepare_answer`](super::WaitingQueue::handle_prepare_answer) how it ended.
    Prepare(Assignment),
    /// Send a [`PlayGame`](crate::catalog::game_node::PlayGame), and tell
    /// [`handle_play_answer`](super::WaitingQueue::handle_play_answer) how it ended.
    Play(Assignment),
    /// Send a [`StopGame`](crate::catalog::game_node::StopGame), and tell
    /// [`handle_stop_answer`](super::WaitingQueue::handle_stop_answer) how it ended.
    Stop(Assignment),
    /// Tell the controls. [`Playing`](crate::catalog::game_node::PlayerStatus::Playing) comes once
    /// per game that was started: this is when the player is notified.
    Update(PlayerUpdate),
}

/// How a request to a node ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It answered well.
    Good,
    /// It answered with a bad code. What was asked for has not happened.
    Refused {
        /// The code.
        code: Code,
        /// The node's reason.
        message: String,
    },
    /// No answer, or an error response: whether it happened is not known.
    Unknown {
        /// What went wrong.
        reason: String,
    },
}

impl From<GameResponse> for Outcome {
    fn from(response: GameResponse) -> Self {
        let GameResponse { code, message, .. } = response;
        if code.is_ok() { Self::Good } else { Self::Refused { code, message } }
    }
}

impl Outcome {
    /// Why it did not work, for people; at most a little over [`LONGEST`] bytes.
    pub(super) fn reason(&self, what: &str, node: i64) -> String {
        match self {
            Self::Good => format!("node {node} answered {what}"),
            Self::Refused { code, message } if message.is_empty() => {
                format!("node {node} refused to {what} with {code}")
            }
            Self::Refused { code, message } => {
                format!("node {node} refused to {what} with {code}: {}", cut(message))
            }
            Self::Unknown { reason } => {
                format!("node {node} was told to {what}: {}", cut(reason))
            }
        }
    }
}

/// Longest reason of a node's that is passed on, in bytes. A node could send one as long as a
/// frame, and the event that carries it to the controls would not fit a frame any more.
const LONGEST: usize = 512;

fn cut(text: &str) -> &str {
    let mut end = text.len().min(LONGEST);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// What leaving came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaving {
    /// The place is gone.
    Left,
    /// A game runs or starts, and is being stopped. The place is gone when the node says that the
    /// game is.
    Stopping {
        /// The node.
        node: i64,
    },
}

/// Why a player gets no place.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum JoinError {
    /// The player asked for a game that nobody knows.
    #[error("there is no game {game}")]
    UnknownGame {
        /// The game.
        game: i64,
    },
    /// The queue is full; try again later.
    #[error("the queue is full, {waiting} wait")]
    Full {
        /// How many wait.
        waiting: usize,
    },
}

/// Why a player cannot leave or be stopped.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum LeaveError {
    /// The player has no place, or not any more.
    #[error("player {user} neither waits nor plays")]
    NoPlace {
        /// The player.
        user: i64,
    },
    /// The player has a place for another game.
    #[error("player {user} has no place for game {asked} but for game {game}")]
    OtherGame {
        /// The player.
        user: i64,
        /// The game that was asked for.
        asked: i64,
        /// The game of the player's place.
        game: i64,
    },
}

impl LeaveError {
    /// The code for the asker: 404.
    pub const fn code(&self) -> Code {
        Code::NOT_FOUND
    }
}

/// A node reported the end of a game that it is not known to run. It may be late; answer it with
/// its text and [`Code::NOT_FOUND`].
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("node {node} is not known to run game {game} for player {user}")]
pub struct FinishError {
    /// The node.
    pub node: i64,
    /// The player that it named.
    pub user: i64,
    /// The game that it named.
    pub game: i64,
}

/// Why a node is not registered. Answer it with the text and the [`code`](Self::code).
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum RegisterError {
    /// It registered on a link that is lost or was followed by another.
    #[error("node {node} registered on a link that is not its present one")]
    StaleLink {
        /// The node.
        node: i64,
        /// The link's number.
        link: u64,
    },
    /// It has too many packages: let it leave some out.
    #[error("{count} packages, the limit is {MAX_PACKAGES}")]
    Packages {
        /// How many.
        count: usize,
    },
    /// A package has too long a name.
    #[error("a package's name has {bytes} bytes, the limit is {MAX_PACKAGE}")]
    Package {
        /// How long it is.
        bytes: usize,
    },
    /// The node has too long a name.
    #[error("the node's name has {bytes} bytes, the limit is {MAX_TEXT}")]
    Name {
        /// How long it is.
        bytes: usize,
    },
    /// The nodes that are here take all the memory that nodes may take: try again later.
    #[error("the nodes take {taken} bytes already, this one {bytes} more, the limit is {limit}")]
    Full {
        /// What the others take.
        taken: usize,
        /// What this one would.
        bytes: usize,
        /// [`Settings::node_memory`].
        limit: usize,
    },
}

impl RegisterError {
    /// The code for the node: 409 for a stale link, 400 for what it must change, 503 for no room.
    pub const fn code(&self) -> Code {
        match self {
            Self::StaleLink { .. } => Code::CONFLICT,
            Self::Packages { .. } | Self::Package { .. } | Self::Name { .. } => Code::BAD_REQUEST,
            Self::Full { .. } => Code::UNAVAILABLE,
        }
    }
}
