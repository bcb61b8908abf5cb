//! The handlers of one side without their types, by message name; those of one link that run, and
//! the events that wait for theirs.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::future::Future;
use std::hash::{BuildHasherDefault, Hasher};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use tokio::time::Instant;

use crate::error::{ConfigError, DecodeError};
use crate::link::outbound::Handle;
use crate::message::{Direction, Peer, Role};
use crate::printable::Printable;
use crate::wire::{Text, check_name};

/// A message for its handler.
#[derive(Debug)]
pub(in crate::link) struct Call<'a> {
    /// When the asker is expected to give up; `None` for an event.
    pub(in crate::link) deadline: Option<Instant>,
    /// The number of its frame.
    pub(in crate::link) seq: u64,
    pub(in crate::link) data: &'a str,
}

/// The handling of a message to its end: for a request, until its response is queued.
pub(in crate::link) type Handled = Result<BoxFuture<'static, ()>, DecodeError>;
pub(in crate::link) type Handler = Box<dyn Fn(Handle, Call<'_>) -> Handled + Send + Sync>;

pub(in crate::link) struct RequestRoute {
    pub(in crate::link) name: &'static str,
    pub(in crate::link) direction: Direction,
    pub(in crate::link) timeout: Option<Duration>,
    pub(in crate::link) handler: Handler,
}

pub(in crate::link) struct EventRoute {
    pub(in crate::link) direction: Direction,
    pub(in crate::link) handler: Handler,
}

/// Spreads the names of messages over a table.
// Not the default, which protects from chosen keys: the names in the tables are the program's own,
// and a peer can only look them up.
#[derive(Default)]
struct NameHasher(u64);

impl Hasher for NameHasher {
    fn write(&mut self, bytes: &[u8]) {
        for block in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..block.len()].copy_from_slice(block);
            // Multiplying by 2⁶⁴ divided by the golden ratio spreads the word over all high bits.
            self.0 = (self.0.rotate_left(29) ^ u64::from_le_bytes(word))
                .wrapping_mul(0x9E37_79B9_7F4A_7C15);
        }
    }

    fn finish(&self) -> u64 {
        // The table uses both ends of the number, and the low end is still poorly mixed.
        self.0 ^ (self.0 >> 32)
    }
}

type Table<T> = HashMap<&'static str, T, BuildHasherDefault<NameHasher>>;

/// The handlers without their types.
#[derive(Default)]
pub(crate) struct Routes {
    requests: Table<RequestRoute>,
    events: Table<EventRoute>,
    /// The names of events without a handler that were warned of; at most [`MOST_WARNED`].
    warned: Mutex<HashSet<Box<str>>>,
}

/// The most names of events that are warned of.
// A peer may make up any number of names.
const MOST_WARNED: usize = 32;

impl Routes {
    pub(in crate::link) fn add_request(&mut self, route: RequestRoute) -> Result<(), ConfigError> {
        let name = route.name;
        taken(self.requests.insert(name, route).is_some(), name)
    }

    pub(in crate::link) fn add_event(
        &mut self,
        name: &'static str,
        route: EventRoute,
    ) -> Result<(), ConfigError> {
        taken(self.events.insert(name, route).is_some(), name)
    }

    /// Returns the handler of the request `name` from `peer` to `us`, or why there is none.
    pub(super) fn request(
        &self,
        name: &str,
        peer: Role,
        us: Role,
    ) -> Result<&RequestRoute, String> {
        let Some(route) = self.requests.get(name) else {
            return Err(format!("No handler for {name}_request on this {us}"));
        };
        if !route.direction.allows(peer, us) {
            let allowed = route.direction;
            return Err(format!("{name}_request goes {allowed}, and this link goes {peer}→{us}"));
        }
        Ok(route)
    }

    /// Returns the handler of the event `name` from `peer` to `us`.
    pub(super) fn event(&self, name: &str, peer: Role, us: Role) -> Option<&EventRoute> {
        self.events.get(name).filter(|route| route.direction.allows(peer, us))
    }

    /// Warns of an event without a handler, once for each name.
    pub(super) fn warn_of_event(&self, name: &str, from: &Peer) {
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        let known = warned.len() >= MOST_WARNED || !warned.insert(name.into());
        let (from, name) = (from.role, Printable::new(name));
        if known {
            tracing::debug!(?name, %from, "ignored an event");
            return;
        }
        let last = warned.len() == MOST_WARNED;
        // The logger is foreign code, and every link of this side shares the lock.
        drop(warned);
        tracing::warn!(?name, %from, "ignored an event: no handler takes it from this side");
        if last {
            tracing::warn!("further names of ignored events are not warned of");
        }
    }
}

fn taken(known: bool, name: &'static str) -> Result<(), ConfigError> {
    if known {
        return Err(ConfigError::DuplicateHandler(name));
    }
    check_name(name).map_err(ConfigError::Name)
}

impl fmt::Debug for Routes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Router")
            .field("requests", &self.requests.keys())
            .field("events", &self.events.keys())
            .finish_non_exhaustive()
    }
}

/// The bytes that holding a frame takes besides its own: its place, its name, and what the
/// allocator adds.
// Without it, many small frames would take several times the memory that the limit allows.
const OVERHEAD: usize = 256;

