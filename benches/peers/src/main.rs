//! Load programs: servers and clients as processes of their own, and the run that measures them.

mod client;
mod pace;
mod payload;
mod run;
mod server;
mod stacks;
mod tls;

use std::time::Duration;

use anyhow::{Result, bail};
use clap::Parser;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};

use pace::{Clock, Outcome, Pace};
use stacks::{Stack, floor, jsonrpc, link, tarpc_json};

#[derive(Parser)]
enum Command {
    /// Measures everything and writes benches/RESULTS.md.
    Run(run::Options),
    /// Measures one build of this program against another: benches/ab.sh.
    Compare(run::Comparison),
    /// What TLS costs a request and a connection.
    Tls(tls::Options),
    /// A server that takes orders from its input.
    Serve {
        stack: Stack,
        /// On tokio's multi-thread runtime, as it is by default.
        #[arg(long)]
        multi_thread: bool,
        /// The floor's server keeps its connections and broadcasts, and answers nothing.
        #[arg(long)]
        hold: bool,
        /// Most requests of a link that are handled at once, instead of the default.
        #[arg(long)]
        handlers: Option<usize>,
    },
    /// A client that takes orders from its input.
    Drive {
        stack: Stack,
        /// On tokio's multi-thread runtime, as it is by default.
        #[arg(long)]
        multi_thread: bool,
        #[arg(long)]
        address: String,
        #[arg(long, default_value_t = 1)]
        links: usize,
        #[arg(long, value_enum, default_value = "direct")]
        role: client::Role,
    },
    /// Client and server in one process and one thread, for callgrind.
    Both {
        stack: Stack,
        #[arg(long, default_value_t = 64)]
        in_flight: usize,
        #[arg(long, default_value_t = 2000)]
        requests: u64,
        /// For a time instead of a number.
        #[arg(long)]
        millis: Option<u64>,
    },
}

fn main() -> Result<()> {
    match Command::parse() {
        Command::Run(options) => run::run(&options),
        Command::Compare(options) => run::compare(&options),
        Command::Tls(options) => runtime(false)?.block_on(tls::run(&options)),
        Command::Serve { stack, multi_thread, hold, handlers } => {
            runtime(multi_thread)?.block_on(server::serve(stack, hold, handlers))
        }
        Command::Drive { stack, multi_thread, address, links, role } => {
            runtime(multi_thread)?.block_on(client::drive(stack, &address, links, role))
        }
        Command::Both { stack, in_flight, requests, millis } => runtime(false)?.block_on(async {
            let outcome = both(stack, in_flight, requests, millis).await?;
            println!("{}", serde_json::to_string(&outcome)?);
            Ok(())
        }),
    }
}

fn runtime(multi_thread: bool) -> Result<Runtime> {
    // 15,000 connections are more than most systems allow unasked.
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?;
    let mut runtime = match multi_thread {
        true => Builder::new_multi_thread(),
        false => Builder::new_current_thread(),
    };
    Ok(runtime.enable_all().build()?)
}

async fn both(stack: Stack, in_flight: usize, requests: u64, ms: Option<u64>) -> Result<Outcome> {
    let pace = || match ms {
        Some(ms) => Pace::time(Duration::from_millis(ms)),
        None => Pace::count(requests),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    let clock = Clock::start();
    let tallies = match stack {
        Stack::Floor => {
            tokio::spawn(floor::serve(listener));
            let mut socket = floor::Socket::connect(&address).await?;
            vec![socket.play(in_flight, &pace()).await?]
        }
        Stack::OneLoop => {
            tokio::spawn(floor::serve(listener));
            let mut socket = floor::Socket::connect(&address).await?;
            vec![socket.play_in_one_loop(in_flight, &pace()).await?]
        }
        Stack::Seqlink => {
            let (_master, port) = link::serve(None).await?;
            let slave = link::slave(&format!("127.0.0.1:{port}"), 1, &Default::default()).await?;
            stacks::play(&[link::Asker(slave.link().await?)], in_flight, &pace()).await?
        }
        Stack::Tarpc => {
            tokio::spawn(tarpc_json::serve(listener));
            let client = tarpc_json::Client::connect(&address).await?;
            stacks::play(&[client], in_flight, &pace()).await?
        }
        Stack::Jsonrpsee => {
            let server = jsonrpc::serve().await?;
            let client = jsonrpc::Client::connect(&format!("127.0.0.1:{}", server.port)).await?;
            stacks::play(&[client], in_flight, &pace()).await?
        }
        Stack::Clusterio => bail!("Node's programs are two"),
    };
    Ok(Outcome::of(&clock, tallies))
}
