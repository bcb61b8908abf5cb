use std::collections::VecDeque;

use bytes::BytesMut;

use super::{AckError, NumberError};
use crate::wire::{EncodedMessage, MAX_SEQ, Text};

/// A numbered frame.
#[derive(Debug)]
struct Queued {
    text: Text,
    /// What it takes of the outbox's limit: the [`EncodedMessage::bytes`] of its message.
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

impl Outbox {
    pub(super) fn new(last_sent: u64) -> Self {
        let (frames, chunk) = (VecDeque::new(), Chunk::default());
        Self { frames, chunk, written: 0, last_sent, seen: last_sent }
    }

    /// Uses up a number for a frame that is not queued, and returns it.
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
        // Only now: a frame that cannot be written leaves its number to the next one.
        self.last_sent = seq;
        self.frames.push_back(Queued { text, bytes });
        Ok(seq)
    }

    /// Returns the next frames for the present socket, at most `N`.
    pub(super) fn unwritten<const N: usize>(&self) -> [Option<Text>; N] {
        let mut frames = self.frames.range(self.written..);
        std::array::from_fn(|_| frames.next().map(|frame| frame.text.clone()))
    }

    /// Counts the next `frames` as written on the present socket. They stay until they are
    /// acknowledged.
    pub(super) fn wrote(&mut self, frames: usize) {
        self.written += frames;
        self.seen = self.seen.max(self.last_written());
    }

    /// Drops the frames up to `seq`. Returns how many bytes of room that makes.
    pub(super) fn acknowledge(&mut self, seq: u64) -> Result<usize, AckError> {
        // A frame that was queued and never written cannot have arrived.
        if seq > self.seen {
            return Err(AckError { got: seq, sent: self.seen });
        }
        let mut room = 0;
        while self.first() <= seq
            && let Some(frame) = self.frames.pop_front()
        {
            room += frame.bytes;
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

    /// Releases the memory for frames if none are held.
    pub(super) fn shrink(&mut self) {
        if self.frames.is_empty() {
            self.chunk = Chunk::default();
        }
    }

    /// Starts over on a new socket: every frame that is not acknowledged is sent again. Returns how
    /// many of them an earlier socket has carried.
    pub(super) fn rewind(&mut self) -> usize {
        self.written = 0;
        self.frames.len().min(usize::try_from(self.seen + 1 - self.first()).unwrap_or(usize::MAX))
    }

    /// Whether nothing waits to be written.
    pub(super) fn is_idle(&self) -> bool {
        self.written == self.frames.len()
    }

    /// Returns the number of frames that are held.
    pub(super) fn len(&self) -> usize {
        self.frames.len()
    }

    pub(super) fn seen(&self) -> u64 {
        self.seen
    }

    /// Returns the number of the last frame that the present socket was given.
    pub(super) fn last_written(&self) -> u64 {
        self.first() + self.written as u64 - 1
    }

    /// Returns the number of the first frame that is held.
    fn first(&self) -> u64 {
        // The numbers are consecutive, so no frame stores its own.
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

    /// Frames follow each other in one piece of memory, which is used again when all of them are
    /// acknowledged, and released at a heartbeat that finds none.
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

    /// Its number goes to the next frame.
    #[test]
    fn a_frame_that_is_no_text_takes_no_number() {
        let mut outbox = Outbox::new(6);
        assert!(outbox.push(&EncodedMessage::broken()).is_err());
        assert_eq!((outbox.len(), outbox.push(&message())), (0, Ok(7)));
    }

    /// A link that holds more frames gets larger pieces of memory, up to a limit.
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
