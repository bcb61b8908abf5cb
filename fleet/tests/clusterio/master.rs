//! The real Clusterio master as a process: set up by its own command line, in a folder of its own.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::programs::{Program, eventually};

/// Seconds between two heartbeats of the master.
pub const HEARTBEAT: &str = "0.5";
/// Seconds for which the master holds a session.
pub const SESSION: &str = "8";
/// The ids that there are tokens for.
pub const SLAVES: [i64; 2] = [7, 8];

/// The folder that `fleet/tests/clusterio/install.sh` has filled.
pub fn installed() -> PathBuf {
    let folder = std::env::var_os("SEQLINK_CLUSTERIO");
    let folder = PathBuf::from(folder.expect("SEQLINK_CLUSTERIO names the folder with Clusterio"));
    assert!(folder.join("installed.json").exists(), "{} is not whole", folder.display());
    folder
}

/// A folder with a configured master, and what it has handed out.
struct Template {
    folder: PathBuf,
    user: String,
    slaves: [String; 2],
}

/// Made once: each command of the master's takes the better part of a second.
fn template(installed: &Path) -> &'static Template {
    static TEMPLATE: OnceLock<Template> = OnceLock::new();
    TEMPLATE.get_or_init(|| {
        let folder = empty("template");
        let said = |arguments: &[&str]| {
            let said = ask(installed, &folder, arguments);
            said.lines().last().unwrap_or_default().to_owned()
        };
        said(&["config", "set", "master.bind_address", "127.0.0.1"]);
        said(&["config", "set", "master.heartbeat_interval", HEARTBEAT]);
        said(&["config", "set", "master.session_timeout", SESSION]);
        said(&["bootstrap", "create-admin", "alice"]);
        let user = said(&["bootstrap", "generate-user-token", "alice"]);
        let slaves = SLAVES.map(|id| said(&["bootstrap", "generate-slave-token", &id.to_string()]));
        Template { folder, user, slaves }
    })
}

/// An empty folder for the test of this name.
fn empty(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("clusterio-master-{name}"));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("the folder can be written");
    folder
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

fn command(installed: &Path, folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(installed.join("node_modules/.bin/clusteriomaster"));
    command.current_dir(folder).args(arguments);
    command
}

/// Runs a command of the master's to its end. Returns what it printed.
fn ask(installed: &Path, folder: &Path, arguments: &[&str]) -> String {
    let mut program = Program::start(command(installed, folder, arguments));
    assert_eq!(program.end(), 0, "{arguments:?}");
    program.out()
}

/// A port that was free just now: the master takes 0 for none at all.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A running master.
pub struct RealMaster {
    pub program: Program,
    pub address: SocketAddr,
    installed: PathBuf,
    folder: PathBuf,
}

impl RealMaster {
    /// Configured and started; `name` is used by no other test of the file.
    pub fn start(installed: &Path, name: &str) -> Self {
        let folder = empty(name);
        copy(&template(installed).folder, &folder);
        let port = free_port();
        ask(installed, &folder, &["config", "set", "master.http_port", &port.to_string()]);
        let program = run(installed, &folder);
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        Self { program, address, installed: installed.to_owned(), folder }
    }

    /// Kills it outright, as a machine that loses its power, and starts it once more.
    pub fn kill_and_start(&mut self) {
        self.program.kill();
        self.program = run(&self.installed, &self.folder);
    }

    /// The address as Clusterio writes it: with `http`.
    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// The token of user alice, an administrator.
    pub fn user_token(&self) -> &'static str {
        &template(&self.installed).user
    }

    /// The token of slave `id`, one of [`SLAVES`].
    pub fn slave_token(&self, id: i64) -> &'static str {
        let at = SLAVES.iter().position(|slave| *slave == id).expect("it has a token");
        &template(&self.installed).slaves[at]
    }

    /// How many lines of its log have this text.
    pub fn logged(&self, text: &str) -> usize {
        let log = self.program.out() + &self.program.err();
        log.lines().filter(|line| line.contains(text)).count()
    }

    /// Waits until `times` lines of its log have this text.
    pub fn logs(&self, text: &str, times: usize) {
        let what = format!("{text:?} in the master's log, {times} times");
        eventually(&what, || (self.logged(text) >= times).then_some(()));
    }
}

fn run(installed: &Path, folder: &Path) -> Program {
    let program = Program::start(command(installed, folder, &["--log-level", "verbose", "run"]));
    program.says("Started master");
    program
}

impl Drop for RealMaster {
    fn drop(&mut self) {
        self.program.kill();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
