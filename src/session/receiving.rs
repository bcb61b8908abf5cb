use super::{SequenceError, Sequenced};
use crate::wire::{Dialect, HandshakeSeq};

/// Messages that are received before they are acknowledged ahead of the next heartbeat.
const EARLY_MESSAGES: u64 = 64;

/// The stream from the peer: takes each number once, and knows what is to be acknowledged.
#[derive(Debug)]
pub struct Receiving {
    resumes: bool,
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

impl Receiving {
    pub(super) fn new(dialect: &Dialect, early_bytes: usize) -> Self {
        let received = match dialect.handshake_seq {
            HandshakeSeq::Counted => Received::Handshake,
            HandshakeSeq::Null => Received::Last(0),
        };
        let unacknowledged = Unacknowledged::default();
        Self { resumes: dialect.resumes(), received, unacknowledged, early_bytes }
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
        self.resumes
            && (self.unacknowledged.messages >= EARLY_MESSAGES
                || self.unacknowledged.bytes >= self.early_bytes)
    }

    /// Takes the number of a frame of `bytes` that came after the handshake.
    ///
    /// Each is the number after the last. In a dialect that resumes, one that came before is a
    /// replay and is dropped. In plain there is no resending: a number that comes again is a fault
    /// of the peer's, and dropping the frame would lose a message without a word. There the first
    /// may be any, because a peer need not number its handshake.
    pub fn receive(&mut self, seq: u64, bytes: usize) -> Result<Sequenced, SequenceError> {
        let taken = self.peek(seq)?;
        if taken == Sequenced::New {
            self.received = Received::Last(seq);
            self.unacknowledged.messages += 1;
            self.unacknowledged.bytes += bytes;
        }
        Ok(taken)
    }

    /// What [`receive`](Self::receive) would say of this number, which is not taken.
    pub fn peek(&self, seq: u64) -> Result<Sequenced, SequenceError> {
        match self.received {
            Received::Last(last) if seq != last + 1 => {
                if seq <= last && self.resumes {
                    return Ok(Sequenced::Duplicate);
                }
                Err(SequenceError::NotNext { last, got: seq })
            }
            _ => Ok(Sequenced::New),
        }
    }
}
