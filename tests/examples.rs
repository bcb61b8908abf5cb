//! The examples, run as people run them: real processes, real sockets.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Longer than any of them takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn example(name: &str) -> Command {
    // Cargo builds the examples with the tests, into a folder beside theirs.
    let mut path: PathBuf = std::env::current_exe().expect("this test has a path");
    path.pop();
    path.pop();
    let path = path.join("examples").join(name);
    assert!(path.exists(), "{} is not built: cargo build --examples", path.display());
    let mut command = Command::new(path);
    command.env_remove("SEQLINK_TOKEN").env_remove("RUST_LOG").stdin(Stdio::null());
    command
}

/// Runs to the end, with a time limit.
fn run(name: &str, arguments: &[&str]) -> Output {
    let mut command = example(name);
    command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = Running(command.spawn().expect("the example is built"));
    let started = Instant::now();
    while child.0.try_wait().expect("the example runs").is_none() {
        assert!(started.elapsed() < PATIENCE, "{name} {arguments:?} does not end");
        std::thread::sleep(Duration::from_millis(10));
    }
    let mut output = Output {
        status: child.0.wait().expect("it has ended"),
        stdout: Vec::new(),
        stderr: Vec::new(),
    };
    let (mut out, mut err) = (child.0.stdout.take().unwrap(), child.0.stderr.take().unwrap());
    std::io::Read::read_to_end(&mut out, &mut output.stdout).unwrap();
    std::io::Read::read_to_end(&mut err, &mut output.stderr).unwrap();
    output
}

/// A child that does not outlive its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A master on a free port, and its address.
fn master(arguments: &[&str]) -> (Running, String) {
    let mut command = example("master");
    command.args(["--listen", "127.0.0.1:0"]).args(arguments);
    let mut master = Running(command.stdout(Stdio::piped()).spawn().expect("the master is built"));
    let mut first = String::new();
    let out = master.0.stdout.take().unwrap();
    BufReader::new(out).read_line(&mut first).unwrap();
    let url = first.strip_prefix("link ").expect("the first line is the link").trim().to_owned();
    assert!(url.starts_with("ws://127.0.0.1:") && url.ends_with("/api/socket"), "{url}");
    (master, url)
}

fn code(name: &str, arguments: &[&str]) -> i32 {
    let output = run(name, arguments);
    output.status.code().unwrap_or_else(|| panic!("{name} {arguments:?}: {output:?}"))
}

#[test]
fn the_tour_plays_its_story() {
    let output = run("tour", &[]);
    let story = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{story}\n{}", String::from_utf8_lossy(&output.stderr));
    for player in ["Ann", "Ben", "Cleo", "Dan", "Eve"] {
        assert!(story.contains(&format!("{player} plays on node")), "{player} in\n{story}");
    }
    assert!(story.contains("the cable is cut") && story.lines().count() <= 20, "{story}");
}

#[test]
fn every_example_explains_itself() {
    for name in ["master", "slave", "control", "tour"] {
        let output = run(name, &["--help"]);
        let help = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && help.contains("Usage"), "{name}: {help}");
    }
}

#[test]
fn exit_codes_tell_what_went_wrong() {
    let (_master, url) = master(&["--token", "sesame"]);
    let url = url.as_str();
    assert_eq!(code("slave", &["--no-such-option"]), 2);
    assert_eq!(code("control", &["--master", url]), 2);
    assert_eq!(code("slave", &["--master", url, "--once", "--token", "wrong"]), 77);
    assert_eq!(code("control", &["--master", url, "slaves"]), 77);
    assert_eq!(code("control", &["--master", url, "--token", "sesame", "slaves"]), 0);
    let nobody = ["--master", url, "--token", "sesame", "call", "99", "heartbeat", "{}"];
    assert_eq!(code("control", &nobody), 1);
    // Port 9 of this machine: nobody listens there.
    assert_eq!(code("slave", &["--master", "ws://127.0.0.1:9/", "--once"]), 69);
    assert_eq!(code("control", &["--master", "ws://127.0.0.1:9/", "queue"]), 69);

    let (_newer, url) = master(&["--protocol-version", "3.1.0"]);
    assert_eq!(code("slave", &["--master", &url, "--once"]), 76);
    assert_eq!(code("control", &["--master", &url, "nodes"]), 76);
}

#[test]
fn a_game_is_played_and_stopped() {
    let (_master, url) = master(&[]);
    let url = url.as_str();
    let mut slave = example("slave");
    slave.args(["--master", url, "--id", "4", "--name", "four"]);
    let _slave = Running(slave.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    let ask = |arguments: &[&str]| {
        let output = run("control", &[&["--master", url, "--json"], arguments].concat());
        String::from_utf8(output.stdout).unwrap() + &String::from_utf8_lossy(&output.stderr)
    };
    let until = |arguments: &[&str], text: &str| {
        let started = Instant::now();
        loop {
            let said = ask(arguments);
            if said.contains(text) {
                return;
            }
            assert!(started.elapsed() < PATIENCE, "no {text} in {said}");
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    until(&["nodes"], "\"idle\"");
    ask(&["play", "--user", "42", "--game", "1"]);
    until(&["nodes"], "\"playing\"");
    assert!(ask(&["nodes"]).contains("42"));
    ask(&["stop", "--user", "42", "--game", "1"]);
    until(&["nodes"], "\"idle\"");
}
