//! Drives the waiting queue: tells it what happened on the links, and carries out what it says.
//!
//! The queue decides and never waits. Everything that waits for a peer does so on a task of its
//! own, and comes back to the queue with the answer.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use seqlink::catalog::game_node::{
    Action, Assignment, GameResponse, NodeEntry, NodeState, Outcome, PlayGame, PlayerStatus,
    PlayerUpdate, PrepareGame, Settings, StopGame, WaitingQueue,
};
use seqlink::printable::Printable;
use seqlink::{Link, MembershipEvent, Request};
use tokio::sync::Notify;
use tokio::time::sleep_until;
use tracing::{field, info, warn};

use super::games::Offer;
use super::reported::Reported;
use super::slaves::Slaves;
use crate::settings::random;

/// Is told of each game that has started; must not wait.
type OnPlaying = Box<dyn Fn(&PlayerUpdate) + Send + Sync>;

/// Most games that are listed to who asks for one that there is not.
const SHOWN: usize = 20;

/// The queue, the links that it is about, and who is to be told.
pub struct Dispatcher {
    state: Mutex<State>,
    /// What the master offers, by game id.
    offers: HashMap<i64, Offer>,
    on_playing: OnPlaying,
    /// The next deadline may have changed.
    changed: Notify,
}

/// All under one lock, so that a link that is lost cannot register anything afterwards.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) queue: WaitingQueue,
    pub(crate) slaves: Slaves,
    /// Who is told of the players.
    controls: Vec<Link>,
    pub(crate) instances: Reported,
}

impl State {
    fn next_deadline(&self) -> Option<Instant> {
        let deadlines = [self.queue.poll_timeout(), self.instances.poll_timeout()];
        deadlines.into_iter().flatten().min()
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.queue.handle_timeout(now);
        self.instances.handle_timeout(now);
    }

    fn join(&mut self, link: Link) {
        let Some(id) = link.peer().id else { return self.controls.push(link) };
        self.instances.joined(id);
        self.slaves.join(link);
    }

    fn leave(&mut self, now: Instant, link: &Link) {
        self.controls.retain(|control| control != link);
        if let (Some(number), Some(id)) = (self.slaves.leave(link), link.peer().id) {
            self.queue.handle_lost(now, id, number);
            self.instances.left(now, id);
        }
    }
}

/// Whether a bad answer has cost the node a rest, which the queue does not list as a state: it
/// was about to play for somebody, and now it is idle.
fn rests(before: Option<NodeEntry>, after: Option<NodeEntry>) -> bool {
    before.is_some_and(|node| node.state == NodeState::Preparing && node.user_id.is_some())
        && after.is_some_and(|node| node.connected && node.state == NodeState::Idle)
}

impl Dispatcher {
    /// An empty queue for `offers`, with a task that minds its deadlines. `on_playing` is told of
    /// each game that has started; it must not wait.
    pub fn start(
        offers: Vec<Offer>,
        on_playing: impl Fn(&PlayerUpdate) + Send + Sync + 'static,
    ) -> Arc<Self> {
        let packages = offers.iter().map(|offer| (offer.game.id, offer.package.clone()));
        let queue = WaitingQueue::new(packages, Settings::default());
        let dispatcher = Arc::new(Self {
            state: Mutex::new(State {
                queue,
                slaves: Slaves::default(),
                controls: Vec::new(),
                instances: Reported::default(),
            }),
            offers: offers.into_iter().map(|offer| (offer.game.id, offer)).collect(),
            on_playing: Box::new(on_playing),
            changed: Notify::new(),
        });
        tokio::spawn(Arc::clone(&dispatcher).mind_deadlines());
        dispatcher
    }

    /// For the master's `on_change`: nothing in here waits.
    pub fn on_change(self: &Arc<Self>, change: MembershipEvent) {
        match change {
            MembershipEvent::Joined(link) => self.act(|state, _| state.join(link)),
            MembershipEvent::Left(link, _) => self.act(|state, now| state.leave(now, &link)),
            _ => {}
        }
    }

    /// Tells the queue something, or asks it; then starts whatever it wants done.
    pub(crate) fn act<T>(self: &Arc<Self>, act: impl FnOnce(&mut State, Instant) -> T) -> T {
        let mut state = self.lock();
        let outcome = act(&mut state, Instant::now());
        while let Some(action) = state.queue.poll_action() {
            // Still under the lock: the updates go out in the queue's order.
            self.carry_out(action, &state);
        }
        drop(state);
        self.changed.notify_one();
        outcome
    }

