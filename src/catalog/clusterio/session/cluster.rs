//! The master, its configuration, and its slaves.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::macros::{event, request, show_only};
use crate::catalog::fields::{given, nullable, raw_object};
use crate::message::{Direction, Empty};
use crate::secret::Secret;

const TO_MASTER: Direction = Direction::CONTROL_TO_MASTER;

/// `debug_dump_ws`: from now on this control gets every frame of the master as [`DebugWsMessage`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DebugDumpWs {}

request!(DebugDumpWs, "debug_dump_ws", TO_MASTER, Empty);

/// `debug_ws_message`: a frame that the master sent or received on another link, tokens and all.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DebugWsMessage {
    /// Which way it went.
    pub direction: String,
    /// The frame. `Debug` does not show it.
    pub content: String,
}

event!(DebugWsMessage, "debug_ws_message", Direction::MASTER_TO_CONTROL);
show_only!(DebugWsMessage { direction });

/// `get_master_config`: asks for the master's configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetMasterConfig {}

/// The answer to [`GetMasterConfig`].
#[derive(Clone, Serialize, Deserialize)]
pub struct GetMasterConfigResponse {
    /// The configuration, an object. `Debug` does not show it.
    #[serde(deserialize_with = "raw_object")]
    pub serialized_config: Box<RawValue>,
}

request!(GetMasterConfig, "get_master_config", TO_MASTER, GetMasterConfigResponse);
show_only!(GetMasterConfigResponse {});

/// `set_master_config_field`: changes one field of the master's configuration.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetMasterConfigField {
    /// The field's name.
    pub field: String,
    /// Its new value, always as text. `Debug` does not show it.
    pub value: String,
}

request!(SetMasterConfigField, "set_master_config_field", TO_MASTER, Empty);
show_only!(SetMasterConfigField { field });

/// `set_master_config_prop`: changes one property of a field that is an object.
#[derive(Clone, Serialize, Deserialize)]
pub struct SetMasterConfigProp {
    /// The field's name.
    pub field: String,
    /// The property's name.
    pub prop: String,
    /// Its new value, any JSON; without one the property goes. `Debug` does not show it.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    pub value: Option<Box<RawValue>>,
}

request!(SetMasterConfigProp, "set_master_config_prop", TO_MASTER, Empty);
show_only!(SetMasterConfigProp { field, prop });

/// `list_slaves`: asks for the slaves that the master knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListSlaves {}

/// The answer to [`ListSlaves`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListSlavesResponse {
    /// The slaves.
    pub list: Vec<SlaveEntry>,
}

/// A slave as the master lists it.
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
    /// Where its game servers are reached. The key may be missing, and its value may be null.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    pub public_address: Option<Option<String>>,
}

request!(ListSlaves, "list_slaves", TO_MASTER, ListSlavesResponse);

/// `set_slave_subscriptions`: whose [`SlaveUpdate`] this control wants from now on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetSlaveSubscriptions {
    /// Those of all slaves.
    pub all: bool,
    /// The slaves; the list replaces the one before.
    pub slave_ids: Vec<i64>,
}

request!(SetSlaveSubscriptions, "set_slave_subscriptions", TO_MASTER, Empty);

/// `slave_update`: a slave has come, gone or changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlaveUpdate {
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
    /// Where its game servers are reached; null when it does not say.
    #[serde(deserialize_with = "nullable")]
    pub public_address: Option<String>,
}

event!(SlaveUpdate, "slave_update", Direction::MASTER_TO_CONTROL);

/// `generate_slave_token`: asks for a token that lets a slave in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GenerateSlaveToken {
    /// The slave; null takes an id at random.
    #[serde(deserialize_with = "nullable")]
    pub slave_id: Option<i64>,
}

/// The answer to [`GenerateSlaveToken`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GenerateSlaveTokenResponse {
    /// The token.
    pub token: Secret,
}

request!(GenerateSlaveToken, "generate_slave_token", TO_MASTER, GenerateSlaveTokenResponse);

/// `create_slave_config`: asks for the configuration of a new slave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateSlaveConfig {
    /// Its id; null leaves it to the master.
    #[serde(deserialize_with = "nullable")]
    pub id: Option<i64>,
    /// Its name; null leaves it to the master.
    #[serde(deserialize_with = "nullable")]
    pub name: Option<String>,
    /// Whether the configuration gets a token.
    pub generate_token: bool,
}

/// The answer to [`CreateSlaveConfig`].
#[derive(Clone, Serialize, Deserialize)]
pub struct CreateSlaveConfigResponse {
    /// The configuration, an object. `Debug` does not show it.
    #[serde(deserialize_with = "raw_object")]
    pub serialized_config: Box<RawValue>,
}

request!(CreateSlaveConfig, "create_slave_config", TO_MASTER, CreateSlaveConfigResponse);
show_only!(CreateSlaveConfigResponse {});
