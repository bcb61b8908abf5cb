//! What is said: text for people, JSON for programs.

use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

use serde::Serialize;

use super::printable_json;
use crate::settings::{self, Failure};

/// Which of the two is wanted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    /// JSON, one value per line.
    pub(crate) json: bool,
}

impl Output {
    /// Prints `value` as a line of JSON, or what `text` makes of it.
    pub(crate) fn show<T: Serialize>(
        self,
        value: &T,
        text: impl FnOnce(&T) -> String,
    ) -> Result<(), Failure> {
        let text = if self.json {
            let json = serde_json::to_string(value).map_err(Failure::failed)?;
            printable_json(&json) + "\n"
        } else {
            text(value)
        };
        let mut stdout = io::stdout().lock();
        match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
            // Whoever reads has seen enough, as `head` does.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            outcome => outcome.map_err(Failure::failed),
        }
    }

    /// The exit code of `outcome`. A failure is said once: as a line of JSON on stdout, or as text
    /// on stderr.
    pub(crate) fn finish(self, outcome: Result<(), Failure>) -> ExitCode {
        match outcome {
            Err(failure) if self.json && !failure.message.is_empty() => {
                let error = serde_json::json!({ "error": failure.message });
                match self.show(&error, ToString::to_string) {
                    Ok(()) => ExitCode::from(failure.code),
                    // Nobody can be told there.
                    Err(_) => settings::finish(Err(failure)),
                }
            }
            outcome => settings::finish(outcome),
        }
    }
}
