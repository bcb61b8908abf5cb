//! Instances: what a control asks for, and what their slaves report.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::macros::{event, for_instance, request, show_only};
use super::string_enums::{InstanceStatus, PlayerAct, SlaveStatus};
use super::{ALL_HOPS, SLOW};
use crate::catalog::fields::{given, nullable, raw_object, raw_object_or_null};
use crate::message::{Direction, Empty};

const TO_MASTER: Direction = Direction::CONTROL_TO_MASTER;

/// `get_instance`: asks for one instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetInstance {
    /// The instance.
    pub id: i64,
}

/// An instance as the master knows it: the answer to [`GetInstance`], and what an
/// [`InstanceUpdate`] tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: i64,
    /// The id of the slave that it is assigned to; null when none.
    #[serde(deserialize_with = "nullable")]
    pub assigned_slave: Option<i64>,
    /// Where players reach it; null when it does not run.
    #[serde(deserialize_with = "nullable")]
    pub game_port: Option<i64>,
    /// What it does.
    pub status: InstanceStatus,
}

request!(GetInstance, "get_instance", TO_MASTER, Instance);

/// `list_instances`: asks for the instances that the master knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListInstances {}

/// The answer to [`ListInstances`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListInstancesResponse {
    /// The instances.
    pub list: Vec<InstanceEntry>,
}

/// An instance as the master lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceEntry {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: i64,
    /// The id of the slave that it is assigned to; null when none.
    #[serde(deserialize_with = "nullable")]
    pub assigned_slave: Option<i64>,
    /// Where players reach it. The key may be missing, and its value may be null.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    pub game_port: Option<Option<i64>>,
    /// What it does.
    pub status: InstanceStatus,
}

request!(ListInstances, "list_instances", TO_MASTER, ListInstancesResponse);

/// `set_instance_subscriptions`: whose [`InstanceUpdate`] this control wants from now on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetInstanceSubscriptions {
    /// Those of all instances.
    pub all: bool,
    /// The instances; the list replaces the one before.
    pub instance_ids: Vec<i64>,
}

request!(SetInstanceSubscriptions, "set_instance_subscriptions", TO_MASTER, Empty);

/// `instance_update`: an instance has come, gone or changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct InstanceUpdate(pub Instance);

event!(InstanceUpdate, "instance_update", Direction::MASTER_TO_CONTROL);

/// `set_instance_config_prop`: changes one property of a field that is an object.
#[derive(Clone, Serialize, Deserialize)]
pub struct SetInstanceConfigProp {
    /// The instance.
    pub instance_id: i64,
    /// The field's name.
    pub field: String,
    /// The property's name.
    pub prop: String,
    /// Its new value, any JSON; without one the property goes. `Debug` does not show it.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    pub value: Option<Box<RawValue>>,
}

request!(SetInstanceConfigProp, "set_instance_config_prop", TO_MASTER, Empty);
show_only!(SetInstanceConfigProp { instance_id, field, prop });

/// `assign_instance_command`: asks the master to give an instance to a slave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssignInstanceCommand {
    /// The instance.
    pub instance_id: i64,
    /// The slave that gets it; null takes it from the one that has it.
    #[serde(deserialize_with = "nullable")]
    pub slave_id: Option<i64>,
}

request!(AssignInstanceCommand, "assign_instance_command", TO_MASTER, Empty);

/// `unassigne_instance`, which is the wire's spelling: takes an instance from a slave, which stops
/// it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnassignInstance {
    /// The instance.
    pub instance_id: i64,
}

request!(UnassignInstance, "unassigne_instance", Direction::MASTER_TO_SLAVE, Empty, SLOW);

/// `start_instance`: starts an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartInstance {
    /// The instance.
    pub instance_id: i64,
    /// The save that it starts from; null leaves it to the slave.
    #[serde(deserialize_with = "nullable")]
    pub save: Option<String>,
}

request!(StartInstance, "start_instance", ALL_HOPS, Empty, SLOW);

