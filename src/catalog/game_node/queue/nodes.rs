//! The nodes and what each of them does.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::time::{Duration, Instant};

use super::{Assignment, Settings};
use crate::catalog::game_node::{NodeEntry, NodeState};

/// A node that registered.
#[derive(Debug)]
pub(super) struct KnownNode {
    pub(super) link: u64,
    pub(super) name: String,
    pub(super) installed_packages: Vec<String>,
    /// The known games that it has the package of.
    pub(super) games: BTreeSet<i64>,
    pub(super) presence: Presence,
    /// Answers in a row that were bad or did not come.
    pub(super) failures: u32,
}

/// Whether a node has a link.
#[derive(Clone, Copy, Debug)]
pub(super) enum Presence {
    Connected(Activity),
    /// The link is gone since then, and the node may still run this game.
    Lost {
        since: Instant,
        left: Option<Assignment>,
    },
}

/// What a connected node does.
///
/// ```text
/// Idle ──► Preparing ──► Starting ──► Playing ──► Stopping ──► free
///
/// Preparing   bad answer ► free       player leaves ► Draining    answer ► free
/// Starting    refused ► free          player leaves ► Unwanted    answer ► Stopping
///             no answer ► Clearing    game gone ► Ended           answer ► free
/// Playing     game gone ► free
/// Stopping    game gone ► free        out of time ► Clearing
/// Clearing    game gone ► free        out of time ► told again
///
/// free is Resting when the last answer was bad, else Idle; the rest over, Idle
/// ```
///
/// Who has the node's assignment has it as his place in `Preparing`, `Starting`, `Unwanted`,
/// `Ended`, `Playing` and `Stopping`; in `Draining` and `Clearing` nobody has.
#[derive(Clone, Copy, Debug)]
pub(super) enum Activity {
    /// Free, for as long as the number says: the lowest is free the longest.
    Idle { since: u64 },
    /// Free, but the last answer was bad: it gets nobody before this time.
    Resting { until: Instant },
    /// Prepare is sent.
    Preparing(Assignment),
    /// Prepare is sent, and its player left.
    Draining(Assignment),
    /// Play is sent.
    Starting(Assignment),
    /// Play is sent, and the game shall be stopped as soon as that is answered. Stopping it earlier
    /// might overtake its start.
    Unwanted(Assignment),
    /// Play is sent, and the node said that the game is gone before it answered.
    Ended(Assignment),
    /// The game runs.
    Playing(Assignment),
    /// Stop is sent; asked again at this time.
    Stopping(Assignment, Instant),
    /// Stop is sent for a game that is nobody's place any more; asked again at this time.
    Clearing(Assignment, Instant),
}

impl Activity {
    fn assignment(&self) -> Option<Assignment> {
        match *self {
            Self::Idle { .. } | Self::Resting { .. } => None,
            Self::Preparing(assignment)
            | Self::Draining(assignment)
            | Self::Starting(assignment)
            | Self::Unwanted(assignment)
            | Self::Ended(assignment)
            | Self::Playing(assignment)
            | Self::Stopping(assignment, _)
            | Self::Clearing(assignment, _) => Some(assignment),
        }
    }

    /// When something is to be done without anybody saying anything.
    fn deadline(&self) -> Option<Instant> {
        match *self {
            Self::Resting { until } | Self::Stopping(_, until) | Self::Clearing(_, until) => {
                Some(until)
            }
            _ => None,
        }
    }

    fn shown(&self) -> NodeState {
        match self {
            Self::Idle { .. } | Self::Resting { .. } => NodeState::Idle,
            Self::Preparing(_) | Self::Draining(_) | Self::Starting(_) => NodeState::Preparing,
            Self::Playing(_) => NodeState::Playing,
            Self::Unwanted(_) | Self::Ended(_) | Self::Stopping(..) | Self::Clearing(..) => {
                NodeState::Stopping
            }
        }
    }
}

impl KnownNode {
    pub(super) fn state(&self) -> Option<Activity> {
        match self.presence {
            Presence::Connected(state) => Some(state),
            Presence::Lost { .. } => None,
        }
    }

    /// What it takes of the memory for nodes, see [`Settings::node_memory`].
    pub(super) fn bytes(&self) -> usize {
        let packages = self.installed_packages.iter().map(|package| 32 + package.len());
        256 + self.name.len() + packages.sum::<usize>()
    }

    /// How long it gets nobody after so many bad answers; doubles with each.
    pub(super) fn rest(&self, settings: &Settings) -> Duration {
        match self.failures {
            0 => Duration::ZERO,
            failures => {
                let factor = 1_u32 << (failures - 1).min(16);
                settings.rest.saturating_mul(factor).min(settings.longest_rest)
            }
        }
    }

    pub(super) fn entry(&self, id: i64) -> NodeEntry {
        let state = self.state();
        let assignment = state.and_then(|state| state.assignment());
        let vacant = matches!(state, Some(Activity::Draining(_) | Activity::Clearing(..)));
        NodeEntry {
            id,
            name: self.name.clone(),
            connected: state.is_some(),
            // Who runs the queue knows the sockets.
            resuming_ms: None,
            state: state.map_or(NodeState::Idle, |state| state.shown()),
            user_id: assignment.filter(|_| !vacant).map(|assignment| assignment.user),
            game_id: assignment.map(|assignment| assignment.game),
            installed_packages: self.installed_packages.clone(),
        }
    }
}

