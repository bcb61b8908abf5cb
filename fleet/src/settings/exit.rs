//! How the programs end: an exit code that a script can act on, and one line on stderr for people.

use std::fmt;
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Anything that has no code of its own.
pub(super) const FAILURE: u8 = 1;
/// The arguments cannot be used; clap ends with the same code.
pub(crate) const USAGE: u8 = 2;
/// How long the last words may take; nobody may be reading them.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why a program ends with another code than 0.
#[derive(Debug)]
pub struct Failure {
    pub(crate) code: u8,
    /// Empty when it has been said already.
    pub(crate) message: String,
}

impl Failure {
    /// Ends with `code`, saying `message`.
    pub(crate) fn new(code: u8, message: impl fmt::Display) -> Self {
        Self { code, message: message.to_string() }
    }

    /// Ends with code 1, saying `message`.
    pub(crate) fn failed(message: impl fmt::Display) -> Self {
        Self::new(FAILURE, message)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// The exit code of `outcome`; a failure is printed to stderr.
pub(crate) fn finish(outcome: Result<(), Failure>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.message.is_empty() {
                within(PATIENCE, move || eprintln!("error: {}", failure.message));
            }
            ExitCode::from(failure.code)
        }
    }
}

/// Does `work` on a thread of its own, and waits for its end, but no longer than `patience`.
pub(crate) fn within(patience: Duration, work: impl FnOnce() + Send + 'static) {
    let (done, end) = mpsc::channel::<()>();
    let work = move || {
        work();
        drop(done);
    };
    if thread::Builder::new().spawn(work).is_ok() {
        // Either the work is done, and the channel closed, or the time is over.
        let _ = end.recv_timeout(patience);
    }
}
