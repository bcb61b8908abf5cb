//! What peers say does nothing to a log or a terminal: it moves no cursor, forges no line, turns
//! no direction and hides nothing. Real processes, and clients that say what no library would.

#[path = "../../tests/common/mod.rs"]
mod common;
mod programs;

use std::net::SocketAddr;

use common::guest::{Guest, TOKEN};
use common::raw::Raw;
use programs::{Master, Program, eventually, lines, subcommand};
use seqlink::catalog::game_node::{
    Code, CodeResponse, NotifyStopFinish, PlayGame, PrepareGame, RegisterNode,
};
use seqlink::{Ctx, Router};
use serde_json::{Value, json};

/// One of each kind: a new line and its separators, a bell, escapes of 7 and of 8 bits, DEL, bidi
/// overrides and isolates, characters without a width, a mark that sits on others, a filler.
const HOSTILE: &str = "a\r\n2026-01-01T00:00:00Z  INFO FORGED\u{2028}\u{85}\u{7}\u{1b}[2J\u{9b}2J\
    \u{7f}\u{202e}\u{2066}\u{200b}\u{feff}\u{ad}\u{301}\u{3164}\u{e0041}z";

/// The characters of [`HOSTILE`] that are not to be seen anywhere as they are.
fn is_hostile(c: char) -> bool {
    c.is_control() || (HOSTILE.contains(c) && !c.is_ascii())
}

/// `said` has lines that end, and none of those characters.
fn check(said: &str) {
    let raw: Vec<char> = said.chars().filter(|c| *c != '\n' && is_hostile(*c)).collect();
    assert_eq!(raw, [], "in {said:?}");
    let forged = said.lines().find(|line| line.starts_with("2026-01-01T00:00:00Z"));
    assert_eq!(forged, None, "in {said:?}");
}

