//! The log on its way to stderr. Nobody may be reading there: then lines are lost, and counted, and
//! nobody waits for them.

use std::fmt;
use std::io::{self, Write};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};

use super::exit::within;

/// Most lines that wait to be written.
const WAITING: usize = 4096;
/// How long the end of a program waits for those lines.
const PATIENCE: Duration = Duration::from_millis(1500);

/// Writes what is left when it is dropped, as far as anybody reads it.
#[must_use = "lines that still wait are lost with the program"]
pub(crate) struct Log(Option<WorkerGuard>);

/// A writer to `target` for many threads, none of which ever waits for it.
pub(crate) fn lossy(target: impl Write + Send + 'static) -> (NonBlocking, Log) {
    let lost = Arc::new(OnceLock::new());
    let lines = Lines { target, lost: Arc::clone(&lost), told: 0 };
    let (writer, guard) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(WAITING)
        .thread_name("log")
        .finish(lines);
    // The first line may come before this; what is lost comes after a thousand of them.
    let _ = lost.set(writer.error_counter());
    (writer, Log(Some(guard)))
}

impl Drop for Log {
    fn drop(&mut self) {
        let guard = self.0.take();
        // Where the lines do not go out the guard complains on stdout, which may be the same pipe.
        within(PATIENCE, move || drop(guard));
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").finish_non_exhaustive()
    }
}

/// The end of the queue, on a thread of its own.
struct Lines<W> {
    target: W,
    lost: Arc<OnceLock<ErrorCounter>>,
    /// How many lost lines have been told.
    told: usize,
}

impl<W: Write> Write for Lines<W> {
    /// One line. Lines are lost while others wait, so there is always one behind a loss that can
    /// tell of it.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let lost = self.lost.get().map_or(0, ErrorCounter::dropped_lines);
        if lost > self.told {
            let more = lost - self.told;
            writeln!(self.target, "{more} lines of the log were lost: nobody read them in time")?;
            self.told = lost;
        }
        self.target.write_all(line)?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.target.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::time::Instant;

    use super::*;

    #[test]
    fn nobody_waits_for_who_does_not_read_and_what_is_lost_is_told() {
        let (reader, pipe) = io::pipe().unwrap();
        let (mut writer, log) = lossy(pipe);
        let started = Instant::now();
        // Much more than a pipe holds.
        const ALL: usize = 10_000;
        for line in 0..ALL {
            writer.write_all(format!("{line:0>1000}\n").as_bytes()).unwrap();
        }
        drop((writer, log));
        assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
        // The thread of the log goes on, and ends with the last line that waited.
        let lines: Vec<String> = BufReader::new(reader).lines().map_while(Result::ok).collect();
        let told = lines.iter().filter(|line| line.len() == 1000).count();
        let lost = lines.iter().filter_map(|line| line.split_once(" lines of the log were lost"));
        let lost: usize = lost.map(|(count, _)| count.parse::<usize>().unwrap()).sum();
        assert!(told >= WAITING && told + lost == ALL, "{told} told, {lost} lost");
    }
}
