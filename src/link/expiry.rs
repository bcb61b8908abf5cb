use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::time::{Instant, Sleep, sleep_until};

use super::shared::Shared;

/// Ends the requests whose time is over: one timer per link, made when it is first needed.
#[derive(Debug, Default)]
pub(super) struct Expiry {
    timer: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl Expiry {
    /// Whether the timer goes off when it should.
    pub(super) fn is_set(&self, shared: &Shared) -> bool {
        let next = shared.pending().next_deadline();
        // One that has gone off does not go off again.
        let timer = self.timer.as_ref().filter(|(_, timer)| !timer.is_elapsed());
        next.is_none() || next == timer.map(|(set, _)| *set)
    }

    /// Works for as long as it is polled; a new request wakes the task when its time ends before
    /// all others. Cancel safe.
    pub(super) async fn run(&mut self, shared: &Shared) -> Infallible {
        poll_fn(|cx| self.poll(cx, shared)).await
    }

    /// The same as a poll.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, shared: &Shared) -> Poll<Infallible> {
        while let Some(next) = shared.pending().next_deadline() {
            let (set, timer) =
                self.timer.get_or_insert_with(|| (next, Box::pin(sleep_until(next))));
            if *set != next {
                *set = next;
                timer.as_mut().reset(next);
            }
            ready!(timer.as_mut().poll(cx));
            shared.pending().expire(Instant::now());
        }
        Poll::Pending
    }
}
