use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};

use super::router::Routes;
use super::{Link, MAX_ERROR, error_response};
use crate::error::DecodeError;
use crate::wire::Text;

/// What it takes to hold a frame, besides its own bytes: its place, its name, and what the allocator
/// adds. Many small ones would take several times what the limit says otherwise.
const OVERHEAD: usize = 256;

/// What was received and is not handled yet: running request handlers, and the queue of events.
pub(crate) struct Inbox {
    /// The newest, which has not begun yet: most are done at their first poll and never get
    /// further.
    fresh: Option<Handling>,
    running: FuturesUnordered<Handling>,
    event: Option<Handling>,
    events: VecDeque<QueuedEvent>,
    /// Bytes of all the frames above, each with [`OVERHEAD`].
    bytes: usize,
    /// Answers that wait and have no handler of the application's, and their bytes.
    answers: usize,
    waiting_bytes: usize,
}

/// A handler at work, whose panic ends only itself.
struct Handling {
    work: BoxFuture<'static, ()>,
    held: Held,
    /// The request, whose sender is told of a panic.
    asked: Option<Asked>,
}

/// A request that is handled.
pub(super) struct Asked {
    pub(super) name: &'static str,
    pub(super) seq: u64,
}

/// What a handler gives back at its end: the bytes of its frame.
#[derive(Clone, Copy)]
enum Held {
    Request(usize),
    Answer(usize),
    Event(usize),
}

/// An event that waits for those before it.
struct QueuedEvent {
    text: Text,
    name: Box<str>,
    data: std::ops::Range<usize>,
}

impl Future for Handling {
    type Output = Done;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Done> {
        match catch_unwind(AssertUnwindSafe(|| self.work.as_mut().poll(cx))) {
            Ok(polled) => polled.map(|()| Done { held: self.held, panicked: None }),
            Err(_) => {
                if self.asked.is_none() {
                    tracing::error!("the handler of an event panicked");
                }
                Poll::Ready(Done { held: self.held, panicked: self.asked.take() })
            }
        }
    }
}

/// The end of a handler.
struct Done {
    held: Held,
    /// The request whose handler has panicked.
    panicked: Option<Asked>,
}

/// The error for the peer whose request's handler has panicked.
pub(super) fn panic_text(name: &str) -> String {
    tracing::error!(name, "the handler of a request panicked");
    format!("The handler of {name}_request panicked")
}

impl Inbox {
    pub(crate) fn new() -> Self {
        Self {
            fresh: None,
            running: FuturesUnordered::new(),
            event: None,
            events: VecDeque::new(),
            bytes: 0,
            answers: 0,
            waiting_bytes: 0,
        }
    }

    /// Whether a frame of `bytes` may come to what is held. One alone always may.
    pub(crate) fn has_room(&self, bytes: usize, limit: usize) -> bool {
        self.bytes == 0 || self.bytes + bytes + OVERHEAD <= limit
    }

    /// How many request handlers run.
    pub(crate) fn running(&self) -> usize {
        self.running.len() + usize::from(self.fresh.is_some()) - self.answers
    }

