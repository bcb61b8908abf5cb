//! The master's service: players who wait, and nodes that play.
//!
//! ```no_run
//! use seqlink::Master;
//! use seqlink_fleet::queue::{Dispatcher, load, router};
//!
//! # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let dispatcher = Dispatcher::start(load(None)?, |_| {});
//! let told = std::sync::Arc::clone(&dispatcher);
//! let master = Master::builder()
//!     .router(router(&dispatcher))
//!     .on_change(move |change| told.on_change(change))
//!     .token("one of yours")
//!     .build()?;
//! master.listen("127.0.0.1:8750").await?;
//! # std::future::pending().await }
//! ```

mod dispatcher;
mod games;
mod games_file;
pub(crate) mod notify;
mod reported;
mod service;
mod slaves;

pub use dispatcher::Dispatcher;
pub use games::Offer;
pub(crate) use games::parse;
pub(crate) use games_file::BUILT_IN;
pub use games_file::{GamesError, load};
pub(crate) use reported::Report;
pub use service::{Desk, router};