    fn carry_out(self: &Arc<Self>, action: Action, state: &State) {
        let slaves = &state.slaves;
        match action {
            Action::Prepare(assignment) => {
                let request = self.prepare(&assignment);
                self.ask(assignment, slaves, request, WaitingQueue::handle_prepare_answer);
            }
            Action::Play(assignment) => {
                let request = self.play(&assignment);
                self.ask(assignment, slaves, request, WaitingQueue::handle_play_answer);
            }
            Action::Stop(assignment) => {
                let request = StopGame { user_id: assignment.user, game_id: assignment.game };
                self.ask(assignment, slaves, Ok(request), WaitingQueue::handle_stop_answer);
            }
            Action::Update(update) => self.tell(&update, &state.controls),
        }
    }

    /// Sends `request` to the assignment's node and hands the outcome to the queue; the same with
    /// why there is none.
    fn ask<R>(
        self: &Arc<Self>,
        assignment: Assignment,
        slaves: &Slaves,
        request: Result<R, String>,
        handle: fn(&mut WaitingQueue, Instant, &Assignment, &Outcome),
    ) where
        R: Request<Response = GameResponse> + Sync,
    {
        // A link that is gone needs no answer: the queue has been told that it is lost.
        let Some(link) = slaves.numbered(assignment.node, assignment.link) else { return };
        let dispatcher = Arc::clone(self);
        tokio::spawn(async move {
            let outcome = match request {
                Ok(request) => outcome(&link, &request).await,
                Err(reason) => Outcome::Unknown { reason },
            };
            let told = format!("{outcome:?}");
            let told = Printable::new(&told);
            info!(node = assignment.node, user = assignment.user, outcome = %told, "{}", R::NAME);
            dispatcher.act(|state, now| {
                let bad = outcome != Outcome::Good;
                let before = if bad { state.queue.node(assignment.node) } else { None };
                handle(&mut state.queue, now, &assignment, &outcome);
                if bad && rests(before, state.queue.node(assignment.node)) {
                    info!(node = assignment.node, "the node rests before it gets another player");
                }
            });
        });
    }

    fn offer(&self, assignment: &Assignment) -> Result<&Offer, String> {
        self.offers
            .get(&assignment.game)
            .ok_or_else(|| "the game is not offered any more".to_owned())
    }

    fn prepare(&self, assignment: &Assignment) -> Result<PrepareGame, String> {
        let offer = self.offer(assignment)?;
        let token = random::hex::<20>().map_err(|error| format!("no session token: {error}"))?;
        Ok(PrepareGame {
            user_id: assignment.user,
            game_id: assignment.game,
            session_token: token.into(),
            request_from: assignment.request_from,
            // The nodes do not fetch saves yet.
            synchronize_required: false,
            storage: offer.storage.clone(),
        })
    }

    fn play(&self, assignment: &Assignment) -> Result<PlayGame, String> {
        let game = self.offer(assignment)?.game.clone();
        Ok(PlayGame { user_id: assignment.user, expected_save: None, game })
    }

    /// Tells every control what becomes of a player. None is waited for: one that does not read what
    /// comes loses its link.
    fn tell(&self, update: &PlayerUpdate, controls: &[Link]) {
        let &PlayerUpdate { user_id, game_id, status, position, slave_id, ref message } = update;
        let back = status == PlayerStatus::Queued && message.is_some();
        let what = if back { "player, put back in front" } else { "player" };
        let reason = message.as_deref().map(|reason| field::debug(Printable::new(reason)));
        info!(user_id, game_id, ?status, position, slave_id, reason, "{what}");
        if status == PlayerStatus::Playing {
            (self.on_playing)(update);
        }
        if let Err(error) = Link::broadcast(update, controls) {
            warn!(%error, "an update was not sent");
        }
    }

    /// The games that there are, for people; the first of them where there are many.
    pub(crate) fn games(&self) -> String {
        let mut games: Vec<_> = self.offers.values().map(|offer| &offer.game).collect();
        games.sort_by_key(|game| game.id);
        let more = if games.len() > SHOWN { ", …" } else { "" };
        let shown: Vec<_> =
            games.iter().take(SHOWN).map(|game| format!("{} ({})", game.id, game.name)).collect();
        shown.join(", ") + more
    }

    async fn mind_deadlines(self: Arc<Self>) {
        loop {
            let deadline = self.lock().next_deadline();
            let come = async {
                match deadline {
                    Some(deadline) => sleep_until(deadline.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = come => self.act(|state, now| state.handle_timeout(now)),
                () = self.changed.notified() => {}
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Dispatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dispatcher").field("state", &self.state).finish_non_exhaustive()
    }
}

async fn outcome<R: Request<Response = GameResponse>>(link: &Link, request: &R) -> Outcome {
    match link.request(request).await {
        Ok(response) => Outcome::from(response),
        Err(error) => Outcome::Unknown { reason: error.to_string() },
    }
}
