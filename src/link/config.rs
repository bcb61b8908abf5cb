use std::time::Duration;

use tokio::time::Instant;

use crate::error::ConfigError;
use crate::session::{HEARTBEAT_INTERVALS, SESSION_TIMEOUTS};
use crate::setters::setters;

/// Times and limits of a link. Start from [`Config::default`] and set what has to differ.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// How long a request waits for its answer when neither its type nor the call says so:
    /// 10 seconds.
    pub request_timeout: Duration,
    /// How long the handshake may take, from the accepted or dialled socket to `ready`: 5 seconds. TLS has
    /// a time of its own.
    pub handshake_timeout: Duration,
    /// How long the TLS handshake on an accepted or dialled socket may take, before the time of
    /// `handshake_timeout` begins: 5 seconds. Feature `tls`.
    #[cfg(feature = "tls")]
    pub tls_timeout: Duration,
    /// Time between two WebSocket pings or heartbeats: 5 seconds. A peer that sends or takes no
    /// byte for two of these is given up, so a dead one is noticed after two to three. Where
    /// sessions are spoken, the master's value counts for both sides. From 10 ms to a day; a
    /// master's value beyond that is clamped.
    pub heartbeat_interval: Duration,
    /// How long a master keeps a session after a cut: 60 seconds. Clients learn it at `ready`. At
    /// most 30 days; a master's value beyond that is clamped.
    pub session_timeout: Duration,
    /// How long a graceful end waits for what both sides have begun: 10 seconds. See
    /// [`Link::disconnect`](crate::Link::disconnect).
    pub disconnect_timeout: Duration,
    /// How long a closing link waits for the peer's close frame: 2 seconds.
    pub close_timeout: Duration,
    /// How long one message may take from its first byte to its last: 60 seconds. Looked at with each
    /// heartbeat. A peer that takes longer for one loses the link; otherwise it could hold a part of
    /// `max_frame` for as long as it likes.
    pub frame_timeout: Duration,
    /// Most messages of the peer that are read in a second, and up to twice as many at once: any number. Above it
    /// reading pauses, for at most half of `heartbeat_interval` at a time, so a peer that goes on is slowed
    /// down and not given up.
    pub messages_per_second: u32,
    /// Longest frame in bytes, either way: 1 MiB. At most `outbox` and `inbox`.
    pub max_frame: usize,
    /// Most bytes that wait to be written or, in a session, to be acknowledged: 1 MiB. Senders wait for room.
    pub outbox: usize,
    /// Most bytes of received requests and events whose handlers have not finished: 4 MiB. Above
    /// it a request is answered `busy`, and an event ends the link. Each counts as its length and
    /// 256 bytes of overhead.
    pub inbox: usize,
    /// Most requests of this side that wait for an answer: 1,024. Further callers wait. A time
    /// limit may end up to a microsecond late for each request that waits.
    pub requests_in_flight: usize,
    /// Most requests of the peer that are handled at once: 256. Further ones are answered `busy`.
    pub handlers: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            request_timeout: Duration::from_secs(10),
            handshake_timeout: Duration::from_secs(5),
            #[cfg(feature = "tls")]
            tls_timeout: Duration::from_secs(5),
            heartbeat_interval: Duration::from_secs(5),
            session_timeout: Duration::from_secs(60),
            disconnect_timeout: Duration::from_secs(10),
            close_timeout: Duration::from_secs(2),
            frame_timeout: Duration::from_secs(60),
            messages_per_second: u32::MAX,
            max_frame: 1 << 20,
            outbox: 1 << 20,
            inbox: 4 << 20,
            requests_in_flight: 1024,
            handlers: 256,
        }
    }
}

impl Config {
    /// Returns when a handshake that begins now has taken too long.
    pub(crate) fn handshake_deadline(&self) -> Instant {
        let now = Instant::now();
        // A limit that `Instant` cannot represent counts as none.
        now.checked_add(self.handshake_timeout).unwrap_or(now + Duration::from_secs(86_400 * 365))
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        const MOST: usize = 1 << 30;
        let must = |good: bool, name, must| {
            if good { Ok(()) } else { Err(ConfigError::Limit { name, must }) }
        };
        let size = |bytes: usize| (8 * 1024..=MOST).contains(&bytes);
        let count = |count: usize| (1..=1 << 20).contains(&count);
        // The minimum has room for any error response.
        let sizes = "from 8 KiB to 1 GiB";
        let counts = "from 1 to 1,048,576";
        must(size(self.max_frame), "max_frame", sizes)?;
        must(size(self.outbox), "outbox", sizes)?;
        must(size(self.inbox), "inbox", sizes)?;
        // A longer frame would wait for room for ever.
        must(self.max_frame <= self.outbox, "max_frame", "at most `outbox`, where it may wait")?;
        must(self.max_frame <= self.inbox, "max_frame", "at most `inbox`, where it may wait")?;
        must(count(self.requests_in_flight), "requests_in_flight", counts)?;
        must(count(self.handlers), "handlers", counts)?;
        let beat = HEARTBEAT_INTERVALS.contains(&self.heartbeat_interval);
        must(beat, "heartbeat_interval", "from 10 ms to a day")?;
        must(self.messages_per_second > 0, "messages_per_second", "at least 1")?;
        let held = SESSION_TIMEOUTS.contains(&self.session_timeout);
        must(held, "session_timeout", "at most 30 days")
    }
}

setters!(Config {
    with_request_timeout: request_timeout, Duration;
    with_handshake_timeout: handshake_timeout, Duration;
    #[cfg(feature = "tls")]
    with_tls_timeout: tls_timeout, Duration;
    with_heartbeat_interval: heartbeat_interval, Duration;
    with_session_timeout: session_timeout, Duration;
    with_disconnect_timeout: disconnect_timeout, Duration;
    with_close_timeout: close_timeout, Duration;
    with_frame_timeout: frame_timeout, Duration;
    with_messages_per_second: messages_per_second, u32;
    with_max_frame: max_frame, usize;
    with_outbox: outbox, usize;
    with_inbox: inbox, usize;
    with_requests_in_flight: requests_in_flight, usize;
    with_handlers: handlers, usize;
});
