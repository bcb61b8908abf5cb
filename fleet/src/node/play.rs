//! A slave's node: what it answers to its master, and the one game that it runs.
//!
//! A node and its registration belong to one link. When the link is lost while a game runs, the
//! master gives the player another place, so the node ends the game that nobody knows any more,
//! and only then may it register again, as an idle one.

use std::convert::Infallible;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use seqlink::catalog::game_node::{
    Code, GameResponse, Heartbeat, NotifyStopFinish, PlayGame, PrepareGame, StopGame,
};
use seqlink::printable::Printable;
use seqlink::{Ctx, Empty, Link, RequestError, Router};
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use super::Reaper;
use super::storage;
use super::{Patience, Process};

/// A game that fails within this time after its start is one that did not start.
const GRACE: Duration = Duration::from_millis(250);
/// What a closed node answers.
const CLOSED: &str = "this node takes no games now";
/// The pause before the end of a game is told once more to a master that did not take it.
const PAUSE: Duration = Duration::from_secs(5);

/// The node; handlers and the slave's main loop share it.
#[derive(Debug)]
pub struct Node {
    state: Mutex<State>,
    patience: Patience,
    reaper: Option<Reaper>,
}

#[derive(Debug)]
enum State {
    /// Takes no games: not registered, or leaving.
    Closed,
    Idle,
    Playing(Playing),
}

/// Why the node does not do as it is told.
type Refusal = (Code, String);

#[derive(Clone, Debug)]
struct Playing {
    user: i64,
    game: i64,
    process: Process,
}

impl Node {
    /// A closed node. Its games get as long as `patience` says when they are stopped.
    pub fn new(patience: Patience, reaper: Option<Reaper>) -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(State::Closed), patience, reaper })
    }

    /// The handlers of a slave that is this node.
    pub fn router(self: &Arc<Self>) -> Router<Self> {
        Router::with_state(Arc::clone(self))
            .request(prepare_game)
            .request(play_game)
            .request(stop_game)
            .request(heartbeat)
    }

    /// Takes games from now on.
    pub fn open(&self) {
        let mut state = self.state();
        if matches!(*state, State::Closed) {
            *state = State::Idle;
        }
    }

    /// Takes no games any more, and waits until the one that runs has been ended.
    pub async fn close(&self) {
        let before = std::mem::replace(&mut *self.state(), State::Closed);
        if let State::Playing(playing) = before {
            info!(%playing, "ending the game");
            playing.process.stop();
            let ended = playing.process.ended().await;
            info!(%playing, %ended, "the game has been ended");
        }
    }

    /// Starts the game of `request`, unless there is one or the node is closed.
    fn start(&self, request: &PlayGame) -> Result<Playing, Refusal> {
        let mut state = self.state();
        state.free()?;
        let commands = &request.game.commands;
        let process = Process::start(
            &commands.launch,
            &commands.shutdown,
            self.patience,
            self.reaper.clone(),
        )
        .map_err(|error| (Code::FAILED, error.to_string()))?;
        let playing = Playing { user: request.user_id, game: request.game.id, process };
        *state = State::Playing(playing.clone());
        Ok(playing)
    }

    /// After the end of `playing`: whether it was still this node's game. It is not when the node
    /// was closed meanwhile, and then the master is not told: it has lost this node.
    fn release(&self, playing: &Playing) -> bool {
        let mut state = self.state();
        let ours = state.is(playing);
        if ours {
            *state = State::Idle;
        }
        ours
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while the lock is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether a game can be taken; else the code and message that say why not.
    fn free(&self) -> Result<(), Refusal> {
        match self {
            State::Idle => Ok(()),
            State::Playing(playing) => Err((Code::CONFLICT, format!("busy: {playing}"))),
            State::Closed => Err((Code::UNAVAILABLE, CLOSED.to_owned())),
        }
    }

    /// Whether the node still plays this game, in this process.
    fn is(&self, playing: &Playing) -> bool {
        matches!(self, State::Playing(now) if now.process.pid == playing.process.pid)
    }
}

impl fmt::Display for Playing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "user {} plays game {}, process {}", self.user, self.game, self.process.pid)
    }
}

