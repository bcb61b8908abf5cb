use std::collections::VecDeque;

use super::Exhausted;
use crate::wire::{Draft, MAX_SEQ, Text};

/// A numbered frame that waits to be written.
#[derive(Debug)]
pub struct Queued {
    /// The frame.
    pub text: Text,
    /// What it takes of the outbox's limit: the [`Draft::bytes`] of its draft.
    pub bytes: usize,
}

/// Numbered frames that wait to be written, in order.
#[derive(Debug)]
pub(super) struct Outbox {
    waiting: VecDeque<Queued>,
    last_sent: u64,
}

impl Outbox {
    pub(super) fn new(last_sent: u64) -> Self {
        Self { waiting: VecDeque::new(), last_sent }
    }

    /// Uses up a number without a frame in the queue.
    pub(super) fn count(&mut self) -> Result<u64, Exhausted> {
        if self.last_sent >= MAX_SEQ {
            return Err(Exhausted);
        }
        self.last_sent += 1;
        Ok(self.last_sent)
    }

    pub(super) fn push(&mut self, draft: Draft) -> Result<u64, Exhausted> {
        let seq = self.count()?;
        let bytes = draft.bytes();
        self.waiting.push_back(Queued { text: draft.number(Some(seq)), bytes });
        Ok(seq)
    }

    pub(super) fn pop(&mut self) -> Option<Queued> {
        let queued = self.waiting.pop_front();
        if self.waiting.is_empty() {
            // A burst must not keep its room for as long as the link lives.
            self.waiting.shrink_to(64);
        }
        queued
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The number of the last frame that was taken out.
    pub(super) fn written(&self) -> u64 {
        self.last_sent - self.waiting.len() as u64
    }
}
