//! `seqlink control`: looks at a master's nodes and queue, and lets players play.

mod ask;

use std::process::ExitCode;

use clap::{Args, Subcommand};
use seqlink::{Client, Control, Reconnect, Router};
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tracing_subscriber::filter::LevelFilter;

use crate::settings::file::FileArguments;
use crate::settings::setup::{self, Interrupt};
use crate::settings::tls::client::ClientTlsArguments;
use crate::settings::token::TokenArguments;
use crate::settings::{Failure, USAGE, client, private_process};
use crate::terminal::{self, Output, Updates};

/// Looks at a master's nodes and queue, and lets players play.
#[derive(Debug, Args)]
#[command(after_help = client::EXIT_CODES)]
pub(crate) struct Arguments {
    /// The master's address, with its prefix if it has one.
    #[arg(long, value_name = "URL", default_value = client::MASTER, global = true)]
    master: String,
    #[command(flatten)]
    token: TokenArguments,
    #[command(flatten)]
    tls: ClientTlsArguments,
    /// Print JSON, one value per line, instead of text and tables; a failure is {"error": TEXT}.
    #[arg(long, global = true)]
    json: bool,
    #[command(flatten)]
    file: FileArguments,
    // Not needed where the settings are only printed.
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the slaves that the master knows.
    ///
    /// Clusterio's masters list those that are gone too.
    Slaves,
    /// List the nodes: what they have installed, and who plays on them.
    ///
    /// A node that is gone stays in the list with its last packages: `gone` in the table, and
    /// "connected": false with the state idle in --json.
    Nodes,
    /// List the players who wait, in the order in which they are served.
    Queue,
    /// Put a player into the queue.
    ///
    /// With --json every line is {userId, gameId, status, position, slaveId, message}.
    Play {
        /// The player.
        #[arg(long, allow_negative_numbers = true)]
        user: i64,
        /// The id of the game.
        #[arg(long, allow_negative_numbers = true)]
        game: i64,
        /// Go on telling what becomes of the player until the game has stopped; a place that fails
        /// is exit code 1. Ctrl-C ends the telling, not the game.
        #[arg(long)]
        follow: bool,
    },
    /// Stop the game that a player plays.
    Stop {
        /// The player.
        #[arg(long, allow_negative_numbers = true)]
        user: i64,
        /// The id of the game.
        #[arg(long, allow_negative_numbers = true)]
        game: i64,
    },
    /// Take a player out of the queue, or out of the game.
    Leave {
        /// The player.
        #[arg(long, allow_negative_numbers = true)]
        user: i64,
    },
    /// Send any request to the master and print its answer, as in `ask list_instances '{}'`.
    ///
    /// For masters that answer more than this program has commands for, such as Clusterio's.
    Ask {
        /// The request's name; the ending `_request` may be left out.
        #[arg(value_name = "TYPE", value_parser = request_name)]
        name: String,
        /// The request's data, a JSON object.
        #[arg(value_name = "JSON", value_parser = object)]
        data: Box<RawValue>,
    },
    /// Hand a request on to a slave and print its answer, as in `call 1 heartbeat '{}'`.
    ///
    /// An answer with a code that is not 200 to 299 is a failure: exit code 1.
    ///
    /// prepare_game, play_game and stop_game go past the queue, which does not know of them: a node
    /// that is busy behind its back refuses players, and each of them has two tries only. Use the
    /// commands play, stop and leave.
    ///
    /// play_game runs any command line on the slave: whoever has the master's token can, and whoever
    /// reaches a master that was started with --open.
    Call {
        /// The slave's id.
        #[arg(allow_negative_numbers = true)]
        slave: i64,
        /// The request's name; the ending `_request` may be left out.
        #[arg(value_name = "TYPE", value_parser = request_name)]
        name: String,
        /// The request's data, a JSON object.
        #[arg(value_name = "JSON", value_parser = object)]
        data: Box<RawValue>,
    },
}

/// The whole of the program.
pub(crate) fn main(arguments: Arguments) -> ExitCode {
    let log = setup::logging(LevelFilter::WARN);
    private_process::begin();
    let output = Output { json: arguments.json };
    let outcome = run(arguments, output);
    // Nothing stands behind the last word.
    drop(log);
    output.finish(outcome)
}

#[tokio::main]
async fn run(arguments: Arguments, output: Output) -> Result<(), Failure> {
    let Some(command) = arguments.command else {
        let help = "say what to do: `seqlink control --help` lists the commands";
        return Err(Failure::new(USAGE, help));
    };
    let mut interrupt = Interrupt::install().map_err(Failure::failed)?;
    let (client, updates) = tokio::select! {
        connected = connect(&arguments.master, &arguments.token, &arguments.tls) => connected?,
        _ = interrupt.wait() => return Ok(()),
    };
    let (outcome, reason) = tokio::select! {
        outcome = execute(&client, command, output, updates) => (outcome, "done"),
        reason = interrupt.wait() => (Ok(()), reason),
    };
    client.close(reason).await;
    outcome
}

/// A control is for one command: it tries once, and does not come back.
async fn connect(
    master: &str,
    token: &TokenArguments,
    tls: &ClientTlsArguments,
) -> Result<(Client, Updates), Failure> {
    let (sender, updates) = mpsc::channel(terminal::MOST_WAITING);
    let mut control = Control::builder()
        .url(master)
        .agent(concat!("seqlink control/", env!("CARGO_PKG_VERSION")))
        .router(Router::new(sender).event(terminal::player_update))
        .reconnect(Reconnect::never());
    if let Some(token) = client::token(token, master)? {
        control = control.token(token);
    }
    let control = tls.secure(control, master)?;
    let client = control.connect().await.map_err(|error| Failure::from(&error))?;
    Ok((client, updates))
}

async fn execute(
    client: &Client,
    command: Command,
    output: Output,
    updates: Updates,
) -> Result<(), Failure> {
    let link = client.link().await.map_err(Failure::failed)?;
    let updates = match command {
        Command::Play { follow: true, .. } => Some(updates),
        // Nobody is to wait for room in what nobody reads.
        _ => None,
    };
    match command {
        Command::Slaves => ask::slaves(&link, output).await,
        Command::Nodes => ask::nodes(&link, output).await,
        Command::Queue => ask::queue(&link, output).await,
        Command::Play { user, game, .. } => {
            let join = ask::play(&link, output, user, game).await?;
            match updates {
                Some(updates) => terminal::follow(&link, output, updates, join).await,
                None => Ok(()),
            }
        }
        Command::Stop { user, game } => ask::stop(&link, output, user, game).await,
        Command::Leave { user } => ask::leave(&link, output, user).await,
        Command::Ask { name, data } => ask::ask_any(&link, output, &name, &data).await,
        Command::Call { slave, name, data } => ask::call(&link, output, slave, name, data).await,
    }
}

/// The name that a request has in its catalog; on the wire it ends in `_request`.
fn request_name(text: &str) -> Result<String, &'static str> {
    match text.strip_suffix("_request").unwrap_or(text) {
        "" => Err("the name of a request, like heartbeat"),
        name => Ok(name.to_owned()),
    }
}

fn object(text: &str) -> Result<Box<RawValue>, String> {
    let value: Box<RawValue> = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if value.get().starts_with('{') {
        Ok(value)
    } else {
        Err("the data of a request is a JSON object, like {\"userId\": 5}".to_owned())
    }
}
