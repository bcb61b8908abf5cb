//! One request of this side, from its draft to the end of the wait for its answer.

use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;

use super::pending::{Limit, Outcome, Wait};
use super::shared::Shared;
use super::stream::Refused;
use crate::error::{DecodeError, RequestError, SendError};
use crate::wire::Draft;

/// A request and its answer, read as `T`.
///
/// Not an `async` block: that would be ten times as large, and each caller of a large fleet finds
/// all of it in memory that it has not seen for a while.
pub(super) struct Asking<T> {
    stage: Stage,
    read: fn(&str) -> Result<T, DecodeError>,
}

#[derive(Default)]
enum Stage {
    /// It has not been polled.
    Drafted(Arc<Shared>, Result<Draft, Box<SendError>>, Option<Duration>),
    /// Others come first.
    InTurn(BoxFuture<'static, Result<Waiting, RequestError>>),
    Sent(Waiting),
    #[default]
    Done,
}

impl<T> Asking<T> {
    pub(super) fn new(
        shared: Arc<Shared>,
        draft: Result<Draft, SendError>,
        timeout: Option<Duration>,
        read: fn(&str) -> Result<T, DecodeError>,
    ) -> Self {
        Self { stage: Stage::Drafted(shared, draft.map_err(Box::new), timeout), read }
    }
}

impl<T> Future for Asking<T> {
    type Output = Result<T, RequestError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { stage, read } = self.get_mut();
        loop {
            match stage {
                Stage::Drafted(..) => {
                    if let Stage::Drafted(shared, draft, timeout) = mem::take(stage) {
                        let draft = draft.map_err(|error| RequestError::Send(*error))?;
                        *stage = shared.begin(draft, timeout)?;
                    }
                }
                Stage::InTurn(turn) => {
                    let sent = ready!(turn.poll_unpin(cx));
                    *stage = Stage::Done;
                    *stage = Stage::Sent(sent?);
                }
                Stage::Sent(waiting) => {
                    let outcome = ready!(waiting.poll_unpin(cx));
                    let read = |answer| waiting.shared.read_answer(&answer, *read);
                    let read = outcome.map_err(|error| *error).and_then(read);
                    *stage = Stage::Done;
                    return Poll::Ready(read);
                }
                Stage::Done => panic!("a request was polled after its end"),
            }
        }
    }
}

/// One wait for the answer to a request that is queued. A caller that goes away takes it along.
pub(super) struct Waiting {
    shared: Arc<Shared>,
    wait: Wait,
    /// Whether it holds one of the slots for requests.
    slot: bool,
    /// Somebody else has ended it.
    over: bool,
}

impl Waiting {
    /// `slot` says whether the request has taken one of the slots for requests.
    pub(super) fn new(shared: Arc<Shared>, wait: Wait, slot: bool) -> Self {
        Self { shared, wait, slot, over: false }
    }
}

impl Future for Waiting {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        let outcome = ready!(self.wait.answer.poll_unpin(cx));
        self.over = outcome.is_ok();
        // Without a word: the driver was dropped in the middle, with its runtime.
        Poll::Ready(outcome.unwrap_or_else(|_| Err(Box::new(self.shared.dropped()))))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if !self.over {
            self.shared.pending().forget(self.wait.seq);
        }
        if self.slot {
            self.shared.free_slot();
        }
    }
}

impl Shared {
    /// Sends a request, now if it can be.
    fn begin(
        self: Arc<Self>,
        draft: Draft,
        timeout: Option<Duration>,
    ) -> Result<Stage, RequestError> {
        self.fits(&draft).map_err(|error| RequestError::Send(error.into()))?;
        let limit = self.pending().limit(timeout.unwrap_or(self.config().request_timeout));
        match self.try_ask(&draft, limit) {
            Ok(wait) => Ok(Stage::Sent(Waiting::new(self, wait, true))),
            Err(Refused::Full) => Ok(Stage::InTurn(self.ask_in_turn(draft, limit).boxed())),
            Err(_) => Err(self.undelivered()),
        }
    }

    async fn ask_in_turn(
        self: Arc<Self>,
        draft: Draft,
        limit: Limit,
    ) -> Result<Waiting, RequestError> {
        let wait = {
            let (slot, room) = self.places(&draft, limit).await?;
            let wait = self.ask(&draft, room, self.message(), limit);
            let wait = wait.map_err(|_| self.undelivered())?;
            slot.spend();
            wait
        };
        Ok(Waiting::new(self, wait, true))
    }
}
