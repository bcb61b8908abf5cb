//! What the two ends of a link ask each other about the link itself.
//!
//! They go either way between a master and its slaves and controls, and belong to no catalog of an
//! application. Clusterio's session generation has both.

use serde::{Deserialize, Serialize};

use crate::message::{Direction, Empty, Entry, Request};

/// All messages of this catalog.
pub const MESSAGES: &[Entry] = &[Entry::request::<PrepareDisconnect>(), Entry::request::<Ping>()];

/// `prepare_disconnect`: asks the peer to make ready for the end of the link.
///
/// The side that is asked takes the coming close as final, waits for the answers to its own requests while it
/// goes on answering, and then responds. The asker closes the socket, after an error response too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrepareDisconnect {}

impl Request for PrepareDisconnect {
    const NAME: &'static str = "prepare_disconnect";
    const DIRECTION: Direction = Direction::ANY;
    type Response = Empty;
}

/// `ping`: asks whether the peer answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ping {}

impl Request for Ping {
    const NAME: &'static str = "ping";
    const DIRECTION: Direction = Direction::ANY;
    type Response = Empty;
}
