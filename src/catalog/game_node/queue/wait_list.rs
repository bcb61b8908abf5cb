//! Who waits, in order: over all and per game.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// A player's turn; the lesser one is earlier. The number counts arrivals, and a player keeps it
/// for as long as the place lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Turn {
    /// Had a node that did not work out, and waits in front of all who had none yet.
    Returned(u64),
    /// Waits for a node for the first time.
    First(u64),
}

/// A player who waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct WaitingPlayer {
    pub(super) user: i64,
    pub(super) game: i64,
    pub(super) since: Instant,
}

/// The global queue and the queues per game, always of the same players.
#[derive(Debug, Default)]
pub(super) struct WaitList {
    all: BTreeMap<Turn, WaitingPlayer>,
    games: BTreeMap<i64, BTreeSet<Turn>>,
}

impl WaitList {
    pub(super) fn insert(&mut self, turn: Turn, waiting: WaitingPlayer) {
        self.games.entry(waiting.game).or_default().insert(turn);
        self.all.insert(turn, waiting);
    }

    pub(super) fn remove(&mut self, turn: Turn) {
        let Some(waiting) = self.all.remove(&turn) else { return };
        if let Some(queue) = self.games.get_mut(&waiting.game) {
            queue.remove(&turn);
            if queue.is_empty() {
                self.games.remove(&waiting.game);
            }
        }
    }

    /// The first player in order of turns who waits for one of `games`.
    pub(super) fn first_for(&self, games: &BTreeSet<i64>) -> Option<WaitingPlayer> {
        let first = |game: &i64| self.games.get(game)?.first();
        let turn = games.iter().filter_map(first).min()?;
        self.all.get(turn).copied()
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// The place of a turn that is in the line, from 1. Counted from the end at which it probably
    /// is: a player who joins is the last one.
    pub(super) fn position(&self, turn: Turn) -> u64 {
        let place = match turn {
            Turn::Returned(_) => self.all.range(..=turn).count(),
            Turn::First(_) => self.all.len() + 1 - self.all.range(turn..).count(),
        };
        place as u64
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &WaitingPlayer> {
        self.all.values()
    }
}
