use std::collections::VecDeque;

use bytes::BytesMut;

use super::{AckError, NumberError, SequenceError, Sequenced};
use crate::wire::{Dialect, EncodedMessage, HandshakeSeq, MAX_SEQ, Text};

/// The stream to the peer: numbers frames, and keeps them, in order, for as long as they may have to
/// be sent again.
///
/// ```text
///  acknowledged │ written │ waiting │
///            first      written   last_sent
/// ```
#[derive(Debug)]
pub struct Sending {
    dialect: Dialect,
    /// Whether a written frame is kept until it is acknowledged.
    keeps_written: bool,
    /// Each with what it takes of the outbox's limit: the [`EncodedMessage::bytes`] of its message.
    frames: VecDeque<(Text, usize)>,
    chunk: Chunk,
    /// How many of the frames have been given to the present socket.
    written: usize,
    last_sent: u64,
    /// The highest number that was ever given to a socket.
    seen: u64,
}

/// Memory for the next frames: many of them share one piece.
#[derive(Debug, Default)]
struct Chunk {
    /// What is left of it.
    memory: BytesMut,
    /// Its size when it was made: twice that of the one before, as long as frames are held.
    size: usize,
}

impl Chunk {
    /// The first one while no frames are held: a quiet link takes little memory.
    const SMALLEST: usize = 512;
    const LARGEST: usize = 32 * 1024;

    /// Returns memory with room for a frame of `bytes`.
    fn with_room(&mut self, bytes: usize) -> &mut BytesMut {
        // Reclaiming succeeds once no frame lies in this piece any more.
        if self.memory.capacity() < bytes && !self.memory.try_reclaim(bytes) {
            let usual = (2 * self.size).clamp(Self::SMALLEST, Self::LARGEST);
            self.size = usual.max(bytes);
            self.memory = BytesMut::with_capacity(self.size);
        }
        &mut self.memory
    }

    /// Lets the next frame begin where the first one was; only when no frames are held.
    fn rewind(&mut self) {
        // A piece that was made for one long frame is not worth keeping.
        if self.size > Self::LARGEST || !self.memory.try_reclaim(self.size) {
            *self = Self::default();
        }
    }
}

impl Sending {
    pub(super) fn new(dialect: Dialect, last_sent: u64) -> Self {
        Self {
            dialect,
            keeps_written: dialect.resumes(),
            frames: VecDeque::new(),
            chunk: Chunk::default(),
            written: 0,
            last_sent,
            seen: last_sent,
        }
    }

    /// Returns the generation of the protocol that this session speaks.
    pub fn dialect(&self) -> &Dialect {
        &self.dialect
    }

    fn next(&self) -> Result<u64, NumberError> {
        if self.last_sent >= MAX_SEQ { Err(NumberError::Exhausted) } else { Ok(self.last_sent + 1) }
    }

    /// Numbers a handshake frame, which is sent at once and not queued.
    pub fn handshake(&mut self, message: &EncodedMessage) -> Result<Text, NumberError> {
        let seq = match self.dialect.handshake_seq {
            HandshakeSeq::Counted => {
                self.last_sent = self.next()?;
                Some(self.last_sent)
            }
            HandshakeSeq::Null => None,
        };
        message.to_frame(seq)
    }

    /// Numbers `message` and queues it. Returns the number.
    pub fn send(&mut self, message: &EncodedMessage) -> Result<u64, NumberError> {
        let (seq, bytes) = (self.next()?, message.bytes());
        let text = message.write_frame(Some(seq), self.chunk.with_room(bytes))?;
        // Only now: a frame that cannot be written leaves its number to the next one.
        self.last_sent = seq;
        self.frames.push_back((text, bytes));
        Ok(seq)
    }

    /// Returns the next frames for the present socket, at most `N`. They stay the next ones until
    /// [`wrote`](Self::wrote) counts them.
    pub fn unwritten<const N: usize>(&self) -> [Option<Text>; N] {
        let mut frames = self.frames.range(self.written..);
        std::array::from_fn(|_| frames.next().map(|(text, _)| text.clone()))
    }

