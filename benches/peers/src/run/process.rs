//! A process of ours: one order a line in, one answer a line out.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::client::Role;
use crate::pace::Outcome;
use crate::stacks::Stack;

/// Nothing that is asked of a process takes longer.
const PATIENCE: Duration = Duration::from_secs(120);

/// A program, and where its processes run.
#[derive(Clone, Debug)]
pub struct Rig {
    program: PathBuf,
    place: Place,
    /// The server's core and the client's; on a machine with one they are the same.
    cores: [usize; 2],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Both on one core, a thread each: then the time of a request is its whole cost.
    OneCore,
    /// On a core each, a thread each.
    TwoCores,
    /// On tokio's multi-thread runtime as it is by default, wherever the system puts its threads.
    MultiThread,
}

impl Rig {
    /// Processes of this program.
    pub fn new(program: PathBuf) -> Result<Self> {
        let allowed = sched_getaffinity(None)?;
        let mut cores = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core));
        let first = cores.next().context("no core")?;
        let cores = [cores.next_back().unwrap_or(first), first];
        Ok(Self { program, place: Place::OneCore, cores })
    }

    pub fn at(&self, place: Place) -> Self {
        Self { place, ..self.clone() }
    }

    pub fn place(&self) -> Place {
        self.place
    }

    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The cores that a server may use, and a client.
    fn cores(&self) -> Result<[CpuSet; 2]> {
        let [server, client] = self.cores;
        let only = |core| {
            let mut set = CpuSet::new();
            set.set(core);
            set
        };
        Ok(match self.place {
            Place::OneCore => [only(server), only(server)],
            Place::TwoCores => [only(server), only(client)],
            Place::MultiThread => [sched_getaffinity(None)?; 2],
        })
    }

    fn command(&self, stack: Stack, verb: &str) -> Command {
        if stack == Stack::Clusterio {
            let file = format!("clusterio/{verb}.mjs");
            let mut command = Command::new("node");
            command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join(file));
            return command;
        }
        let mut command = Command::new(&self.program);
        command.args([verb, stack.name()]);
        if self.place == Place::MultiThread {
            command.arg("--multi-thread");
        }
        command
    }
}

pub struct Process {
    child: Child,
    orders: ChildStdin,
    answers: Receiver<String>,
}

impl Process {
    fn start(mut command: Command, cores: &CpuSet) -> Result<Self> {
        let ours = sched_getaffinity(None)?;
        // A child inherits the cores of the thread that starts it.
        sched_setaffinity(None, cores)?;
        let started = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        sched_setaffinity(None, &ours)?;
        let mut child = started.with_context(|| format!("{command:?}"))?;
        let orders = child.stdin.take().context("no input")?;
        let output = BufReader::new(child.stdout.take().context("no output")?);
        let (answer, answers) = channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if answer.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, orders, answers })
    }

    pub fn order(&mut self, order: &str) -> Result<()> {
        writeln!(self.orders, "{order}").context("the process is gone")
    }

    pub fn answer(&mut self) -> Result<String> {
        match self.answers.recv_timeout(PATIENCE) {
            Ok(line) if line.starts_with("error") => bail!("{line}"),
            Ok(line) => Ok(line),
            Err(RecvTimeoutError::Timeout) => bail!("no answer within {PATIENCE:?}"),
            Err(RecvTimeoutError::Disconnected) => bail!("the process has ended"),
        }
    }

    fn ask(&mut self, order: &str) -> Result<String> {
        self.order(order)?;
        self.answer()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub struct Server {
    process: Process,
    pub address: String,
}

impl Server {
    pub fn start(rig: &Rig, stack: Stack, arguments: &[&str]) -> Result<Self> {
        let mut command = rig.command(stack, "serve");
        command.args(arguments);
        let [cores, _] = rig.cores()?;
        let mut process = Process::start(command, &cores)?;
        let port = process.answer()?;
        Ok(Self { process, address: format!("127.0.0.1:{port}") })
    }

    pub fn number(&mut self, order: &str) -> Result<u64> {
        Ok(self.process.ask(order)?.trim().parse()?)
    }
}

pub struct Client {
    process: Process,
    /// How the connecting went.
    pub connected: Outcome,
}

impl Client {
    pub fn start(rig: &Rig, server: &Server, stack: Stack, links: usize) -> Result<Self> {
        Self::as_role(rig, server, stack, links, Role::Direct)
    }

    pub fn as_role(
        rig: &Rig,
        server: &Server,
        stack: Stack,
        links: usize,
        role: Role,
    ) -> Result<Self> {
        let mut command = rig.command(stack, "drive");
        command.args(["--address", &server.address, "--links", &links.to_string()]);
        match role {
            Role::Direct => {}
            Role::Forward => drop(command.args(["--role", "forward"])),
            Role::Worker => drop(command.args(["--role", "worker"])),
        }
        let [_, cores] = rig.cores()?;
        let mut process = Process::start(command, &cores)?;
        let connected = serde_json::from_str(&process.answer()?)?;
        Ok(Self { process, connected })
    }

    pub fn ask(&mut self, order: &str) -> Result<Outcome> {
        self.order(order)?;
        self.outcome()
    }

    pub fn order(&mut self, order: &str) -> Result<()> {
        self.process.order(order)
    }

    pub fn outcome(&mut self) -> Result<Outcome> {
        Ok(serde_json::from_str(&self.process.answer()?)?)
    }
}
