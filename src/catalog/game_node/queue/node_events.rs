//! What the nodes tell the queue: that they are there or lost, how they answered, that a game ended.

use std::time::Instant;

use super::nodes::{Activity, KnownNode, Presence};
use super::{
    Action, Assignment, FinishError, Outcome, RegisterError, Registration, Settings, WaitingQueue,
};
use crate::catalog::game_node::{Code, PlayerStatus};

impl WaitingQueue {
    /// A node registered. On a link that it registered on before this only replaces its name and
    /// its packages, and ends a rest; on a later link the one before counts as lost.
    ///
    /// # Errors
    ///
    /// See [`RegisterError`]. Nothing changed.
    pub fn handle_registered(
        &mut self,
        now: Instant,
        registration: Registration,
    ) -> Result<(), RegisterError> {
        registration.check()?;
        let Registration { node, link, name, installed_packages } = registration;
        if let Some(known) = self.nodes.get(node) {
            let connected = known.state().is_some();
            if link < known.link || (link == known.link && !connected) {
                return Err(RegisterError::StaleLink { node, link });
            }
        }
        let games = self.games_of(&installed_packages);
        let presence = Presence::Lost { since: now, left: None };
        let mut new = KnownNode { link, name, installed_packages, games, presence, failures: 0 };
        self.make_room(node, new.bytes())?;
        if let Some(older) = self.nodes.get(node).map(|known| known.link).filter(|it| *it < link) {
            self.lose(now, node, older);
        }
        if let Some(known) = self.nodes.get(node) {
            (new.presence, new.failures) = (known.presence, known.failures);
        }
        let presence = new.presence;
        self.nodes.insert(node, new);
        match presence {
            Presence::Lost { left: None, .. } | Presence::Connected(Activity::Resting { .. }) => {
                self.free_at_once(node);
            }
            Presence::Lost { left: Some(left), .. } => {
                // A new number: the answer to a stop on the link before says nothing about this one.
                let assignment = Assignment { number: self.tick(), link, ..left };
                self.send_stop(now, assignment, Activity::Clearing);
            }
            Presence::Connected(Activity::Idle { .. }) => self.seat_first(node),
            Presence::Connected(_) => {}
        }
        Ok(())
    }

    /// Forgets others that are away until `node` may take `bytes`, if that helps.
    fn make_room(&mut self, node: i64, bytes: usize) -> Result<(), RegisterError> {
        let limit = self.settings.node_memory;
        let others = self.nodes.bytes_without(node);
        if others + bytes <= limit {
            return Ok(());
        }
        let taken = others - self.nodes.away_bytes_without(node);
        if taken + bytes > limit {
            return Err(RegisterError::Full { taken, bytes, limit });
        }
        while self.nodes.bytes_without(node) + bytes > limit && self.nodes.forget_first(node) {}
        Ok(())
    }

    /// A node's link ended. Does nothing when the node has a later one or was lost already.
    pub fn handle_lost(&mut self, now: Instant, node: i64, link: u64) {
        self.lose(now, node, link);
        self.forget_away(now);
    }

    fn lose(&mut self, now: Instant, node: i64, link: u64) {
        let Some(known) = self.nodes.get(node).filter(|known| known.link == link) else { return };
        let Some(state) = known.state() else { return };
        let left_running = match state {
            Activity::Idle { .. }
            | Activity::Resting { .. }
            | Activity::Preparing(_)
            | Activity::Draining(_)
            | Activity::Ended(_) => None,
            Activity::Starting(assignment)
            | Activity::Unwanted(assignment)
            | Activity::Playing(assignment)
            | Activity::Stopping(assignment, _)
            | Activity::Clearing(assignment, _) => Some(assignment),
        };
        self.nodes.set(node, Presence::Lost { since: now, left: left_running });
        let reason = || format!("node {node} was lost");
        match state {
            Activity::Preparing(assignment)
            | Activity::Starting(assignment)
            | Activity::Playing(assignment) => self.put_back(now, assignment, reason()),
            Activity::Unwanted(assignment)
            | Activity::Ended(assignment)
            | Activity::Stopping(assignment, _) => {
                self.end(assignment.user, PlayerStatus::Stopped, Some(node), Some(reason()));
            }
            Activity::Idle { .. }
            | Activity::Resting { .. }
            | Activity::Draining(_)
            | Activity::Clearing(..) => {}
        }
    }

    fn forget_away(&mut self, now: Instant) {
        let Settings { forget_after, most_away, .. } = self.settings;
        self.nodes.forget_away(now, forget_after, most_away);
    }

