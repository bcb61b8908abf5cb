//! The pure state of a link: numbers, queued frames, signs of life.
//!
//! Nothing here knows a socket, a task or a clock; time is an argument. In the plain dialect a
//! session lives as long as its socket.

mod liveness;
mod outbox;
#[cfg(test)]
mod tests;

pub use liveness::{Liveness, Verdict};

use thiserror::Error;

use crate::wire::{Dialect, Draft, FrameError, HandshakeSeq, Text};
use outbox::Outbox;

/// Messages that are received before they are acknowledged ahead of the next heartbeat.
const EARLY_MESSAGES: u64 = 64;

/// The numbered streams of a link, one per direction.
///
/// In the plain dialect a session ends with its socket, and a frame is let go when it is written.
/// In the others it outlives any number of sockets: frames are held until the peer acknowledges
/// them, and go out again on the next socket.
#[derive(Debug)]
pub struct Session {
    dialect: Dialect,
    outbox: Outbox,
    received: Received,
    /// What was received since the last acknowledgement to the peer.
    unacknowledged: Unacknowledged,
    /// How many bytes may be received before they are acknowledged ahead of the next heartbeat.
    early_bytes: usize,
}

/// What is known of the peer's numbering.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Received {
    /// The handshake is not over: its frames may carry any number or none.
    Handshake,
    /// The last number that was taken; 0 for none.
    Last(u64),
}

#[derive(Clone, Copy, Debug, Default)]
struct Unacknowledged {
    messages: u64,
    bytes: usize,
}

/// What to do with a frame that was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is the next one.
    New,
    /// It was taken before: it is dropped.
    Again,
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

/// The peer acknowledges a frame that it was never sent.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("seq {got} is acknowledged, and {sent} was the last that was sent")]
pub struct AckError {
    got: u64,
    sent: u64,
}

impl Session {
    /// A session whose first frame, in the handshake or after it, is numbered 1.
    pub fn new(dialect: Dialect) -> Self {
        Self::continuing(dialect, 0)
    }

    /// A session that has already sent a frame numbered `last_sent`.
    pub fn continuing(dialect: Dialect, last_sent: u64) -> Self {
        let received = match dialect.handshake_seq {
            HandshakeSeq::Counted => Received::Handshake,
            HandshakeSeq::Null => Received::Last(0),
        };
        Self {
            dialect,
            outbox: Outbox::new(last_sent),
            received,
            unacknowledged: Unacknowledged::default(),
            early_bytes: usize::MAX,
        }
    }

    /// Acknowledges ahead of the next heartbeat when this many bytes have been received.
    #[must_use]
    pub fn acknowledging_after(mut self, bytes: usize) -> Self {
        self.early_bytes = bytes;
        self
    }

    /// The generation of the protocol that this session speaks.
    pub fn dialect(&self) -> &Dialect {
        &self.dialect
    }

    /// Numbers a handshake frame, which goes out at once and is not queued.
    pub fn handshake(&mut self, draft: Draft) -> Result<Text, Exhausted> {
        let seq = match self.dialect.handshake_seq {
            HandshakeSeq::Counted => Some(self.outbox.count()?),
            HandshakeSeq::Null => None,
        };
        Ok(draft.number(seq))
    }

    /// Numbers `draft` and queues it. Says the number.
    pub fn send(&mut self, draft: Draft) -> Result<u64, Exhausted> {
        self.outbox.push(draft)
    }

    /// The next frame to give to the socket, and how many bytes of room that makes in the outbox.
    /// From here on the peer may see it.
    pub fn next_to_write(&mut self) -> Option<(Text, usize)> {
        let text = self.outbox.write()?;
        let room = if self.dialect.resumes() {
            0
        } else {
            // There is no resending: what is written is done with.
            self.outbox.acknowledge(self.outbox.last_written()).unwrap_or_default()
        };
        Some((text, room))
    }

    /// Whether nothing waits to be written.
    pub fn is_idle(&self) -> bool {
        self.outbox.is_idle()
    }

