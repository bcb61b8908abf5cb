//! The master with the real Clusterio slave 2.0.0-alpha.12, and a control on the real link
//! classes: real programs over cables that note every frame.
//!
//! ```sh
//! SEQLINK_CLUSTERIO=$(fleet/tests/clusterio/install.sh) \
//!     cargo test -p seqlink-fleet --test clusterio_slave -- --ignored
//! ```

#[path = "clusterio/slave.rs"]
mod clusterio;
mod programs;
#[path = "clusterio/tap.rs"]
mod tap;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use clusterio::{IDS, RealControl, RealSlave, control, installed, instance_config, keys};
use programs::{Master, Program, eventually};
use seqlink::catalog::game_node::CallSlave;
use seqlink::tokens::ClusterioTokens;
use seqlink::{Control, Link, Slave};
use serde_json::{Value, json};
use tap::{Frame, Tap};

/// The session's times: ten heartbeats take four seconds, and a cut slave is awaited for eight.
const TIMES: [&str; 4] = ["--heartbeat-interval", "0.4", "--session-timeout", "8"];

/// A master for real slaves and controls.
fn master(more: &[&str]) -> Master {
    let guarded = ["--auth-secret-file", &keys().secret_file];
    Master::start(&[&TIMES[..], &guarded, more].concat())
}

/// Where `master` listens.
fn address(master: &Master) -> SocketAddr {
    let address = master.url.strip_prefix("ws://").and_then(|url| url.strip_suffix("/api/socket"));
    address.unwrap().parse().unwrap()
}

fn http(address: SocketAddr) -> String {
    format!("http://{address}/")
}

/// A master, and slave 7 with instance 44 behind a cable.
fn stage(name: &str) -> (Master, Tap, Program) {
    let master = master(&["--dialect", "session"]);
    let tap = Tap::to(address(&master));
    let slave = RealSlave::new(name, 7).instance(44, "factory");
    let slave = slave.start(&http(tap.address), &keys().slaves[0]);
    answered_once(&tap, "update_instances");
    (master, tap, slave)
}

/// Waits until a slave's request has been answered. Returns the answer.
fn answered_once(tap: &Tap, name: &str) -> Value {
    eventually(&format!("the answer to {name}"), || {
        let frames = tap.frames();
        let (request, response) = (format!("{name}_request"), format!("{name}_response"));
        let asked = frames.iter().find(|frame| frame.up && frame.kind() == request)?;
        let mut answers = frames.iter().filter(|frame| !frame.up && frame.kind() == response);
        answers.find(|frame| frame.json["data"]["seq"] == asked.json["seq"]).map(data)
    })
}

fn data(frame: &Frame) -> Value {
    frame.json["data"].clone()
}

/// A control of this library, past every cable.
async fn our_control(master: &Master) -> (seqlink::Client, Link) {
    let tokens = ClusterioTokens::from_secret(&keys().secret).unwrap();
    let control = Control::builder().url(http(address(master))).token(tokens.user_token("ann"));
    let control = control.connect().await.unwrap();
    let link = control.link().await.unwrap().with_timeout(Duration::from_secs(30));
    (control, link)
}

/// The numbered frames of one direction: what was sent under each number, and how often.
fn numbered(frames: &[Frame], up: bool) -> BTreeMap<u64, (Value, usize)> {
    let mut numbered: BTreeMap<u64, (Value, usize)> = BTreeMap::new();
    for frame in frames.iter().filter(|frame| frame.up == up) {
        let Some(seq) = frame.seq() else { continue };
        let (first, times) = numbered.entry(seq).or_insert_with(|| (frame.json.clone(), 0));
        assert_eq!(*first, frame.json, "the same number, the same frame");
        *times += 1;
    }
    let numbers: Vec<u64> = numbered.keys().copied().collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>(), "no number is left out");
    numbered
}

#[test]
#[ignore = "needs Clusterio, see above"]
fn a_real_slave_registers_and_stays() {
    let (master, tap, _slave) = stage("stays");
    master.program.says("has told its instances slave=7 instances=1");
    eventually("ten heartbeats both ways", || {
        (tap.count(true, "heartbeat") >= 10 && tap.count(false, "heartbeat") >= 10).then_some(())
    });
    assert_eq!(tap.connections(), 1, "never cut");
    let frames = tap.frames();
    let (sent, taken) = (numbered(&frames, true), numbered(&frames, false));
    let acknowledged = |up: bool| {
        let mut beats = frames.iter().filter(|frame| frame.up == up && frame.kind() == "heartbeat");
        beats.next_back().and_then(|beat| beat.json["data"]["seq"].as_u64()).unwrap_or_default()
    };
    assert_eq!(acknowledged(true), taken.len() as u64, "the slave has all of ours");
    assert_eq!(acknowledged(false), sent.len() as u64, "we have all of the slave's");
}