    /// Bytes of the answers that wait and have no handler of the application's.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.fresh.is_none()
            && self.running.is_empty()
            && self.event.is_none()
            && self.events.is_empty()
    }

    /// Takes a request's handler; `bytes` is the length of its frame.
    pub(super) fn add_request(&mut self, work: BoxFuture<'static, ()>, asked: Asked, bytes: usize) {
        self.bytes += bytes + OVERHEAD;
        self.add(Handling { work, held: Held::Request(bytes), asked: Some(asked) });
    }

    /// Takes an answer of the link's own, of `bytes`, that waits for something.
    pub(crate) fn add_answer(&mut self, work: BoxFuture<'static, ()>, bytes: usize) {
        self.answers += 1;
        self.waiting_bytes += bytes;
        self.add(Handling { work, held: Held::Answer(bytes), asked: None });
    }

    fn add(&mut self, handling: Handling) {
        if let Some(older) = self.fresh.replace(handling) {
            self.running.push(older);
        }
    }

    /// Whether the next event can begin at once.
    pub(crate) fn is_free_for_event(&self) -> bool {
        self.event.is_none() && self.events.is_empty()
    }

    /// Begins to handle an event of `bytes`, which may be the next: see
    /// [`is_free_for_event`](Self::is_free_for_event).
    pub(crate) fn start_event(
        &mut self,
        link: &Link,
        routes: &Routes,
        name: &str,
        data: &str,
        bytes: usize,
    ) -> Result<(), DecodeError> {
        let Some(route) = routes.event(name) else { return Ok(()) };
        match catch_unwind(AssertUnwindSafe(|| (route.call)(link.clone(), data))) {
            Ok(Ok(work)) => {
                self.bytes += bytes + OVERHEAD;
                self.event = Some(Handling { work, held: Held::Event(bytes), asked: None });
            }
            Ok(Err(error)) => return Err(error),
            Err(_) => tracing::error!(name, "the handler of an event panicked"),
        }
        Ok(())
    }

    /// Takes an event, to be handled after all that came before it.
    pub(crate) fn add_event(&mut self, name: &str, text: &Text, data: &str) {
        self.bytes += text.len() + OVERHEAD;
        let data = text.range_of(data);
        // The text is a part of the read buffer, all of which it would keep.
        self.events.push_back(QueuedEvent { text: text.detached(), name: name.into(), data });
    }

    /// Works on handlers until one has finished. Cancel safe. Never ready when there are none.
    pub(crate) async fn work(&mut self, link: &Link, routes: &Routes) {
        poll_fn(|cx| self.poll_work(cx, link, routes)).await;
    }

    /// The same as a poll.
    pub(crate) fn poll_work(
        &mut self,
        cx: &mut Context<'_>,
        link: &Link,
        routes: &Routes,
    ) -> Poll<()> {
        self.poll_any(cx, link, routes).map(|done| {
            let Some(Done { held, panicked }) = done else { return };
            match held {
                Held::Request(bytes) | Held::Event(bytes) => self.bytes -= bytes + OVERHEAD,
                Held::Answer(bytes) => {
                    self.answers -= 1;
                    self.waiting_bytes -= bytes;
                }
            }
            if let Some(Asked { name, seq }) = panicked {
                let response = error_response(name, seq, &panic_text(name));
                let shared = Arc::clone(link.shared());
                let answer = async move { shared.respond(name, seq, response).await };
                self.add_answer(answer.boxed(), MAX_ERROR);
            }
        })
    }

    fn poll_any(
        &mut self,
        cx: &mut Context<'_>,
        link: &Link,
        routes: &Routes,
    ) -> Poll<Option<Done>> {
        if let Some(mut fresh) = self.fresh.take() {
            match fresh.poll_unpin(cx) {
                Poll::Ready(done) => return Poll::Ready(Some(done)),
                Poll::Pending => self.running.push(fresh),
            }
        }
        if self.event.is_none() && self.next_event(link, routes) && self.event.is_none() {
            // All that was left could not be started: there may be nothing that would wake.
            return Poll::Ready(None);
        }
        if let Some(event) = &mut self.event
            && let Poll::Ready(done) = event.poll_unpin(cx)
        {
            self.event = None;
            return Poll::Ready(Some(done));
        }
        match self.running.is_empty() {
            true => Poll::Pending,
            false => self.running.poll_next_unpin(cx),
        }
    }

    /// Starts the handler of the next event whose data it can read. Says whether there was any.
    fn next_event(&mut self, link: &Link, routes: &Routes) -> bool {
        let any = !self.events.is_empty();
        while self.event.is_none()
            && let Some(QueuedEvent { text, name, data }) = self.events.pop_front()
        {
            self.bytes -= text.len() + OVERHEAD;
            if self.events.is_empty() {
                self.events.shrink_to(16);
            }
            if let Err(error) = self.start_event(link, routes, &name, text.part(data), text.len()) {
                tracing::debug!(%name, %error, "ignored an event with wrong data");
                link.shared().ignore_event();
            }
        }
        any
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox")
            .field("requests", &self.running())
            .field("events", &self.events.len())
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}
