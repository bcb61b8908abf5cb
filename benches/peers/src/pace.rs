//! How long a load goes on, and what came of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

/// Whether one more request is to be made.
#[derive(Clone, Debug)]
pub enum Pace {
    /// So many are left.
    Count(Arc<AtomicU64>),
    /// Until the time is over. Nobody writes until then: the cores share what they read.
    Time(Arc<AtomicBool>),
}

impl Pace {
    pub fn count(requests: u64) -> Self {
        Self::Count(Arc::new(AtomicU64::new(requests)))
    }

    /// As many as the time allows.
    pub fn time(limit: Duration) -> Self {
        let over = Arc::<AtomicBool>::default();
        let end = Arc::clone(&over);
        tokio::spawn(async move {
            tokio::time::sleep(limit).await;
            end.store(true, Relaxed);
        });
        Self::Time(over)
    }

    pub fn take(&self) -> bool {
        match self {
            Self::Count(left) => {
                left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok()
            }
            Self::Time(over) => !over.load(Relaxed),
        }
    }
}

/// Counts the events that all links of a client have handled.
#[derive(Debug, Default)]
pub struct Counter {
    count: AtomicU64,
    target: AtomicU64,
    reached: Notify,
}

impl Counter {
    /// Waits for `events` more than the last call did.
    pub async fn more(&self, events: u64) {
        let target = self.target.fetch_add(events, SeqCst) + events;
        while self.count.load(SeqCst) < target {
            self.reached.notified().await;
        }
    }

    /// One more has come.
    pub fn one(&self) {
        let count = self.count.fetch_add(1, SeqCst) + 1;
        if count == self.target.load(SeqCst) {
            self.reached.notify_one();
        }
    }
}

/// What one worker, or one link, has done.
#[derive(Debug, Default)]
pub struct Tally {
    pub requests: u64,
    every: u64,
    round_trips: Vec<u32>,
}

impl Tally {
    /// With one request in flight each is timed, else one in sixteen.
    pub fn new(in_flight: usize) -> Self {
        Self { every: if in_flight == 1 { 1 } else { 16 }, ..Self::default() }
    }

    /// So many, none of them timed.
    pub fn of(requests: u64) -> Self {
        Self { requests, ..Self::default() }
    }

    /// Of the next request, if it is one that is timed.
    pub fn starts(&self) -> Option<Instant> {
        self.starts_at(self.requests)
    }

    /// Of the request with this number.
    pub fn starts_at(&self, number: u64) -> Option<Instant> {
        number.is_multiple_of(self.every).then(Instant::now)
    }

    pub fn ends(&mut self, started: Option<Instant>) {
        self.requests += 1;
        if let Some(started) = started {
            self.round_trips.push(started.elapsed().as_nanos().try_into().unwrap_or(u32::MAX));
        }
    }

    pub fn add(&mut self, other: Self) {
        self.requests += other.requests;
        self.round_trips.extend(other.round_trips);
    }
}

/// The outcome of a load, as the client tells it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Outcome {
    pub requests: u64,
    pub wall_ns: u64,
    /// The CPU time of the client's process.
    pub cpu_ns: u64,
    pub p50_ns: u64,
    pub p99_ns: u64,
    /// Requests of the slowest link by those of the median link.
    pub slowest: f64,
}

impl Outcome {
    pub fn of(clock: &Clock, links: Vec<Tally>) -> Self {
        let (wall_ns, cpu_ns) = clock.read();
        let mut counts: Vec<u64> = links.iter().map(|link| link.requests).collect();
        let mut times: Vec<u32> = links.into_iter().flat_map(|link| link.round_trips).collect();
        counts.sort_unstable();
        times.sort_unstable();
        let median = counts.get(counts.len() / 2).copied().unwrap_or(0);
        let least = counts.first().copied().unwrap_or(0);
        Self {
            requests: counts.iter().sum(),
            wall_ns,
            cpu_ns,
            p50_ns: times.get(times.len() / 2).copied().unwrap_or(0).into(),
            p99_ns: times.get(times.len() * 99 / 100).copied().unwrap_or(0).into(),
            slowest: least as f64 / (median as f64).max(1.0),
        }
    }
}

/// Wall clock and CPU time since it was started.
#[derive(Debug)]
pub struct Clock {
    started: Instant,
    cpu: u64,
}

impl Clock {
    pub fn start() -> Self {
        Self { started: Instant::now(), cpu: cpu_ns() }
    }

    pub fn read(&self) -> (u64, u64) {
        (self.started.elapsed().as_nanos() as u64, cpu_ns() - self.cpu)
    }
}

/// The CPU time of this process so far, the kernel's share included.
pub fn cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
