use std::collections::VecDeque;

use bytes::BytesMut;

use super::{AckError, NumberError};
use crate::wire::{EncodedMessage, MAX_SEQ, Text};

/// A numbered frame.
#[derive(Debug)]
struct Queued {
    text: Text,
    /// What it takes of the outbox's limit: the [`EncodedMessage::bytes`] of its encoded message.
    bytes: usize,
}

/// Numbered frames that the peer has not acknowledged, in order.
///
/// ```text
///  acknowledged │ written │ waiting │
///            first      written   last_sent
/// ```
#[derive(Debug)]
pub(super) struct Outbox {
    frames: VecDeque<Queued>,
    chunk: Chunk,
    /// How many of them have been given to the present socket.
    written: usize,
    last_sent: u64,
    /// The highest number that was ever given to a socket.
    seen: u64,
}

/// Memory for the next frames: one piece for many of them.
#[derive(Debug, Default)]
struct Chunk {
    /// What is left of it.
    memory: BytesMut,
    /// How large it was made; twice as much as the one before, as long as there are frames.
    size: usize,
}

impl Chunk {
    /// The first behind nothing else: a link that says little takes little.
    const SMALLEST: usize = 512;
    const LARGEST: usize = 32 * 1024;

    /// Where a frame of `bytes` has room.
    fn with_room(&mut self, bytes: usize) -> &mut BytesMut {
        if self.memory.capacity() < bytes && !self.memory.try_reclaim(bytes) {
            let usual = (2 * self.size).clamp(Self::SMALLEST, Self::LARGEST);
            self.size = usual.max(bytes);
            self.memory = BytesMut::with_capacity(self.size);
        }
        &mut self.memory
    }

    /// There are no frames any more: the next one can be where the first was.
    fn rewind(&mut self) {
        if self.size > Self::LARGEST || !self.memory.try_reclaim(self.size) {
            *self = Self::default();
        }
    }
}

impl Outbox {
    pub(super) fn new(last_sent: u64) -> Self {
        let (frames, chunk) = (VecDeque::new(), Chunk::default());
        Self { frames, chunk, written: 0, last_sent, seen: last_sent }
    }

    /// Uses up a number without a frame in the queue.
    pub(super) fn count(&mut self) -> Result<u64, NumberError> {
        self.last_sent = self.next()?;
        Ok(self.last_sent)
    }

    fn next(&self) -> Result<u64, NumberError> {
        if self.last_sent >= MAX_SEQ { Err(NumberError::Exhausted) } else { Ok(self.last_sent + 1) }
    }

    pub(super) fn push(&mut self, message: &EncodedMessage) -> Result<u64, NumberError> {
        let (seq, bytes) = (self.next()?, message.bytes());
        let text = message.write_frame(Some(seq), self.chunk.with_room(bytes))?;
        self.last_sent = seq;
        self.frames.push_back(Queued { text, bytes });
        Ok(seq)
    }

    /// The next frames for the present socket, as many as there are or `N`.
    pub(super) fn unwritten<const N: usize>(&self) -> [Option<Text>; N] {
        let mut frames = self.frames.range(self.written..);
        std::array::from_fn(|_| frames.next().map(|frame| frame.text.clone()))
    }

    /// The present socket has the next `frames`; they stay until they are acknowledged.
    pub(super) fn wrote(&mut self, frames: usize) {
        self.written += frames;
        self.seen = self.seen.max(self.last_written());
    }

    /// Lets go of the frames up to `seq`; says how much room that makes.
    pub(super) fn acknowledge(&mut self, seq: u64) -> Result<usize, AckError> {
        if seq > self.seen {
            return Err(AckError { got: seq, sent: self.seen });
        }
        let mut room = 0;
        while self.first() <= seq
            && let Some(frame) = self.frames.pop_front()
        {
            room += frame.bytes;
            // Less than what an earlier socket has carried may be written on the present one.
            self.written = self.written.saturating_sub(1);
        }
        if self.frames.is_empty() {
            // A burst must not keep its room for as long as the link lives.
            self.frames.shrink_to(64);
            self.chunk.rewind();
        }
        Ok(room)
    }