    /// How an [`Action::Prepare`] ended. Does nothing when the node has another assignment by now.
    pub fn handle_prepare_answer(
        &mut self,
        now: Instant,
        assignment: &Assignment,
        outcome: &Outcome,
    ) {
        match (self.nodes.state_of(assignment), outcome) {
            (Some(Activity::Preparing(current)), Outcome::Good) => {
                self.nodes.set(current.node, Presence::Connected(Activity::Starting(current)));
                self.actions.push_back(Action::Play(current));
            }
            (Some(Activity::Preparing(current)), bad) => {
                self.count_failure(current.node);
                self.put_back(now, current, bad.reason("prepare", current.node));
                self.free(now, current.node);
            }
            (Some(Activity::Draining(current)), _) => self.free(now, current.node),
            _ => {}
        }
    }

    /// How an [`Action::Play`] ended. Does nothing when the node has another assignment by now.
    pub fn handle_play_answer(&mut self, now: Instant, assignment: &Assignment, outcome: &Outcome) {
        let Some(state) = self.nodes.state_of(assignment) else { return };
        let (node, user) = (assignment.node, assignment.user);
        match (state, outcome) {
            (Activity::Starting(current), Outcome::Good) => {
                self.nodes.set(node, Presence::Connected(Activity::Playing(current)));
                self.tell_playing(current);
            }
            (Activity::Starting(current), bad @ Outcome::Unknown { .. }) => {
                self.count_failure(node);
                self.send_stop(now, current, Activity::Clearing);
                self.put_back(now, current, bad.reason("play", node));
            }
            (
                Activity::Starting(current) | Activity::Ended(current),
                bad @ Outcome::Refused { .. },
            ) => {
                self.count_failure(node);
                self.put_back(now, current, bad.reason("play", node));
                self.free(now, node);
            }
            (Activity::Ended(current), outcome) => {
                if *outcome == Outcome::Good {
                    self.tell_playing(current);
                }
                self.end(user, PlayerStatus::Stopped, Some(node), None);
                self.free(now, node);
            }
            (Activity::Unwanted(_), Outcome::Refused { .. }) => {
                self.end(user, PlayerStatus::Stopped, Some(node), None);
                self.free(now, node);
            }
            (Activity::Unwanted(current), _) => self.send_stop(now, current, Activity::Stopping),
            _ => {}
        }
    }

    /// How an [`Action::Stop`] ended. [`Code::NOT_FOUND`] says that no such game runs, and frees
    /// the node; after any other answer it is waited for
    /// [`handle_stop_finish`](Self::handle_stop_finish).
    pub fn handle_stop_answer(&mut self, now: Instant, assignment: &Assignment, outcome: &Outcome) {
        let Outcome::Refused { code: Code::NOT_FOUND, .. } = outcome else { return };
        match self.nodes.state_of(assignment) {
            Some(Activity::Stopping(current, _)) => {
                self.end(current.user, PlayerStatus::Stopped, Some(current.node), None);
                self.free(now, current.node);
            }
            Some(Activity::Clearing(current, _)) => self.free(now, current.node),
            _ => {}
        }
    }

    /// A node said that a game is gone, stopped or ended by itself.
    ///
    /// # Errors
    ///
    /// The node is not known to run that player's game. Nothing changed.
    pub fn handle_stop_finish(
        &mut self,
        now: Instant,
        node: i64,
        user: i64,
        game: i64,
    ) -> Result<(), FinishError> {
        let that = |assignment: &Assignment| assignment.user == user && assignment.game == game;
        match self.nodes.get(node).and_then(KnownNode::state) {
            Some(
                Activity::Playing(current)
                | Activity::Stopping(current, _)
                | Activity::Unwanted(current),
            ) if that(&current) => {
                self.end(user, PlayerStatus::Stopped, Some(node), None);
                self.free(now, node);
            }
            Some(Activity::Clearing(current, _)) if that(&current) => self.free(now, node),
            Some(Activity::Starting(current) | Activity::Ended(current)) if that(&current) => {
                self.nodes.set(node, Presence::Connected(Activity::Ended(current)));
            }
            _ => return Err(FinishError { node, user, game }),
        }
        Ok(())
    }

    /// The time that [`poll_timeout`](Self::poll_timeout) named has come. Calling it early does no
    /// harm.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.forget_away(now);
        for (node, state) in self.nodes.due(now) {
            match state {
                Activity::Resting { .. } => self.free_at_once(node),
                Activity::Stopping(assignment, _) => {
                    let reason = format!("node {node} did not finish stopping the game");
                    self.end(assignment.user, PlayerStatus::Failed, Some(node), Some(reason));
                    self.send_stop(now, assignment, Activity::Clearing);
                }
                Activity::Clearing(assignment, _) => {
                    self.send_stop(now, assignment, Activity::Clearing)
                }
                _ => {}
            }
        }
    }
}
