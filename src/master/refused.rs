//! Connections that come to no link: whoever can connect can make as many as they like, and must not
//! be able to fill a disk with what is said of them.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::sleep;

/// How much time lies between two lines of the log.
const EVERY: Duration = Duration::from_secs(1);

/// Tells of them: of the first at once, then how many there were and why the last one was, once a
/// second.
#[derive(Clone, Debug, Default)]
pub(super) struct RefusedConnections(Arc<Mutex<Tally>>);

/// Those that are not told yet.
#[derive(Debug, Default)]
struct Tally {
    count: u64,
    from: Option<SocketAddr>,
    error: String,
    /// Somebody tells of those that come within this second.
    minded: bool,
}

impl RefusedConnections {
    /// One more. Needs a running tokio runtime.
    pub(super) fn add(&self, from: Option<SocketAddr>, error: &impl fmt::Display) {
        let mut tally = self.tally();
        tally.count += 1;
        (tally.from, tally.error) = (from, error.to_string());
        if tally.minded {
            return;
        }
        tally.minded = true;
        tally.tell();
        drop(tally);
        tokio::spawn(self.clone().mind());
    }

    /// Tells of those that have not been told.
    pub(super) fn tell(&self) {
        self.tally().tell();
    }

    /// Tells of those that come, until there are none for as long as a line is apart from the next.
    async fn mind(self) {
        loop {
            sleep(EVERY).await;
            let mut tally = self.tally();
            if tally.count == 0 {
                tally.minded = false;
                return;
            }
            tally.tell();
        }
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tally {
    fn tell(&mut self) {
        let Self { count, from, error, .. } = self;
        if *count > 0 {
            let from = from.map(tracing::field::display);
            tracing::info!(count, from, %error, "connections came to no link");
        }
        *count = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_is_told_at_once_and_the_others_once_a_second() {
        let refused = RefusedConnections::default();
        let waiting = |refused: &RefusedConnections| {
            let tally = refused.tally();
            (tally.count, tally.minded)
        };
        refused.add(None, &"first");
        assert_eq!(waiting(&refused), (0, true), "told");
        for _ in 0..3 {
            refused.add(None, &"later");
        }
        sleep(EVERY / 2).await;
        assert_eq!(waiting(&refused), (3, true));
        sleep(EVERY).await;
        assert_eq!(waiting(&refused), (0, true), "told, and those of this second wait");
        refused.add(None, &"one more");
        assert_eq!(waiting(&refused), (1, true));
        refused.tell();
        assert_eq!(waiting(&refused), (0, true));
        sleep(EVERY * 2).await;
        assert_eq!(waiting(&refused), (0, false), "it is quiet: no task is left");
    }
}
