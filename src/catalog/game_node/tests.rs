use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::*;
use crate::message::{Event, Kind, Request};
use crate::secret::Secret;

/// Reads an example of the node's document, its data or its params or both side by side as this
/// wire has them, and expects the same object when it is written again.
fn example<T: Serialize + DeserializeOwned>(method: &str, text: &str) -> T {
    let document: Value = serde_json::from_str(text).unwrap();
    assert_eq!(document["method"], method);
    let mut data = Map::new();
    for part in ["params", "data"] {
        data.extend(document.get(part).and_then(Value::as_object).cloned().unwrap_or_default());
    }
    same(&Value::Object(data).to_string())
}

fn same<T: Serialize + DeserializeOwned>(text: &str) -> T {
    let value: T = serde_json::from_str(text).unwrap();
    let written = serde_json::to_value(&value).unwrap();
    assert_eq!(written, serde_json::from_str::<Value>(text).unwrap());
    value
}

fn request<R: Request>(text: &str) -> R {
    same(text)
}

fn response<R: Request>(text: &str) -> R::Response {
    same(text)
}

const REGISTER: &str = r#"{
  "method": "registerNodeRequest",
  "params": {
    "node": {"version": "x.x.x", "macAddress": "xx-xx-xx-xx-xx-xx", "localAddress": "xxx.xxx.xxx.xxx"},
    "streamer": {"version": "x.x.x", "port": 12345},
    "installedPackages": ["aaaaa", "bbbbb", "ccccc"]
  }
}"#;

// The document has alternatives, `"api" | "website"` and `true|false`: the first of each.
const PREPARE: &str = r#"{
  "method": "prepareGameRequest",
  "params": {
    "userId": 0,
    "gameId": 1,
    "sesison_token": "e793815b3e8b9eef1e5a54650ad0b7c088ada5fc",
    "request_from": "api",
    "synchronizeRequired": true,
    "storage": {
      "host": "xxx.xxx.xxx.xxx",
      "port": 12345,
      "username": "anonymous",
      "password": "",
      "secure": {"enabled": true, "validation": true},
      "timeout": {"connection": 10, "operation": 15}
    }
  }
}"#;

// The document lacks the first brace and has a comma too many.
const PLAY: &str = r#"{
  "method": "playGameRequest",
  "params": {
    "userId": 0,
    "expectedSave": "axxxxxxxxxxxxxxxxxxx.tgz",
    "game": {
      "id": 1,
      "name": "aaaaa",
      "process": "bbbbb",
      "commands": {"launch": "ccccc", "shutdown": "ddddd"},
      "backup": [
        {
          "name": "xxxxx",
          "root": "yyyyy",
          "entries": ["qqqqqq", "wwwwww", "eeeeee"],
          "removeEntries": ["sssssss", "ddddddd", "fffffff"]
        },
        {
          "name": "iiiii",
          "root": "ooooo",
          "entries": ["pppp", "llll", "kkkk"],
          "removeEntries": ["jjjj", "hhhh", "gggg"]
        }
      ]
    }
  }
}"#;

