use std::fmt;
use std::time::Duration;

use futures::stream::{self, Stream};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::close::{Closed, ClosedBy};

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
        /// How many frames were held for the peer when this state began.
        held: usize,
        /// When the session ends if it is not resumed.
        until: Instant,
        /// When a client dials next. A master has to wait for its client: `None`.
        next_try: Option<Instant>,
    },
    /// It has a socket again, and nothing was lost.
    Resumed {
        /// How many frames were sent again.
        again: usize,
    },
    /// It has ended, and nobody wanted that: its socket was lost, and its session could not be
    /// resumed or it had none. The last state.
    Lost(Closed),
    /// It was closed, by whom and why. The last state.
    Closed(Closed),
}

impl LinkState {
    /// The last state of a link that has ended.
    pub(super) fn of_end(closed: Closed) -> Self {
        match closed.by {
            ClosedBy::Lost => Self::Lost(closed),
            ClosedBy::Local | ClosedBy::Remote => Self::Closed(closed),
        }
    }

    /// How the link has ended, if it has.
    pub fn end(&self) -> Option<&Closed> {
        match self {
            Self::Lost(closed) | Self::Closed(closed) => Some(closed),
            Self::Connected | Self::Resuming { .. } | Self::Resumed { .. } => None,
        }
    }

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
            Self::Lost(closed) | Self::Closed(closed) => closed.fmt(f),
        }
    }
}

/// Counts of received messages that led to nothing; the link stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ignored {
    /// Events without a handler, from the wrong side, or with wrong data.
    pub events: u64,
    /// Responses that nobody waits for: late ones, and those to nobody.
    pub responses: u64,
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

    /// Waits for the next state; `None` after the last.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is ready, nothing is missed.
    pub async fn next(&mut self) -> Option<LinkState> {
        let ended = self.receiver.borrow().end().is_some();
        // No state comes behind the end, but the end itself may not have been shown yet.
        if ended && !self.receiver.has_changed().unwrap_or(false) {
            return None;
        }
        self.receiver.changed().await.ok()?;
        Some(self.receiver.borrow_and_update().clone())
    }

    /// The same as a stream: it begins with the next state, and ends after the last.
    pub fn into_stream(self) -> impl Stream<Item = LinkState> + Send + 'static {
        stream::unfold(self, |mut states| async move {
            let state = states.next().await?;
            Some((state, states))
        })
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn a_state_that_came_before_it_was_asked_for_is_shown_once() {
        let (sender, receiver) = watch::channel(LinkState::Connected);
        let mut states = States::new(receiver);
        assert!(states.next().now_or_never().is_none());
        sender.send_replace(LinkState::Resumed { again: 3 });
        let next = states.next().now_or_never().expect("it has come");
        assert!(matches!(next, Some(LinkState::Resumed { again: 3 })));
        sender.send_replace(LinkState::of_end(Closed::lost("gone")));
        let next = states.next().now_or_never().expect("it has come");
        assert!(matches!(next, Some(LinkState::Lost(_))));
        assert!(matches!(states.next().now_or_never(), Some(None)));
        // Who comes after the end waits for nothing.
        let mut late = States::new(sender.subscribe());
        assert!(matches!(late.next().now_or_never(), Some(None)));
    }
}
