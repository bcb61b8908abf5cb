//! A slave on the library alone: registers its node with a master, and runs the games that it is told to play.
//!
//! ```sh
//! SEQLINK_TOKEN=… cargo run --example slave -- --id 1
//! ```
//!
//! A game is one process, which is killed when it shall stop. `seqlink slave` of the fleet lets games save, ends all
//! that they have started, and leaves none behind when it is killed itself.

use std::error::Error;
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard};

use clap::Parser;
use seqlink::catalog::game_node::*;
use seqlink::{Ctx, Empty, Link, Router, Slave};
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

#[derive(Parser)]
struct Arguments {
    /// The master's address.
    #[arg(long, value_name = "URL", default_value = "ws://127.0.0.1:8750")]
    master: String,
    /// The slave's id; of two with one id the newer stays.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    id: i64,
}

/// What is installed here.
const PACKAGE: &str = "demo-nap";

/// The node: what it plays, if anything.
#[derive(Default)]
struct Node(Mutex<Option<Playing>>);

#[derive(Clone)]
struct Playing {
    user: i64,
    game: i64,
    /// Asks the process to end.
    stop: CancellationToken,
    /// It has ended.
    ended: CancellationToken,
}

impl Node {
    fn playing(&self) -> MutexGuard<'_, Option<Playing>> {
        self.0.lock().expect("nothing panics while it is held")
    }

    /// Ends what runs, and waits until it has ended.
    async fn close(&self) {
        let playing = self.playing().clone();
        if let Some(playing) = playing {
            playing.stop.cancel();
            playing.ended.cancelled().await;
        }
    }

    /// Starts the game of `request`, unless there is one.
    fn start(&self, request: &PlayGame) -> Result<(Child, Playing), (Code, String)> {
        let mut playing = self.playing();
        if let Some(now) = &*playing {
            return Err((Code::CONFLICT, format!("user {} plays here", now.user)));
        }
        let child = spawn(&request.game.commands.launch);
        let child = child.map_err(|error| (Code::FAILED, error.to_string()))?;
        let (stop, ended) = (CancellationToken::new(), CancellationToken::new());
        let new = Playing { user: request.user_id, game: request.game.id, stop, ended };
        *playing = Some(new.clone());
        Ok((child, new))
    }
}

/// Starts a command line, with nothing in its environment but what every program needs.
fn spawn(launch: &str) -> Result<Child, Box<dyn Error>> {
    let words = shell_words::split(launch)?;
    let (program, arguments) = words.split_first().ok_or("the launch command is empty")?;
    let kept = ["PATH", "HOME", "LANG"].into_iter();
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true).env_clear();
    Ok(command.envs(kept.filter_map(|name| Some((name, std::env::var_os(name)?)))).spawn()?)
}

async fn prepare(request: PrepareGame, ctx: Ctx<Node>) -> Result<GameResponse, String> {
    let PrepareGame { user_id, game_id, .. } = request;
    Ok(match &*ctx.state().playing() {
        Some(_) => GameResponse::new(Code::CONFLICT, "somebody plays here", user_id, game_id),
        None => GameResponse::ok(user_id, game_id),
    })
}

async fn play(request: PlayGame, ctx: Ctx<Node>) -> Result<GameResponse, String> {
    let (user, game) = (request.user_id, request.game.id);
    match ctx.state().start(&request) {
        Ok((child, playing)) => {
            println!("user {user} plays {}", request.game.name);
            tokio::spawn(keep(ctx.shared_state(), ctx.link().clone(), child, playing));
            Ok(GameResponse::ok(user, game))
        }
        Err((code, reason)) => Ok(GameResponse::new(code, reason, user, game)),
    }
}

/// Waits for the end of the game, or brings it about; then the node is free, and the master is told.
async fn keep(node: Arc<Node>, link: Link, mut child: Child, playing: Playing) {
    tokio::select! {
        _ = child.wait() => {}
        () = playing.stop.cancelled() => drop(child.kill().await),
    }
    println!("user {} has played", playing.user);
    node.playing().take();
    playing.ended.cancel();
    let Playing { user: user_id, game: game_id, .. } = playing;
    // On a link that has ended it says nothing new: the next registration says that the node is free.
    let _ = link.request(&NotifyStopFinish { user_id, game_id }).await;
}

async fn stop(request: StopGame, ctx: Ctx<Node>) -> Result<GameResponse, String> {
    let StopGame { user_id, game_id } = request;
    Ok(match &*ctx.state().playing() {
        Some(playing) if (playing.user, playing.game) == (user_id, game_id) => {
            playing.stop.cancel();
            GameResponse::ok(user_id, game_id)
        }
        _ => GameResponse::new(Code::NOT_FOUND, "that is not played here", user_id, game_id),
    })
}

async fn heartbeat(_: Heartbeat, _: Ctx<Node>) -> Result<Empty, String> {
    Ok(Empty {})
}

/// What this machine is. There is no streamer on it.
fn description() -> RegisterNode {
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let (mac_address, local_address) = ("00-00-00-00-00-00".to_owned(), "127.0.0.1".to_owned());
    RegisterNode {
        node: seqlink::catalog::game_node::Node {
            version: version.clone(),
            mac_address,
            local_address,
        },
        streamer: Streamer { version, port: 0 },
        installed_packages: vec![PACKAGE.to_owned()],
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let Arguments { master, id } = Arguments::parse();
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
    let node = Arc::new(Node::default());
    let router = Router::with_state(Arc::clone(&node)).request(prepare).request(play);
    let mut slave = Slave::builder().url(master).id(id);
    if let Ok(token) = std::env::var("SEQLINK_TOKEN") {
        slave = slave.token(token);
    }
    let client = slave.router(router.request(stop).request(heartbeat)).connect().await?;
    let registered = async {
        loop {
            // The first link, or the next one when the session was lost; sockets come and go unseen.
            let link = client.link().await?;
            match link.request(&description()).await {
                Ok(answer) if answer.code.is_ok() => println!("registered"),
                Ok(answer) => return Err(answer.message.into()),
                Err(error) => tracing::warn!(%error, "not registered"),
            }
            link.closed().await;
            // The master has lost this node, and gives the player another.
            node.close().await;
        }
    };
    let outcome: Result<(), Box<dyn Error>> = tokio::select! {
        outcome = registered => outcome,
        interrupted = tokio::signal::ctrl_c() => Ok(interrupted?),
    };
    node.close().await;
    client.close("interrupted").await;
    outcome
}
