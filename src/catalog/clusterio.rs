//! The core messages of Clusterio's plain generation, as its programs send them; those of its
//! session generation are in [`session`].
//!
//! Instances are game servers that a slave runs. A request for an instance travels control → master
//! → slave, each hop a new request with its own number; the slave's last hop to the instance is its
//! own affair and no link of this library. [`ForInstance`] is what such requests have in common.
//!
//! The reference refuses unknown keys, so writing is exact: optional keys are left out when they
//! are `None`. Reading ignores unknown keys. Objects that only their owners understand stay raw
//! JSON, and `Debug` shows their length, because configurations hold passwords.
//!
//! The reference waits for ever. Here the requests that start, stop, save or delete a game server
//! wait [`SLOW`] and the others as long as the link is set to.

mod report;
pub mod session;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::fields::{Unshown, raw_object};
use crate::message::{Direction, Empty, Entry, Request, Routing};

pub use report::{
    GetMetrics, GetMetricsResponse, InstanceConfig, InstanceOutput, Output, UpdateInstances,
};

/// How long the requests wait that start, stop, save or delete a game server: 120 seconds. A large
/// map takes a minute and more to load or write.
pub const SLOW: Duration = Duration::from_secs(120);

const BOTH_HOPS: Direction = Direction::CONTROL_TO_MASTER.and(Direction::MASTER_TO_SLAVE);
const ALL_HOPS: Direction = BOTH_HOPS.and(Direction::SLAVE_TO_INSTANCE);

/// All messages of this catalog.
pub const MESSAGES: &[Entry] = &[
    Entry::request::<ListSlaves>(),
    Entry::request::<ListInstances>(),
    Entry::request::<SetInstanceOutputSubscriptions>(),
    Entry::request::<CreateInstance>(),
    Entry::request::<GetInstanceConfig>(),
    Entry::request::<SetInstanceConfigField>(),
    Entry::request::<AssignInstanceCommand>(),
    Entry::request::<AssignInstance>().routed(Routing::ToInstance),
    Entry::request::<StartInstance>().routed(Routing::ToInstance),
    Entry::request::<CreateSave>().routed(Routing::ToInstance),
    Entry::request::<StopInstance>().routed(Routing::ToInstance),
    Entry::request::<DeleteInstance>().routed(Routing::ToInstance),
    Entry::request::<SendRcon>().routed(Routing::ToInstance),
    Entry::request::<GetMetrics>(),
    Entry::event::<UpdateInstances>(),
    Entry::event::<InstanceOutput>().routed(Routing::ToMaster),
];

/// A request that is passed on to the slave that has the instance.
pub trait ForInstance: Request {
    /// The instance that it is for.
    fn instance_id(&self) -> i64;
}

/// `list_slaves`: asks for the slaves that the master knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListSlaves {}

/// The answer to [`ListSlaves`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListSlavesResponse {
    /// The slaves.
    pub list: Vec<SlaveEntry>,
}

/// A slave as the master knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlaveEntry {
    /// The software that connected, for people.
    pub agent: String,
    /// Its protocol version.
    pub version: String,
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: i64,
    /// Whether it has a link now.
    pub connected: bool,
}

impl Request for ListSlaves {
    const NAME: &'static str = "list_slaves";
    const DIRECTION: Direction = Direction::CONTROL_TO_MASTER;
    type Response = ListSlavesResponse;
}

/// `list_instances`: asks for the instances that the master knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListInstances {}

/// The answer to [`ListInstances`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListInstancesResponse {
    /// The instances.
    pub list: Vec<InstanceEntry>,
}

/// An instance as the master knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceEntry {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: i64,
    /// The id of the slave that it is assigned to; null when none.
    pub assigned_slave: Option<i64>,
}

impl Request for ListInstances {
    const NAME: &'static str = "list_instances";
    const DIRECTION: Direction = Direction::CONTROL_TO_MASTER;
    type Response = ListInstancesResponse;
}

/// `set_instance_output_subscriptions`: whose [`InstanceOutput`] this control wants from now on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetInstanceOutputSubscriptions {
    /// The instances; the list replaces the one before.
    pub instance_ids: Vec<i64>,
}

impl Request for SetInstanceOutputSubscriptions {
    const NAME: &'static str = "set_instance_output_subscriptions";
    const DIRECTION: Direction = Direction::CONTROL_TO_MASTER;
    type Response = Empty;
}

/// `create_instance`: adds an instance to the master.
#[derive(Clone, Serialize, Deserialize)]
pub struct CreateInstance {
    /// The instance's configuration, an object.
    #[serde(deserialize_with = "raw_object")]
    pub serialized_config: Box<RawValue>,
}

impl Request for CreateInstance {
    const NAME: &'static str = "create_instance";
    const DIRECTION: Direction = Direction::CONTROL_TO_MASTER;
    type Response = Empty;
}

impl fmt::Debug for CreateInstance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CreateInstance")
            .field("serialized_config", &Unshown(&self.serialized_config))
            .finish()
    }
}

/// `get_instance_config`: asks for an instance's configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetInstanceConfig {
    /// The instance.
    pub instance_id: i64,
}