/// `load_scenario`: starts an instance from a scenario.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LoadScenario {
    /// The instance.
    pub instance_id: i64,
    /// The scenario's name.
    pub scenario: String,
    /// What the map grows from; null leaves it to chance.
    #[serde(deserialize_with = "nullable")]
    pub seed: Option<i64>,
    /// An object of the game's own, or null.
    #[serde(deserialize_with = "raw_object_or_null")]
    pub map_gen_settings: Option<Box<RawValue>>,
    /// An object of the game's own, or null.
    #[serde(deserialize_with = "raw_object_or_null")]
    pub map_settings: Option<Box<RawValue>>,
}

request!(LoadScenario, "load_scenario", ALL_HOPS, Empty, SLOW);

/// `export_data`: exports the data of an instance's game.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportData {
    /// The instance.
    pub instance_id: i64,
}

request!(ExportData, "export_data", ALL_HOPS, Empty, SLOW);

/// `kill_instance`: ends an instance at once, without a save.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KillInstance {
    /// The instance.
    pub instance_id: i64,
}

request!(KillInstance, "kill_instance", ALL_HOPS, Empty, SLOW);
for_instance!(UnassignInstance, StartInstance, LoadScenario, ExportData, KillInstance);

/// `update_instances`: a slave tells which instances it has, after each registration.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct UpdateInstances {
    /// All instances of the slave.
    pub instances: Vec<SlaveInstance>,
}

/// An instance of a slave.
#[derive(Clone, Serialize, Deserialize)]
pub struct SlaveInstance {
    /// The instance's configuration, an object. `Debug` does not show it.
    #[serde(deserialize_with = "raw_object")]
    pub serialized_config: Box<RawValue>,
    /// What it does.
    pub status: SlaveStatus,
}

request!(UpdateInstances, "update_instances", Direction::SLAVE_TO_MASTER, Empty);
show_only!(SlaveInstance { status });

/// `get_metrics`: asks for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetMetrics {}

/// The answer to [`GetMetrics`].
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct GetMetricsResponse {
    /// One JSON value of any type per metric, in a form of the exporter's own.
    pub results: Vec<Box<RawValue>>,
}

request!(
    GetMetrics,
    "get_metrics",
    Direction::MASTER_TO_SLAVE.and(Direction::SLAVE_TO_INSTANCE),
    GetMetricsResponse
);

/// `instance_initialized`: an instance is ready to be talked to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceInitialized {
    /// The instance.
    pub instance_id: i64,
    /// The plugins that it has loaded, with their versions.
    pub plugins: BTreeMap<String, String>,
}

event!(InstanceInitialized, "instance_initialized", Direction::INSTANCE_TO_SLAVE);

/// `instance_status_changed`: an instance does something else now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceStatusChanged {
    /// The instance.
    pub instance_id: i64,
    /// What it does.
    pub status: SlaveStatus,
    /// Where players reach it. The key may be missing, and its value may be null.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    pub game_port: Option<Option<i64>>,
}

event!(
    InstanceStatusChanged,
    "instance_status_changed",
    Direction::INSTANCE_TO_SLAVE.and(Direction::SLAVE_TO_MASTER)
);

/// `prepare_master_disconnect`: the slave's link with its master is about to end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrepareMasterDisconnect {}

request!(PrepareMasterDisconnect, "prepare_master_disconnect", Direction::SLAVE_TO_INSTANCE, Empty);

/// `master_connection_event`: what became of the slave's link with its master.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MasterConnectionEvent {
    /// What, such as `connect`, `drop`, `resume` or `close`.
    pub event: String,
}

event!(MasterConnectionEvent, "master_connection_event", Direction::SLAVE_TO_INSTANCE);

/// `player_event`: a player came into an instance's game, or went out of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlayerEvent {
    /// The instance.
    pub instance_id: i64,
    /// What the player did.
    #[serde(rename = "type")]
    pub kind: PlayerAct,
    /// The player's name.
    pub name: String,
}

event!(PlayerEvent, "player_event", Direction::INSTANCE_TO_SLAVE.and(Direction::SLAVE_TO_MASTER));
