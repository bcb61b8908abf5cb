//! The program: its subcommands, and what is said before one of them begins.

mod control;
mod master;
mod slave;
mod tour;

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use clap_complete::Shell;

use crate::node;
use crate::settings::file::{self, Settings};
use crate::settings::{self, Failure};

/// A master with a waiting queue, slaves that run what they are told, and a control.
#[derive(Debug, Parser)]
#[command(name = "seqlink", version, propagate_version = true)]
struct Program {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Master(master::Arguments),
    Slave(slave::Arguments),
    Control(control::Arguments),
    Tour(tour::Arguments),
    /// Print what completes this program's words in a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Write the manual pages into a folder.
    Man {
        /// The folder; it has to be there.
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
}

/// The program `seqlink`.
pub fn main() -> ExitCode {
    run(&std::env::args_os().collect::<Vec<_>>())
}

/// The program `seqlink` with its first word given: `main_of("tour")` is `seqlink tour`.
pub fn main_of(subcommand: &str) -> ExitCode {
    let mut words: Vec<OsString> = std::env::args_os().collect();
    let named = [OsString::from("seqlink"), subcommand.into()];
    if !is_reaper(&words) {
        words.splice(..words.len().min(1), named);
    }
    run(&words)
}

fn is_reaper(words: &[OsString]) -> bool {
    words.get(1).is_some_and(|first| first == node::REAPER)
}

fn run(words: &[OsString]) -> ExitCode {
    if is_reaper(words) {
        node::reap();
        return ExitCode::SUCCESS;
    }
    let matches = match file::read(Program::command(), words) {
        Ok(Settings::Use(matches)) => matches,
        Ok(Settings::Print(text)) => return settings::finish(print(&text)),
        Err(failure) => return settings::finish(Err(failure)),
    };
    match Program::from_arg_matches(&matches).unwrap_or_else(|error| error.exit()).command {
        Command::Master(arguments) => master::main(arguments),
        Command::Slave(arguments) => slave::main(&arguments),
        Command::Control(arguments) => control::main(arguments),
        Command::Tour(tour::Arguments {}) => tour::main(),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Program::command(), "seqlink", &mut script);
            settings::finish(print(&String::from_utf8_lossy(&script)))
        }
        Command::Man { folder } => {
            let written = clap_mangen::generate_to(Program::command(), &folder);
            let fault = |error| Failure::failed(format_args!("{}: {error}", folder.display()));
            settings::finish(written.map_err(fault))
        }
    }
}

/// Flushed, because whoever started this program may wait for a line.
fn print(text: &str) -> Result<(), Failure> {
    use io::Write as _;
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        // Whoever reads has seen enough, as `head` does.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome.map_err(Failure::failed),
    }
}
