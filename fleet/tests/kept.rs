//! What peers can make the programs keep: real processes, raw frames, and what the system says of
//! the memory.
#![cfg(target_os = "linux")]

#[path = "../../tests/common/mod.rs"]
mod common;
mod programs;

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use common::guest::{Guest, TOKEN};
use programs::{Master, Program, eventually, subcommand};
use seqlink::catalog::clusterio::session::{AssignInstance, DeleteInstance, UpdateInstances};
use seqlink::catalog::game_node::{JoinQueue, JoinQueueResponse, PlayerStatus, PlayerUpdate};
use seqlink::{Ctx, Empty, Router};
use serde_json::{Value, json};
use tokio::sync::mpsc::{Sender, channel};

/// Most that a master may take after any of these, in KiB; a quiet one takes a quarter of it. The 16 MiB of
/// all nodes take 39 MiB with what the allocator adds.
const MOST: u64 = 48 * 1024;

/// A frame just below the limit.
const FRAME: usize = 1024 * 1024 - 256;

fn guarded() -> (Master, SocketAddr) {
    let master = Master::start(&["--token", TOKEN]);
    let address = master.url.trim_start_matches("ws://").trim_end_matches("/api/socket");
    let address = address.parse().unwrap();
    (master, address)
}

/// What process `pid` takes now, and what it took at its most, in KiB.
fn memory(pid: u32) -> (u64, u64) {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let value = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix(" kB")?.parse().ok()
    };
    (value("VmRSS:").unwrap(), value("VmHWM:").unwrap())
}

fn check(master: &Master) {
    let (now, most) = memory(master.program.id());
    println!("{now} KiB now, {most} KiB at the most");
    assert!(now < MOST && most < MOST, "{now} KiB now, {most} KiB at the most");
}

