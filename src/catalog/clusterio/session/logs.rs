//! What the programs of a cluster log.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::macros::{event, request};
use super::string_enums::LogOrder;
use crate::catalog::fields::{nullable, raw_objects};
use crate::message::{Direction, Empty};

const TO_MASTER: Direction = Direction::CONTROL_TO_MASTER;

/// `set_log_subscriptions`: which [`LogMessage`]s this control wants from now on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetLogSubscriptions {
    /// Those of all.
    pub all: bool,
    /// Those of the master.
    pub master: bool,
    /// Those of these slaves and their instances.
    pub slave_ids: Vec<i64>,
    /// Those of these instances.
    pub instance_ids: Vec<i64>,
    /// The least urgent level of interest, such as `info`; null for all.
    #[serde(deserialize_with = "nullable")]
    pub max_level: Option<String>,
}

request!(SetLogSubscriptions, "set_log_subscriptions", TO_MASTER, Empty);

/// `query_log`: asks for what was logged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueryLog {
    /// By all.
    pub all: bool,
    /// By the master.
    pub master: bool,
    /// By these slaves and their instances.
    pub slave_ids: Vec<i64>,
    /// By these instances.
    pub instance_ids: Vec<i64>,
    /// The least urgent level of interest, such as `info`; null for all.
    #[serde(deserialize_with = "nullable")]
    pub max_level: Option<String>,
    /// How many lines at most.
    pub limit: i64,
    /// Which lines come first, and are the ones that fit the limit.
    pub order: LogOrder,
}

/// The answer to [`QueryLog`].
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct QueryLogResponse {
    /// One object per line, in the logger's own form.
    #[serde(deserialize_with = "raw_objects")]
    pub log: Vec<Box<RawValue>>,
}

request!(QueryLog, "query_log", TO_MASTER, QueryLogResponse);

/// `log_message`: a line that was logged. A slave sends its own and its instances' to the master,
/// and the master passes them on to the controls that subscribed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogMessage {
    /// The line.
    pub info: LogInfo,
}

/// A line that was logged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogInfo {
    /// How urgent it is, such as `info`.
    pub level: String,
    /// The text.
    pub message: String,
    /// What else the logger says, such as `timestamp` or `instance_id`.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

event!(LogMessage, "log_message", Direction::SLAVE_TO_MASTER.and(Direction::MASTER_TO_CONTROL));