    /// Counts the next `frames` as given to the socket: from here on the peer may see them. Returns
    /// how many bytes of room that makes in the outbox.
    pub fn wrote(&mut self, frames: usize) -> usize {
        // Those that were discarded meanwhile are not there any more.
        self.written = (self.written + frames).min(self.frames.len());
        // The number of the last frame that the present socket was given.
        let last_written = self.first() + self.written as u64 - 1;
        self.seen = self.seen.max(last_written);
        if self.keeps_written {
            return 0;
        }
        // In plain nothing is sent again, so what is written need not be kept.
        self.acknowledged(Some(last_written)).unwrap_or_default()
    }

    /// Whether nothing waits to be written.
    pub fn is_idle(&self) -> bool {
        self.written == self.frames.len()
    }

    /// Releases memory that no frame needs now.
    pub fn shrink(&mut self) {
        if self.frames.is_empty() {
            self.chunk = Chunk::default();
        }
    }

    /// Returns the number of frames held for the peer: unacknowledged or still unwritten.
    pub fn held(&self) -> usize {
        self.frames.len()
    }

    /// Whether the frame numbered `seq` was given to a socket.
    pub fn was_written(&self, seq: u64) -> bool {
        seq <= self.seen
    }

    /// Drops all frames up to `seq`, which the peer has. Returns how many bytes of room that makes.
    ///
    /// An acknowledgement of fewer frames than an earlier one is late and changes nothing.
    pub fn acknowledged(&mut self, seq: Option<u64>) -> Result<usize, AckError> {
        let seq = seq.unwrap_or(0);
        // A frame that was queued and never written cannot have arrived.
        if seq > self.seen {
            return Err(AckError { got: seq, sent: self.seen });
        }
        let mut room = 0;
        while self.first() <= seq
            && let Some((_, bytes)) = self.frames.pop_front()
        {
            room += bytes;
            // The peer may acknowledge what only an earlier socket has carried.
            self.written = self.written.saturating_sub(1);
        }
        if self.frames.is_empty() {
            // Otherwise a burst would keep its memory for as long as the link lives.
            self.frames.shrink_to(64);
            self.chunk.rewind();
        }
        Ok(room)
    }

    /// Drops all frames: nothing is sent any more.
    pub fn discard(&mut self) {
        self.frames = VecDeque::new();
        self.chunk = Chunk::default();
        self.written = 0;
    }

    /// Resumes over a new socket. The peer has all frames up to `seq`; those above are sent again,
    /// under their old numbers. Returns how many bytes of room that makes, and how many frames an
    /// earlier socket has carried.
    pub fn resumed(&mut self, seq: Option<u64>) -> Result<(usize, usize), AckError> {
        let room = self.acknowledged(seq)?;
        self.written = 0;
        let carried = usize::try_from(self.seen + 1 - self.first()).unwrap_or(usize::MAX);
        Ok((room, self.frames.len().min(carried)))
    }

    /// Returns the number of the first frame that is held.
    fn first(&self) -> u64 {
        // The numbers are consecutive, so no frame stores its own.
        self.last_sent + 1 - self.frames.len() as u64
    }
}

/// The number of received messages that are acknowledged ahead of the next heartbeat.
const EARLY_MESSAGES: u64 = 64;

/// The stream from the peer: accepts each number once, and knows what is to be acknowledged.
#[derive(Debug)]
pub struct Receiving {
    resumes: bool,
    /// The last number that was accepted, 0 for none; `None` until the handshake is over, whose frames
    /// may carry any number.
    last: Option<u64>,
    /// The messages that were received since the last acknowledgement to the peer, and their bytes.
    unacknowledged: (u64, usize),
    /// How many bytes may be received before they are acknowledged ahead of the next heartbeat.
    early_bytes: usize,
}

impl Receiving {
    pub(super) fn new(dialect: &Dialect, early_bytes: usize) -> Self {
        let last = match dialect.handshake_seq {
            HandshakeSeq::Counted => None,
            HandshakeSeq::Null => Some(0),
        };
        Self { resumes: dialect.resumes(), last, unacknowledged: (0, 0), early_bytes }
    }

    /// Returns the last number received, for an acknowledgement that is sent now.
    pub fn acknowledge(&mut self) -> Option<u64> {
        self.unacknowledged = (0, 0);
        self.last_received()
    }

