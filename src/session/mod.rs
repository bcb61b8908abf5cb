//! The pure state of a link: numbers, queued frames, signs of life.
//!
//! Nothing here knows a socket, a task or a clock; time is an argument. In the plain dialect a
//! session lives as long as its socket.

mod liveness;
mod outbox;

pub use liveness::{Liveness, Verdict};
pub use outbox::Queued;

use thiserror::Error;

use crate::wire::{Dialect, Draft, FrameError, HandshakeSeq, Text};
use outbox::Outbox;

/// The numbered streams of a link, one per direction.
#[derive(Debug)]
pub struct Session {
    dialect: Dialect,
    outbox: Outbox,
    received: Received,
}

/// What is known of the peer's numbering.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Received {
    /// The handshake is not over: its frames may carry any number or none.
    Handshake,
    /// The last number that was taken.
    Last(u64),
}

/// Why a frame cannot be numbered: this direction has used all 2⁵³ − 1 numbers.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("all sequence numbers are used")]
pub struct Exhausted;

/// How a peer broke the rule that each frame carries the number after the last.
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

impl Session {
    /// A session whose first frame, in the handshake or after it, is numbered 1.
    pub fn new(dialect: Dialect) -> Self {
        Self::continuing(dialect, 0)
    }

    /// A session that has already sent a frame numbered `last_sent`.
    pub fn continuing(dialect: Dialect, last_sent: u64) -> Self {
        Self { dialect, outbox: Outbox::new(last_sent), received: Received::Handshake }
    }

    /// The generation of the protocol that this session speaks.
    pub fn dialect(&self) -> &Dialect {
        &self.dialect
    }

    /// Numbers a handshake frame, which goes out at once and is not queued.
    pub fn handshake(&mut self, draft: Draft) -> Result<Text, Exhausted> {
        let seq = match self.dialect.handshake_seq {
            HandshakeSeq::Counted => Some(self.outbox.count()?),
        };
        Ok(draft.number(seq))
    }

    /// Numbers `draft` and queues it. Says the number.
    pub fn send(&mut self, draft: Draft) -> Result<u64, Exhausted> {
        self.outbox.push(draft)
    }

    /// The next frame to give to the socket. From here on the peer may see it.
    pub fn next_to_write(&mut self) -> Option<Queued> {
        self.outbox.pop()
    }

    /// Whether nothing waits to be written.
    pub fn is_idle(&self) -> bool {
        self.outbox.is_empty()
    }

    /// Whether the frame numbered `seq` was given to the socket.
    pub fn was_written(&self, seq: u64) -> bool {
        seq <= self.outbox.written()
    }

    /// Takes the number of a frame that came after the handshake.
    ///
    /// The first may be any: a peer need not number its handshake. Each further one is the number
    /// after the last. There is no resending in plain, so a number that comes again is a fault of
    /// the peer's, and dropping the frame would lose a message without a word.
    pub fn receive(&mut self, seq: u64) -> Result<(), SequenceError> {
        if let Received::Last(last) = self.received
            && seq != last + 1
        {
            return Err(SequenceError::NotNext { last, got: seq });
        }
        self.received = Received::Last(seq);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Empty;
    use crate::wire::MAX_SEQ;

    fn session(last_sent: u64) -> Session {
        Session::continuing(Dialect::PLAIN, last_sent)
    }

    fn draft() -> Draft {
        Draft::event("tick", &Empty {}).unwrap()
    }

    #[test]
    fn handshake_and_messages_share_one_counter() {
        let mut master = session(0);
        let hello = Draft::protocol("hello", &Empty {}).unwrap();
        assert!(master.handshake(hello).unwrap().as_str().starts_with(r#"{"seq":1,"#));
        let ready = Draft::protocol("ready", &Empty {}).unwrap();
        assert!(master.handshake(ready).unwrap().as_str().starts_with(r#"{"seq":2,"#));
        assert_eq!(master.send(draft()), Ok(3));
    }

    #[test]
    fn frames_leave_in_the_order_of_their_numbers() {
        let mut session = session(1);
        assert_eq!((session.send(draft()), session.send(draft())), (Ok(2), Ok(3)));
        assert!(session.was_written(1) && !session.was_written(2));
        assert!(session.next_to_write().unwrap().text.as_str().starts_with(r#"{"seq":2,"#));
        assert!(session.was_written(2) && !session.was_written(3));
        assert!(session.next_to_write().unwrap().text.as_str().starts_with(r#"{"seq":3,"#));
        assert!(session.next_to_write().is_none() && session.is_idle());
    }

    #[test]
    fn numbers_end_before_they_lose_precision() {
        let mut session = session(MAX_SEQ - 2);
        assert_eq!(session.send(draft()), Ok(MAX_SEQ - 1));
        assert_eq!(session.send(draft()), Ok(MAX_SEQ));
        assert_eq!(session.send(draft()), Err(Exhausted));
    }

    #[test]
    fn the_first_number_is_free_and_each_further_one_is_the_next() {
        let mut session = session(2);
        assert_eq!(session.receive(40), Ok(()));
        assert_eq!(session.receive(41), Ok(()));
        assert_eq!(session.receive(41), Err(SequenceError::NotNext { last: 41, got: 41 }));
        assert_eq!(session.receive(43), Err(SequenceError::NotNext { last: 41, got: 43 }));
        assert_eq!(session.receive(42), Ok(()));
    }
}
