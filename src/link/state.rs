use std::fmt;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::close::Closed;

/// What state a link is in.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum LinkState {
    /// It has a socket.
    Connected,
    /// Its socket was lost, and the session is held for a new one. What is sent meanwhile waits.
    Resuming {
        /// How the socket was lost.
        cut: Closed,
        /// How many frames are held for the peer.
        held: usize,
        /// When the session ends if it is not resumed.
        until: Instant,
    },
    /// It has a socket again, and nothing was lost.
    Resumed {
        /// How many frames were sent again.
        again: usize,
    },
    /// It has ended, and why.
    Ended(Closed),
}

impl LinkState {
    /// How long the session is still held, when it has no socket.
    pub fn time_left(&self) -> Option<Duration> {
        match self {
            Self::Resuming { until, .. } => Some(until.saturating_duration_since(Instant::now())),
            _ => None,
        }
    }
}

impl fmt::Display for LinkState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connected => f.write_str("connected"),
            Self::Resuming { cut, held, .. } => write!(f, "resuming, {held} frames held: {cut}"),
            Self::Resumed { again } => write!(f, "resumed, {again} frames sent again"),
            Self::Ended(closed) => write!(f, "ended: {closed}"),
        }
    }
}

/// The states of a link, one after the other.
///
/// Who looks too seldom sees the newest state and not those between.
#[derive(Debug)]
pub struct States {
    receiver: watch::Receiver<LinkState>,
}

impl States {
    pub(super) fn new(receiver: watch::Receiver<LinkState>) -> Self {
        Self { receiver }
    }

    /// The present state.
    pub fn now(&self) -> LinkState {
        self.receiver.borrow().clone()
    }

    /// Waits for the next state; `None` after [`LinkState::Ended`].
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is ready, nothing is missed.
    pub async fn next(&mut self) -> Option<LinkState> {
        let ended = matches!(*self.receiver.borrow(), LinkState::Ended(_));
        // No state comes behind the end, but the end itself may not have been shown yet.
        if ended && !self.receiver.has_changed().unwrap_or(false) {
            return None;
        }
        self.receiver.changed().await.ok()?;
        Some(self.receiver.borrow_and_update().clone())
    }
}
