use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};

use super::Link;
use super::router::Routes;
use crate::wire::Text;

/// What was received and is not handled yet: running request handlers, and the queue of events.
pub(crate) struct Inbox {
    routes: Arc<Routes>,
    requests: FuturesUnordered<BoxFuture<'static, Held>>,
    event: Option<(BoxFuture<'static, ()>, usize)>,
    events: VecDeque<QueuedEvent>,
    /// Bytes of all the frames above.
    bytes: usize,
    /// Answers that wait and have no handler of the application's, and their bytes.
    answers: usize,
    waiting_bytes: usize,
}

/// What a future in the inbox gives back at its end.
enum Held {
    Request(usize),
    Answer(usize),
}

/// An event that waits for those before it.
pub(crate) struct QueuedEvent {
    pub(crate) text: Text,
    pub(crate) name: Box<str>,
    pub(crate) data: std::ops::Range<usize>,
}

impl Inbox {
    pub(crate) fn new(routes: Arc<Routes>) -> Self {
        Self {
            routes,
            requests: FuturesUnordered::new(),
            event: None,
            events: VecDeque::new(),
            bytes: 0,
            answers: 0,
            waiting_bytes: 0,
        }
    }

    pub(crate) fn routes(&self) -> &Arc<Routes> {
        &self.routes
    }

    /// Bytes of received frames whose handlers have not finished.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many request handlers run.
    pub(crate) fn running(&self) -> usize {
        self.requests.len() - self.answers
    }

    /// Bytes of the answers that wait and have no handler of the application's.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.requests.is_empty() && self.event.is_none() && self.events.is_empty()
    }

    /// Takes a request's handler; `bytes` is the length of its frame.
    pub(crate) fn add_request(&mut self, handler: BoxFuture<'static, ()>, bytes: usize) {
        self.bytes += bytes;
        self.requests.push(handler.map(move |()| Held::Request(bytes)).boxed());
    }

    /// Takes an answer of the link's own, of `bytes`, that waits for something.
    pub(crate) fn add_answer(&mut self, answer: BoxFuture<'static, ()>, bytes: usize) {
        self.answers += 1;
        self.waiting_bytes += bytes;
        self.requests.push(answer.map(move |()| Held::Answer(bytes)).boxed());
    }

    /// Takes an event, to be handled after all that came before it.
    pub(crate) fn add_event(&mut self, mut event: QueuedEvent) {
        self.bytes += event.text.len();
        if self.event.is_some() || !self.events.is_empty() {
            // The text is a part of the read buffer, all of which it would keep.
            event.text = event.text.detached();
        }
        self.events.push_back(event);
    }

    /// Works on handlers until one has finished. Cancel safe. Never ready when there are none.
    pub(crate) async fn work(&mut self, link: &Link) {
        poll_fn(|cx| self.poll_work(cx, link)).await;
    }

    fn poll_work(&mut self, cx: &mut Context<'_>, link: &Link) -> Poll<()> {
        if self.event.is_none() && self.start_event(link) && self.event.is_none() {
            // All that was left could not be started: there may be nothing that would wake.
            return Poll::Ready(());
        }
        if let Some((event, bytes)) = &mut self.event
            && event.poll_unpin(cx).is_ready()
        {
            self.bytes -= *bytes;
            self.event = None;
            return Poll::Ready(());
        }
        if let Poll::Ready(Some(held)) = self.requests.poll_next_unpin(cx) {
            match held {
                Held::Request(bytes) => self.bytes -= bytes,
                Held::Answer(bytes) => {
                    self.answers -= 1;
                    self.waiting_bytes -= bytes;
                }
            }
            return Poll::Ready(());
        }
        Poll::Pending
    }

    /// Starts the handler of the next event whose data it can read. Says whether there was any.
    fn start_event(&mut self, link: &Link) -> bool {
        let any = !self.events.is_empty();
        while let Some(QueuedEvent { text, name, data }) = self.events.pop_front() {
            let bytes = text.len();
            if self.events.is_empty() {
                self.events.shrink_to(16);
            }
            let route = self.routes.event(&name);
            let call = || route.map(|route| (route.call)(link.clone(), text.part(data)));
            match std::panic::catch_unwind(AssertUnwindSafe(call)).map(Option::transpose) {
                Ok(Ok(Some(handler))) => {
                    self.event = Some((guarded(handler, name), bytes));
                    break;
                }
                Ok(Ok(None)) => {}
                Ok(Err(error)) => {
                    tracing::debug!(%name, %error, "ignored an event with wrong data");
                    link.shared().ignore_event();
                }
                Err(_) => tracing::error!(%name, "the handler of an event panicked"),
            }
            self.bytes -= bytes;
        }
        any
    }
}

/// The handler of an event, whose panic ends only itself.
fn guarded(handler: BoxFuture<'static, ()>, name: Box<str>) -> BoxFuture<'static, ()> {
    let handler = AssertUnwindSafe(handler).catch_unwind();
    handler
        .map(move |outcome| {
            if outcome.is_err() {
                tracing::error!(%name, "the handler of an event panicked");
            }
        })
        .boxed()
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox")
            .field("requests", &self.requests.len())
            .field("events", &self.events.len())
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}
