//! What a slave tells about its instances.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Number;
use serde_json::value::RawValue;

use crate::catalog::fields::{Unshown, raw_object};
use crate::message::{Direction, Event, Request};

/// `statistics_exporter:get_metrics`: asks a slave for the metrics of itself and its instances.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetMetrics {}

/// The answer to [`GetMetrics`].
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct GetMetricsResponse {
    /// One JSON value of any type per metric, in a form of the exporter's own.
    pub results: Vec<Box<RawValue>>,
}

impl Request for GetMetrics {
    const NAME: &'static str = "statistics_exporter:get_metrics";
    const DIRECTION: Direction = Direction::MASTER_TO_SLAVE.and(Direction::SLAVE_TO_INSTANCE);
    type Response = GetMetricsResponse;
}

/// `update_instances`: a slave tells which instances it has.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct UpdateInstances {
    /// All instances of the slave.
    pub instances: Vec<InstanceConfig>,
}

/// An instance of a slave.
#[derive(Clone, Serialize, Deserialize)]
pub struct InstanceConfig {
    /// The instance's configuration, an object.
    #[serde(deserialize_with = "raw_object")]
    pub serialized_config: Box<RawValue>,
}

impl Event for UpdateInstances {
    const NAME: &'static str = "update_instances";
    const DIRECTION: Direction = Direction::SLAVE_TO_MASTER;
}

impl fmt::Debug for InstanceConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InstanceConfig")
            .field("serialized_config", &Unshown(&self.serialized_config))
            .finish()
    }
}

/// `instance_output`: a line that an instance printed. A slave sends every line to its master, and
/// the master passes it on to the controls that subscribed to the instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InstanceOutput {
    /// The instance.
    pub instance_id: i64,
    /// The line.
    pub output: Output,
}

impl Event for InstanceOutput {
    const NAME: &'static str = "instance_output";
    const DIRECTION: Direction = Direction::INSTANCE_TO_SLAVE
        .and(Direction::SLAVE_TO_MASTER)
        .and(Direction::MASTER_TO_CONTROL);
}

/// A line of a game server's output, taken apart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Output {
    /// Where it was read, such as `stdout`.
    pub source: String,
    /// How its time is written: seconds, a date, or none.
    pub format: String,
    /// What it is: a log line, an action, or anything else.
    #[serde(rename = "type")]
    pub kind: String,
    /// The text.
    pub message: String,
    /// When the slave read it, in milliseconds since 1970.
    pub received: Number,
    /// The time in the line itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// The log level of a log line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<String>,
    /// The source file and line that a log line names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The action of an action line, such as a player's join.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
}
