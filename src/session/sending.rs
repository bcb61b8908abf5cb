use super::outbox::Outbox;
use super::{AckError, NumberError};
use crate::wire::{Dialect, EncodedMessage, HandshakeSeq, Text};

/// The stream to the peer: numbers frames, and holds them for as long as they may have to be sent
/// again.
#[derive(Debug)]
pub struct Sending {
    dialect: Dialect,
    outbox: Outbox,
}

impl Sending {
    pub(super) fn new(dialect: Dialect, last_sent: u64) -> Self {
        Self { dialect, outbox: Outbox::new(last_sent) }
    }

    /// The generation of the protocol that this session speaks.
    pub fn dialect(&self) -> &Dialect {
        &self.dialect
    }

    /// Numbers a handshake frame, which goes out at once and is not queued.
    pub fn handshake(&mut self, message: &EncodedMessage) -> Result<Text, NumberError> {
        let seq = match self.dialect.handshake_seq {
            HandshakeSeq::Counted => Some(self.outbox.count()?),
            HandshakeSeq::Null => None,
        };
        message.to_frame(seq)
    }

    /// Numbers `encoded message` and queues it. Says the number.
    pub fn send(&mut self, message: &EncodedMessage) -> Result<u64, NumberError> {
        self.outbox.push(message)
    }

    /// The next frames for the present socket, as many as there are or `N`. They are the next until
    /// they are [`wrote`](Self::wrote).
    pub fn unwritten<const N: usize>(&self) -> [Option<Text>; N] {
        self.outbox.unwritten()
    }

    /// The socket has been given the next `frames`: from here on the peer may see them. Says how
    /// many bytes of room that makes in the outbox.
    pub fn wrote(&mut self, frames: usize) -> usize {
        self.outbox.wrote(frames);
        if self.dialect.resumes() {
            return 0;
        }
        // There is no resending: what is written is done with.
        self.outbox.acknowledge(self.outbox.last_written()).unwrap_or_default()
    }

    /// Whether nothing waits to be written.
    pub fn is_idle(&self) -> bool {
        self.outbox.is_idle()
    }

    /// Lets go of memory that no frame needs now.
    pub fn shrink(&mut self) {
        self.outbox.shrink();
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
        Ok((room, self.outbox.rewind()))
    }
}