#[test]
#[ignore = "needs Clusterio, see above"]
fn a_real_control_sees_what_there_is() {
    let (master, _tap, _slave) = stage("seen");
    let requests = [
        ("list_slaves", json!({})),
        ("list_instances", json!({})),
        ("ping", json!({})),
        // Handed on to the slave.
        ("list_saves", json!({"instance_id": 44})),
        ("send_rcon", json!({"instance_id": 44, "command": "/time"})),
        ("list_saves", json!({"instance_id": 45})),
        ("list_users", json!({})),
    ];
    let words: Vec<String> =
        requests.iter().flat_map(|(name, data)| [(*name).to_owned(), data.to_string()]).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (code, said) = control(&http(address(&master)), &keys().user, &words);
    let said: Vec<Value> = said.into_iter().filter(|line| line.get("event").is_none()).collect();
    assert_eq!(said.len(), 1 + requests.len(), "{said:?}");
    assert_eq!(said[0]["account"]["name"], "clusterioctl");
    let slave = json!({
        "agent": "Clusterio Slave", "version": "2.0.0-alpha.12", "name": "slave 7", "id": 7,
        "connected": true,
    });
    assert_eq!(said[1]["answer"]["list"], json!([slave]));
    let instance = json!({
        "name": "factory", "id": 44, "assigned_slave": 7, "game_port": null, "status": "stopped",
    });
    assert_eq!(said[2]["answer"]["list"], json!([instance]));
    assert!(said[3]["answer"].is_object(), "{}", said[3]);
    let save = &said[4]["answer"]["list"][0];
    assert_eq!((&save["name"], &save["size"]), (&json!("world.zip"), &json!(7)), "{}", said[4]);
    assert_eq!(said[5]["error"], "Instance ID 44 is not running");
    assert_eq!(said[6]["error"], "Instance with ID 45 does not exist");
    assert!(said[7]["error"].as_str().unwrap().contains("list_users_request"), "{}", said[7]);
    assert_eq!(code, 0);
}

/// What ten cuts are to break: requests to the slave, each of which makes it send an event too.
async fn assign(link: Link, instance: i64) {
    let config = instance_config(instance, &format!("plant {instance}"));
    let data = json!({"instance_id": instance, "serialized_config": config});
    call(&link, "assign_instance", &data).await;
}