async fn prepare_game(request: PrepareGame, ctx: Ctx<Node>) -> Result<GameResponse, Infallible> {
    let free = ctx.state().state().free();
    let outcome = match free {
        Ok(()) if request.synchronize_required => reach_storage(&request, &ctx).await,
        free => free,
    };
    Ok(answer("prepare", request.user_id, request.game_id, outcome))
}

/// Copying the save is a later matter; that its storage can be reached is known now.
async fn reach_storage(request: &PrepareGame, ctx: &Ctx<Node>) -> Result<(), Refusal> {
    let storage = &request.storage;
    let mut patience = Duration::from_secs(storage.timeout.connection);
    if let Some(deadline) = ctx.deadline() {
        // An answer that comes after the master has given up says nothing to anybody.
        let left = deadline.saturating_duration_since(Instant::now());
        patience = patience.min(left.mul_f32(0.8));
    }
    let reached = storage::reachable(&storage.host, storage.port, patience).await;
    reached.map_err(|reason| (Code::UNAVAILABLE, reason))
}

async fn play_game(request: PlayGame, ctx: Ctx<Node>) -> Result<GameResponse, Infallible> {
    let outcome = match ctx.state().start(&request) {
        Ok(playing) => stays(playing, &ctx).await,
        Err(refusal) => Err(refusal),
    };
    Ok(answer("play", request.user_id, request.game.id, outcome))
}

/// A game that ends at once and not well is answered as a failure, and so is one that a node that
/// leaves has begun to end; every other end is told to the master when it comes.
async fn stays(playing: Playing, ctx: &Ctx<Node>) -> Result<(), Refusal> {
    let end = timeout(GRACE, playing.process.ended()).await;
    if !ctx.state().state().is(&playing) {
        return Err((Code::UNAVAILABLE, format!("{CLOSED}: the game is being ended again")));
    }
    if let Ok(ended) = end
        && !ended.success
    {
        ctx.state().release(&playing);
        return Err((Code::FAILED, format!("the game ended at once: {ended}")));
    }
    tokio::spawn(tell_end(ctx.shared_state(), ctx.link().clone(), playing));
    Ok(())
}

async fn stop_game(request: StopGame, ctx: Ctx<Node>) -> Result<GameResponse, Infallible> {
    let StopGame { user_id, game_id } = request;
    let outcome = match &*ctx.state().state() {
        State::Playing(playing) if playing.user == user_id && playing.game == game_id => {
            playing.process.stop();
            Ok(())
        }
        // Its last game may still be ending.
        State::Closed => Err((Code::UNAVAILABLE, CLOSED.to_owned())),
        _ => Err((Code::NOT_FOUND, format!("user {user_id} does not play game {game_id} here"))),
    };
    Ok(answer("stop", user_id, game_id, outcome))
}

async fn heartbeat(_: Heartbeat, _: Ctx<Node>) -> Result<Empty, Infallible> {
    Ok(Empty {})
}

fn answer(what: &str, user: i64, game: i64, outcome: Result<(), Refusal>) -> GameResponse {
    match outcome {
        Ok(()) => {
            info!(user, game, "{what}: OK");
            GameResponse::ok(user, game)
        }
        Err((code, reason)) => {
            warn!(user, game, %code, reason = ?Printable::new(&reason), "{what}: refused");
            GameResponse::new(code, reason, user, game)
        }
    }
}

/// Waits for the end of the game, frees the node, and tells the master, until it answers or the
/// link has ended: then the next registration says that the node is idle.
async fn tell_end(node: Arc<Node>, link: Link, playing: Playing) {
    let ended = playing.process.ended().await;
    if !node.release(&playing) {
        return;
    }
    info!(%playing, %ended, "the game has ended");
    let end = NotifyStopFinish { user_id: playing.user, game_id: playing.game };
    loop {
        match link.request(&end).await {
            Ok(answer) if answer.code.is_ok() => return,
            Ok(answer) => {
                let message = Printable::new(&answer.message);
                return warn!(code = %answer.code, ?message, "notify_stop_finish: refused");
            }
            Err(RequestError::Closed { .. }) => return,
            Err(error) => warn!(%error, "notify_stop_finish: once more"),
        }
        sleep(PAUSE).await;
    }
}
