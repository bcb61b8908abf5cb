//! Runs the examples as people run them: real processes, real sockets, and no wait without end.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]

pub mod cable;

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Asks again and again until there is an answer.
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(started.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The command that runs an example.
pub fn example(name: &str, arguments: &[&str]) -> Command {
    // Cargo builds the examples with the tests, into a folder beside theirs.
    let mut path: PathBuf = std::env::current_exe().expect("this test has a path");
    path.pop();
    path.pop();
    let path = path.join("examples").join(name);
    assert!(path.exists(), "{} is not built: cargo build --examples", path.display());
    let mut command = Command::new(path);
    command.args(arguments);
    settle(&mut command);
    command
}

/// Nothing of this machine's settings: no token, and a folder of the tests' own for those that
/// masters make.
pub fn settle(command: &mut Command) {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("run");
    own_folder(&folder);
    command.env_remove("SEQLINK_TOKEN").env_remove("RUST_LOG").env("XDG_RUNTIME_DIR", folder);
}

/// Makes a folder that is its user's alone, unless there is one.
pub fn own_folder(path: &Path) {
    let mut folder = std::fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut folder, 0o700);
    folder.recursive(true).create(path).expect("the folder can be made");
}

/// What a program has said so far, read all the time so that it never waits for a full pipe.
#[derive(Clone)]
struct Said(Arc<Mutex<String>>, Arc<JoinHandle<()>>);

impl Said {
    fn read(pipe: impl Read + Send + 'static) -> Self {
        let text = Arc::new(Mutex::new(String::new()));
        let said = Arc::clone(&text);
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
                *said.lock().unwrap() += &(String::from_utf8_lossy(&line) + "\n");
            }
        });
        Self(text, Arc::new(reader))
    }

    fn text(&self) -> String {
        self.0.lock().unwrap().clone()
    }
}

/// A running example that does not outlive its test.
pub struct Program {
    name: String,
    child: Child,
    out: Said,
    err: Said,
}

impl Program {
    pub fn start(mut command: Command) -> Self {
        command.stdin(Stdio::null());
        Self::spawn(command)
    }

    /// The same, with a pipe to its stdin.
    pub fn start_with_stdin(mut command: Command) -> (Self, ChildStdin) {
        command.stdin(Stdio::piped());
        let mut program = Self::spawn(command);
        let stdin = program.child.stdin.take().expect("it has been piped");
        (program, stdin)
    }

    fn spawn(mut command: Command) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the example is built");
        let out = Said::read(child.stdout.take().unwrap());
        let err = Said::read(child.stderr.take().unwrap());
        Self { name: format!("{command:?}"), child, out, err }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn out(&self) -> String {
        self.out.text()
    }

    pub fn err(&self) -> String {
        self.err.text()
    }

    /// Waits until it has said `text`, on stdout or stderr.
    pub fn says(&self, text: &str) {
        let what = format!("{text:?} of {}", self.name);
        eventually(&what, || (self.out() + &self.err()).contains(text).then_some(()));
    }

    /// Waits for its end; says the exit code.
    pub fn end(&mut self) -> i32 {
        let what = format!("the end of {}", self.name);
        let status = eventually(&what, || self.child.try_wait().expect("it can be waited for"));
        eventually(&what, || (self.out.1.is_finished() && self.err.1.is_finished()).then_some(()));
        status.code().unwrap_or_else(|| panic!("{}: {status}\n{}", self.name, self.err()))
    }

    #[cfg(unix)]
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).expect("it still runs");
    }

    #[cfg(unix)]
    pub fn interrupt(&self) {
        self.signal(rustix::process::Signal::INT);
    }

    /// Kills it outright.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- {}\n{}{}", self.name, self.out(), self.err());
        }
    }
}

/// Runs an example to its end.
pub fn run(name: &str, arguments: &[&str]) -> Output {
    let mut program = Program::start(example(name, arguments));
    program.end();
    let status = program.child.wait().unwrap();
    Output { status, stdout: program.out().into(), stderr: program.err().into() }
}

/// A master on a free port.
pub struct Master {
    pub program: Program,
    pub url: String,
}

impl Master {
    pub fn start(arguments: &[&str]) -> Self {
        Self::from(example("master", arguments))
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
        assert!(url.starts_with("ws://127.0.0.1:") && url.ends_with("/api/socket"), "{url}");
        Self { program, url }
    }

    /// The command of a client of this master.
    pub fn client(&self, name: &str, arguments: &[&str]) -> Command {
        example(name, &[&["--master", &self.url], arguments].concat())
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

    /// Waits until node `id` is in this state; says what is listed of it.
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