    /// Lets go of the memory for frames when there are none.
    pub(super) fn shrink(&mut self) {
        if self.frames.is_empty() {
            self.chunk = Chunk::default();
        }
    }

    /// A new socket: everything that is not acknowledged goes out again. Says how many of these
    /// frames an earlier socket has carried.
    pub(super) fn rewind(&mut self) -> usize {
        self.written = 0;
        self.frames.len().min(usize::try_from(self.seen + 1 - self.first()).unwrap_or(usize::MAX))
    }

    /// Whether nothing waits to be written.
    pub(super) fn is_idle(&self) -> bool {
        self.written == self.frames.len()
    }

    /// How many frames are held.
    pub(super) fn len(&self) -> usize {
        self.frames.len()
    }

    pub(super) fn seen(&self) -> u64 {
        self.seen
    }

    /// The number of the last frame that the present socket was given.
    pub(super) fn last_written(&self) -> u64 {
        self.first() + self.written as u64 - 1
    }

    /// The number of the first frame that is held.
    fn first(&self) -> u64 {
        self.last_sent + 1 - self.frames.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Empty;

    fn message() -> EncodedMessage {
        EncodedMessage::event("tick", &Empty {}).unwrap()
    }

    /// Frames follow each other in one piece of memory, which begins again when all of them are
    /// acknowledged, and goes when there are none for a while.
    #[test]
    fn memory_for_frames_is_used_again_and_given_up() {
        let mut outbox = Outbox::new(0);
        let at = |outbox: &mut Outbox| {
            outbox.push(&message()).unwrap();
            outbox.frames.back().unwrap().text.as_str().as_ptr() as usize
        };
        let (first, second) = (at(&mut outbox), at(&mut outbox));
        assert!((1..100).contains(&(second - first)));
        outbox.wrote(2);
        outbox.shrink();
        outbox.acknowledge(1).unwrap();
        let third = at(&mut outbox);
        assert_eq!(third - second, second - first, "the second may have to be sent again");
        outbox.wrote(1);
        outbox.acknowledge(3).unwrap();
        assert_eq!((at(&mut outbox), at(&mut outbox)), (first, second));
        outbox.wrote(2);
        outbox.acknowledge(5).unwrap();
        outbox.shrink();
        assert_eq!((outbox.chunk.size, outbox.chunk.memory.capacity()), (0, 0));
    }

    /// Its number is the next frame's.
    #[test]
    fn a_frame_that_is_no_text_takes_no_number() {
        let mut outbox = Outbox::new(6);
        assert!(outbox.push(&EncodedMessage::broken()).is_err());
        assert_eq!((outbox.len(), outbox.push(&message())), (0, Ok(7)));
    }

    /// More is kept for a link that has more to say, up to a limit.
    #[test]
    fn memory_for_frames_grows_with_what_is_held() {
        let mut outbox = Outbox::new(0);
        let sizes = |outbox: &mut Outbox, frames| {
            let push = |_| {
                outbox.push(&message()).unwrap();
                outbox.chunk.size
            };
            let mut sizes: Vec<usize> = (0..frames).map(push).collect();
            sizes.dedup();
            sizes
        };
        assert_eq!(sizes(&mut outbox, 5000), [512, 1024, 2048, 4096, 8192, 16384, 32768]);
        let text = serde_json::value::RawValue::from_string(format!("{:?}", "x".repeat(60_000)));
        let long = EncodedMessage::event(
            "long",
            &std::collections::BTreeMap::from([("a", text.unwrap())]),
        );
        assert!(outbox.push(&long.unwrap()).is_ok() && outbox.chunk.size > 60_000);
        outbox.wrote(5001);
        outbox.acknowledge(5001).unwrap();
        assert_eq!(outbox.chunk.size, 0, "one long message leaves nothing behind");
    }
}
