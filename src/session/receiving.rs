use super::{SequenceError, Sequenced};
use crate::wire::{Dialect, HandshakeSeq};

/// The number of received messages that are acknowledged ahead of the next heartbeat.
const EARLY_MESSAGES: u64 = 64;

/// The stream from the peer: accepts each number once, and knows what is to be acknowledged.
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
    /// The last number that was accepted; 0 for none.
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

    /// Returns the last number received, for an acknowledgement that is sent now.
    pub fn acknowledge(&mut self) -> Option<u64> {
        self.unacknowledged = Unacknowledged::default();
        self.last_received()
    }

    /// Returns the last number received.
    pub fn last_received(&self) -> Option<u64> {
        match self.received {
            Received::Handshake | Received::Last(0) => None,
            Received::Last(last) => Some(last),
        }
    }

    /// Whether enough was received to acknowledge it before the next heartbeat: until then it fills
    /// the peer's outbox.
    pub fn is_acknowledgement_due(&self) -> bool {
        self.resumes
            && (self.unacknowledged.messages >= EARLY_MESSAGES
                || self.unacknowledged.bytes >= self.early_bytes)
    }

    /// Accepts the number of a frame of `bytes` that came after the handshake.
    ///
    /// Each number has to follow the last one. In a dialect that resumes, a number that was
    /// received before is a [`Duplicate`](Sequenced::Duplicate); in plain it is an error. In plain
    /// the first number is free, because a peer need not number its handshake.
    pub fn receive(&mut self, seq: u64, bytes: usize) -> Result<Sequenced, SequenceError> {
        let taken = self.peek(seq)?;
        // A duplicate is not counted: the peer no longer holds it.
        if taken == Sequenced::New {
            self.received = Received::Last(seq);
            self.unacknowledged.messages += 1;
            self.unacknowledged.bytes += bytes;
        }
        Ok(taken)
    }

    /// Returns what [`receive`](Self::receive) would return, without accepting the number.
    pub fn peek(&self, seq: u64) -> Result<Sequenced, SequenceError> {
        match self.received {
            Received::Last(last) if seq != last + 1 => {
                // In plain nothing is sent again: to drop the frame would lose a message silently.
                if seq <= last && self.resumes {
                    return Ok(Sequenced::Duplicate);
                }
                Err(SequenceError::NotNext { last, got: seq })
            }
            _ => Ok(Sequenced::New),
        }
    }
}
