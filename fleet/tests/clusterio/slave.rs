//! The real Clusterio slave, and a control on its link classes, as processes.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command};
use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::programs::{Program, eventually, lines};

/// The ids that there are tokens for.
pub const IDS: [i64; 2] = [7, 8];

/// The folder that `fleet/tests/clusterio/install.sh` has filled.
pub fn installed() -> PathBuf {
    let folder = std::env::var_os("SEQLINK_CLUSTERIO");
    let folder = PathBuf::from(folder.expect("SEQLINK_CLUSTERIO names the folder with Clusterio"));
    assert!(folder.join("installed.json").exists(), "{} is not whole", folder.display());
    folder
}

/// An empty folder for the test of this name.
pub fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("clusterio-{name}"));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("the folder can be written");
    folder
}

/// A secret, and tokens that the real master has made with it.
pub struct Keys {
    /// As the real configuration holds it.
    pub secret: String,
    pub secret_file: String,
    /// For the slaves of [`IDS`].
    pub slaves: [String; 2],
    /// Of user alice.
    pub user: String,
}

/// Made once: each command takes the better part of a second.
pub fn keys() -> &'static Keys {
    static KEYS: OnceLock<Keys> = OnceLock::new();
    KEYS.get_or_init(|| {
        let folder = folder("keys");
        let program = installed().join("node_modules/.bin/clusteriomaster");
        let said = |arguments: &[&str]| {
            let mut command = Command::new(&program);
            command.current_dir(&folder).arg("bootstrap").args(arguments);
            let mut program = Program::start(command);
            assert_eq!(program.end(), 0, "{arguments:?}: {}", program.err());
            program.out().lines().last().unwrap_or_default().to_owned()
        };
        said(&["create-admin", "alice"]);
        let user = said(&["generate-user-token", "alice"]);
        let slaves = IDS.map(|id| said(&["generate-slave-token", &id.to_string()]));
        let config = std::fs::read(folder.join("config-master.json")).unwrap();
        let config: Value = serde_json::from_slice(&config).unwrap();
        let groups = config["groups"].as_array().unwrap();
        let master = groups.iter().find(|group| group["name"] == "master").unwrap();
        let secret = master["fields"]["auth_secret"].as_str().unwrap().to_owned();
        let secret_file = folder.join("secret");
        std::fs::write(&secret_file, &secret).unwrap();
        let secret_file = secret_file.to_str().unwrap().to_owned();
        Keys { secret, secret_file, slaves, user }
    })
}

/// A slave to be run.
pub struct RealSlave {
    folder: PathBuf,
    id: i64,
}

impl RealSlave {
    /// In a folder of its own; `name` is used by no other test.
    pub fn new(name: &str, id: i64) -> Self {
        let folder = folder(&format!("slave-{name}-{id}"));
        std::fs::create_dir(folder.join("factorio")).unwrap();
        Self { folder, id }
    }

    /// Gives it an instance that does not run.
    pub fn instance(self, id: i64, name: &str) -> Self {
        let folder = self.folder.join("instances").join(name);
        std::fs::create_dir_all(folder.join("saves")).unwrap();
        std::fs::write(folder.join("saves/world.zip"), "no save").unwrap();
        std::fs::write(folder.join("instance.json"), instance_config(id, name).to_string())
            .unwrap();
        self
    }

    /// Starts it for the master at `url`, which ends in a slash.
    pub fn start(&self, url: &str, token: &str) -> Program {
        let fields = json!({
            "id": self.id, "name": format!("slave {}", self.id), "public_address": "localhost",
            "factorio_directory": "factorio", "instances_directory": "instances",
            "master_url": url, "master_token": token, "max_reconnect_delay": 0.2,
        });
        let config = json!({"groups": [{"name": "slave", "fields": fields}]});
        std::fs::write(self.folder.join("config-slave.json"), config.to_string()).unwrap();
        let mut command = Command::new(installed().join("node_modules/.bin/clusterioslave"));
        command.current_dir(&self.folder).args(["--log-level", "verbose", "run"]);
        Program::start(command)
    }
}

/// The least that Clusterio takes as the configuration of an instance.
pub fn instance_config(id: i64, name: &str) -> Value {
    json!({"groups": [{"name": "instance", "fields": {"id": id, "name": name}}]})
}

fn control_command(words: &[&str]) -> Command {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clusterio/control.js");
    let mut command = Command::new("node");
    command.env("SEQLINK_CLUSTERIO", installed()).arg(script).args(words);
    command
}

/// What a control on the real link classes is answered, and its exit code.
pub fn control(url: &str, token: &str, requests: &[&str]) -> (i32, Vec<Value>) {
    let mut program = Program::start(control_command(&[&[url, token], requests].concat()));
    let code = program.end();
    (code, lines(&program.out()))
}

/// A control that is left running.
pub struct RealControl {
    pub program: Program,
    stdin: Option<ChildStdin>,
}

impl RealControl {
    pub fn start(url: &str, token: &str) -> Self {
        let (program, stdin) = Program::start_with_stdin(control_command(&[url, token, "wait"]));
        program.says("\"ready\"");
        Self { program, stdin: Some(stdin) }
    }

    /// Asks without waiting.
    pub fn ask(&mut self, name: &str, data: &Value) {
        let stdin = self.stdin.as_mut().expect("it still reads");
        writeln!(stdin, "{}", json!([name, data])).unwrap();
        stdin.flush().unwrap();
    }

    /// The answers so far, waiting for `count` of them.
    pub fn answers(&self, count: usize) -> Vec<Value> {
        eventually(&format!("{count} answers"), || {
            let said = lines(&self.program.out());
            let answer = |line: &Value| line.get("answer").or(line.get("error")).is_some();
            let answers: Vec<_> = said.into_iter().filter(answer).collect();
            (answers.len() >= count).then_some(answers)
        })
    }

    /// Lets it quit as its own program does. Returns the exit code.
    pub fn quit(&mut self) -> i32 {
        self.stdin = None;
        self.program.end()
    }
}
