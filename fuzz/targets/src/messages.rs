//! The messages that both ends know here.

use std::time::Duration;

use seqlink::{Config, Ctx, Empty, Event, Request, Router};
use serde::{Deserialize, Serialize};

/// Answered with itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Echo {
    pub(crate) text: String,
}

impl Request for Echo {
    const NAME: &'static str = "echo";
    type Response = Echo;
}

/// Answered after a second.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Wait {}

impl Request for Wait {
    const NAME: &'static str = "wait";
    type Response = Empty;
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Tick {
    pub(crate) n: u64,
}

impl Event for Tick {
    const NAME: &'static str = "tick";
}

pub(crate) fn router() -> Router<()> {
    async fn on_echo(echo: Echo, _: Ctx) -> Result<Echo, String> {
        Ok(echo)
    }
    async fn on_wait(_: Wait, _: Ctx) -> Result<Empty, String> {
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok(Empty {})
    }
    async fn on_tick(_: Tick, _: Ctx) {
        tokio::task::yield_now().await;
    }
    Router::new(()).request(on_echo).request(on_wait).event(on_tick)
}

/// Small limits, which an input can reach.
pub(crate) fn config() -> Config {
    Config::default()
        .with_max_frame(8 * 1024)
        .with_outbox(8 * 1024)
        .with_inbox(8 * 1024)
        .with_handlers(4)
        .with_requests_in_flight(4)
}
