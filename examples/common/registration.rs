//! Keeps a node registered: on every new link once more, and only when no game runs any more.

use std::time::Duration;

use seqlink::catalog::game_node::{Node as Machine, RegisterNode, Streamer};
use seqlink::{Client, Link, RequestError};
use tokio::time::sleep;
use tracing::{info, warn};

use crate::exit::Failure;
use crate::host;
use crate::node::Node;
use crate::text::printable;

/// The pause before a registration that was not answered is sent again.
const PAUSE: Duration = Duration::from_secs(2);

/// What this machine is, as seen by the master at `url`, with `packages` installed.
///
/// There is no streamer on it: its port is 0.
pub(crate) async fn describe(url: &str, packages: Vec<String>) -> RegisterNode {
    let url = url.to_owned();
    // Finding the address may ask a name server.
    let look = move || (host::mac_address(), host::local_address(&url));
    let (mac_address, local_address) = tokio::task::spawn_blocking(look)
        .await
        .unwrap_or_else(|_| ("00-00-00-00-00-00".to_owned(), "127.0.0.1".to_owned()));
    let version = env!("CARGO_PKG_VERSION").to_owned();
    RegisterNode {
        node: Machine { version: version.clone(), mac_address, local_address },
        streamer: Streamer { version, port: 0 },
        installed_packages: packages,
    }
}

/// Registers `node` on every link of `client`, until the client has stopped for good.
pub(crate) async fn keep(
    client: &Client,
    node: &Node,
    registration: &RegisterNode,
) -> Result<(), Failure> {
    loop {
        let link = client.link().await.map_err(|stopped| match stopped.error() {
            Some(error) => Failure::from(error),
            None => Failure::failed("the link was closed by this side"),
        })?;
        node.open();
        let outcome = register(&link, registration).await;
        if outcome.is_ok() {
            let closed = link.closed().await;
            info!(closed = printable(&closed.to_string()), "the link has ended");
        }
        // The master has given the player another place.
        node.close().await;
        outcome?;
    }
}

/// Registers over `link`. `Ok` as well when the link ends before the answer.
async fn register(link: &Link, registration: &RegisterNode) -> Result<(), Failure> {
    loop {
        match link.request(registration).await {
            Ok(answer) if answer.code.is_ok() => {
                info!(packages = ?registration.installed_packages, "registered");
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
                let error = printable(&error.to_string());
                return Err(Failure::failed(format_args!("register_node: {error}")));
            }
        }
        sleep(PAUSE).await;
    }
}
