//! Runs a game: starts its process, and ends it in the order in which a game can still save.
//!
//! The game is the process that `commands.launch` starts, in a process group of its own. When
//! that process ends, so does the game, and what is left of its group is killed: a launcher that
//! hands over to another process has to wait for it, or `exec` it.
//!
//! Stopping runs `commands.shutdown`, with the process id in `GAME_PID`, and waits for it and then
//! for the game. A game that is still there gets SIGTERM, and in the end SIGKILL. A shutdown
//! command that fails, or that hangs and is killed, ends the wait early.

use std::fmt;
use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use seqlink::printable::Printable;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::Reaper;
use super::environment;
use super::group;

/// How long each step of stopping a game may take.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For the shutdown command itself.
    pub shutdown: Duration,
    /// For the game to end after a shutdown command that went well.
    pub end: Duration,
    /// For the game to end after SIGTERM.
    pub terminate: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            shutdown: Duration::from_secs(10),
            end: Duration::from_secs(5),
            terminate: Duration::from_secs(3),
        }
    }
}

/// Why a game does not start.
#[derive(Debug)]
pub(crate) enum StartError {
    /// The launch command has no words.
    NoCommand,
    /// The named command cannot be split into words.
    Words(&'static str, shell_words::ParseError),
    /// The system does not start the program.
    Spawn(String, io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCommand => f.write_str("commands.launch is empty"),
            Self::Words(which, error) => write!(f, "commands.{which} cannot be read: {error}"),
            Self::Spawn(program, error) => write!(f, "{program:?} does not start: {error}"),
        }
    }
}

/// A game's process; a cheap clone. Dropping it changes nothing.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    /// The process id, which is also the id of its group.
    pub(crate) pid: u32,
    stop: CancellationToken,
    ended: watch::Receiver<Option<Ended>>,
}

/// How a game ended.
#[derive(Clone, Debug)]
pub(crate) struct Ended {
    /// By itself, and content with it.
    pub(crate) success: bool,
    how: String,
}

impl Process {
    /// Starts `launch`; `shutdown` may be empty, and must be readable before anything is started.
    pub(crate) fn start(
        launch: &str,
        shutdown: &str,
        patience: Patience,
        reaper: Option<Reaper>,
    ) -> Result<Self, StartError> {
        let launch =
            shell_words::split(launch).map_err(|error| StartError::Words("launch", error))?;
        let shutdown =
            shell_words::split(shutdown).map_err(|error| StartError::Words("shutdown", error))?;
        let mut command = command(&launch).ok_or(StartError::NoCommand)?;
        let child = command.spawn().map_err(|error| StartError::Spawn(launch[0].clone(), error))?;
        let pid = child.id().unwrap_or_default();
        if let Some(reaper) = &reaper {
            reaper.watch(pid);
        }
        let stop = CancellationToken::new();
        let (tell, ended) = watch::channel(None);
        let keeper = Keeper { child, pid, shutdown, patience, stop: stop.clone() };
        tokio::spawn(async move {
            let ended = keeper.keep().await;
            if let Some(reaper) = &reaper {
                reaper.forget(pid);
            }
            tell.send_replace(Some(ended));
        });
        Ok(Self { pid, stop, ended })
    }

    /// Begins to stop the game; doing it twice changes nothing.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }

    /// Waits until the game and its group are gone. Returns how it ended.
    pub(crate) async fn ended(&self) -> Ended {
        let mut ended = self.ended.clone();
        let known = ended.wait_for(Option::is_some).await.ok().and_then(|ended| ended.clone());
        // The task that keeps the game is only ever dropped together with the runtime.
        known.unwrap_or_else(|| Ended { success: false, how: "the program ends".to_owned() })
    }
}

impl Ended {
    fn new(status: &io::Result<ExitStatus>) -> Self {
        match status {
            Ok(status) => Self { success: status.success(), how: status.to_string() },
            Err(error) => Self { success: false, how: format!("its end is not seen: {error}") },
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.how)
    }
}

/// The program and arguments of `words`, in a group of its own, with no terminal to read from and
/// with nothing of ours in its environment.
fn command(words: &[String]) -> Option<Command> {
    let (program, arguments) = words.split_first()?;
    let mut command = std::process::Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
    environment::clean(&mut command);
    group::own(&mut command);
    let mut command = Command::from(command);
    command.kill_on_drop(true);
    Some(command)
}

struct Keeper {
    child: Child,
    pid: u32,
    shutdown: Vec<String>,
    patience: Patience,
    stop: CancellationToken,
}

impl Keeper {
    /// Waits for the end of the game, or brings it about when asked to.
    async fn keep(mut self) -> Ended {
        tokio::select! {
            ended = self.child.wait() => {
                group::kill(self.pid);
                Ended::new(&ended)
            }
            () = self.stop.cancelled() => self.end().await,
        }
    }

    async fn end(&mut self) -> Ended {
        let patience = self.patience;
        let asked = self.run_shutdown().await;
        let mut ended = None;
        if asked {
            ended = timeout(patience.end, self.child.wait()).await.ok();
        }
        if ended.is_none() {
            info!(pid = self.pid, "the game gets SIGTERM");
            group::terminate(self.pid);
            ended = timeout(patience.terminate, self.child.wait()).await.ok();
        }
        group::kill(self.pid);
        match ended {
            Some(ended) => Ended::new(&ended),
            None => {
                warn!(pid = self.pid, "the game did not listen to SIGTERM: killed");
                // Where there are no groups this is what ends it.
                let _ = self.child.start_kill();
                Ended::new(&self.child.wait().await)
            }
        }
    }

    /// Whether the game has been asked to end, and may be waited for.
    async fn run_shutdown(&mut self) -> bool {
        let Some(mut command) = command(&self.shutdown) else {
            return false;
        };
        let mut child = match command.env("GAME_PID", self.pid.to_string()).spawn() {
            Ok(child) => child,
            Err(error) => {
                let program = Printable::new(&self.shutdown[0]);
                warn!(%error, ?program, "commands.shutdown does not start");
                return false;
            }
        };
        let group = child.id();
        let outcome = timeout(self.patience.shutdown, child.wait()).await;
        match &outcome {
            Ok(Ok(status)) if status.success() => return true,
            Ok(outcome) => warn!(outcome = %Ended::new(outcome), "commands.shutdown failed"),
            Err(_) => {
                warn!(patience = ?self.patience.shutdown, "commands.shutdown hangs: killed");
                if let Some(group) = group {
                    group::kill(group);
                }
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    /// What games files may rely on: the words of a shell, and none of what a shell does with them.
    #[test]
    fn a_command_line_is_words_and_quotes() {
        let cases: [(&str, &[&str]); 6] = [
            ("  sleep   10 ", &["sleep", "10"]),
            (r#"sh -c 'kill "$GAME_PID"'"#, &["sh", "-c", r#"kill "$GAME_PID""#]),
            (r#"a "b c"d '' "\"\\""#, &["a", "b cd", "", r#""\"#]),
            (r"my\ game \'x *.sav | $HOME", &["my game", "'x", "*.sav", "|", "$HOME"]),
            ("höhle 'ä ö'", &["höhle", "ä ö"]),
            ("a # b", &["a"]),
        ];
        for (line, words) in cases {
            assert_eq!(shell_words::split(line).unwrap(), words, "{line}");
        }
        assert!(shell_words::split("a 'b").is_err());
    }
}
