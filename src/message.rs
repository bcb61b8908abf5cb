//! Messages are types: the traits [`Request`] and [`Event`], and who may send what to whom.

use std::fmt;
use std::time::Duration;

use semver::Version;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Longest message type in bytes, its `_request`, `_response` or `_event` included.
pub const MAX_TYPE: usize = 128;

/// Longest message name in bytes: a type without its ending.
pub const MAX_NAME: usize = MAX_TYPE - "_response".len();

/// What a peer of a link is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Role {
    /// The server.
    Master,
    /// A client that does the work, known by its id.
    Slave,
    /// A client that steers.
    Control,
    /// What a slave runs, such as a game server. It has no link with a master: what a slave and an
    /// instance say to each other is named in catalogs and carried by the slave itself.
    Instance,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Master => "master",
            Role::Slave => "slave",
            Role::Control => "control",
            Role::Instance => "instance",
        })
    }
}

/// Who is at the other end of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Peer {
    /// What it is.
    pub role: Role,
    /// Its id, when it is a slave.
    pub id: Option<i64>,
    /// Its name, when it is a slave.
    pub name: Option<String>,
    /// The software it runs, in its own words; empty for a master, which does not say.
    pub agent: String,
    /// The protocol version that it speaks.
    pub version: Version,
}

impl fmt::Display for Peer {
    /// The role, and the id of a slave: `slave 7`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.id {
            Some(id) => write!(f, "{} {id}", self.role),
            None => self.role.fmt(f),
        }
    }
}

/// Who may send a message to whom; combine with [`and`](Self::and).
///
/// ```
/// use seqlink::message::{Direction, Role};
///
/// const STOP: Direction = Direction::MASTER_TO_SLAVE.and(Direction::CONTROL_TO_MASTER);
/// assert!(STOP.allows(Role::Control, Role::Master));
/// assert!(!STOP.allows(Role::Slave, Role::Master));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Direction(u8);

impl Direction {
    /// From a master to a slave.
    pub const MASTER_TO_SLAVE: Self = Self(1);
    /// From a slave to its master.
    pub const SLAVE_TO_MASTER: Self = Self(2);
    /// From a control to its master.
    pub const CONTROL_TO_MASTER: Self = Self(4);
    /// From a master to a control.
    pub const MASTER_TO_CONTROL: Self = Self(8);
    /// From a slave to an instance that it runs.
    pub const SLAVE_TO_INSTANCE: Self = Self(16);
    /// From an instance to its slave.
    pub const INSTANCE_TO_SLAVE: Self = Self(32);
    /// On every link of a master, both ways. Those between a slave and its instances are not
    /// among them.
    pub const ANY: Self = Self(15);

    /// This direction and `other`.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether `from` may send to `to`.
    pub const fn allows(self, from: Role, to: Role) -> bool {
        let bit = match (from, to) {
            (Role::Master, Role::Slave) => Self::MASTER_TO_SLAVE.0,
            (Role::Slave, Role::Master) => Self::SLAVE_TO_MASTER.0,
            (Role::Control, Role::Master) => Self::CONTROL_TO_MASTER.0,
            (Role::Master, Role::Control) => Self::MASTER_TO_CONTROL.0,
            (Role::Slave, Role::Instance) => Self::SLAVE_TO_INSTANCE.0,
            (Role::Instance, Role::Slave) => Self::INSTANCE_TO_SLAVE.0,
            _ => 0,
        };
        self.0 & bit != 0
    }
}

impl fmt::Debug for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            (Self::MASTER_TO_SLAVE, "master→slave"),
            (Self::SLAVE_TO_MASTER, "slave→master"),
            (Self::CONTROL_TO_MASTER, "control→master"),
            (Self::MASTER_TO_CONTROL, "master→control"),
            (Self::SLAVE_TO_INSTANCE, "slave→instance"),
            (Self::INSTANCE_TO_SLAVE, "instance→slave"),
        ];
        let mut first = true;
        for (_, name) in names.iter().filter(|(bit, _)| self.0 & bit.0 != 0) {
            f.write_str(if first { "" } else { ", " })?;
            f.write_str(name)?;
            first = false;
        }
        Ok(())
    }
}

