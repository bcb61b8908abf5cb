//! `seqlink master`: lets slaves and controls in, and gives the players who wait to the nodes that are
//! free.

use std::mem;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use semver::Version;
use seqlink::catalog::game_node::PlayerUpdate;
use seqlink::{Config, Dialect, Master};
use tracing::{info, warn};
use tracing_subscriber::filter::LevelFilter;

use crate::clusterio;
use crate::queue::notify::{Notifier, NotifyUrl};
use crate::queue::{self, Dispatcher};
use crate::settings::authenticator::{Guard, OwnAuthenticator};
use crate::settings::file::FileArguments;
use crate::settings::listen::{self, Danger};
use crate::settings::setup::{self, Hangups, Interrupt};
use crate::settings::tls::master::{Certificates, MasterTlsArguments};
use crate::settings::unquoted::Unquoted;
use crate::settings::{self, Failure, private_process};

/// Lets slaves and controls in, and gives the players who wait to the nodes that are free.
///
/// Its first line on stdout is its address: link ws://HOST:PORT/api/socket, or wss://… with TLS.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes: 0 success, 1 failure, 2 wrong arguments.
RUST_LOG=debug says more on stderr.")]
pub(crate) struct Arguments {
    /// Where to listen; port 0 picks a free one. Whoever has the master's token can run commands on
    /// its slaves.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8750")]
    #[arg(value_parser = listen::host_and_port)]
    listen: String,
    /// Listen beyond this machine without TLS, or with --open and no --tls-client-ca; that is refused
    /// otherwise.
    #[arg(long)]
    insecure_listen: bool,
    #[command(flatten)]
    tls: MasterTlsArguments,
    #[command(flatten)]
    authenticator: OwnAuthenticator,
    /// What to speak at /api/socket with those that do not ask for this library's sessions:
    /// `session` for Clusterio 2.0.0-alpha.0 to alpha.13, `plain` for the protocol document.
    /// /plain/api/socket and /session/api/socket are always there too.
    #[arg(long, value_name = "NAME", value_enum, default_value_t = Spoken::Plain)]
    dialect: Spoken,
    /// Seconds between two signs of life; fractions are fine.
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "5")]
    heartbeat_interval: Duration,
    /// Seconds for which the session of a lost socket is held; fractions are fine.
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "60")]
    session_timeout: Duration,
    /// The games to offer, a JSON array of {package, game, storage} [default: two demo games].
    #[arg(long, value_name = "FILE")]
    games: Option<PathBuf>,
    /// Print the games file with the demo games, to start your own from.
    #[arg(long)]
    print_games: bool,
    /// POST {userId, gameId, slaveId, status} there when a player's game runs; http only.
    #[arg(long, value_name = "URL", value_parser = Unquoted(NotifyUrl::parse))]
    notify_url: Option<NotifyUrl>,
    /// The protocol version to speak.
    #[arg(long, value_name = "V", default_value_t = seqlink::version::PROTOCOL)]
    protocol_version: Version,
    #[command(flatten)]
    file: FileArguments,
}

/// A dialect by its name.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Spoken {
    Plain,
    Session,
}

impl From<Spoken> for Dialect {
    fn from(spoken: Spoken) -> Self {
        match spoken {
            Spoken::Plain => Self::PLAIN,
            Spoken::Session => Self::SESSION,
        }
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "it must be a number, like 5 or 0.5")?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

/// The whole of the program.
pub(crate) fn main(arguments: Arguments) -> ExitCode {
    let log = setup::logging(LevelFilter::INFO);
    private_process::begin();
    let outcome = run(arguments);
    // Nothing stands behind the last word.
    drop(log);
    settings::finish(outcome)
}

#[tokio::main]
async fn run(mut arguments: Arguments) -> Result<(), Failure> {
    if arguments.print_games {
        return super::print(queue::BUILT_IN);
    }
    let mut interrupt = Interrupt::install().map_err(Failure::failed)?;
    let listen = arguments.listen.clone();
    let certificates = mem::take(&mut arguments.tls).certificates()?;
    let addresses = listen::resolve(&listen).await?;
    let danger = danger(&arguments, certificates.as_ref(), &addresses)?;
    let hangups = certificates.as_ref().map(|_| Hangups::install());
    let hangups = hangups.transpose().map_err(Failure::failed)?;
    let (master, guard) = master(arguments, certificates.as_ref())?;
    let listening = master.listen(&addresses[..]).await;
    let address = listening.map_err(|error| listen::cannot(&listen, &error))?;
    let published = guard.listens(address)?;
    if let Some(danger) = danger {
        warn!(%address, "{}", danger.meaning());
    }
    let scheme = if certificates.is_some() { "wss" } else { "ws" };
    super::print(&format!("link {scheme}://{address}/api/socket\n"))?;
    if let (Some(certificates), Some(hangups)) = (certificates, hangups) {
        tokio::spawn(certificates.reload(hangups, master.clone()));
    }
    let reason = interrupt.wait().await;
    // While the address is still this master's: the next one may have it before the last link ends.
    drop(published);
    info!(reason, "closing all links; press Ctrl-C again to stop at once");
    tokio::select! {
        () = master.shutdown(reason, Config::default().disconnect_timeout) => {}
        _ = interrupt.wait() => {}
    }
    Ok(())
}

/// What is dangerous about listening on `addresses`; beyond loopback an error, unless the arguments take it
/// upon them.
fn danger(
    arguments: &Arguments,
    certificates: Option<&Certificates>,
    addresses: &[SocketAddr],
) -> Result<Option<Danger>, Failure> {
    let is_beyond = listen::is_beyond_loopback(addresses);
    let danger = match certificates {
        Some(certificates) if certificates.are_asked_for() => None,
        _ if arguments.authenticator.is_open() => Some(Danger::Open),
        None if is_beyond => Some(Danger::Readable),
        _ => None,
    };
    match danger {
        Some(danger) if is_beyond && !arguments.insecure_listen => {
            Err(danger.refusal(&arguments.listen))
        }
        danger => Ok(danger),
    }
}

/// The master that the arguments describe; it does not listen yet.
fn master(
    arguments: Arguments,
    certificates: Option<&Certificates>,
) -> Result<(Master, Guard), Failure> {
    let offers = queue::load(arguments.games.as_deref()).map_err(Failure::failed)?;
    let notifier = arguments.notify_url.map(Notifier::start);
    let dispatcher = Dispatcher::start(offers, move |update| {
        if let Some(notifier) = &notifier {
            notifier.send(playing(update));
        }
    });
    let mut config = Config::default();
    config.heartbeat_interval = arguments.heartbeat_interval;
    config.session_timeout = arguments.session_timeout;
    let told = Arc::clone(&dispatcher);
    let master = Master::builder()
        .version(arguments.protocol_version)
        .dialect(arguments.dialect.into())
        .config(config)
        .router(clusterio::handlers(queue::router(&dispatcher)))
        .on_change(move |change| told.on_change(change));
    let (master, guard) = arguments.authenticator.guard(master)?;
    let master = match certificates {
        Some(certificates) => certificates.secure(master)?,
        None => master,
    };
    Ok((master.build().map_err(Failure::failed)?, guard))
}

/// The body of the notification that a player's game runs.
fn playing(update: &PlayerUpdate) -> String {
    let PlayerUpdate { user_id, game_id, slave_id, .. } = update;
    let body = serde_json::json!({
        "userId": user_id, "gameId": game_id, "slaveId": slave_id, "status": "playing",
    });
    body.to_string()
}