/// What was received and is not handled yet: the running handlers, and the queue of events.
#[derive(Default)]
pub(super) struct Handlers {
    running: FuturesUnordered<HandlerTask>,
    event: Option<HandlerTask>,
    events: VecDeque<QueuedEvent>,
    /// Bytes of all the frames above, each with [`OVERHEAD`].
    bytes: usize,
    /// Of `running`, the answers of the link's own, which have no handler, and their bytes.
    answers: usize,
    answer_bytes: usize,
}

/// A running handler, whose panic ends only itself.
struct HandlerTask {
    work: BoxFuture<'static, ()>,
    of: Handling,
    /// The length of the frame.
    bytes: usize,
}

/// What is being handled.
#[derive(Clone, Copy)]
enum Handling {
    Request(Request),
    Event,
    /// An answer of the link's own.
    Answer,
}

/// A request that is being handled.
#[derive(Clone, Copy)]
pub(super) struct Request {
    pub(super) name: &'static str,
    pub(super) seq: u64,
}

/// An event that waits for earlier ones.
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
    of: Handling,
    bytes: usize,
    panicked: bool,
}

impl Future for HandlerTask {
    type Output = Done;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Done> {
        // The application's code: its panic must not end the task, which runs all other handlers.
        let polled = catch_unwind(AssertUnwindSafe(|| self.work.as_mut().poll(cx)));
        let (of, bytes, panicked) = (self.of, self.bytes, polled.is_err());
        polled.unwrap_or(Poll::Ready(())).map(|()| Done { of, bytes, panicked })
    }
}

impl Handlers {
    /// Whether there is room for a frame of `bytes`. For one alone there always is.
    pub(super) fn has_room(&self, bytes: usize, limit: usize) -> bool {
        // With its overhead a frame may be longer than the limit, and would never find room.
        self.bytes == 0 || self.bytes + bytes + OVERHEAD <= limit
    }

    /// Returns the number of running request handlers.
    pub(super) fn running(&self) -> usize {
        self.running.len() - self.answers
    }

    /// Returns the bytes of all that is held.
    pub(super) fn bytes(&self) -> usize {
        self.bytes + self.answer_bytes
    }

    /// Returns the bytes of the link's own answers that wait.
    pub(super) fn answer_bytes(&self) -> usize {
        self.answer_bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.running.is_empty() && self.event.is_none() && self.events.is_empty()
    }

    /// Takes a request's handler and polls it at once; `bytes` is the length of its frame. Returns
    /// the request if the handler has panicked.
    pub(super) fn start_request(
        &mut self,
        work: BoxFuture<'static, ()>,
        request: Request,
        bytes: usize,
        cx: &mut Context<'_>,
    ) -> Option<Request> {
        self.bytes += bytes + OVERHEAD;
        self.start(HandlerTask { work, of: Handling::Request(request), bytes }, cx)
    }

    /// Takes an answer of the link's own, of `bytes`, that waits for something.
    pub(super) fn start_answer(&mut self, work: BoxFuture<'static, ()>, bytes: usize) {
        self.answers += 1;
        self.answer_bytes += bytes;
        self.running.push(HandlerTask { work, of: Handling::Answer, bytes });
    }

    fn start(&mut self, mut task: HandlerTask, cx: &mut Context<'_>) -> Option<Request> {
        // Polled where its request was read: most handlers are ready at once, and need no place
        // among the running ones.
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

    /// Takes the handler of the next event, whose frame has `bytes`.
    pub(super) fn start_event(&mut self, work: BoxFuture<'static, ()>, bytes: usize) {
        self.bytes += bytes + OVERHEAD;
        self.event = Some(HandlerTask { work, of: Handling::Event, bytes });
    }

    /// Takes an event, to be handled after all that came before it.
    pub(super) fn queue_event(&mut self, name: &str, seq: u64, text: &Text, data: &str) {
        self.bytes += text.len() + OVERHEAD;
        let data = text.range_of(data);
        // As a part of the read buffer, the text would keep all of it while the event waits.
        let text = text.detached();
        self.events.push_back(QueuedEvent { text, name: name.into(), data, seq });
    }

    /// Removes and returns the next event that waits. The caller has to start it.
    pub(super) fn next_event(&mut self) -> Option<QueuedEvent> {
        let event = self.events.pop_front()?;
        self.bytes -= event.text.len() + OVERHEAD;
        // Otherwise a burst would keep its memory for as long as the link lives.
        if self.events.is_empty() {
            self.events.shrink_to(16);
        }
        Some(event)
    }

    /// Polls the handlers until one has ended. Returns its request if it has panicked. Never ready
    /// if there are none.
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

    fn end(&mut self, Done { of, bytes, panicked }: Done) -> Option<Request> {
        match of {
            Handling::Request(_) | Handling::Event => self.bytes -= bytes + OVERHEAD,
            Handling::Answer => {
                self.answers -= 1;
                self.answer_bytes -= bytes;
            }
        }
        match of {
            Handling::Request(request) if panicked => return Some(request),
            Handling::Event if panicked => tracing::error!("the handler of an event panicked"),
            _ => {}
        }
        None
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