#[test]
fn the_examples_of_the_document_are_written_as_they_are_read() {
    let register: RegisterNode = example("registerNodeRequest", REGISTER);
    assert_eq!(register.installed_packages, ["aaaaa", "bbbbb", "ccccc"]);
    let answer = r#"{"method": "registerNodeResponse", "data": {"code": 200, "message": "what"}}"#;
    let answer: RegisterNodeResponse = example("registerNodeResponse", answer);
    assert!(answer.code.is_ok());

    let prepare: PrepareGame = example("prepareGameRequest", PREPARE);
    assert_eq!(prepare.session_token.expose(), "e793815b3e8b9eef1e5a54650ad0b7c088ada5fc");
    assert_eq!(prepare.request_from, RequestFrom::Api);
    let answer = r#"{"method": "prepareGameResponse", "data": {"code": 200, "message": "what"},
        "params": {"userId": 0, "gameId": 1}}"#;
    let answer: PrepareGameResponse = example("prepareGameResponse", answer);
    assert_eq!((answer.user_id, answer.game_id), (0, 1));

    let play: PlayGame = example("playGameRequest", PLAY);
    assert_eq!(play.game.commands.shutdown, "ddddd");
    assert_eq!(play.game.backup[1].remove_entries, ["jjjj", "hhhh", "gggg"]);
    let answer = r#"{"method": "playGameResponse",
        "data": {"code": 200, "message": "what", "userId": 0, "gameId": 1}}"#;
    example::<PlayGameResponse>("playGameResponse", answer);

    let stop = r#"{"method": "stopGameRequest", "params": {"userId": 0, "gameId": 1}}"#;
    example::<StopGame>("stopGameRequest", stop);
    let answer = r#"{"method": "stopGameResponse", "data": {"code": 200, "message": "what"},
        "params": {"userId": 0, "gameId": 1}}"#;
    example::<StopGameResponse>("stopGameResponse", answer);
    // The same in the notation of the node's own language.
    let answer = r##"{"data"=>{"code"=>200, "message"=>"OK"}, "method"=>"stopGameResponse", "params"=>{"gameId"=>1, "userId"=>1}}"##;
    let answer: StopGameResponse = example("stopGameResponse", &answer.replace("=>", ":"));
    assert_eq!(answer, GameResponse::ok(1, 1));

    example::<Heartbeat>("heartbeatRequest", r#"{"method": "heartbeatRequest"}"#);
    let answer = r#"{"method": "heartbeatResponse"}"#;
    example::<<Heartbeat as Request>::Response>("heartbeatResponse", answer);
}

