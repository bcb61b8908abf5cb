//! The program `seqlink` as people run it, and what its tests need beside it.
#![allow(dead_code, unreachable_pub, unused_imports, reason = "each test file uses a part")]

pub mod cable;
#[path = "../../../tests/programs/mod.rs"]
mod running;

use std::path::PathBuf;
use std::process::{Command, Output};

pub use running::{Program, eventually, example, own_folder, settle};
use serde_json::{Value, json};

/// The command that runs a subcommand.
pub fn subcommand(name: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_seqlink"));
    command.arg(name).args(arguments);
    settle(&mut command);
    command
}

/// Runs a subcommand to its end.
pub fn run(name: &str, arguments: &[&str]) -> Output {
    running::run(subcommand(name, arguments))
}

/// A master on a free port.
pub struct Master {
    pub program: Program,
    pub url: String,
}

impl Master {
    pub fn start(arguments: &[&str]) -> Self {
        Self::from(subcommand("master", arguments))
    }

    pub fn from(mut command: Command) -> Self {
        let program = Program::start({
            command.args(["--listen", "127.0.0.1:0"]);
            command
        });
        let first = eventually("the first line of the master", || {
            program.out().split_once('\n').map(|(first, _)| first.to_owned())
        });
        let url = first.strip_prefix("link ").expect("the first line is the link").to_owned();
        let is_address =
            ["ws", "wss"].iter().any(|it| url.starts_with(&format!("{it}://127.0.0.1:")));
        assert!(is_address && url.ends_with("/api/socket"), "{url}");
        Self { program, url }
    }

    /// The command of a client of this master.
    pub fn client(&self, name: &str, arguments: &[&str]) -> Command {
        subcommand(name, &[&["--master", &self.url], arguments].concat())
    }

    /// A slave that has registered.
    pub fn slave(&self, arguments: &[&str]) -> Program {
        let slave = Program::start(self.client("slave", arguments));
        slave.says("registered");
        slave
    }

    /// A control that is left running.
    pub fn control(&self, arguments: &[&str]) -> Program {
        Program::start(self.client("control", arguments))
    }

    /// The exit code of a control, its stdout and its stderr.
    pub fn ask(&self, arguments: &[&str]) -> (i32, String, String) {
        let mut control = self.control(arguments);
        let code = control.end();
        (code, control.out(), control.err())
    }

    /// The lines of JSON that a control prints.
    pub fn json(&self, arguments: &[&str]) -> Vec<Value> {
        lines(&self.ask(&[&["--json"], arguments].concat()).1)
    }

    /// Waits until node `id` is in this state. Returns what is listed of it.
    pub fn node(&self, id: i64, state: &str) -> Value {
        eventually(&format!("node {id} to be {state}"), || {
            let nodes = self.json(&["nodes"]).pop()?;
            nodes.as_array()?.iter().find(|n| n["id"] == id && n["state"] == state).cloned()
        })
    }
}

/// Lines of JSON.
pub fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

/// A path for a file of this test; `name` is used by no other.
pub fn path(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_file(&path);
    path.to_str().expect("the path is text").to_owned()
}

/// Writes a games file with one game: id 1, package `demo-nap`.
pub fn games_file(name: &str, launch: &str, shutdown: &str, password: &str) -> String {
    let storage = json!({
        "host": "127.0.0.1", "port": 9, "username": "ann", "password": password,
        "secure": {"enabled": false, "validation": false},
        "timeout": {"connection": 1, "operation": 1},
    });
    let commands = json!({"launch": launch, "shutdown": shutdown});
    let game =
        json!({"id": 1, "name": "Chess", "process": "c", "commands": commands, "backup": []});
    let games = json!([{"package": "demo-nap", "game": game, "storage": storage}]);
    let file = path(&format!("{name}.json"));
    std::fs::write(&file, games.to_string()).expect("the folder can be written");
    file
}