/// The answer to [`GetInstanceConfig`].
#[derive(Clone, Serialize, Deserialize)]
pub struct GetInstanceConfigResponse {
    /// The instance's configuration, an object.
    #[serde(deserialize_with = "raw_object")]
    pub serialized_config: Box<RawValue>,
}

impl Request for GetInstanceConfig {
    const NAME: &'static str = "get_instance_config";
    const DIRECTION: Direction = Direction::CONTROL_TO_MASTER;
    type Response = GetInstanceConfigResponse;
}

impl fmt::Debug for GetInstanceConfigResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GetInstanceConfigResponse")
            .field("serialized_config", &Unshown(&self.serialized_config))
            .finish()
    }
}

/// `set_instance_config_field`: changes one field of an instance's configuration.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetInstanceConfigField {
    /// The instance.
    pub instance_id: i64,
    /// The field's name.
    pub field: String,
    /// Its new value, always as text. May be a password: `Debug` does not show it.
    pub value: String,
}

impl Request for SetInstanceConfigField {
    const NAME: &'static str = "set_instance_config_field";
    const DIRECTION: Direction = Direction::CONTROL_TO_MASTER;
    type Response = Empty;
}

impl fmt::Debug for SetInstanceConfigField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SetInstanceConfigField")
            .field("instance_id", &self.instance_id)
            .field("field", &self.field)
            .finish_non_exhaustive()
    }
}

/// `assign_instance_command`: asks the master to give an instance to a slave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssignInstanceCommand {
    /// The instance.
    pub instance_id: i64,
    /// The slave that gets it.
    pub slave_id: i64,
}

impl Request for AssignInstanceCommand {
    const NAME: &'static str = "assign_instance_command";
    const DIRECTION: Direction = Direction::CONTROL_TO_MASTER;
    type Response = Empty;
}

/// `assign_instance`: gives a slave an instance, or its changed configuration.
#[derive(Clone, Serialize, Deserialize)]
pub struct AssignInstance {
    /// The instance.
    pub instance_id: i64,
    /// The instance's configuration, an object.
    #[serde(deserialize_with = "raw_object")]
    pub serialized_config: Box<RawValue>,
}

impl Request for AssignInstance {
    const NAME: &'static str = "assign_instance";
    const DIRECTION: Direction = Direction::MASTER_TO_SLAVE;
    type Response = Empty;
}

impl ForInstance for AssignInstance {
    fn instance_id(&self) -> i64 {
        self.instance_id
    }
}

impl fmt::Debug for AssignInstance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AssignInstance")
            .field("instance_id", &self.instance_id)
            .field("serialized_config", &Unshown(&self.serialized_config))
            .finish()
    }
}

/// `start_instance`: starts an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartInstance {
    /// The instance.
    pub instance_id: i64,
}

impl Request for StartInstance {
    const NAME: &'static str = "start_instance";
    const DIRECTION: Direction = ALL_HOPS;
    const TIMEOUT: Option<Duration> = Some(SLOW);
    type Response = Empty;
}

impl ForInstance for StartInstance {
    fn instance_id(&self) -> i64 {
        self.instance_id
    }
}

/// `create_save`: makes a new save for an instance that does not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateSave {
    /// The instance.
    pub instance_id: i64,
}

impl Request for CreateSave {
    const NAME: &'static str = "create_save";
    const DIRECTION: Direction = ALL_HOPS;
    const TIMEOUT: Option<Duration> = Some(SLOW);
    type Response = Empty;
}

impl ForInstance for CreateSave {
    fn instance_id(&self) -> i64 {
        self.instance_id
    }
}

/// `stop_instance`: stops an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopInstance {
    /// The instance.
    pub instance_id: i64,
}

impl Request for StopInstance {
    const NAME: &'static str = "stop_instance";
    const DIRECTION: Direction = ALL_HOPS;
    const TIMEOUT: Option<Duration> = Some(SLOW);
    type Response = Empty;
}

impl ForInstance for StopInstance {
    fn instance_id(&self) -> i64 {
        self.instance_id
    }
}

/// `delete_instance`: removes an instance with all its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteInstance {
    /// The instance.
    pub instance_id: i64,
}

impl Request for DeleteInstance {
    const NAME: &'static str = "delete_instance";
    const DIRECTION: Direction = BOTH_HOPS;
    const TIMEOUT: Option<Duration> = Some(SLOW);
    type Response = Empty;
}

impl ForInstance for DeleteInstance {
    fn instance_id(&self) -> i64 {
        self.instance_id
    }
}

/// `send_rcon`: runs a command on an instance's console.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendRcon {
    /// The instance.
    pub instance_id: i64,
    /// The command.
    pub command: String,
}

/// The answer to [`SendRcon`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendRconResponse {
    /// What the console printed.
    pub result: String,
}

impl Request for SendRcon {
    const NAME: &'static str = "send_rcon";
    const DIRECTION: Direction = ALL_HOPS;
    type Response = SendRconResponse;
}

impl ForInstance for SendRcon {
    fn instance_id(&self) -> i64 {
        self.instance_id
    }
}