    /// Returns the last number received.
    pub fn last_received(&self) -> Option<u64> {
        self.last.filter(|last| *last > 0)
    }

    /// Whether enough was received to acknowledge it before the next heartbeat: until then it fills
    /// the peer's outbox.
    pub fn is_acknowledgement_due(&self) -> bool {
        let (messages, bytes) = self.unacknowledged;
        self.resumes && (messages >= EARLY_MESSAGES || bytes >= self.early_bytes)
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
            self.last = Some(seq);
            self.unacknowledged.0 += 1;
            self.unacknowledged.1 += bytes;
        }
        Ok(taken)
    }

    /// Returns what [`receive`](Self::receive) would return, without accepting the number.
    pub fn peek(&self, seq: u64) -> Result<Sequenced, SequenceError> {
        match self.last {
            Some(last) if seq != last + 1 => {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Empty;

    fn message() -> EncodedMessage {
        EncodedMessage::event("tick", &Empty {}).unwrap()
    }

    /// Frames follow each other in one piece of memory, which is used again when all of them are
    /// acknowledged, and released at a heartbeat that finds none.
    #[test]
    fn memory_for_frames_is_used_again_and_given_up() {
        let mut sending = Sending::new(Dialect::SEQLINK, 0);
        let at = |sending: &mut Sending| {
            sending.send(&message()).unwrap();
            sending.frames.back().unwrap().0.as_str().as_ptr() as usize
        };
        let (first, second) = (at(&mut sending), at(&mut sending));
        assert!((1..100).contains(&(second - first)));
        sending.wrote(2);
        sending.shrink();
        sending.acknowledged(Some(1)).unwrap();
        let third = at(&mut sending);
        assert_eq!(third - second, second - first, "the second may have to be sent again");
        sending.wrote(1);
        sending.acknowledged(Some(3)).unwrap();
        assert_eq!((at(&mut sending), at(&mut sending)), (first, second));
        sending.wrote(2);
        sending.acknowledged(Some(5)).unwrap();
        sending.shrink();
        assert_eq!((sending.chunk.size, sending.chunk.memory.capacity()), (0, 0));
    }

    /// Its number goes to the next frame.
    #[test]
    fn a_frame_that_is_no_text_takes_no_number() {
        let mut sending = Sending::new(Dialect::SEQLINK, 6);
        assert!(sending.send(&EncodedMessage::broken()).is_err());
        assert_eq!((sending.held(), sending.send(&message())), (0, Ok(7)));
    }

    /// The link may end between the two halves of a write.
    #[test]
    fn frames_may_be_dropped_while_they_are_written() {
        for dialect in [Dialect::PLAIN, Dialect::SEQLINK] {
            let mut sending = Sending::new(dialect, 0);
            let seqs = [(); 3].map(|()| sending.send(&message()).unwrap());
            assert_eq!(sending.unwritten::<8>().into_iter().flatten().count(), 3);
            sending.discard();
            sending.wrote(3);
            assert!(sending.is_idle() && sending.unwritten::<8>() == [const { None }; 8]);
            assert!(seqs.into_iter().all(|seq| sending.was_written(seq)));
        }
    }

    /// A link that holds more frames gets larger pieces of memory, up to a limit.
    #[test]
    fn memory_for_frames_grows_with_what_is_held() {
        let mut sending = Sending::new(Dialect::SEQLINK, 0);
        let sizes = |sending: &mut Sending, frames| {
            let push = |_| {
                sending.send(&message()).unwrap();
                sending.chunk.size
            };
            let mut sizes: Vec<usize> = (0..frames).map(push).collect();
            sizes.dedup();
            sizes
        };
        assert_eq!(sizes(&mut sending, 5000), [512, 1024, 2048, 4096, 8192, 16384, 32768]);
        let text = serde_json::value::RawValue::from_string(format!("{:?}", "x".repeat(60_000)));
        let long = EncodedMessage::event(
            "long",
            &std::collections::BTreeMap::from([("a", text.unwrap())]),
        );
        assert!(sending.send(&long.unwrap()).is_ok() && sending.chunk.size > 60_000);
        sending.wrote(5001);
        sending.acknowledged(Some(5001)).unwrap();
        assert_eq!(sending.chunk.size, 0, "one long message leaves nothing behind");
    }
}