    /// How many frames are held for the peer: unacknowledged or still unwritten.
    pub fn held(&self) -> usize {
        self.outbox.len()
    }

    /// Whether the frame numbered `seq` was given to a socket.
    pub fn was_written(&self, seq: u64) -> bool {
        seq <= self.outbox.seen()
    }

    /// The peer has all frames up to `seq`. Says how many bytes of room that makes.
    ///
    /// An acknowledgement of fewer frames than an earlier one is late and changes nothing.
    pub fn acknowledged(&mut self, seq: Option<u64>) -> Result<usize, AckError> {
        self.outbox.acknowledge(seq.unwrap_or(0))
    }

    /// The session goes on over a new socket, and the peer has all frames up to `seq`: what lies
    /// above goes out again, under its old numbers. Says the room that makes, and how many frames
    /// are sent again.
    pub fn resumed(&mut self, seq: Option<u64>) -> Result<(usize, usize), AckError> {
        let room = self.acknowledged(seq)?;
        self.unacknowledged = Unacknowledged::default();
        Ok((room, self.outbox.rewind()))
    }

    /// The last number that was received, for an acknowledgement that goes out now.
    pub fn acknowledge(&mut self) -> Option<u64> {
        self.unacknowledged = Unacknowledged::default();
        self.last_received()
    }

    /// The last number that was received.
    pub fn last_received(&self) -> Option<u64> {
        match self.received {
            Received::Handshake | Received::Last(0) => None,
            Received::Last(last) => Some(last),
        }
    }

    /// Whether so much was received that the peer should learn of it before the next heartbeat:
    /// until then its outbox holds all of it.
    pub fn is_acknowledgement_due(&self) -> bool {
        self.dialect.resumes()
            && (self.unacknowledged.messages >= EARLY_MESSAGES
                || self.unacknowledged.bytes >= self.early_bytes)
    }

    /// Takes the number of a frame of `bytes` that came after the handshake.
    ///
    /// Each is the number after the last. In a dialect that resumes, one that came before is a
    /// replay and is dropped. In plain there is no resending: a number that comes again is a fault
    /// of the peer's, and dropping the frame would lose a message without a word. There the first
    /// may be any, because a peer need not number its handshake.
    pub fn receive(&mut self, seq: u64, bytes: usize) -> Result<Taken, SequenceError> {
        if let Received::Last(last) = self.received
            && seq != last + 1
        {
            if seq <= last && self.dialect.resumes() {
                return Ok(Taken::Again);
            }
            return Err(SequenceError::NotNext { last, got: seq });
        }
        self.received = Received::Last(seq);
        self.unacknowledged.messages += 1;
        self.unacknowledged.bytes += bytes;
        Ok(Taken::New)
    }
}

#[cfg(test)]
mod plain {
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
        assert!(session.next_to_write().unwrap().0.as_str().starts_with(r#"{"seq":2,"#));
        assert!(session.was_written(2) && !session.was_written(3));
        assert!(session.next_to_write().unwrap().0.as_str().starts_with(r#"{"seq":3,"#));
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
    fn in_plain_the_first_number_is_free_and_each_further_one_is_the_next() {
        let mut session = session(2);
        assert_eq!(session.receive(40, 1), Ok(Taken::New));
        assert_eq!(session.receive(41, 1), Ok(Taken::New));
        assert_eq!(session.receive(41, 1), Err(SequenceError::NotNext { last: 41, got: 41 }));
        assert_eq!(session.receive(43, 1), Err(SequenceError::NotNext { last: 41, got: 43 }));
        assert_eq!(session.receive(42, 1), Ok(Taken::New));
    }

    #[test]
    fn in_plain_room_is_free_when_a_frame_is_written() {
        let mut session = session(1);
        let bytes = draft().bytes();
        session.send(draft()).unwrap();
        assert_eq!(session.held(), 1);
        assert_eq!(session.next_to_write().unwrap().1, bytes);
        assert_eq!(session.held(), 0);
    }
}