/// All nodes, with the idle ones, the deadlines and those that are away at hand.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    nodes: BTreeMap<i64, KnownNode>,
    idle: BTreeSet<(u64, i64)>,
    deadlines: BTreeSet<(Instant, i64)>,
    /// Those that were lost, the first one first.
    away: BTreeSet<(Instant, i64)>,
    /// What all nodes take.
    bytes: usize,
}

impl Nodes {
    /// Adds a node that is not connected yet, or replaces one without changing its presence.
    pub(super) fn insert(&mut self, id: i64, node: KnownNode) {
        let presence = node.presence;
        self.bytes += node.bytes();
        if let Some(before) = self.nodes.insert(id, node) {
            self.bytes -= before.bytes();
        }
        self.set(id, presence);
    }

    /// What the nodes but `id` take.
    pub(super) fn bytes_without(&self, id: i64) -> usize {
        self.bytes - self.get(id).map_or(0, KnownNode::bytes)
    }

    /// What those of them take that are away.
    pub(super) fn away_bytes_without(&self, id: i64) -> usize {
        let others = self.away.iter().filter(|(_, away)| *away != id);
        others.filter_map(|(_, away)| self.get(*away)).map(KnownNode::bytes).sum()
    }

    /// Forgets the node but `kept` that is away the longest; says whether there was one.
    pub(super) fn forget_first(&mut self, kept: i64) -> bool {
        let first = self.away.iter().map(|(_, id)| *id).find(|id| *id != kept);
        first.is_some_and(|id| self.forget(id))
    }

    /// Forgets those that are away since `until` or longer, and the longest of more than `most`.
    pub(super) fn forget_away(&mut self, now: Instant, after: Duration, most: usize) {
        while let Some((since, id)) = self.away.first().copied()
            && (self.away.len() > most || since + after <= now)
        {
            self.forget(id);
        }
    }

    fn forget(&mut self, id: i64) -> bool {
        let Some(node) = self.nodes.remove(&id) else { return false };
        self.bytes -= node.bytes();
        self.unindex(id, node.presence);
        true
    }

    pub(super) fn get(&self, id: i64) -> Option<&KnownNode> {
        self.nodes.get(&id)
    }

    /// To change anything but the presence, which is [`set`](Self::set)'s.
    pub(super) fn get_mut(&mut self, id: i64) -> Option<&mut KnownNode> {
        self.nodes.get_mut(&id)
    }

    pub(super) fn set(&mut self, id: i64, presence: Presence) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let before = std::mem::replace(&mut node.presence, presence);
        self.unindex(id, before);
        match presence {
            Presence::Lost { since, .. } => {
                self.away.insert((since, id));
            }
            Presence::Connected(state) => {
                if let Activity::Idle { since } = state {
                    self.idle.insert((since, id));
                }
                if let Some(deadline) = state.deadline() {
                    self.deadlines.insert((deadline, id));
                }
            }
        }
    }

    fn unindex(&mut self, id: i64, presence: Presence) {
        match presence {
            Presence::Lost { since, .. } => {
                self.away.remove(&(since, id));
            }
            Presence::Connected(state) => {
                if let Activity::Idle { since } = state {
                    self.idle.remove(&(since, id));
                }
                if let Some(deadline) = state.deadline() {
                    self.deadlines.remove(&(deadline, id));
                }
            }
        }
    }

    /// The state of the assignment's node, if that is still the node's assignment.
    pub(super) fn state_of(&self, assignment: &Assignment) -> Option<Activity> {
        let state = self.get(assignment.node)?.state()?;
        let current = state.assignment()?;
        (current.number == assignment.number).then_some(state)
    }

    /// The node that is idle the longest of those that have the game.
    pub(super) fn idle_with(&self, game: i64) -> Option<i64> {
        let has = |id: &i64| self.get(*id).is_some_and(|node| node.games.contains(&game));
        self.idle.iter().map(|(_, id)| *id).find(has)
    }

    /// When the next node has something to do, or is to be forgotten `after` it was lost.
    pub(super) fn next_deadline(&self, after: Duration) -> Option<Instant> {
        let deadline = self.deadlines.first().map(|(deadline, _)| *deadline);
        let forgotten = self.away.first().map(|(since, _)| *since + after);
        deadline.into_iter().chain(forgotten).min()
    }

    /// The nodes whose deadlines have come.
    pub(super) fn due(&self, now: Instant) -> Vec<(i64, Activity)> {
        let due = self.deadlines.range(..=(now, i64::MAX));
        due.filter_map(|(_, id)| Some((*id, self.get(*id)?.state()?))).collect()
    }

    /// Those with an id above `after`, by id.
    pub(super) fn entries_after(&self, after: Option<i64>) -> impl Iterator<Item = NodeEntry> + '_ {
        let above = (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        self.nodes.range(above).map(|(id, node)| node.entry(*id))
    }
}
