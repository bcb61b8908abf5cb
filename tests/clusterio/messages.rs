//! Clusterio's messages, as far as the tests need them.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]

use seqlink::{Empty, Event, Request};
use serde::{Deserialize, Serialize};
use serde_json::Value;

macro_rules! message {
    ($name:ident { $($field:ident: $type:ty),* $(,)? }) => {
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        pub struct $name { $(pub $field: $type),* }
    };
}

macro_rules! request {
    ($name:ident, $wire:literal, { $($field:ident: $type:ty),* $(,)? } -> $response:ty) => {
        message!($name { $($field: $type),* });
        impl Request for $name {
            const NAME: &'static str = $wire;
            type Response = $response;
        }
    };
}

macro_rules! event {
    ($name:ident, $wire:literal, { $($field:ident: $type:ty),* $(,)? }) => {
        message!($name { $($field: $type),* });
        impl Event for $name {
            const NAME: &'static str = $wire;
        }
    };
}

// Control to master.
message!(SlaveEntry {
    agent: String, version: String, name: String, id: i64, connected: bool,
    public_address: Option<String>,
});
message!(SlaveList { list: Vec<SlaveEntry> });
request!(ListSlaves, "list_slaves", {} -> SlaveList);
message!(InstanceList { list: Vec<InstanceUpdate> });
request!(ListInstances, "list_instances", {} -> InstanceList);
request!(Subscribe, "set_instance_subscriptions", { all: bool, instance_ids: Vec<i64> } -> Empty);
request!(SubscribeLog, "set_log_subscriptions", {
    all: bool, master: bool, slave_ids: Vec<i64>, instance_ids: Vec<i64>,
    max_level: Option<String>,
} -> Empty);
request!(CreateInstance, "create_instance", { serialized_config: Value } -> Empty);
request!(Assign, "assign_instance_command", { instance_id: i64, slave_id: Option<i64> } -> Empty);
request!(Ping, "ping", {} -> Empty);
request!(Unheard, "unheard_of", {} -> Empty);

// Control to master to slave.
request!(Start, "start_instance", { instance_id: i64, save: Option<String> } -> Empty);
request!(Stop, "stop_instance", { instance_id: i64 } -> Empty);
message!(RconResult { result: String });
request!(Rcon, "send_rcon", { instance_id: i64, command: String } -> RconResult);

// Slave to master, master to slave.
request!(UpdateInstances, "update_instances", { instances: Vec<Value> } -> Empty);
request!(AssignInstance, "assign_instance", {
    instance_id: i64, serialized_config: Value,
} -> Empty);

// Slave to master.
event!(StatusChanged, "instance_status_changed", { instance_id: i64, status: String });
// Slave to master to control.
message!(Info { level: String, message: String });
event!(LogMessage, "log_message", { info: Info });

// Master to slave, to control.
event!(SyncUserLists, "sync_user_lists", {
    adminlist: Vec<String>, banlist: Vec<(String, String)>, whitelist: Vec<String>,
});
event!(InstanceUpdate, "instance_update", {
    name: String, id: i64, assigned_slave: Option<i64>, game_port: Option<u16>, status: String,
});
