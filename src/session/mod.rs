//! The pure state of a link: numbers, queued frames, signs of life.
//!
//! Nothing here knows a socket, a task or a clock; time is an argument. In the plain dialect a
//! session lives as long as its socket.

mod liveness;
mod streams;
#[cfg(test)]
mod tests;

pub use liveness::{Liveness, Verdict};
pub use streams::{Receiving, Sending};

pub use crate::wire::NumberError;

use thiserror::Error;

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::wire::{Dialect, FrameError};

/// The range of the time between two heartbeats, in our configuration and in a peer's message.
pub(crate) const HEARTBEAT_INTERVALS: RangeInclusive<Duration> =
    Duration::from_millis(10)..=Duration::from_secs(86_400);

/// The range of the time for which a session is kept, in our configuration and in a peer's message.
pub(crate) const SESSION_TIMEOUTS: RangeInclusive<Duration> =
    Duration::ZERO..=Duration::from_secs(30 * 86_400);

/// Returns the time that a peer has sent, clamped to `range`.
pub(crate) fn clamped(time: Duration, range: &RangeInclusive<Duration>) -> Duration {
    // The clock may not be able to represent a time that is longer.
    time.clamp(*range.start(), *range.end())
}

/// The numbered streams of a link, one per direction.
///
/// In the plain dialect a session ends with its socket, and a frame is dropped when it is written.
/// In the others it outlives any number of sockets: frames are kept until the peer acknowledges
/// them, and are sent again on the next socket.
#[derive(Debug)]
pub struct Session {
    /// The stream to the peer, shared by the senders and the task that writes.
    pub sending: Sending,
    /// The stream from the peer, owned by the task that reads.
    pub receiving: Receiving,
}

/// What to do with a frame that was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sequenced {
    /// It is the next one.
    New,
    /// It was received before: drop it.
    Duplicate,
}

/// How a peer broke the rule that each frame carries the number that follows the last one.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum SequenceError {
    /// The number cannot be read.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A number that is not the next one.
    #[error("seq {got} after {last}, expected {}", last + 1)]
    NotNext {
        /// The number before.
        last: u64,
        /// The number that came.
        got: u64,
    },
}

/// The peer acknowledges a frame that it was never sent.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("seq {got} is acknowledged, and {sent} was the last that was sent")]
pub struct AckError {
    got: u64,
    sent: u64,
}

impl Session {
    /// Creates a session whose first frame, in the handshake or after it, is numbered 1. When
    /// `early_bytes` have been received, they are acknowledged ahead of the next heartbeat.
    pub fn new(dialect: Dialect, early_bytes: usize) -> Self {
        Self { sending: Sending::new(dialect, 0), receiving: Receiving::new(&dialect, early_bytes) }
    }

    /// Creates a session that has already sent a frame numbered `last_sent`.
    #[cfg(test)]
    pub(crate) fn continuing(dialect: Dialect, last_sent: u64) -> Self {
        let sending = Sending::new(dialect, last_sent);
        Self { sending, receiving: Receiving::new(&dialect, usize::MAX) }
    }
}

#[cfg(test)]
mod plain {
    use super::*;
    use crate::message::Empty;
    use crate::wire::{EncodedMessage, MAX_SEQ};

    fn session(last_sent: u64) -> Session {
        Session::continuing(Dialect::PLAIN, last_sent)
    }

    fn message() -> EncodedMessage {
        EncodedMessage::event("tick", &Empty {}).unwrap()
    }

    #[test]
    fn handshake_and_messages_share_one_counter() {
        let mut master = session(0);
        let hello = EncodedMessage::protocol("hello", &Empty {}).unwrap();
        assert!(master.sending.handshake(&hello).unwrap().as_str().starts_with(r#"{"seq":1,"#));
        let ready = EncodedMessage::protocol("ready", &Empty {}).unwrap();
        assert!(master.sending.handshake(&ready).unwrap().as_str().starts_with(r#"{"seq":2,"#));
        assert_eq!(master.sending.send(&message()), Ok(3));
    }

    #[test]
    fn frames_leave_in_the_order_of_their_numbers() {
        let mut session = session(1);
        assert_eq!(
            (session.sending.send(&message()), session.sending.send(&message())),
            (Ok(2), Ok(3))
        );
        assert!(session.sending.was_written(1) && !session.sending.was_written(2));
        let [Some(two), Some(three), None] = session.sending.unwritten::<3>() else { panic!() };
        assert!(two.as_str().starts_with(r#"{"seq":2,"#));
        assert!(three.as_str().starts_with(r#"{"seq":3,"#));
        assert!(!session.sending.was_written(2), "it has only been looked at");
        session.sending.wrote(1);
        assert!(session.sending.was_written(2) && !session.sending.was_written(3));
        assert_eq!(session.sending.unwritten::<2>(), [Some(three), None]);
        session.sending.wrote(1);
        assert!(session.sending.is_idle());
    }

    #[test]
    fn numbers_end_before_they_lose_precision() {
        let mut session = session(MAX_SEQ - 2);
        assert_eq!(session.sending.send(&message()), Ok(MAX_SEQ - 1));
        assert_eq!(session.sending.send(&message()), Ok(MAX_SEQ));
        assert_eq!(session.sending.send(&message()), Err(NumberError::Exhausted));
    }

    #[test]
    fn in_plain_the_first_number_is_free_and_each_further_one_is_the_next() {
        let mut session = session(2);
        assert_eq!(session.receiving.receive(40, 1), Ok(Sequenced::New));
        assert_eq!(session.receiving.receive(41, 1), Ok(Sequenced::New));
        assert_eq!(
            session.receiving.receive(41, 1),
            Err(SequenceError::NotNext { last: 41, got: 41 })
        );
        assert_eq!(
            session.receiving.receive(43, 1),
            Err(SequenceError::NotNext { last: 41, got: 43 })
        );
        assert_eq!(session.receiving.receive(42, 1), Ok(Sequenced::New));
    }

    #[test]
    fn in_plain_room_is_free_when_a_frame_is_written() {
        let mut session = session(1);
        let bytes = message().bytes();
        session.sending.send(&message()).unwrap();
        assert_eq!(session.sending.held(), 1);
        assert_eq!(session.sending.wrote(1), bytes);
        assert_eq!(session.sending.held(), 0);
    }
}