#[test]
fn the_other_messages_are_written_as_they_are_read() {
    request::<NotifyStopFinish>(r#"{"userId": 0, "gameId": 1}"#);
    response::<NotifyStopFinish>(r#"{"code": 404, "message": "no such game"}"#);
    request::<JoinQueue>(r#"{"userId": 1, "gameId": 2, "request_from": "website"}"#);
    response::<JoinQueue>(r#"{"status": "queued", "position": 3}"#);
    request::<LeaveQueue>(r#"{"userId": 1}"#);
    response::<LeaveQueue>(r#"{"code": 200, "message": "OK"}"#);
    request::<ListQueue>("{}");
    response::<ListQueue>(
        r#"{"list": [{"userId": 1, "gameId": 2, "position": 1, "waitedMs": 1500}]}"#,
    );
    request::<ListNodes>("{}");
    response::<ListNodes>(
        r#"{"list": [
            {"id": 1, "name": "a", "connected": true, "state": "playing", "userId": 5, "gameId": 2,
             "installedPackages": ["p"]},
            {"id": 2, "name": "b", "connected": false, "state": "idle", "userId": null,
             "gameId": null, "installedPackages": []}]}"#,
    );
    let call: CallSlave =
        request(r#"{"slaveId": 7, "type": "stop_game", "data": {"userId": 1, "gameId": 2}}"#);
    assert_eq!(call.kind, "stop_game");
    response::<CallSlave>(r#"{"data": {"code": 200}}"#);
    let play = PLAY.replace(r#""axxxxxxxxxxxxxxxxxxx.tgz""#, "null");
    assert_eq!(example::<PlayGame>("playGameRequest", &play).expected_save, None);
    for status in ["queued", "preparing", "playing", "stopped", "failed"] {
        let update = json!({"userId": 1, "gameId": 2, "status": status, "position": 0,
            "slaveId": null, "message": "why"});
        same::<PlayerUpdate>(&update.to_string());
    }
    for state in ["idle", "preparing", "playing", "stopping"] {
        same::<NodeState>(&json!(state).to_string());
    }
    let bare = PlayerUpdate {
        user_id: 1,
        game_id: 2,
        status: PlayerStatus::Playing,
        position: 0,
        slave_id: Some(7),
        message: None,
    };
    assert_eq!(
        serde_json::to_string(&bare).unwrap(),
        r#"{"userId":1,"gameId":2,"status":"playing","position":0,"slaveId":7,"message":null}"#
    );
}

#[test]
fn the_list_is_the_table() {
    let lines: Vec<String> =
        MESSAGES.iter().map(|entry| format!("{} {}", entry.name, entry.direction)).collect();
    let table = [
        "register_node slave→master",
        "prepare_game master→slave",
        "play_game master→slave",
        "stop_game master→slave, control→master",
        "heartbeat master→slave, slave→master, control→master, master→control",
        "notify_stop_finish slave→master",
        "join_queue control→master",
        "leave_queue control→master",
        "list_queue control→master",
        "list_nodes control→master",
        "call_slave control→master",
        "player_update master→control",
    ];
    assert_eq!(lines, table);
    let events: Vec<&str> =
        MESSAGES.iter().filter(|entry| entry.kind == Kind::Event).map(|entry| entry.name).collect();
    assert_eq!(events, [PlayerUpdate::NAME]);
}

#[test]
fn reading_is_liberal() {
    let prepare = PREPARE.replace("sesison_token", "session_token");
    let params = &serde_json::from_str::<Value>(&prepare).unwrap()["params"];
    let prepare: PrepareGame = serde_json::from_value(params.clone()).unwrap();
    assert_eq!(prepare.session_token.expose(), "e793815b3e8b9eef1e5a54650ad0b7c088ada5fc");
    assert!(serde_json::to_string(&prepare).unwrap().contains("sesison_token"));

    let stop: StopGame = serde_json::from_str(r#"{"userId":1,"gameId":2,"why":[]}"#).unwrap();
    assert_eq!(stop, StopGame { user_id: 1, game_id: 2 });
    for text in [r#"{"code":503}"#, r#"{"code":503,"message":null}"#] {
        let answer: CodeResponse = serde_json::from_str(text).unwrap();
        assert_eq!(answer, CodeResponse::new(Code::UNAVAILABLE, ""));
    }
    let answer: CodeResponse = serde_json::from_str(r#"{"code":-1}"#).unwrap();
    assert!(!answer.code.is_ok());
}

#[test]
fn passwords_and_tokens_do_not_show() {
    let document: Value = serde_json::from_str(PREPARE).unwrap();
    let mut prepare: PrepareGame = serde_json::from_value(document["params"].clone()).unwrap();
    prepare.storage.password = Secret::new("hunter2");
    prepare.session_token = Secret::new("hunter2");
    let data = serde_json::value::to_raw_value(&prepare).unwrap();
    assert!(data.get().contains("hunter2"));
    let call = CallSlave { slave_id: 1, kind: PrepareGame::NAME.into(), data: data.clone() };
    for debug in [
        format!("{prepare:?}"),
        format!("{:?}", prepare.storage),
        format!("{call:?}"),
        format!("{:?}", CallSlaveResponse { data }),
    ] {
        assert!(!debug.contains("hunter2"), "{debug}");
    }
}

#[test]
fn errors_do_not_quote_passwords_and_tokens() {
    let params = &serde_json::from_str::<Value>(PREPARE).unwrap()["params"];
    let error = |place: &str, wrong: &Value| {
        let mut params = params.clone();
        *params.pointer_mut(place).unwrap() = wrong.clone();
        serde_json::from_str::<PrepareGame>(&params.to_string()).unwrap_err().to_string()
    };
    for place in ["/sesison_token", "/storage/password"] {
        for wrong in [json!(777_123), json!(-777_123), json!(777_123.5), json!(["777123"])] {
            let error = error(place, &wrong);
            assert!(!error.contains("777123"), "{place}: {error}");
            assert!(error.contains("a string"), "{place}: {error}");
        }
    }
    for place in ["/storage", "/storage/secure", "/storage/timeout"] {
        for wrong in [json!("ftp://anonymous:777123@host"), json!(["777123"])] {
            let error = error(place, &wrong);
            assert!(!error.contains("777123"), "{place}: {error}");
            assert!(error.contains("an object"), "{place}: {error}");
        }
    }
}
