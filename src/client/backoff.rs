use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};
use std::mem;
use std::time::Duration;

use tokio::time::Instant;

/// When a client dials again.
///
/// The delay before attempt `n` (from 0) is uniform in 0 … min(`base`·2ⁿ, `most`), so that the
/// slaves of a restarted master do not all come back at once. A link or a socket of it that lasted
/// for `stable` starts the count anew.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reconnect {
    /// The bound of the first delay: 0.25 s.
    pub base: Duration,
    /// The bound of any delay: 30 s.
    pub most: Duration,
    /// The bound of the first delay after a master has shut down, when all of its clients start to
    /// come back at the same time: 2 s.
    pub spread: Duration,
    /// How long a link lasts to count as stable: 10 s.
    pub stable: Duration,
    /// How many times in a row it dials again before it gives up; `None`, the default, for no end.
    pub attempts: Option<u32>,
}

impl Default for Reconnect {
    fn default() -> Self {
        Self {
            base: Duration::from_millis(250),
            most: Duration::from_secs(30),
            spread: Duration::from_secs(2),
            stable: Duration::from_secs(10),
            attempts: None,
        }
    }
}

impl Reconnect {
    /// One attempt: the first failure and the end of the link are final.
    pub fn never() -> Self {
        Self { attempts: Some(0), ..Self::default() }
    }
}

/// Counts failures and draws delays.
#[derive(Debug)]
pub(super) struct Backoff {
    rules: Reconnect,
    failures: u32,
    since: Option<Instant>,
    /// All clients of the master draw their next delay at the same time.
    spread: bool,
}

impl Backoff {
    pub(super) fn new(rules: Reconnect) -> Self {
        Self { rules, failures: 0, since: None, spread: false }
    }

    pub(super) fn connected(&mut self) {
        self.since = Some(Instant::now());
    }

    pub(super) fn disconnected(&mut self) {
        let lasted = self.since.take().map(|since| since.elapsed());
        if lasted.is_some_and(|lasted| lasted >= self.rules.stable) {
            self.failures = 0;
        }
    }

    /// The master has shut down: all of its clients come back at the same time.
    pub(super) fn spread(&mut self) {
        self.spread = true;
    }

    /// The delay before the next attempt; `None` when there shall be none.
    pub(super) fn next(&mut self) -> Option<Duration> {
        if self.rules.attempts.is_some_and(|most| self.failures >= most) {
            return None;
        }
        let doubled =
            self.rules.base.saturating_mul(1_u32.checked_shl(self.failures).unwrap_or(u32::MAX));
        self.failures = self.failures.saturating_add(1);
        let least = if mem::take(&mut self.spread) { self.rules.spread } else { Duration::ZERO };
        Some(doubled.max(least).min(self.rules.most).mul_f64(random()))
    }
}

/// From 0 to 1, fresh for every call: each hasher of the standard library is keyed anew.
fn random() -> f64 {
    let bits = RandomState::new().build_hasher().finish() >> 11;
    bits as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn delays_grow_to_the_bound_and_a_stable_link_starts_anew() {
        let mut backoff = Backoff::new(Reconnect::default());
        for attempt in 0..40 {
            let bound = 0.25 * 2_f64.powi(attempt.min(7));
            let delay = backoff.next().unwrap();
            assert!(delay.as_secs_f64() <= bound.min(30.0), "{attempt}: {delay:?}");
        }
        backoff.connected();
        tokio::time::advance(Duration::from_secs(9)).await;
        backoff.disconnected();
        assert_eq!(backoff.failures, 40);
        backoff.connected();
        tokio::time::advance(Duration::from_secs(10)).await;
        backoff.disconnected();
        assert!(backoff.next().unwrap() <= Duration::from_millis(250));
    }

    #[test]
    fn the_clients_of_a_master_that_shuts_down_come_back_over_two_seconds() {
        let draws = (0..1000).map(|_| {
            let mut backoff = Backoff::new(Reconnect::default());
            backoff.spread();
            let delay = backoff.next().unwrap();
            assert!(backoff.next().unwrap() <= Duration::from_millis(500), "once");
            delay.as_secs_f64()
        });
        let draws: Vec<f64> = draws.collect();
        for quarter in 0..4 {
            let within = draws.iter().filter(|draw| (**draw * 2.0) as i32 == quarter).count();
            assert!(within > 150, "{within} of 1000 in half second {quarter}");
        }
    }

    #[test]
    fn delays_are_spread_over_their_whole_range() {
        let draws: Vec<f64> = (0..1000).map(|_| random()).collect();
        assert!(draws.iter().all(|draw| (0.0..1.0).contains(draw)));
        for tenth in 0..10 {
            let within = draws.iter().filter(|draw| (**draw * 10.0) as i32 == tenth).count();
            assert!(within > 30, "{within} of 1000 in tenth {tenth}");
        }
    }

    #[test]
    fn attempts_end() {
        assert_eq!(Backoff::new(Reconnect::never()).next(), None);
        let mut twice = Backoff::new(Reconnect { attempts: Some(2), ..Reconnect::default() });
        assert!(twice.next().is_some() && twice.next().is_some());
        assert_eq!(twice.next(), None);
    }
}
