//! The waiting queue: who gets which node, and when.

mod assign;
mod node_events;
mod nodes;
#[cfg(test)]
mod tests;
mod types;
mod wait_list;

pub use types::{
    Action, Assignment, FinishError, JoinError, LeaveError, Leaving, Outcome, RegisterError,
    Registration, Settings,
};

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::{JoinQueueResponse, NodeEntry, PlayerStatus, QueueEntry, RequestFrom};
use nodes::{Activity, KnownNode, Nodes, Presence};
use wait_list::{Turn, WaitList, WaitingPlayer};

/// Players who wait, nodes that play, and who gets which.
///
/// A state machine without I/O, clock or chance. Tell it what happened, with the time where time
/// matters; after each call take all [`Action`]s from [`poll_action`](Self::poll_action) and carry
/// them out, and call [`handle_timeout`](Self::handle_timeout) at
/// [`poll_timeout`](Self::poll_timeout), which may have changed.
///
/// ```
/// use std::time::Instant;
///
/// use seqlink::catalog::game_node::{
///     Action, Outcome, PlayerStatus, Registration, RequestFrom, Settings, WaitingQueue,
/// };
///
/// let now = Instant::now();
/// let mut queue = WaitingQueue::new([(1, "chess".to_string())], Settings::default());
/// queue.join(now, 5, 1, RequestFrom::Api)?;
/// let installed_packages = vec!["chess".to_string()];
/// let node = Registration { node: 7, link: 1, name: "lounge".into(), installed_packages };
/// queue.handle_registered(now, node)?;
///
/// let mut played = Vec::new();
/// while let Some(action) = queue.poll_action() {
///     match action {
///         // Really: send the request, and tell the outcome when it is there.
///         Action::Prepare(it) => queue.handle_prepare_answer(now, &it, &Outcome::Good),
///         Action::Play(it) => queue.handle_play_answer(now, &it, &Outcome::Good),
///         Action::Stop(_) => {}
///         Action::Update(it) if it.status == PlayerStatus::Playing => played.push(it.user_id),
///         Action::Update(_) => {}
///     }
/// }
/// assert_eq!(played, [5]);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
///
/// # The rules
///
/// A player has one place: waiting, or on a node. When a node becomes free it gets the first of
/// those who wait, in order of arrival, whose game it has; when a player joins and a node that has
/// the game is free, it is the one that is free the longest. The node prepares, then plays. A bad
/// answer, none, or a lost node puts the player in front of all who have not had a node yet; who
/// were put there wait in order of their arrival. The second time the place fails, with the
/// reason, even if the game ran well in between. A game that no node has waits for ever, or until
/// the player leaves.
///
/// A place ends with [`Stopped`](PlayerStatus::Stopped) or [`Failed`](PlayerStatus::Failed). While
/// a game is being stopped its player still has the place, and joining again answers
/// [`Playing`](PlayerStatus::Playing): the node may be saving what the next game would load.
///
/// # Nodes in trouble
///
/// - After a bad answer a node gets nobody for [`Settings::rest`], doubled with each further one,
///   so that a broken node cannot fail the whole queue within a second.
/// - A refused play says that no game runs. An unanswered one says nothing: the node is told to
///   stop before it gets the next player. So is a node that comes back after it was lost with a
///   game.
/// - A node that does not finish stopping gets nobody. It is told again each
///   [`Settings::stop_timeout`]; the first time that runs out, its player fails and is free to join
///   again.
///
/// # What is kept
///
/// At most [`Settings::most_waiting`] players and [`Settings::node_memory`] bytes of nodes. A node
/// that is away is remembered for [`Settings::forget_after`], and forgotten earlier when more than
/// [`Settings::most_away`] are away or one that registers needs the room. A node that was forgotten
/// is a new one when it comes back: nobody tells it to stop what it may still run.
///
/// # Cost
///
/// A call costs the logarithm of players and nodes, plus the idle nodes that are looked through for
/// a joining player, plus the games of the node that is looked for. A change of position is told
/// to nobody: that would be all who wait each time one is served.
#[derive(Debug)]
pub struct WaitingQueue {
    settings: Settings,
    /// The known games and the package of each.
    games: BTreeMap<i64, String>,
    players: BTreeMap<i64, Player>,
    wait_list: WaitList,
    nodes: Nodes,
    actions: VecDeque<Action>,
    /// Counts arrivals, assignments and moments at which nodes fell idle.
    ticks: u64,
}

#[derive(Clone, Copy, Debug)]
struct Player {
    game: i64,
    request_from: RequestFrom,
    turn: Turn,
    place: Place,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    Waiting,
    Node(i64),
}

impl WaitingQueue {
    /// An empty queue for `games`: the id of each and the package that a node needs for it.
    pub fn new(games: impl IntoIterator<Item = (i64, String)>, settings: Settings) -> Self {
        Self {
            settings: settings.in_range(),
            games: games.into_iter().collect(),
            players: BTreeMap::new(),
            wait_list: WaitList::default(),
            nodes: Nodes::default(),
            actions: VecDeque::new(),
            ticks: 0,
        }
    }

