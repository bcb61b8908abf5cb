//! Games as slaves play them: processes that start, end, and do not want to.
#![cfg(unix)]

mod programs;

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use programs::{Master, eventually, games_file, lines, path};
use seqlink::catalog::game_node::{Code, GameResponse, Node, PrepareGame, RegisterNode, Streamer};
use seqlink::{Ctx, Router, Secret, Slave};
use serde_json::{Value, json};

const PLAY: [&str; 7] = ["--json", "play", "--user", "42", "--game", "1", "--follow"];
const STOP: [&str; 5] = ["stop", "--user", "42", "--game", "1"];
/// A shutdown command that works.
const KILL: &str = "sh -c 'kill \"$GAME_PID\"'";

fn master(name: &str, launch: &str, shutdown: &str) -> Master {
    // A slave that is killed is held for as long as its session.
    let games = games_file(name, launch, shutdown, "");
    Master::start(&["--games", &games, "--session-timeout", "2"])
}

fn statuses(updates: &[Value]) -> Vec<&str> {
    updates.iter().map(|update| update["status"].as_str().unwrap()).collect()
}

/// Waits until a game has written its process id.
fn pid_in(file: &str) -> String {
    eventually("the process id of the game", || {
        std::fs::read_to_string(file).ok().filter(|text| text.ends_with('\n'))
    })
    .trim()
    .to_owned()
}

fn wait_until_gone(pid: &str) {
    let id = pid.parse().ok().and_then(rustix::process::Pid::from_raw).expect("a process id");
    eventually("the end of the game", || {
        // Dead, but its new parent does not ask: in many containers nobody does.
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let dead = stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z'));
        (dead || rustix::process::test_kill_process(id).is_err()).then_some(())
    });
}

#[test]
fn a_game_of_the_file_is_played_and_stopped() {
    let master = master("played", "sleep 60", KILL);
    let _slave = master.slave(&["--id", "4", "--name", "four"]);
    let mut play = master.control(&PLAY);
    play.says("\"playing\"");
    let node = master.node(4, "playing");
    assert_eq!(
        (&node["userId"], &node["gameId"], &node["name"]),
        (&json!(42), &json!(1), &json!("four"))
    );
    // A second player waits; who has a place already is told so.
    let second = master.json(&["play", "--user", "43", "--game", "1"]);
    let again = master.json(&["play", "--user", "42", "--game", "1"]);
    assert_eq!(master.ask(&STOP).0, 0);
    assert_eq!(play.end(), 0);
    let updates = lines(&play.out());
    let mut seen = statuses(&updates);
    // Whether the answer came before the node was found is chance.
    seen.retain(|status| *status != "queued");
    assert_eq!(seen, ["preparing", "playing", "stopped"], "{updates:?}");
    for update in updates.iter().chain(&second).chain(&again) {
        let keys: Vec<_> = update.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, ["gameId", "message", "position", "slaveId", "status", "userId"]);
    }
    let place = |user, status, position, slave: Option<i64>| {
        vec![json!({"userId": user, "gameId": 1, "status": status, "position": position,
            "slaveId": slave, "message": null})]
    };
    assert_eq!(second, place(43, "queued", 1, None));
    assert_eq!(again, place(42, "playing", 0, Some(4)));
}

#[test]
fn a_place_for_another_game_is_not_said_to_be_for_this_one() {
    let master = Master::start(&[]);
    master.ask(&["play", "--user", "5", "--game", "1"]);
    let (code, out, _) = master.ask(&["play", "--user", "5", "--game", "2"]);
    let said =
        "user 5: queued, position 1: has this place for game 1 already, and none for game 2\n";
    assert_eq!((code, out.as_str()), (0, said));
}

#[test]
fn a_game_that_ends_by_itself_is_told() {
    let master = master("ends", "sleep 1", "");
    let slave = master.slave(&["--id", "4"]);
    let mut play = master.control(&PLAY);
    assert_eq!(play.end(), 0);
    let updates = lines(&play.out());
    assert_eq!(statuses(&updates).last(), Some(&"stopped"));
    slave.says("the game has ended");
    master.node(4, "idle");
}

#[test]
fn a_game_that_does_not_start_fails_its_player_at_the_second_try() {
    let master = master("fails", "false", "");
    let _slave = master.slave(&["--id", "4"]);
    let mut play = master.control(&PLAY);
    assert_eq!((play.end(), play.err().as_str()), (1, ""));
    let updates = lines(&play.out());
    let end = updates.last().unwrap();
    assert_eq!(end["status"], "failed");
    assert!(end["message"].as_str().unwrap().contains("the game ended at once"), "{end}");
    // The operator sees both without asking for more.
    master.program.says("player, put back in front");
    master.program.says("the node rests");
}

#[test]
fn a_game_that_ignores_all_requests_to_end_is_killed() {
    let file = path("stubborn.pid");
    let launch = format!("sh -c 'trap \"\" TERM; echo $$ > \"{file}\"; while :; do sleep 1; done'");
    // A shutdown command that fails is not waited for.
    let master = master("stubborn", &launch, "false");
    let slave = master.slave(&["--id", "4"]);
    let mut play = master.control(&PLAY);
    play.says("\"playing\"");
    let pid = pid_in(&file);
    assert_eq!(master.ask(&STOP).0, 0);
    assert_eq!(play.end(), 0);
    slave.says("did not listen to SIGTERM: killed");
    wait_until_gone(&pid);
    master.node(4, "idle");
}