async fn call(link: &Link, name: &str, data: &Value) -> Value {
    let data = serde_json::value::to_raw_value(data).unwrap();
    let request = CallSlave { slave_id: 7, kind: name.to_owned(), data };
    let answer = link.request(&request).await.expect(name);
    serde_json::from_str(answer.data.get()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Clusterio, see above"]
async fn ten_cuts_in_a_row_lose_and_double_nothing() {
    const CUTS: usize = 10;
    const EACH: i64 = 6;
    let (master, tap, _slave) = stage("cut");
    let (control, link) = our_control(&master).await;
    let mut asked = Vec::new();
    for cut in 0..CUTS {
        let first = 1000 + cut as i64 * EACH;
        // Some are done before the cut, some fall into it, some are sent while there is no socket.
        for instance in first..first + EACH {
            asked.push(tokio::spawn(assign(link.clone(), instance)));
            if instance == first + EACH / 2 {
                tokio::task::block_in_place(|| tap.cut_after(Duration::from_millis(cut as u64)));
            }
        }
        let metrics = call(&link, "get_metrics", &json!({})).await;
        assert!(metrics["results"].as_array().is_some_and(|results| !results.is_empty()));
        eventually("the session to go on", || (tap.count(false, "continue") > cut).then_some(()));
    }
    for asked in asked {
        asked.await.unwrap();
    }
    let instances: Vec<i64> = (1000..1000 + CUTS as i64 * EACH).collect();
    let handled = |instance: i64| {
        let line = format!("instance slave=7 instance={instance} status=stopped");
        master.program.err().lines().filter(|said| said.ends_with(&line)).count()
    };
    eventually("every event", || {
        instances.iter().all(|instance| handled(*instance) > 0).then_some(())
    });
    judge(&tap.frames(), &instances, CUTS);
    for instance in instances {
        assert_eq!(handled(instance), 1, "the event of instance {instance} was handled once");
    }
    assert!(!master.program.err().contains("left peer=slave 7"), "the link outlived every cut");
    control.close("done").await;
}

/// That one session went on over all cuts, and that neither side did a thing twice.
fn judge(frames: &[Frame], instances: &[i64], cuts: usize) {
    let count = |kind: &str| frames.iter().filter(|frame| frame.kind() == kind).count();
    assert_eq!(count("register_slave"), 1);
    assert_eq!(count("ready"), 1);
    assert_eq!(count("continue"), cuts);
    assert_eq!((count("invalidate"), count("close frame")), (0, 0));
    let (up, down) = (numbered(frames, true), numbered(frames, false));
    for (numbered, who) in [(&up, "the slave"), (&down, "the master")] {
        let again = numbered.values().filter(|(_, times)| *times > 1).count();
        println!("{who}: {} frames, {again} of them sent again", numbered.len());
        assert!(again > 0, "no cut hit a frame of {who}");
    }
    let lost = frames.iter().filter(|frame| !frame.passed && frame.seq().is_some()).count();
    assert!(lost > 0, "nothing was lost on the way");
    let kind = |frame: &Value, kind: &str| frame["type"] == kind;
    let mut assigned = BTreeSet::new();
    for (seq, (request, _)) in down.iter().filter(|(_, (f, _))| kind(f, "assign_instance_request"))
    {
        let answers = up.values().filter(|(frame, _)| {
            kind(frame, "assign_instance_response") && frame["data"]["seq"] == *seq
        });
        assert_eq!(answers.count(), 1, "the slave did it once: {request}");
        let instance = &request["data"]["instance_id"];
        let events = up.values().filter(|(frame, _)| {
            kind(frame, "instance_status_changed_event")
                && frame["data"]["instance_id"] == *instance
        });
        assert_eq!(events.count(), 1, "{instance}");
        assigned.extend(instance.as_i64());
    }
    let own = BTreeSet::from([44]);
    assert_eq!(assigned, own.union(&instances.iter().copied().collect()).copied().collect());
}

#[test]
#[ignore = "needs Clusterio, see above"]
fn a_real_control_is_answered_across_cuts_on_both_links() {
    const CUTS: usize = 5;
    let (master, slave_tap, _slave) = stage("relay");
    let tap = Tap::to(address(&master));
    let mut control = RealControl::start(&http(tap.address), &keys().user);
    for cut in 0..CUTS {
        for request in 0..4 {
            control.ask("list_saves", &json!({"instance_id": 44}));
            control.ask("list_slaves", &json!({}));
            if request == cut % 4 {
                slave_tap.cut_after(Duration::ZERO);
                tap.cut_after(Duration::from_millis(5));
            }
        }
        let answers = control.answers((cut + 1) * 8);
        assert_eq!(answers.len(), (cut + 1) * 8, "each is answered once");
        assert!(answers.iter().all(|line| line["answer"]["list"].is_array()), "{answers:?}");
        eventually("the sessions to go on", || {
            let resumed = |tap: &Tap| tap.count(false, "continue") > cut;
            (resumed(&tap) && resumed(&slave_tap)).then_some(())
        });
    }
    let frames = tap.frames();
    numbered(&frames, true);
    numbered(&frames, false);
    assert_eq!((tap.count(false, "ready"), slave_tap.count(false, "ready")), (1, 1));
    assert_eq!(control.quit(), 0);
}

#[test]
#[ignore = "needs Clusterio, see above"]
fn a_real_slave_and_a_real_control_quit_gracefully() {
    let (master, tap, mut slave) = stage("quits");
    slave.interrupt();
    assert_eq!(slave.end(), 0);
    let answer = answered_once(&tap, "prepare_disconnect");
    assert_eq!(answer.as_object().map(serde_json::Map::len), Some(1), "no error: {answer}");
    let frames = tap.frames();
    let closes = |up: bool| frames.iter().find(|f| f.up == up && f.kind() == "close frame");
    assert_eq!(closes(true).unwrap().json["reason"], "Slave Shutdown");
    assert_eq!(closes(false).unwrap().json["code"], 1000, "answered");
    assert!(!slave.out().contains("Unexpected error"), "{}", slave.out());
    master.program.says("left peer=slave 7");
    assert!(!master.program.err().contains("holding the session"), "{}", master.program.err());

    let (code, said) = control(&http(address(&master)), &keys().user, &["list_slaves", "{}"]);
    let kinds: Vec<&Value> = said.iter().map(|line| &line["answer"]["list"]).collect();
    assert_eq!((code, kinds.contains(&&json!([]))), (0, true), "{said:?}");
    assert!(said.iter().all(|line| line.get("failed").is_none()), "{said:?}");
    master.program.says("left peer=control");
}

#[test]
#[ignore = "needs Clusterio, see above"]
fn a_real_slave_is_told_why_it_is_refused() {
    let master = master(&["--dialect", "session"]);
    let refused = |name: &str, token: &str, why: &str| {
        let mut slave = RealSlave::new(name, 7).start(&http(address(&master)), token);
        assert_eq!(slave.end(), 1);
        let said = slave.out() + &slave.err();
        let reason = format!("Authentication failed: {why}");
        assert!(said.contains(&reason), "{said}");
        assert!(said.contains("(code: 4003"), "{said}");
    };
    refused("other", &keys().slaves[1], "the token is for another slave id");
    refused("user", &keys().user, "the token's audience is not slave");
    let stranger = ClusterioTokens::from_key([7; 32]).unwrap().slave_token(7);
    refused("stranger", stranger.expose(), "the token's signature is wrong");
    refused("none", "nonsense", "the token is no JSON Web Token");

    let (code, said) = control(&http(address(&master)), &keys().slaves[0], &[]);
    assert_eq!(code, 1);
    assert_eq!(said[0]["failed"], "Authentication failed: the token's audience is not user");
}

#[test]
#[ignore = "needs Clusterio, see above"]
fn a_real_slave_is_told_that_another_took_its_place() {
    let (master, tap, slave) = stage("first");
    let second = RealSlave::new("second", 7).start(&http(address(&master)), &keys().slaves[0]);
    slave.says("(code: 1008, reason: Registered from another connection)");
    let closes = tap.frames().into_iter().find(|f| !f.up && f.kind() == "close frame").unwrap();
    assert_eq!(closes.json["code"], 1008);
    // It comes back by itself, whatever it is told: Clusterio's slaves do.
    slave.says("registering slave");
    drop(slave);
    master.program.says("left peer=slave 7");
    drop(second);
}

#[test]
#[ignore = "needs Clusterio, see above"]
fn a_real_slave_outlives_its_master() {
    let (mut master, tap, slave) = stage("outlives");
    let (left, cut) = (tap.connections(), tap.frames().len());
    master.program.interrupt();
    assert_eq!(master.program.end(), 0);
    slave.says("(code: 1001, reason: interrupted)");
    let frames = tap.frames();
    assert!(frames[cut..].iter().any(|f| !f.up && f.kind() == "close frame"), "{left}");

    // The next master knows nothing of the session, and gets the slave all the same.
    let master = self::master(&["--dialect", "session"]);
    tap.lay_to(address(&master));
    master.program.says("has told its instances slave=7 instances=1");

    // Killed, it cannot even say goodbye: the slave finds its session gone and registers anew.
    let killed = master;
    let master = self::master(&["--dialect", "session"]);
    tap.lay_to(address(&master));
    drop(killed);
    master.program.says("has told its instances slave=7 instances=1");
    slave.says("session invalidated by master");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Clusterio, see above"]
async fn plain_and_session_side_by_side() {
    // At /api/socket this one speaks plain.
    let master = master(&[]);
    let url = http(address(&master));
    let real = RealSlave::new("side", 7).start(&(url.clone() + "session/"), &keys().slaves[0]);
    master.program.says("has told its instances slave=7 instances=0");
    let mut plain = Vec::new();
    for (path, id) in [("plain/", 8), ("", 9)] {
        let tokens = ClusterioTokens::from_secret(&keys().secret).unwrap();
        let slave = Slave::builder().url(url.clone() + path).id(id).sessions(false);
        plain.push(slave.token(tokens.slave_token(id)).connect().await.unwrap());
    }
    let (code, said) = control(&(url + "session/"), &keys().user, &["list_slaves", "{}"]);
    let slaves = said[1]["answer"]["list"].as_array().unwrap();
    let ids: Vec<_> = slaves.iter().map(|slave| slave["id"].as_i64().unwrap()).collect();
    assert_eq!((code, ids), (0, vec![7, 8, 9]));
    drop(real);
    for slave in plain {
        slave.close("done").await;
    }
}

#[test]
#[ignore = "needs Clusterio, see above"]
fn tokens_are_those_of_node() {
    let tokens = ClusterioTokens::from_secret(&keys().secret).unwrap();
    let script = r#"
        const [secret, slave, user] = process.argv.slice(1);
        const jwt = require("jsonwebtoken");
        const key = Buffer.from(secret, "base64");
        const { slave: id } = jwt.verify(slave, key, { audience: "slave" });
        const { user: name } = jwt.verify(user, key, { audience: "user" });
        console.log(JSON.stringify([id, name]));
    "#;
    let (slave, user) = (tokens.slave_token(IDS[0]), tokens.user_token("Åsa \"x\""));
    let mut node = Command::new("node");
    let arguments = [script, "--", &keys().secret, slave.expose(), user.expose()];
    node.current_dir(installed()).arg("-e").args(arguments);
    let mut node = Program::start(node);
    assert_eq!(node.end(), 0, "{}", node.err());
    assert_eq!(node.out().trim(), r#"[7,"Åsa \"x\""]"#);
}
