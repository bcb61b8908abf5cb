use super::outbox::Outbox;
use super::{AckError, NumberError};
use crate::wire::{Dialect, EncodedMessage, HandshakeSeq, Text};

/// The stream to the peer: numbers frames, and keeps them for as long as they may have to be sent
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

    /// Returns the generation of the protocol that this session speaks.
    pub fn dialect(&self) -> &Dialect {
        &self.dialect
    }

    /// Numbers a handshake frame, which is sent at once and not queued.
    pub fn handshake(&mut self, message: &EncodedMessage) -> Result<Text, NumberError> {
        let seq = match self.dialect.handshake_seq {
            HandshakeSeq::Counted => Some(self.outbox.count()?),
            HandshakeSeq::Null => None,
        };
        message.to_frame(seq)
    }

    /// Numbers `message` and queues it. Returns the number.
    pub fn send(&mut self, message: &EncodedMessage) -> Result<u64, NumberError> {
        self.outbox.push(message)
    }

    /// Returns the next frames for the present socket, at most `N`. They stay the next ones until
    /// [`wrote`](Self::wrote) counts them.
    pub fn unwritten<const N: usize>(&self) -> [Option<Text>; N] {
        self.outbox.unwritten()
    }

    /// Counts the next `frames` as given to the socket: from here on the peer may see them. Returns
    /// how many bytes of room that makes in the outbox.
    pub fn wrote(&mut self, frames: usize) -> usize {
        self.outbox.wrote(frames);
        if self.dialect.resumes() {
            return 0;
        }
        // In plain nothing is sent again, so what is written need not be kept.
        self.outbox.acknowledge(self.outbox.last_written()).unwrap_or_default()
    }

    /// Whether nothing waits to be written.
    pub fn is_idle(&self) -> bool {
        self.outbox.is_idle()
    }

    /// Releases memory that no frame needs now.
    pub fn shrink(&mut self) {
        self.outbox.shrink();
    }

    /// Returns the number of frames held for the peer: unacknowledged or still unwritten.
    pub fn held(&self) -> usize {
        self.outbox.len()
    }

    /// Whether the frame numbered `seq` was given to a socket.
    pub fn was_written(&self, seq: u64) -> bool {
        seq <= self.outbox.seen()
    }

    /// Drops all frames up to `seq`, which the peer has. Returns how many bytes of room that makes.
    ///
    /// An acknowledgement of fewer frames than an earlier one is late and changes nothing.
    pub fn acknowledged(&mut self, seq: Option<u64>) -> Result<usize, AckError> {
        self.outbox.acknowledge(seq.unwrap_or(0))
    }

    /// Resumes over a new socket. The peer has all frames up to `seq`; those above are sent again,
    /// under their old numbers. Returns how many bytes of room that makes, and how many frames are
    /// sent again.
    pub fn resumed(&mut self, seq: Option<u64>) -> Result<(usize, usize), AckError> {
        let room = self.acknowledged(seq)?;
        Ok((room, self.outbox.rewind()))
    }
}
