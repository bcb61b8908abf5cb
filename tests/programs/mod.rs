//! Programs as people run them: real processes, real sockets, and no wait without end.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

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

/// The command that runs an example of this package.
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

/// A running program that does not outlive its test.
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
        let mut child = command.spawn().expect("the program is built");
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

    /// Waits for its end. Returns the exit code.
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

/// Runs a program to its end.
pub fn run(command: Command) -> Output {
    let mut program = Program::start(command);
    program.end();
    let status = program.child.wait().unwrap();
    Output { status, stdout: program.out().into(), stderr: program.err().into() }
}
