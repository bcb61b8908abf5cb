//! A master: lets slaves and controls in, and gives the players who wait to the nodes that are
//! free.
//!
//! ```sh
//! cargo run --example master
//! ```

#[path = "common/dispatcher.rs"]
mod dispatcher;
#[path = "common/exit.rs"]
mod exit;
#[path = "common/games.rs"]
mod games;
#[path = "common/games_file.rs"]
mod games_file;
#[path = "common/listen.rs"]
mod listen;
#[path = "common/notify.rs"]
mod notify;
#[path = "common/service.rs"]
mod service;
#[path = "common/setup.rs"]
mod setup;
#[path = "common/slaves.rs"]
mod slaves;
#[path = "common/token.rs"]
mod token;
#[path = "common/updates.rs"]
mod updates;
#[path = "common/words.rs"]
mod words;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use semver::Version;
use seqlink::catalog::game_node::PlayerUpdate;
use seqlink::{Config, Master, Secret};
use tracing::{info, warn};
use tracing_subscriber::filter::LevelFilter;

use crate::dispatcher::Dispatcher;
use crate::exit::Failure;
use crate::notify::{Notifier, NotifyUrl};
use crate::setup::Interrupt;

/// Lets slaves and controls in, and gives the players who wait to the nodes that are free.
///
/// Its first line on stdout is its address: link ws://HOST:PORT/api/socket
#[derive(Debug, Parser)]
#[command(
    name = "master",
    version,
    after_help = "\
Exit codes: 0 success, 1 failure, 2 wrong arguments.
RUST_LOG=debug says more on stderr."
)]
struct Arguments {
    /// Where to listen; port 0 picks a free one. Whoever reaches the master can run commands on its
    /// slaves: set a token before you listen on an address that other machines can reach.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8750")]
    #[arg(value_parser = listen::host_and_port)]
    listen: String,
    /// The token that slaves and controls have to send; without one, none is asked for.
    #[arg(long, env = "SEQLINK_TOKEN", hide_env_values = true)]
    #[arg(value_parser = token::TokenParser)]
    token: Option<Secret>,
    /// The games to offer, a JSON array of {package, game, storage} [default: two demo games].
    #[arg(long, value_name = "FILE")]
    games: Option<PathBuf>,
    /// Print the games file with the demo games, to start your own from.
    #[arg(long)]
    print_games: bool,
    /// POST {userId, gameId, slaveId, status} there when a player's game runs; http only.
    #[arg(long, value_name = "URL")]
    notify_url: Option<NotifyUrl>,
    /// The protocol version to speak.
    #[arg(long, value_name = "V", default_value_t = seqlink::version::PROTOCOL)]
    protocol_version: Version,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    setup::logging(LevelFilter::INFO);
    exit::finish(run(arguments))
}

#[tokio::main]
async fn run(arguments: Arguments) -> Result<(), Failure> {
    if arguments.print_games {
        return print(games_file::BUILT_IN);
    }
    let mut interrupt = Interrupt::install().map_err(Failure::failed)?;
    let offers = games_file::load(arguments.games.as_deref()).map_err(Failure::failed)?;
    let notifier = arguments.notify_url.map(Notifier::start);
    let dispatcher = Dispatcher::start(offers, move |update| {
        if let Some(notifier) = &notifier {
            notifier.send(playing(update));
        }
    });
    let told = Arc::clone(&dispatcher);
    let mut master = Master::builder()
        .version(arguments.protocol_version)
        .router(service::router(&dispatcher))
        .on_change(move |change| told.on_change(change));
    let guarded = arguments.token.is_some();
    if let Some(token) = arguments.token {
        master = master.token(token);
    }
    let master = master.build().map_err(Failure::failed)?;
    let address = master.listen(&arguments.listen).await.map_err(|error| {
        Failure::failed(format_args!("cannot listen on {}: {error}", arguments.listen))
    })?;
    if !guarded && listen::reachable_from_outside(address.ip()) {
        warn!(
            %address,
            "no token is set: anybody who reaches this address can run commands on the slaves"
        );
    }
    print(&format!("link ws://{address}/api/socket\n"))?;
    let reason = interrupt.wait().await;
    info!(reason, "closing all links; press Ctrl-C again to stop at once");
    tokio::select! {
        () = master.shutdown(reason, Config::default().disconnect_timeout) => {}
        _ = interrupt.wait() => {}
    }
    Ok(())
}

/// The body of the notification that a player's game runs.
fn playing(update: &PlayerUpdate) -> String {
    let PlayerUpdate { user_id, game_id, slave_id, .. } = update;
    let body = serde_json::json!({
        "userId": user_id, "gameId": game_id, "slaveId": slave_id, "status": "playing",
    });
    body.to_string()
}

/// Flushed, because whoever started this program may wait for the line.
fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(Failure::failed)
}
