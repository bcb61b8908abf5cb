use super::*;

/// `Debug` ends up in logs, and none of these belongs there.
#[test]
fn secrets_are_not_shown() {
    fn shown<T: serde::de::DeserializeOwned + std::fmt::Debug>(json: &str) -> String {
        format!("{:?}", serde_json::from_str::<T>(json).unwrap())
    }
    let config = r#"{"serialized_config":{"rcon_password":"hunter2"},"status":"stopped"}"#;
    let field = r#"{"instance_id":1,"field":"auth_secret","prop":"p","value":"hunter2"}"#;
    for debug in [
        shown::<GetMasterConfigResponse>(config),
        shown::<CreateSlaveConfigResponse>(config),
        shown::<SlaveInstance>(config),
        shown::<SetMasterConfigField>(field),
        shown::<SetMasterConfigProp>(field),
        shown::<SetInstanceConfigProp>(field),
        shown::<GenerateSlaveTokenResponse>(r#"{"token":"hunter2"}"#),
        shown::<DebugWsMessage>(r#"{"direction":"in","content":"hunter2"}"#),
    ] {
        assert!(!debug.contains("hunter2"), "{debug}");
    }
    assert!(shown::<SetInstanceConfigProp>(field).contains("auth_secret"));
}

/// What a slave says of an instance is what the master says of it, word for word.
#[test]
fn a_slaves_status_is_also_a_masters() {
    for status in SlaveStatus::ALL {
        assert_eq!(InstanceStatus::from(*status).as_str(), status.as_str());
    }
}
