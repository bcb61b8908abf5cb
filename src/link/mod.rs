//! The link itself: the handle of either side, and the task behind it.
//!
//! Three rooms, each of which may use those before it: [`outbound`] sends, [`inbound`] receives,
//! and [`driver`] is the task that owns the socket. [`link`] and [`router`] are the public face.

mod config;
mod disconnect;
mod driver;
mod forward;
mod inbound;
#[expect(clippy::module_inception, reason = "it holds the `Link`")]
mod link;
mod memory;
mod outbound;
mod refusal;
mod router;
mod state;
#[cfg(test)]
mod tests;

pub use config::Config;
pub(crate) use driver::{CutSession, Driver, Recover, Resumption, Unrecoverable};
pub(crate) use inbound::Routes;
pub use link::Link;
pub(crate) use memory::Memory;
pub use router::{Ctx, Received, Router};
pub use state::{Ignored, LinkState, States};