    /// A player wants to play. Who has a place already gets that one's state, also for another
    /// game; nothing changes then.
    ///
    /// # Errors
    ///
    /// The game is not known, or too many wait.
    pub fn join(
        &mut self,
        now: Instant,
        user: i64,
        game: i64,
        request_from: RequestFrom,
    ) -> Result<JoinQueueResponse, JoinError> {
        if let Some(place) = self.place(user) {
            return Ok(place);
        }
        if !self.games.contains_key(&game) {
            return Err(JoinError::UnknownGame { game });
        }
        if self.wait_list.len() >= self.settings.most_waiting {
            return Err(JoinError::Full { waiting: self.wait_list.len() });
        }
        let turn = Turn::First(self.tick());
        self.players.insert(user, Player { game, request_from, turn, place: Place::Waiting });
        self.wait(now, user, game, turn, None);
        let nowhere = JoinQueueResponse { status: PlayerStatus::Queued, position: 0 };
        Ok(self.place(user).unwrap_or(nowhere))
    }

    /// A player gives up the place.
    ///
    /// # Errors
    ///
    /// The player has none.
    pub fn leave(&mut self, now: Instant, user: i64) -> Result<Leaving, LeaveError> {
        let Some(player) = self.players.get(&user).copied() else {
            return Err(LeaveError::NoPlace { user });
        };
        let Place::Node(node) = player.place else {
            self.wait_list.remove(player.turn);
            self.end(user, PlayerStatus::Stopped, None, Some("left the queue".into()));
            return Ok(Leaving::Left);
        };
        match self.nodes.get(node).and_then(KnownNode::state) {
            Some(Activity::Preparing(assignment)) => {
                self.nodes.set(node, Presence::Connected(Activity::Draining(assignment)));
                let reason = "left while the game was prepared".into();
                self.end(user, PlayerStatus::Stopped, Some(node), Some(reason));
                return Ok(Leaving::Left);
            }
            Some(Activity::Ended(_)) => {
                self.end(user, PlayerStatus::Stopped, Some(node), None);
                self.free(now, node);
                return Ok(Leaving::Left);
            }
            Some(Activity::Starting(assignment)) => {
                self.nodes.set(node, Presence::Connected(Activity::Unwanted(assignment)));
            }
            Some(Activity::Playing(assignment)) => {
                self.send_stop(now, assignment, Activity::Stopping)
            }
            _ => {}
        }
        Ok(Leaving::Stopping { node })
    }

    /// A player's game shall end. The same as [`leave`](Self::leave), for this game only: a player
    /// who still waits for it is taken out.
    ///
    /// # Errors
    ///
    /// The player has no place, or one for another game.
    pub fn stop(&mut self, now: Instant, user: i64, game: i64) -> Result<Leaving, LeaveError> {
        match self.players.get(&user) {
            Some(player) if player.game != game => {
                Err(LeaveError::OtherGame { user, asked: game, game: player.game })
            }
            _ => self.leave(now, user),
        }
    }

    /// The next thing to do. Every prepare, play and stop must be answered once by its `handle_…`
    /// method, also when it cannot be sent; only those of a lost node need not be.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout); `None` for not at all.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.nodes.next_deadline(self.settings.forget_after)
    }

    /// How far a player is; `None` without a place.
    pub fn place(&self, user: i64) -> Option<JoinQueueResponse> {
        let player = self.players.get(&user)?;
        let (status, position) = match player.place {
            Place::Waiting => (PlayerStatus::Queued, self.wait_list.position(player.turn)),
            Place::Node(node) => match self.nodes.get(node).and_then(KnownNode::state) {
                Some(Activity::Playing(_) | Activity::Unwanted(_) | Activity::Stopping(..)) => {
                    (PlayerStatus::Playing, 0)
                }
                _ => (PlayerStatus::Preparing, 0),
            },
        };
        Some(JoinQueueResponse { status, position })
    }

    /// A player's place among all who wait, counted from 1; 0 when not waiting.
    pub fn position(&self, user: i64) -> u64 {
        self.place(user).map_or(0, |place| place.position)
    }

    /// All who wait, by position.
    pub fn waiting(&self, now: Instant) -> Vec<QueueEntry> {
        self.waiting_after(now, 0).collect()
    }

    /// Those who wait behind the position `after`, by position. Costs a step for each before them.
    pub fn waiting_after(&self, now: Instant, after: u64) -> impl Iterator<Item = QueueEntry> + '_ {
        let entry = move |(position, waiting): (u64, &WaitingPlayer)| QueueEntry {
            user_id: waiting.user,
            game_id: waiting.game,
            position,
            waited_ms: milliseconds(now.saturating_duration_since(waiting.since)),
        };
        let skipped = usize::try_from(after).unwrap_or(usize::MAX);
        (1..).zip(self.wait_list.iter()).skip(skipped).map(entry)
    }

    /// All nodes that are known, by id.
    pub fn nodes(&self) -> Vec<NodeEntry> {
        self.nodes_after(None).collect()
    }

    /// Those whose id is above `after`, by id. Each is made as it is taken.
    pub fn nodes_after(&self, after: Option<i64>) -> impl Iterator<Item = NodeEntry> + '_ {
        self.nodes.entries_after(after)
    }

    /// The node with this id.
    pub fn node(&self, id: i64) -> Option<NodeEntry> {
        self.nodes.get(id).map(|node| node.entry(id))
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
