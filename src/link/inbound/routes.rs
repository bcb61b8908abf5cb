//! The handlers of one side without their types, by message name.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::time::Instant;

use crate::error::{ConfigError, DecodeError};
use crate::link::outbound::Handle;
use crate::message::Peer;
use crate::message::{Direction, Role};
use crate::printable::Printable;
use crate::wire::check_name;

/// A message for its handler.
#[derive(Debug)]
pub(in crate::link) struct Call<'a> {
    /// When the asker is expected to give up; `None` for an event.
    pub(in crate::link) deadline: Option<Instant>,
    /// The number of its frame.
    pub(in crate::link) seq: u64,
    pub(in crate::link) data: &'a str,
}

/// The handling of a message to its end: for a request, until its response is queued.
pub(in crate::link) type Handled = Result<BoxFuture<'static, ()>, DecodeError>;
pub(in crate::link) type Handler = Box<dyn Fn(Handle, Call<'_>) -> Handled + Send + Sync>;

pub(in crate::link) struct RequestRoute {
    pub(in crate::link) name: &'static str,
    pub(in crate::link) direction: Direction,
    pub(in crate::link) timeout: Option<Duration>,
    pub(in crate::link) handler: Handler,
}

pub(in crate::link) struct EventRoute {
    pub(in crate::link) direction: Direction,
    pub(in crate::link) handler: Handler,
}

/// Spreads the names of messages over a table.
// Not the default, which protects from chosen keys: the names in the tables are the program's own,
// and a peer can only look them up.
#[derive(Default)]
struct NameHasher(u64);

impl Hasher for NameHasher {
    fn write(&mut self, bytes: &[u8]) {
        for block in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..block.len()].copy_from_slice(block);
            // Multiplying by 2⁶⁴ divided by the golden ratio spreads the word over all high bits.
            self.0 = (self.0.rotate_left(29) ^ u64::from_le_bytes(word))
                .wrapping_mul(0x9E37_79B9_7F4A_7C15);
        }
    }

    fn finish(&self) -> u64 {
        // The table uses both ends of the number, and the low end is still poorly mixed.
        self.0 ^ (self.0 >> 32)
    }
}

type Table<T> = HashMap<&'static str, T, BuildHasherDefault<NameHasher>>;

/// The handlers without their types.
#[derive(Default)]
pub(crate) struct Routes {
    requests: Table<RequestRoute>,
    events: Table<EventRoute>,
    /// The names of events without a handler that were warned of; at most [`MOST_WARNED`].
    warned: Mutex<HashSet<Box<str>>>,
}

/// The most names of events that are warned of.
// A peer may make up any number of names.
const MOST_WARNED: usize = 32;

impl Routes {
    pub(in crate::link) fn add_request(&mut self, route: RequestRoute) -> Result<(), ConfigError> {
        let name = route.name;
        taken(self.requests.insert(name, route).is_some(), name)
    }

    pub(in crate::link) fn add_event(
        &mut self,
        name: &'static str,
        route: EventRoute,
    ) -> Result<(), ConfigError> {
        taken(self.events.insert(name, route).is_some(), name)
    }

    /// Returns the handler of the request `name` from `peer` to `us`, or why there is none.
    pub(super) fn request(
        &self,
        name: &str,
        peer: Role,
        us: Role,
    ) -> Result<&RequestRoute, String> {
        let Some(route) = self.requests.get(name) else {
            return Err(format!("No handler for {name}_request on this {us}"));
        };
        if !route.direction.allows(peer, us) {
            let allowed = route.direction;
            return Err(format!("{name}_request goes {allowed}, and this link goes {peer}→{us}"));
        }
        Ok(route)
    }

    /// Returns the handler of the event `name` from `peer` to `us`.
    pub(super) fn event(&self, name: &str, peer: Role, us: Role) -> Option<&EventRoute> {
        self.events.get(name).filter(|route| route.direction.allows(peer, us))
    }

    /// Warns of an event without a handler, once for each name.
    pub(super) fn warn_of_event(&self, name: &str, from: &Peer) {
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        let known = warned.len() >= MOST_WARNED || !warned.insert(name.into());
        let (from, name) = (from.role, Printable::new(name));
        if known {
            tracing::debug!(?name, %from, "ignored an event");
            return;
        }
        let last = warned.len() == MOST_WARNED;
        // The logger is foreign code, and every link of this side shares the lock.
        drop(warned);
        tracing::warn!(?name, %from, "ignored an event: no handler takes it from this side");
        if last {
            tracing::warn!("further names of ignored events are not warned of");
        }
    }
}

fn taken(known: bool, name: &'static str) -> Result<(), ConfigError> {
    if known {
        return Err(ConfigError::DuplicateHandler(name));
    }
    check_name(name).map_err(ConfigError::Name)
}

impl fmt::Debug for Routes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Router")
            .field("requests", &self.requests.keys())
            .field("events", &self.events.keys())
            .finish_non_exhaustive()
    }
}
