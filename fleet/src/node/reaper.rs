//! Ends the games of a slave that died without a chance to end them itself.
//!
//! A slave that is killed outright leaves its game running in a process group of its own, on a
//! machine that the master will soon take for idle. So the slave starts itself once more as a
//! reaper and tells it over a pipe which groups are its games. When the slave is gone, however
//! that happened, the pipe ends and the reaper kills the groups that are still listed.

use std::collections::BTreeSet;
use std::io::{self, BufRead, Write};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};

use tracing::warn;

use super::environment;
use super::group;

/// The first argument of a program that is to be a reaper, and nothing else.
pub const ARGUMENT: &str = "--reap-orphans";

/// The slave's end of the pipe; a cheap clone.
#[derive(Clone, Debug)]
pub struct Reaper(Arc<Mutex<ChildStdin>>);

impl Reaper {
    /// Starts this program once more, with [`REAPER`](super::REAPER): its `main` hands over to
    /// [`reap`](super::reap) then.
    ///
    /// # Errors
    ///
    /// The program cannot be started.
    pub fn start() -> io::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(ARGUMENT).stdin(Stdio::piped()).stdout(Stdio::null());
        // Games can read the environment that it was started with.
        environment::clean(&mut command);
        // A Ctrl-C in the terminal is for the slave: the reaper has to outlive it.
        group::own(&mut command);
        let mut child = command.spawn()?;
        let pipe = child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
        Ok(Self(Arc::new(Mutex::new(pipe))))
    }

    /// The group of `pid` is a game.
    pub(crate) fn watch(&self, pid: u32) {
        self.tell('+', pid);
    }

    /// The group of `pid` is gone.
    pub(crate) fn forget(&self, pid: u32) {
        self.tell('-', pid);
    }

    fn tell(&self, sign: char, pid: u32) {
        // Nothing in here panics while it holds the lock, so a poisoned one is still good.
        let mut pipe = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Err(error) = writeln!(pipe, "{sign}{pid}") {
            warn!(%error, "the reaper is gone: a crash of this slave would leave its game running");
        }
    }
}

/// The reaper itself: reads the list until the slave is gone, then kills what is left on it.
pub fn run() {
    let mut games = BTreeSet::new();
    // A line that cannot be read means the same as the end of the pipe.
    for line in io::stdin().lock().lines().map_while(Result::ok) {
        match line.split_at_checked(1).map(|(sign, pid)| (sign, pid.parse::<u32>())) {
            Some(("+", Ok(pid))) => drop(games.insert(pid)),
            Some(("-", Ok(pid))) => drop(games.remove(&pid)),
            _ => {}
        }
    }
    for pid in games {
        group::kill(pid);
    }
}
