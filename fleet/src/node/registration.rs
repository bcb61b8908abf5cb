//! Keeps a node registered: on every new link once more, and only when no game runs any more.

use std::time::Duration;

use seqlink::catalog::game_node::{Node as Machine, RegisterNode, Streamer};
use seqlink::{Client, Link, RequestError, Stopped};
use tokio::time::sleep;
use tracing::{info, warn};

use super::Node;
use super::host;
use super::states;
use crate::settings::Failure;
use crate::terminal::printable;

/// The pause before a registration that was not answered is sent again.
const PAUSE: Duration = Duration::from_secs(2);

/// What the refusal of a node may mean.
const CLUSTERIO: &str = "; a Clusterio master knows no nodes, its slaves say --clusterio COMMAND";

/// What a slave registers, and for its log as whom and where.
#[derive(Debug)]
pub struct Registration {
    id: i64,
    name: String,
    master: String,
    node: RegisterNode,
}

/// This machine as slave `id` called `name`, as seen by the master at `url`, with `packages`
/// installed.
///
/// There is no streamer on it: its port is 0.
pub async fn describe(id: i64, name: &str, url: &str, packages: Vec<String>) -> Registration {
    let master = printable(&without_secrets(url));
    let url = url.to_owned();
    // Finding the address may ask a name server.
    let look = move || (host::mac_address(), host::local_address(&url));
    let (mac_address, local_address) = tokio::task::spawn_blocking(look)
        .await
        .unwrap_or_else(|_| ("00-00-00-00-00-00".to_owned(), "127.0.0.1".to_owned()));
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let node = RegisterNode {
        node: Machine { version: version.clone(), mac_address, local_address },
        streamer: Streamer { version, port: 0 },
        installed_packages: packages,
    };
    Registration { id, name: name.to_owned(), master, node }
}

/// `url` without what may be secret in it: user and password, and the query.
fn without_secrets(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("ws", url));
    let rest = &rest[..rest.find(['?', '#']).unwrap_or(rest.len())];
    let end = rest.find('/').unwrap_or(rest.len());
    let host = rest[..end].rfind('@').map_or(0, |at| at + 1);
    format!("{scheme}://{}", &rest[host..])
}

/// Registers `node` on every link of `client`, until the client has stopped for good.
///
/// # Errors
///
/// Why the client has stopped, or what the master says of the node.
pub async fn keep(
    client: &Client,
    node: &Node,
    registration: &Registration,
) -> Result<(), Failure> {
    loop {
        let link = client.link().await.map_err(stopped)?;
        let told = tokio::spawn(states::tell(link.states()));
        node.open();
        let outcome = register(&link, registration).await;
        if outcome.is_ok() {
            // Until the link has ended, over however many sockets.
            let _ = told.await;
        }
        // The master has given the player another place.
        node.close().await;
        outcome?;
    }
}

/// Why there are no more links, as the end of the program.
#[expect(clippy::needless_pass_by_value, reason = "it is an error on its way out")]
pub(crate) fn stopped(stopped: Stopped) -> Failure {
    match stopped.error() {
        Some(error) => Failure::from(error),
        None => Failure::failed("the link was closed by this side"),
    }
}

/// Registers over `link`. `Ok` as well when the link ends before the answer.
async fn register(link: &Link, registration: &Registration) -> Result<(), Failure> {
    loop {
        match link.request(&registration.node).await {
            Ok(answer) if answer.code.is_ok() => {
                let Registration { id, name, master, node } = registration;
                let packages = &node.installed_packages;
                info!(id, name, master, ?packages, "registered");
                return Ok(());
            }
            Ok(answer) => {
                let (code, message) = (answer.code, printable(&answer.message));
                return Err(Failure::failed(format_args!(
                    "the master does not take this node: {code} {message}"
                )));
            }
            Err(RequestError::Closed { .. }) => return Ok(()),
            Err(error @ RequestError::Timeout { .. }) => warn!(%error, "register_node"),
            Err(error) => {
                return Err(Failure::failed(format_args!("register_node: {error}{CLUSTERIO}")));
            }
        }
        sleep(PAUSE).await;
    }
}