fn guarded() -> (Master, SocketAddr) {
    let mut command = subcommand("master", &["--token", TOKEN]);
    command.env("RUST_LOG", "debug");
    let master = Master::from(command);
    let address = master.url.trim_start_matches("ws://").trim_end_matches("/api/socket");
    let address = address.parse().unwrap();
    (master, address)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_peers_text_is_one_line_of_the_log_wherever_it_stands() {
    let (master, address) = guarded();
    let hostile = Value::from(HOSTILE);

    // Before it has registered.
    let mut early = Raw::open(address).await;
    early.json().await;
    early.text(&format!(r#"{{"seq":1,"type":"close","data":{{"reason":{hostile}}}}}"#)).await;
    early.ended().await;
    master.program.says("came to no link");

    // Types, levels and messages.
    let mut slave = Guest::slave(address, 5, json!({"name": HOSTILE, "agent": HOSTILE})).await;
    // Those that need an escape in JSON are no names: the link would end.
    let name: String = HOSTILE.chars().filter(|c| *c >= ' ').collect();
    slave.ask(&name, "{}").await;
    slave.say(&format!("{name}_event"), "{}").await;
    slave.say(&format!("{name}_response"), r#"{"seq":1}"#).await;
    slave.say(&format!("{HOSTILE}_response"), "{}").await;
    let status = format!(r#"{{"instance_id":1,"status":{hostile}}}"#);
    slave.say("instance_status_changed_event", &status).await;
    for level in [hostile.clone(), json!("info"), json!("error")] {
        let log = json!({"info": {"level": level, "message": HOSTILE}});
        slave.say("log_message_event", &log.to_string()).await;
    }
    let node = json!({"version": HOSTILE, "macAddress": HOSTILE, "localAddress": HOSTILE});
    let register = json!({
        "node": node, "streamer": {"version": HOSTILE, "port": 1}, "installedPackages": ["demo-nap"],
    });
    let answer = slave.ask("register_node", &register.to_string()).await;
    assert_eq!(answer["code"], 200, "{answer}");

    // The answer to a game that shall be prepared, and the reason of the end.
    let mut control = Guest::control(address).await;
    control.ask("join_queue", r#"{"userId":1,"gameId":1,"request_from":"api"}"#).await;
    slave.answers(json!({"code": 500, "message": HOSTILE, "userId": 1, "gameId": 1})).await;
    slave.answers(json!({"error": HOSTILE})).await;
    master.program.says("Failed");
    slave.say("close", &format!(r#"{{"reason":{hostile}}}"#)).await;
    slave.raw.ended().await;
    master.program.says("left peer=slave 5");

    let said = master.program.err();
    check(&said);
    assert!(said.matches("FORGED").count() >= 8, "the words themselves are told: {said}");
    assert!(said.contains("\\u{202e}") && said.contains("\\u{1b}[2J"), "{said}");
}

/// In both kinds of output; that for programs still holds the text as it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_peers_text_is_harmless_in_what_a_control_prints() {
    let (master, address) = guarded();
    let mut slave = Guest::slave(address, 5, json!({"name": HOSTILE, "agent": HOSTILE})).await;
    let register = json!({
        "node": {"version": "1", "macAddress": "", "localAddress": ""},
        "streamer": {"version": "1", "port": 1}, "installedPackages": [HOSTILE, "demo-nap"],
    });
    slave.ask("register_node", &register.to_string()).await;

    let ask = |arguments: &[&str]| master.ask(&[&["--token", TOKEN], arguments].concat());
    for command in ["slaves", "nodes"] {
        let (code, out, err) = ask(&[command]);
        assert_eq!((code, err.as_str()), (0, ""));
        check(&out);
        assert!(out.contains("FORGED") && out.lines().count() == 2, "{out}");
        let (_, out, _) = ask(&["--json", command]);
        check(&out);
        let [list] = &lines(&out)[..] else { panic!("one line: {out}") };
        assert_eq!(list[0]["name"], HOSTILE);
    }

    let call = |arguments: &[&str]| {
        let call = ["--token", TOKEN, "call", "5", "heartbeat", "{}"];
        master.control(&[&call, arguments].concat())
    };
    for json in [&[][..], &["--json"]] {
        // Data whose JSON has lines of its own.
        let mut control = call(json);
        let frame = slave.raw.json().await;
        let seq = &frame["seq"];
        let data = format!("{{\"seq\":{seq},\r\n\"a\":\n{}}}", Value::from(HOSTILE));
        slave.say("heartbeat_response", &data).await;
        assert_eq!((control.end(), control.err().as_str()), (0, ""));
        check(&control.out());
        assert_eq!(lines(&control.out()), [json!({"a": HOSTILE})]);
        // Answers that are failures.
        for answer in [json!({"code": 500, "message": HOSTILE}), json!({"error": HOSTILE})] {
            let mut control = call(json);
            slave.answers(answer).await;
            assert_eq!(control.end(), 1);
            let said = control.out() + &control.err();
            check(&said);
            assert!(said.contains("FORGED") && said.lines().count() == 1, "{said}");
        }
    }

    // What becomes of a player.
    let play = ["--token", TOKEN, "play", "--user", "7", "--game", "1", "--follow"];
    let mut follow = [master.control(&play), master.control(&[&play[..], &["--json"]].concat())];
    for answer in [json!({"code": 500, "message": HOSTILE}), json!({"error": HOSTILE})] {
        let answer = json!({"userId": 7, "gameId": 1, "message": "", "code": 1})
            .as_object()
            .unwrap()
            .clone()
            .into_iter()
            .chain(answer.as_object().unwrap().clone())
            .collect();
        slave.answers(answer).await;
    }
    for control in &mut follow {
        eventually("the second failure", || control.out().contains("failed").then_some(()));
        check(&(control.out() + &control.err()));
        assert!(control.out().contains("FORGED"), "{}", control.out());
    }
}

/// From a master, in the log of a slave and in the last word of its program.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_masters_text_is_harmless_in_what_a_slave_says() {
    async fn register(_: RegisterNode, _: Ctx) -> Result<CodeResponse, String> {
        Ok(CodeResponse::ok())
    }
    async fn refuse(_: NotifyStopFinish, _: Ctx) -> Result<CodeResponse, String> {
        Ok(CodeResponse::new(Code::FAILED, HOSTILE))
    }
    let router = Router::new(()).request(register).request(refuse);
    let master = seqlink::Master::builder().router(router).build().unwrap();
    let url = format!("ws://{}/", master.listen("127.0.0.1:0").await.unwrap());
    let mut slave = Program::start(subcommand("slave", &["--master", &url, "--id", "5", "--once"]));
    slave.says("registered");
    let link = master.slave(5).unwrap();
    let storage = json!({
        "host": HOSTILE, "port": 1, "username": "", "password": "",
        "secure": {"enabled": false, "validation": false}, "timeout": {"connection": 1, "operation": 1},
    });
    let prepare = json!({
        "userId": 1, "gameId": 1, "sesison_token": "", "request_from": "api",
        "synchronizeRequired": true, "storage": storage,
    });
    let prepare: PrepareGame = serde_json::from_value(prepare).unwrap();
    assert_eq!(link.request(&prepare).await.unwrap().code, Code::UNAVAILABLE);
    // A program that there is not; then one that ends, which a refusing master is told.
    for (launch, shutdown) in [(format!("'{HOSTILE}'"), ""), ("sleep 0.3".into(), HOSTILE)] {
        let game = json!({
            "id": 1, "name": HOSTILE, "process": HOSTILE, "backup": [],
            "commands": {"launch": launch, "shutdown": shutdown},
        });
        let play: PlayGame =
            serde_json::from_value(json!({"userId": 1, "expectedSave": null, "game": game}))
                .unwrap();
        link.request(&play).await.unwrap();
    }
    slave.says("notify_stop_finish: refused");
    link.close(HOSTILE);
    assert_eq!(slave.end(), 1);
    let said = slave.err();
    check(&said);
    assert!(said.matches("FORGED").count() >= 4, "{said}");
}
