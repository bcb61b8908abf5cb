//! `seqlink slave`: registers its node with a master and runs the games that it is told to play.

use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use seqlink::{Client, ClientBuilder, Reconnect, Secret, Slave};
use tracing::{info, warn};

use crate::clusterio::Instances;
use crate::node::{self, Node, Patience, Reaper};
use crate::settings::file::FileArguments;
use crate::settings::setup::{self, Interrupt};
use crate::settings::tls::client::ClientTlsArguments;
use crate::settings::token::TokenArguments;
use crate::settings::{self, Failure, client, connect, private_process};

/// Registers a node with a master and runs the games that it is told to play.
///
/// Games run as this program's user. Of its environment they get what programs need, such as PATH,
/// HOME, LANG and DISPLAY, and nothing else: one that needs more is launched with `env NAME=VALUE`.
#[derive(Debug, Args)]
#[command(after_help = client::EXIT_CODES)]
pub(crate) struct Arguments {
    /// The master's address, with its prefix if it has one.
    #[arg(long, value_name = "URL", default_value = client::MASTER)]
    master: String,
    /// The slave's id; of two with one id the newer stays.
    #[arg(long, value_name = "N", default_value_t = 1, allow_negative_numbers = true)]
    id: i64,
    /// The slave's name, for people [default: the host's name].
    #[arg(long, default_value_t = node::host_name(), hide_default_value = true)]
    name: String,
    /// The packages that this node has installed.
    // The default is what the master's built-in games need.
    #[arg(long, value_name = "A,B", value_delimiter = ',', default_value = "demo-nap,demo-count")]
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    packages: Vec<String>,
    #[command(flatten)]
    token: TokenArguments,
    #[command(flatten)]
    tls: ClientTlsArguments,
    /// Be a slave of a Clusterio master: run COMMAND for each of its instances, and no games.
    #[arg(long, value_name = "COMMAND")]
    clusterio: Option<String>,
    /// Do not try again when the master cannot be reached, or when the link to it is lost.
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    file: FileArguments,
}

/// The whole of the program.
pub(crate) fn main(arguments: &Arguments) -> ExitCode {
    // What the link goes through this program says in words of its own.
    let log = setup::logging("info,seqlink::link=warn");
    private_process::begin();
    let outcome = run(arguments);
    // Nothing stands behind the last word.
    drop(log);
    settings::finish(outcome)
}

#[tokio::main]
async fn run(arguments: &Arguments) -> Result<(), Failure> {
    let mut interrupt = Interrupt::install().map_err(Failure::failed)?;
    let reaper = Reaper::start()
        .inspect_err(|error| warn!(%error, "no reaper: a crash would leave a game running"))
        .ok();
    let work = match &arguments.clusterio {
        Some(launch) => Work::Instances(Instances::new(launch.clone(), reaper)),
        None => Work::Games(Node::new(Patience::default(), reaper)),
    };
    let mut client = None;
    let (outcome, reason) = tokio::select! {
        outcome = serve(arguments, &work, &mut client) => (outcome, "stopping"),
        reason = interrupt.wait() => (Ok(()), reason),
    };
    let Some(client) = client else { return outcome };
    if outcome.is_ok() {
        info!(reason, "ending what runs; press Ctrl-C again to stop at once");
    }
    tokio::select! {
        () = work.close() => {}
        // What still runs is the reaper's.
        _ = interrupt.wait() => {}
    }
    client.close(reason).await;
    outcome
}

/// Is a slave of its master until that is over for good; `client` is the present one.
async fn serve(
    arguments: &Arguments,
    work: &Work,
    client: &mut Option<Client>,
) -> Result<(), Failure> {
    let look = || client::token(&arguments.token, &arguments.master);
    let mut token = look()?;
    loop {
        let ended = match connect(arguments, work, token.as_ref()).await {
            Ok(connected) => work.keep(client.insert(connected), arguments).await,
            Err(failure) => Err(failure),
        };
        let refused = ended.as_ref().is_err_and(|failure| failure.code == connect::TOKEN);
        if !refused || arguments.once {
            return ended;
        }
        // A master that makes its token makes another one each time that it starts.
        let found = look()?;
        if found == token {
            return ended;
        }
        info!("the token was refused, and by now there is another one: trying that");
        token = found;
    }
}

async fn connect(
    arguments: &Arguments,
    work: &Work,
    token: Option<&Secret>,
) -> Result<Client, Failure> {
    let mut slave = Slave::builder()
        .url(&arguments.master)
        .id(arguments.id)
        .name(&arguments.name)
        .agent(concat!("seqlink slave/", env!("CARGO_PKG_VERSION")));
    if let Some(token) = token {
        slave = slave.token(token.clone());
    }
    if arguments.once {
        slave = slave.reconnect(Reconnect::never());
    }
    let slave = arguments.tls.secure(work.serve(slave), &arguments.master)?;
    slave.connect().await.map_err(|error| Failure::from(&error))
}

/// What the slave does for its master.
enum Work {
    /// A node of a master of this crate.
    Games(Arc<Node>),
    /// The instances of a Clusterio master.
    Instances(Arc<Instances>),
}

impl Work {
    fn serve(&self, slave: ClientBuilder) -> ClientBuilder {
        match self {
            Self::Games(node) => slave.router(node.router()),
            Self::Instances(instances) => slave.router(instances.router()),
        }
    }

    /// Keeps it registered on every link of `client`, until the client has stopped for good.
    async fn keep(&self, client: &Client, arguments: &Arguments) -> Result<(), Failure> {
        let Arguments { id, name, master, packages, .. } = arguments;
        match self {
            Self::Games(node) => {
                let registration = node::describe(*id, name, master, packages.clone()).await;
                node::keep(client, node, &registration).await
            }
            Self::Instances(instances) => instances.keep(client).await,
        }
    }

    /// Waits until what runs has been ended.
    async fn close(&self) {
        match self {
            Self::Games(node) => node.close().await,
            Self::Instances(instances) => instances.close().await,
        }
    }
}
