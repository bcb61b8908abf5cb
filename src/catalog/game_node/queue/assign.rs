//! The moves that the queue's inputs are made of: wait, get a node, go back, end, free a node.

use std::collections::BTreeSet;
use std::time::Instant;

use super::nodes::{Activity, Presence};
use super::wait_list::{Turn, WaitingPlayer};
use super::{Action, Assignment, Place, WaitingQueue};
use crate::catalog::game_node::{PlayerStatus, PlayerUpdate};

impl WaitingQueue {
    /// Lines a player up, and gives it a node at once if a fitting one is idle. Nobody in front can
    /// be waiting for that node, or it would not be idle.
    pub(super) fn wait(
        &mut self,
        now: Instant,
        user: i64,
        game: i64,
        turn: Turn,
        reason: Option<String>,
    ) {
        let waiting = WaitingPlayer { user, game, since: now };
        self.wait_list.insert(turn, waiting);
        self.actions.push_back(Action::Update(PlayerUpdate {
            user_id: user,
            game_id: game,
            status: PlayerStatus::Queued,
            position: self.wait_list.position(turn),
            slave_id: None,
            message: reason,
        }));
        if let Some(node) = self.nodes.idle_with(game) {
            self.assign(waiting, node);
        }
    }

    /// Puts a player whose node did not work out in front, or fails the place when that happened
    /// before.
    pub(super) fn put_back(&mut self, now: Instant, assignment: Assignment, reason: String) {
        let Assignment { user, game, node, .. } = assignment;
        let Some(player) = self.players.get_mut(&user) else { return };
        match player.turn {
            Turn::First(arrival) => {
                let turn = Turn::Returned(arrival);
                player.turn = turn;
                player.place = Place::Waiting;
                self.wait(now, user, game, turn, Some(reason));
            }
            Turn::Returned(_) => self.end(user, PlayerStatus::Failed, Some(node), Some(reason)),
        }
    }

    /// Ends a player's place. The line must not hold it any more.
    pub(super) fn end(
        &mut self,
        user: i64,
        status: PlayerStatus,
        node: Option<i64>,
        reason: Option<String>,
    ) {
        let Some(player) = self.players.remove(&user) else { return };
        self.actions.push_back(Action::Update(PlayerUpdate {
            user_id: user,
            game_id: player.game,
            status,
            position: 0,
            slave_id: node,
            message: reason,
        }));
    }

    /// A game was started: its player is told, and its node is in order again.
    pub(super) fn tell_playing(&mut self, assignment: Assignment) {
        if let Some(known) = self.nodes.get_mut(assignment.node) {
            known.failures = 0;
        }
        self.actions.push_back(Action::Update(PlayerUpdate {
            user_id: assignment.user,
            game_id: assignment.game,
            status: PlayerStatus::Playing,
            position: 0,
            slave_id: Some(assignment.node),
            message: None,
        }));
    }

    /// A node has nothing to do any more: the next player, after a rest if its last answer was bad.
    pub(super) fn free(&mut self, now: Instant, node: i64) {
        let rest = self.nodes.get(node).map(|known| known.rest(&self.settings));
        match rest {
            Some(rest) if !rest.is_zero() => {
                let resting = Activity::Resting { until: now + rest };
                self.nodes.set(node, Presence::Connected(resting));
            }
            _ => self.free_at_once(node),
        }
    }

    pub(super) fn free_at_once(&mut self, node: i64) {
        let since = self.tick();
        self.nodes.set(node, Presence::Connected(Activity::Idle { since }));
        self.seat_first(node);
    }

    /// Gives an idle node to the first player in line whose game it has.
    pub(super) fn seat_first(&mut self, node: i64) {
        let first = self.nodes.get(node).and_then(|known| self.wait_list.first_for(&known.games));
        if let Some(waiting) = first {
            self.assign(waiting, node);
        }
    }

    fn assign(&mut self, waiting: WaitingPlayer, node: i64) {
        let WaitingPlayer { user, game, .. } = waiting;
        let number = self.tick();
        let Some(link) = self.nodes.get(node).map(|known| known.link) else { return };
        let Some(player) = self.players.get_mut(&user) else { return };
        player.place = Place::Node(node);
        self.wait_list.remove(player.turn);
        let request_from = player.request_from;
        let assignment = Assignment { number, node, link, user, game, request_from };
        self.nodes.set(node, Presence::Connected(Activity::Preparing(assignment)));
        self.actions.push_back(Action::Prepare(assignment));
        self.actions.push_back(Action::Update(PlayerUpdate {
            user_id: user,
            game_id: game,
            status: PlayerStatus::Preparing,
            position: 0,
            slave_id: Some(node),
            message: None,
        }));
    }

    /// Tells a node to stop; `state` says for whom.
    pub(super) fn send_stop(
        &mut self,
        now: Instant,
        assignment: Assignment,
        state: fn(Assignment, Instant) -> Activity,
    ) {
        let again = now + self.settings.stop_timeout;
        self.nodes.set(assignment.node, Presence::Connected(state(assignment, again)));
        self.actions.push_back(Action::Stop(assignment));
    }

    pub(super) fn count_failure(&mut self, node: i64) {
        if let Some(known) = self.nodes.get_mut(node) {
            known.failures = known.failures.saturating_add(1);
        }
    }

    pub(super) fn games_of(&self, packages: &[String]) -> BTreeSet<i64> {
        let packages: BTreeSet<&str> = packages.iter().map(String::as_str).collect();
        let has = |package: &String| packages.contains(package.as_str());
        self.games.iter().filter(|(_, package)| has(package)).map(|(game, _)| *game).collect()
    }

    pub(super) fn tick(&mut self) -> u64 {
        self.ticks += 1;
        self.ticks
    }
}