#[test]
fn a_slave_that_is_killed_outright_leaves_no_game_and_loses_no_player() {
    let file = path("orphan.pid");
    // Longer than the test waits for its end.
    let launch = format!("sh -c 'echo $$ > \"{file}\"; exec sleep 300'");
    let master = master("orphan", &launch, KILL);
    let mut slave = master.slave(&["--id", "4"]);
    let mut play = master.control(&PLAY);
    play.says("\"playing\"");
    let pid = pid_in(&file);
    slave.kill();
    wait_until_gone(&pid);
    let queue = eventually("the player in the queue", || {
        let queue = master.json(&["queue"]).pop()?;
        (queue[0]["userId"] == 42).then_some(queue)
    });
    assert_eq!(queue[0]["position"], 1);
    let nodes = master.json(&["nodes"]);
    assert_eq!((&nodes[0][0]["id"], &nodes[0][0]["connected"]), (&json!(4), &json!(false)));
    let _slave = master.slave(&["--id", "5"]);
    master.node(5, "playing");
    assert_eq!(master.ask(&STOP).0, 0);
    assert_eq!(play.end(), 0);
    let updates = lines(&play.out());
    let told: Vec<_> =
        statuses(&updates).into_iter().skip_while(|now| *now != "preparing").collect();
    let twice = ["preparing", "playing", "queued", "preparing", "playing", "stopped"];
    assert_eq!(told, twice, "{updates:?}");
}

#[test]
fn a_slave_that_leaves_does_not_say_that_the_game_plays() {
    // The game interrupts the slave, so that it is always told in the moment after the start.
    let launch = "sh -c 'kill -INT \"$PPID\"; exec sleep 60'";
    let master = master("leaves", launch, "sh -c 'sleep 1; kill \"$GAME_PID\"'");
    let mut slave = master.slave(&["--id", "4"]);
    let play = master.control(&PLAY);
    assert_eq!(slave.end(), 0);
    let said = slave.err();
    assert!(said.contains("play: refused") && !said.contains("play: OK"), "{said}");
    play.says("refused to play with 503: this node takes no games now");
    assert!(!play.out().contains("\"playing\""), "{}", play.out());
}

/// A `prepare_game` whose save is to be fetched from this port.
fn prepare(port: u16) -> String {
    let storage = json!({
        "host": "127.0.0.1", "port": port, "username": "ann", "password": "",
        "secure": {"enabled": false, "validation": false},
        "timeout": {"connection": 1, "operation": 1},
    });
    let prepare = json!({
        "userId": 42, "gameId": 1, "sesison_token": "e793815b3e8b9eef1e5a54650ad0b7c088ada5fc",
        "request_from": "api", "synchronizeRequired": true, "storage": storage,
    });
    prepare.to_string()
}

#[test]
fn a_storage_that_cannot_be_reached_is_the_answer_to_prepare() {
    let master = Master::start(&[]);
    let _slave = master.slave(&["--id", "4"]);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (code, out, err) = master.ask(&["call", "4", "prepare_game", &prepare(port)]);
    assert_eq!((code, err.as_str()), (0, ""));
    let answer = json!({"code": 200, "message": "OK", "userId": 42, "gameId": 1});
    assert_eq!(lines(&out), [answer]);
    master.program.says("handed on past the queue");

    drop(listener);
    let call = ["call", "4", "prepare_game_request", &prepare(port)];
    let (code, out, err) = master.ask(&call);
    let start = format!("error: 503: storage 127.0.0.1:{port} cannot be reached");
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.starts_with(&start) && err.lines().count() == 1, "{err}");
    let told = master.json(&call);
    assert!(told[0]["error"].as_str().unwrap().starts_with("503: storage"), "{told:?}");
}

type Tokens = Arc<Mutex<Vec<Secret>>>;

async fn refuse(request: PrepareGame, ctx: Ctx<Tokens>) -> Result<GameResponse, String> {
    let PrepareGame { user_id, game_id, session_token, .. } = request;
    ctx.state().lock().unwrap().push(session_token);
    Ok(GameResponse::new(Code::UNAVAILABLE, "not here", user_id, game_id))
}

#[tokio::test]
async fn every_place_has_a_session_token_of_its_own() {
    let master = Master::start(&["--open"]);
    let tokens = Tokens::default();
    let slave = Slave::builder().url(&master.url).id(4);
    let slave = slave.router(Router::new(Arc::clone(&tokens)).request(refuse));
    let slave = slave.connect().await.unwrap();
    let version = "1.0.0".to_owned();
    let (mac_address, local_address) = ("02-00-00-00-00-01".to_owned(), "127.0.0.1".to_owned());
    let register = RegisterNode {
        node: Node { version: version.clone(), mac_address, local_address },
        streamer: Streamer { version, port: 0 },
        installed_packages: vec!["demo-nap".to_owned()],
    };
    slave.link().await.unwrap().request(&register).await.unwrap();
    // A player is tried twice.
    let mut play = master.control(&PLAY);
    assert_eq!(tokio::task::spawn_blocking(move || play.end()).await.unwrap(), 1);
    let seen = tokens.lock().unwrap().clone();
    let texts: BTreeSet<&str> = seen.iter().map(Secret::expose).collect();
    assert_eq!((seen.len(), texts.len()), (2, 2), "{texts:?}");
    for token in texts {
        assert!(token.len() == 40 && token.bytes().all(|b| b.is_ascii_hexdigit()), "{token}");
    }
}