/// The data of a registration with these packages, which are JSON.
fn node(packages: &str) -> String {
    let node = r#"{"version":"1","macAddress":"00-00-00-00-00-00","localAddress":"::1"}"#;
    let streamer = r#"{"version":"1","port":1}"#;
    format!(r#"{{"node":{node},"streamer":{streamer},"installedPackages":[{packages}]}}"#)
}

/// `count` instances from `first` on, in as little JSON as there can be.
fn instances(first: usize, count: usize) -> String {
    let instance = |id: usize| {
        let fields = format!(r#"{{"id":{id},"name":""}}"#);
        let config = format!(r#"{{"groups":[{{"name":"instance","fields":{fields}}}]}}"#);
        format!(r#"{{"serialized_config":{config},"status":"stopped"}}"#)
    };
    let list: Vec<String> = (first..first + count).map(instance).collect();
    format!(r#"{{"instances":[{}]}}"#, list.join(","))
}

/// Peers that register a frame full of packages and go.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn packages_of_nodes_that_came_and_went_take_no_memory() {
    let (master, address) = guarded();
    let data = node(vec![r#""""#; (FRAME - 300) / 3].join(",").as_str());
    for id in 0..200 {
        let mut slave = Guest::slave(address, id, json!({})).await;
        let refused = slave.ask("register_node", &data).await;
        let error = refused["error"].as_str().expect("an error");
        assert!(error.contains("more than 256 packages"), "{error}");
    }
    check(&master);
    let mut control = Guest::control(address).await;
    let answer = control.ask("list_nodes", "{}").await;
    assert!(answer.to_string().len() < 1024, "{} bytes", answer.to_string().len());
    check(&master);
}

/// Peers that register as much as they may, and stay; then others that come and go.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn nodes_take_no_more_than_all_of_them_may() {
    let (master, address) = guarded();
    let data = node(vec![format!("\"{:0>128}\"", 0); 256].join(",").as_str());
    let (mut here, mut refused) = (Vec::new(), 0);
    for id in 0..500 {
        let mut slave = Guest::slave(address, id, json!({})).await;
        let answer = slave.ask("register_node", &data).await;
        match answer["code"].as_u64() {
            Some(200) => here.push(slave),
            Some(503) => {
                let message = answer["message"].as_str().unwrap();
                assert!(message.ends_with("the limit is 16777216"), "{message}");
                refused += 1;
            }
            _ => panic!("{answer}"),
        }
    }
    assert!(refused > 50 && here.len() > 300, "{} and {refused}", here.len());
    check(&master);
    drop(here);
    for id in 1000..1500 {
        let mut slave = Guest::slave(address, id, json!({})).await;
        eventually_registers(&mut slave, &data).await;
    }
    check(&master);
}

/// There is room as soon as the master knows that others are gone.
async fn eventually_registers(slave: &mut Guest, data: &str) {
    for _ in 0..1000 {
        if slave.ask("register_node", data).await["code"] == 200 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("there is no room");
}

/// Peers that report a frame full of instances and go.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn instances_of_slaves_that_came_and_went_take_no_memory() {
    let (master, address) = guarded();
    let each = FRAME / instances(1_000_000, 1).len();
    for id in 0..200 {
        let mut slave = Guest::slave(address, id, json!({})).await;
        let data = instances(1_000_000 + id as usize * each, each);
        let refused = slave.ask("update_instances", &data).await;
        let limit = format!("{each} instances, the limit for a slave is 256");
        assert_eq!(refused["error"], limit);
    }
    check(&master);
    let mut control = Guest::control(address).await;
    let answer = control.ask("list_instances", "{}").await;
    assert_eq!(answer["list"], json!([]), "{} bytes", answer.to_string().len());
    check(&master);
}

fn slave_of(answer: &Value, instance: u64) -> Option<i64> {
    let list = answer["list"].as_array().unwrap();
    list.iter().find(|it| it["id"] == instance)?["assigned_slave"].as_i64()
}

/// An instance belongs to the slave that reported it first, until that one is gone and another
/// reports it.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_instance_whose_slave_is_away_yields_to_the_slave_that_has_it() {
    let (master, address) = guarded();
    let mut control = Guest::control(address).await;
    let mut squatter = Guest::slave(address, 1, json!({})).await;
    squatter.ask("update_instances", &instances(31, 2)).await;
    let mut other = Guest::slave(address, 2, json!({})).await;
    other.ask("update_instances", &instances(31, 1)).await;
    let list = control.ask("list_instances", "{}").await;
    assert_eq!((slave_of(&list, 31), slave_of(&list, 32)), (Some(1), Some(1)), "it is there");
    drop(squatter);
    master.program.says("left peer=slave 1");
    let list = control.ask("list_instances", "{}").await;
    assert_eq!(slave_of(&list, 31), Some(1), "nobody else has asked for it yet");
    other.ask("update_instances", &instances(31, 1)).await;
    let list = control.ask("list_instances", "{}").await;
    assert_eq!((slave_of(&list, 31), slave_of(&list, 32)), (Some(2), Some(1)));
    // Who comes back finds it taken, and has what nobody took.
    let mut squatter = Guest::slave(address, 1, json!({})).await;
    squatter.ask("update_instances", &instances(31, 2)).await;
    let list = control.ask("list_instances", "{}").await;
    assert_eq!((slave_of(&list, 31), slave_of(&list, 32)), (Some(2), Some(1)));
}

/// Nodes that have all that a node may have: their list does not fit a frame.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_list_that_is_longer_than_a_frame_is_told_in_parts() {
    let (master, address) = guarded();
    let mut slaves = Vec::new();
    for id in 0..64 {
        let packages: Vec<String> =
            (0..256).map(|n| format!("\"{:0>128}\"", id * 256 + n)).collect();
        let mut slave = Guest::slave(address, id, json!({})).await;
        let answer = slave.ask("register_node", &node(&packages.join(","))).await;
        assert_eq!(answer["code"], 200, "{answer}");
        slaves.push(slave);
    }
    let list = eventually("the list of the nodes", || {
        let (code, out, err) = master.ask(&["--token", TOKEN, "--json", "nodes"]);
        assert_eq!((code, err.as_str()), (0, ""), "{}", &out[..out.len().min(500)]);
        programs::lines(&out).pop()
    });
    let list = list.as_array().unwrap();
    let ids: Vec<i64> = list.iter().map(|node| node["id"].as_i64().unwrap()).collect();
    assert_eq!(ids, (0..64).collect::<Vec<_>>());
    assert!(list.iter().all(|node| node["installedPackages"].as_array().unwrap().len() == 256));
    let (_, out, _) = master.ask(&["--token", TOKEN, "nodes"]);
    assert_eq!(out.lines().count(), 65);
    check(&master);
}

/// More players than a frame can tell of.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_queue_that_is_longer_than_a_frame_is_told_in_parts() {
    const PLAYERS: i64 = 20_000;
    let (master, address) = guarded();
    let mut control = Guest::control(address).await;
    for user in 0..PLAYERS {
        let join = format!(r#"{{"userId":{user},"gameId":1,"request_from":"api"}}"#);
        control.ask("join_queue", &join).await;
    }
    let (code, out, err) = master.ask(&["--token", TOKEN, "--json", "queue"]);
    assert_eq!((code, err.as_str()), (0, ""), "{}", &out[..out.len().min(500)]);
    let list = programs::lines(&out).pop().unwrap();
    let users: Vec<i64> =
        list.as_array().unwrap().iter().map(|entry| entry["userId"].as_i64().unwrap()).collect();
    assert_eq!(users, (0..PLAYERS).collect::<Vec<_>>());
    let last = (PLAYERS - 1).to_string();
    let (_, out, _) = master.ask(&["--token", TOKEN, "play", "--user", &last, "--game", "2"]);
    assert!(out.contains("has this place for game 1 already"), "{out}");
}

/// A master that assigns one instance after the other to a slave.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_slave_takes_no_more_instances_than_it_can_tell_of() {
    async fn update(request: UpdateInstances, ctx: Ctx<Sender<usize>>) -> Result<Empty, String> {
        ctx.state().send(request.instances.len()).await.map_err(|error| error.to_string())?;
        Ok(Empty {})
    }
    let (told, mut reports) = channel(16);
    let router = Router::new(told).request(update);
    let master = seqlink::Master::builder().router(router).build().unwrap();
    let url = format!("ws://{}/", master.listen("127.0.0.1:0").await.unwrap());
    let arguments = ["--master", &url, "--id", "5", "--clusterio", "sleep 60"];
    let slave = Program::start(subcommand("slave", &arguments));
    assert_eq!(reports.recv().await, Some(0));
    let link = master.slave(5).unwrap();
    let assign = async |instance_id: i64, bytes: usize| {
        let config = serde_json::value::to_raw_value(&json!({"a": "x".repeat(bytes - 8)})).unwrap();
        let assigned =
            link.request(&AssignInstance { instance_id, serialized_config: config }).await;
        assigned.map_err(|error| error.to_string())
    };
    // Many, then large ones.
    for id in 0..256 {
        assign(id, 100).await.unwrap();
    }
    assert_eq!(
        assign(256, 100).await.unwrap_err(),
        "This slave has 256 instances, the limit is 256"
    );
    assign(0, 200).await.expect("a new configuration of one that it has");
    for id in 1..256 {
        link.request(&DeleteInstance { instance_id: id }).await.unwrap();
    }
    for id in 1..8 {
        assign(id, 100_000).await.unwrap();
    }
    let error = assign(8, 100_000).await.unwrap_err();
    assert_eq!(error, "The configurations would have 800200 bytes together, the limit is 786432");
    assert!(assign(0, 100_000).await.is_err(), "nor a larger one of one that it has");
    let (_, most) = memory(slave.id());
    assert!(most < MOST, "{most} KiB");
    // What it has it can tell of.
    link.close("once more");
    assert_eq!(reports.recv().await, Some(8));
}

/// A master that tells a control of players faster than anybody reads what the control prints.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_control_that_nobody_reads_keeps_few_updates() {
    async fn join(_: JoinQueue, _: Ctx) -> Result<JoinQueueResponse, String> {
        Ok(JoinQueueResponse { status: PlayerStatus::Queued, position: 1 })
    }
    let master = seqlink::Master::builder().router(Router::new(()).request(join)).build().unwrap();
    let url = format!("ws://{}/", master.listen("127.0.0.1:0").await.unwrap());
    let (_reader, stdout) = std::io::pipe().unwrap();
    let mut control = subcommand(
        "control",
        &["--master", &url, "play", "--user", "7", "--game", "1", "--follow"],
    );
    control.stdin(Stdio::null()).stdout(stdout);
    let mut control = control.spawn().unwrap();
    let link = loop {
        match master.controls().pop() {
            Some(link) => break link,
            None => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    };
    let (mut sent, mut position) = (0, 2);
    // All, or until there is no room any more: the control's link has a bound too.
    while sent < 100_000 {
        let update = PlayerUpdate {
            user_id: 7,
            game_id: 1,
            status: PlayerStatus::Queued,
            position,
            slave_id: None,
            message: Some("x".repeat(1000)),
        };
        match tokio::time::timeout(Duration::from_secs(3), link.event(&update)).await {
            Ok(Ok(())) => (sent, position) = (sent + 1, position + 1),
            _ => break,
        }
    }
    let (_, most) = memory(control.id());
    let _ = control.kill();
    let _ = control.wait();
    println!("{most} KiB after {sent} updates");
    assert!(sent > 2 * 1024 && most < MOST, "{most} KiB after {sent} updates");
}

/// A master without a free descriptor waits instead of spinning, and lets others in when
/// there are some again.
#[test]
fn a_master_without_descriptors_waits_and_goes_on() {
    let master = subcommand("master", &[]);
    let mut command = std::process::Command::new("sh");
    command
        .arg("-c")
        .arg("ulimit -n 40 && exec \"$0\" \"$@\"")
        .arg(master.get_program())
        .args(master.get_args());
    programs::settle(&mut command);
    let master = Master::from(command);
    let address = master.url.trim_start_matches("ws://").trim_end_matches("/api/socket");
    // More than it can take, and none says a word.
    let silent: Vec<std::net::TcpStream> =
        (0..60).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
    master.program.says("cannot accept, trying again");
    let before = cpu_time(master.program.id());
    std::thread::sleep(Duration::from_secs(2));
    let used = cpu_time(master.program.id()) - before;
    assert!(used < Duration::from_millis(700), "{used:?} in 2 s");
    drop(silent);
    let (code, out, err) = master.ask(&["nodes"]);
    assert_eq!(code, 0, "{out}{err}");
}

/// The time that a process has spent on the processors.
fn cpu_time(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The name, in parentheses, may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = fields[11..13].iter().map(|ticks| ticks.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 10)
}
