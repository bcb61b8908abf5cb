use serde::Serialize;
use serde::de::DeserializeOwned;

use super::*;
use crate::message::{Event, Kind, Role};

/// Reads `json` as a `T` and expects the very same text when it is written again.
fn same<T: Serialize + DeserializeOwned>(json: &str) -> T {
    let value: T = serde_json::from_str(json).unwrap();
    assert_eq!(serde_json::to_string(&value).unwrap(), json);
    value
}

fn request<R: Request>(json: &str) -> R {
    same(json)
}

fn response<R: Request>(json: &str) -> R::Response {
    same(json)
}

fn event<E: Event>(json: &str) -> E {
    same(json)
}

#[test]
fn every_message_is_written_as_it_is_read() {
    request::<ListSlaves>("{}");
    response::<ListSlaves>(
        r#"{"list":[{"agent":"Clusterio Slave","version":"2.0.0-alpha","name":"wormhole","id":7,"connected":true}]}"#,
    );
    request::<ListInstances>("{}");
    response::<ListInstances>(
        r#"{"list":[{"name":"a","id":1,"assigned_slave":7},{"name":"b","id":2,"assigned_slave":null}]}"#,
    );
    request::<SetInstanceOutputSubscriptions>(r#"{"instance_ids":[1,2]}"#);
    response::<SetInstanceOutputSubscriptions>("{}");
    request::<CreateInstance>(r#"{"serialized_config":{"groups":[{"fields":{"a":1.50}}]}}"#);
    request::<GetInstanceConfig>(r#"{"instance_id":1}"#);
    response::<GetInstanceConfig>(r#"{"serialized_config":{"groups":[]}}"#);
    request::<SetInstanceConfigField>(
        r#"{"instance_id":1,"field":"instance.auto_start","value":"true"}"#,
    );
    request::<AssignInstanceCommand>(r#"{"instance_id":1,"slave_id":7}"#);
    request::<AssignInstance>(r#"{"instance_id":1,"serialized_config":{}}"#);
    request::<StartInstance>(r#"{"instance_id":1}"#);
    request::<CreateSave>(r#"{"instance_id":1}"#);
    request::<StopInstance>(r#"{"instance_id":1}"#);
    request::<DeleteInstance>(r#"{"instance_id":1}"#);
    request::<SendRcon>(r#"{"instance_id":1,"command":"/time"}"#);
    response::<SendRcon>(r#"{"result":"12 hours\n"}"#);
    request::<GetMetrics>("{}");
    response::<GetMetrics>(r#"{"results":[1,"two",null,{"three":[3]}]}"#);
    event::<UpdateInstances>(r#"{"instances":[{"serialized_config":{"groups":[]}}]}"#);
    event::<InstanceOutput>(
        r#"{"instance_id":1,"output":{"source":"stdout","format":"seconds","type":"log","message":"hi","received":1598000000000,"time":"0.1","level":"Info","file":"a.cpp:1"}}"#,
    );
    let line = event::<InstanceOutput>(
        r#"{"instance_id":1,"output":{"source":"stdout","format":"date","type":"action","message":"x joined","received":1.5,"action":"JOIN"}}"#,
    );
    assert_eq!(line.output.action.as_deref(), Some("JOIN"));
}

#[test]
fn the_list_is_the_table_of_the_wire() {
    let lines: Vec<String> = MESSAGES
        .iter()
        .map(|entry| {
            let kind = if entry.kind == Kind::Request { "R" } else { "E" };
            let routed = match entry.routing {
                Routing::None => "",
                Routing::ToInstance => " to the instance",
                Routing::ToMaster => " to the master",
                Routing::ToInstances => " to all instances",
                Routing::ToSlave => " to a slave",
            };
            format!("{kind} {} {}{routed}", entry.name, entry.direction)
        })
        .collect();
    let table = [
        "R list_slaves control→master",
        "R list_instances control→master",
        "R set_instance_output_subscriptions control→master",
        "R create_instance control→master",
        "R get_instance_config control→master",
        "R set_instance_config_field control→master",
        "R assign_instance_command control→master",
        "R assign_instance master→slave to the instance",
        "R start_instance master→slave, control→master, slave→instance to the instance",
        "R create_save master→slave, control→master, slave→instance to the instance",
        "R stop_instance master→slave, control→master, slave→instance to the instance",
        "R delete_instance master→slave, control→master to the instance",
        "R send_rcon master→slave, control→master, slave→instance to the instance",
        "R statistics_exporter:get_metrics master→slave, slave→instance",
        "E update_instances slave→master",
        "E instance_output slave→master, master→control, instance→slave to the master",
    ];
    assert_eq!(lines, table);
    assert!(!StartInstance::DIRECTION.allows(Role::Slave, Role::Master));
}

#[test]
fn unknown_keys_are_ignored_and_missing_ones_named() {
    let start: StartInstance = serde_json::from_str(r#"{"instance_id":1,"save":null}"#).unwrap();
    assert_eq!(start.instance_id(), 1);
    let error = serde_json::from_str::<SendRcon>(r#"{"instance_id":1}"#).unwrap_err();
    assert!(error.to_string().contains("missing field `command`"), "{error}");
}

#[test]
fn a_configuration_is_an_object_and_is_not_shown() {
    for bad in ["[]", "1", "null", r#""hunter2""#] {
        let json = format!(r#"{{"instance_id":1,"serialized_config":{bad}}}"#);
        let error = serde_json::from_str::<AssignInstance>(&json).unwrap_err().to_string();
        assert!(error.contains("expected an object"), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
    let config = r#"{"rcon_password":"hunter2"}"#;
    let instances = format!(r#"{{"instances":[{{"serialized_config":{config}}}]}}"#);
    let object = format!(r#"{{"instance_id":1,"serialized_config": {config} }}"#);
    let field = r#"{"instance_id":1,"field":"rcon_password","value":"hunter2"}"#;
    for debug in [
        format!("{:?}", serde_json::from_str::<UpdateInstances>(&instances).unwrap()),
        format!("{:?}", serde_json::from_str::<AssignInstance>(&object).unwrap()),
        format!("{:?}", serde_json::from_str::<CreateInstance>(&object).unwrap()),
        format!("{:?}", serde_json::from_str::<GetInstanceConfigResponse>(&object).unwrap()),
        format!("{:?}", serde_json::from_str::<SetInstanceConfigField>(field).unwrap()),
    ] {
        assert!(!debug.contains("hunter2"), "{debug}");
    }
}
