//! placeholder, replaced when the rooms stand
#![forbid(unsafe_code)]

pub mod client;
pub mod close;
pub mod error;
mod handshake;
mod link;
pub mod master;
pub mod message;
pub mod secret;
pub mod session;
pub mod transport;
pub mod version;
pub mod wire;

pub use client::{Client, ClientBuilder, Control, Reconnect, Slave, Stopped};
pub use close::{CloseCode, Closed, ClosedBy, Reason};
pub use error::{ConfigError, ConnectError, Delivery, EventError, RequestError};
pub use handshake::{Peer, Registration};
pub use link::{Config, Ctx, Ignored, Link, Router};
pub use master::{Change, Master, MasterBuilder};
pub use message::{Direction, Empty, Event, Request, Role};
pub use secret::Secret;
