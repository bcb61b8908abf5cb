//! The handlers at work, and the events that wait for theirs.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};

use crate::wire::Text;

/// What it takes to hold a frame, besides its own bytes: its place, its name, and what the allocator
/// adds. Many small ones would take several times what the limit says otherwise.
const OVERHEAD: usize = 256;

/// What was received and is not handled yet: running request handlers, and the queue of events.
#[derive(Default)]
pub(super) struct Handlers {
    running: FuturesUnordered<HandlerTask>,
    event: Option<HandlerTask>,
    events: VecDeque<QueuedEvent>,
    /// Bytes of all the frames above, each with [`OVERHEAD`].
    bytes: usize,
    /// Answers that wait and have no handler of the application's, and their bytes.
    answers: usize,
    answer_bytes: usize,
}

/// A handler at work, whose panic ends only itself.
struct HandlerTask {
    work: BoxFuture<'static, ()>,
    charge: Charge,
    /// The request, whose sender is told of a panic.
    request: Option<Request>,
}

/// A request that is handled.
#[derive(Clone, Copy)]
pub(super) struct Request {
    pub(super) name: &'static str,
    pub(super) seq: u64,
}

/// What a handler gives back at its end: the bytes of its frame.
#[derive(Clone, Copy)]
enum Charge {
    Request(usize),
    Answer(usize),
    Event(usize),
}

/// An event that waits for those before it.
pub(super) struct QueuedEvent {
    text: Text,
    name: Box<str>,
    data: Range<usize>,
    pub(super) seq: u64,
}

impl QueuedEvent {
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn data(&self) -> &str {
        self.text.part(self.data.clone())
    }

    pub(super) fn bytes(&self) -> usize {
        self.text.len()
    }
}

/// The end of a handler.
#[derive(Clone, Copy)]
struct Done {
    charge: Charge,
    /// The request whose handler has panicked.
    panicked: Option<Request>,
}

impl Future for HandlerTask {
    type Output = Done;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Done> {
        match catch_unwind(AssertUnwindSafe(|| self.work.as_mut().poll(cx))) {
            Ok(polled) => polled.map(|()| Done { charge: self.charge, panicked: None }),
            Err(_) => {
                if self.request.is_none() {
                    tracing::error!("the handler of an event panicked");
                }
                Poll::Ready(Done { charge: self.charge, panicked: self.request })
            }
        }
    }
}

impl Handlers {
    /// Whether a frame of `bytes` may come to what is held. One alone always may.
    pub(super) fn has_room(&self, bytes: usize, limit: usize) -> bool {
        self.bytes == 0 || self.bytes + bytes + OVERHEAD <= limit
    }

    /// How many request handlers run.
    pub(super) fn running(&self) -> usize {
        self.running.len() - self.answers
    }

    /// Bytes of the answers that wait and have no handler of the application's.
    pub(super) fn answer_bytes(&self) -> usize {
        self.answer_bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.running.is_empty() && self.event.is_none() && self.events.is_empty()
    }

    /// Takes a request's handler; `bytes` is the length of its frame. It is polled at once, because
    /// most are done then, and need no place among the running. Says which request's handler has
    /// panicked.
    pub(super) fn start_request(
        &mut self,
        work: BoxFuture<'static, ()>,
        request: Request,
        bytes: usize,
        cx: &mut Context<'_>,
    ) -> Option<Request> {
        self.bytes += bytes + OVERHEAD;
        self.start(HandlerTask { work, charge: Charge::Request(bytes), request: Some(request) }, cx)
    }

    /// Takes an answer of the link's own, of `bytes`, that waits for something.
    pub(super) fn start_answer(&mut self, work: BoxFuture<'static, ()>, bytes: usize) {
        self.answers += 1;
        self.answer_bytes += bytes;
        self.running.push(HandlerTask { work, charge: Charge::Answer(bytes), request: None });
    }

    fn start(&mut self, mut task: HandlerTask, cx: &mut Context<'_>) -> Option<Request> {
        match task.poll_unpin(cx) {
            Poll::Ready(done) => self.end(done),
            Poll::Pending => {
                self.running.push(task);
                None
            }
        }
    }

    /// Whether the next event can begin at once.
    pub(super) fn is_free_for_event(&self) -> bool {
        self.event.is_none() && self.events.is_empty()
    }

    /// Whether an event is being handled.
    pub(super) fn has_event(&self) -> bool {
        self.event.is_some()
    }

    /// Takes the handler of the event of `bytes` whose turn it is.
    pub(super) fn start_event(&mut self, work: BoxFuture<'static, ()>, bytes: usize) {
        self.bytes += bytes + OVERHEAD;
        self.event = Some(HandlerTask { work, charge: Charge::Event(bytes), request: None });
    }

    /// Takes an event, to be handled after all that came before it.
    pub(super) fn queue_event(&mut self, name: &str, seq: u64, text: &Text, data: &str) {
        self.bytes += text.len() + OVERHEAD;
        let data = text.range_of(data);
        // The text is a part of the read buffer, all of which it would keep.
        let text = text.detached();
        self.events.push_back(QueuedEvent { text, name: name.into(), data, seq });
    }

    /// The next event that waits, which is to be started.
    pub(super) fn next_event(&mut self) -> Option<QueuedEvent> {
        let event = self.events.pop_front()?;
        self.bytes -= event.text.len() + OVERHEAD;
        if self.events.is_empty() {
            self.events.shrink_to(16);
        }
        Some(event)
    }

    /// Works on the handlers until one has ended. Says which request's has panicked. Never ready
    /// when there are none.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Request>> {
        if let Some(event) = &mut self.event
            && let Poll::Ready(done) = event.poll_unpin(cx)
        {
            self.event = None;
            return Poll::Ready(self.end(done));
        }
        if self.running.is_empty() {
            return Poll::Pending;
        }
        match self.running.poll_next_unpin(cx) {
            Poll::Ready(Some(done)) => Poll::Ready(self.end(done)),
            _ => Poll::Pending,
        }
    }

    fn end(&mut self, done: Done) -> Option<Request> {
        match done.charge {
            Charge::Request(bytes) | Charge::Event(bytes) => self.bytes -= bytes + OVERHEAD,
            Charge::Answer(bytes) => {
                self.answers -= 1;
                self.answer_bytes -= bytes;
            }
        }
        done.panicked
    }
}

impl fmt::Debug for Handlers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handlers")
            .field("requests", &self.running())
            .field("events", &self.events.len())
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}
