//! How fast messages are read.

use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

/// Pauses the reading of a link whose peer sends more messages in a second than it may.
#[derive(Debug)]
pub(super) struct Pace {
    per_second: u32,
    /// The longest pause.
    longest: Duration,
    /// How many may be read now.
    left: u32,
    since: Instant,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Pace {
    /// `None` where any number may be read: nothing is counted then.
    pub(super) fn new(per_second: u32, heartbeat_interval: Duration) -> Option<Self> {
        (per_second < u32::MAX).then(|| Self {
            per_second,
            longest: heartbeat_interval / 2,
            left: per_second,
            since: Instant::now(),
            pause: None,
        })
    }

    /// A message was read.
    pub(super) fn spend(&mut self) {
        self.left = self.left.saturating_sub(1);
    }

    /// Polls until a message may be read.
    pub(super) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.left > 0 {
                return Poll::Ready(());
            }
            let pause = self.pause.get_or_insert_with(|| {
                // A tenth of a second's worth at once: a pause for each message would cost more than
                // the message.
                let tenth = self.per_second.div_ceil(10);
                let until = self.since + Duration::from_secs(1) * tenth / self.per_second;
                let wait = until.saturating_duration_since(Instant::now());
                Box::pin(sleep(wait.min(self.longest)))
            });
            if pause.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.pause = None;
            self.refill(Instant::now());
        }
    }

    fn refill(&mut self, now: Instant) {
        let earned = (now - self.since).as_secs_f64() * f64::from(self.per_second);
        // At least one: the longest pause is over.
        self.left = (earned as u32).clamp(1, self.per_second);
        self.since = now;
    }
}