/// The protocol version since which a message type exists: major, minor, patch.
pub type Since = (u64, u64, u64);

/// A message that is answered.
///
/// On the wire a request is a frame of type `NAME_request`, its answer one of type `NAME_response`.
/// Both are JSON objects: use structs with named fields, and [`Empty`] where there is nothing to
/// say. The response carries two keys of the protocol's own at its top level, `seq` and, in an
/// error, `error`: a response type must not use them, nor refuse unknown keys.
pub trait Request: Serialize + DeserializeOwned + Send + 'static {
    /// The name without the `_request` ending; at most 119 bytes.
    const NAME: &'static str;
    /// Who may ask whom. Asking the other way is an error on both sides.
    const DIRECTION: Direction = Direction::ANY;
    /// How long the asker waits; `None` leaves it to the link's own setting.
    const TIMEOUT: Option<Duration> = None;
    /// Since which protocol version it exists. Sending it on a link that negotiated a lower one is
    /// an error on the sender's side.
    const SINCE: Since = (0, 0, 0);
    /// The answer.
    type Response: Serialize + DeserializeOwned + Send + 'static;
}

/// A message that is not answered.
///
/// On the wire a frame of type `NAME_event`. Events of one link are handled in the order in which
/// they were sent, one at a time.
pub trait Event: Serialize + DeserializeOwned + Send + 'static {
    /// The name without the `_event` ending; at most 119 bytes.
    const NAME: &'static str;
    /// Who may send it to whom. Sending it the other way is an error on the sender's side; a
    /// receiver counts and ignores it.
    const DIRECTION: Direction = Direction::ANY;
    /// Since which protocol version it exists. Sending it on a link that negotiated a lower one is
    /// an error on the sender's side.
    const SINCE: Since = (0, 0, 0);
}

/// No fields: the empty object `{}`. Unknown keys are ignored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Empty {}

/// Whether a message is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// `NAME_request`, answered with `NAME_response`.
    Request,
    /// `NAME_event`.
    Event,
}

/// What the receiver of a message does with it, besides acting on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Routing {
    /// It is meant for the receiver.
    #[default]
    None,
    /// It is handed on, hop by hop, to the instance that its `instance_id` names: a master hands
    /// it to the slave that has the instance.
    ToInstance,
    /// It is handed on to the master, by the slave that has the instance that sent it.
    ToMaster,
    /// It is handed on to all instances.
    ToInstances,
    /// It carries another message, whose name is its `type`, to the slave that its `slave_id` names.
    ToSlave,
}

/// One line of a catalog: a message type as data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// The name without its ending.
    pub name: &'static str,
    /// Whether it is answered.
    pub kind: Kind,
    /// Who may send it to whom.
    pub direction: Direction,
    /// Since which protocol version it exists.
    pub since: Since,
    /// Where it is handed on to.
    pub routing: Routing,
    /// What a control must be permitted before it may send it; `None` asks for nothing.
    pub permission: Option<&'static str>,
}

impl Entry {
    /// The line of a request type, routed nowhere and permitted to all.
    pub const fn request<R: Request>() -> Self {
        Self::new(R::NAME, Kind::Request, R::DIRECTION, R::SINCE)
    }

    /// The line of an event type, routed nowhere and permitted to all.
    pub const fn event<E: Event>() -> Self {
        Self::new(E::NAME, Kind::Event, E::DIRECTION, E::SINCE)
    }

    /// The same line with a routing.
    #[must_use]
    pub const fn routed(mut self, routing: Routing) -> Self {
        self.routing = routing;
        self
    }

    /// The same line with the permission that a control needs.
    #[must_use]
    pub const fn needs(mut self, permission: &'static str) -> Self {
        self.permission = Some(permission);
        self
    }

    const fn new(name: &'static str, kind: Kind, direction: Direction, since: Since) -> Self {
        Self { name, kind, direction, since, routing: Routing::None, permission: None }
    }
}
