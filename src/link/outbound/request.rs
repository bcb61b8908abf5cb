//! One request of this side, from its encoded message to the end of the wait for its answer.

use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde_json::value::RawValue;
use tokio::sync::oneshot;
use tokio::time::{timeout, timeout_at};

use super::handle::Handle;
use super::pending::{Limit, ResponseResult};
use super::phase::SendClass;
use super::send_state::{BudgetKind, SendRefused};
use crate::close::Closed;
use crate::error::{DecodeError, Delivery, RemoteError, RequestError, SendError};
use crate::message::Empty;
use crate::wire::{EncodedMessage, PREPARE_DISCONNECT, Unread, without_seq};

/// A request and its answer, decoded as `T`.
// Not an `async` block: that would be ten times as large, and with many links all of it would have
// left the processor's cache when the answer comes.
pub(in crate::link) struct RequestFuture<T> {
    state: RequestState,
    read: fn(&str) -> Result<T, DecodeError>,
}

#[derive(Default)]
enum RequestState {
    /// It has not been polled.
    Unsent(Handle, Result<EncodedMessage, Box<SendError>>, Option<Duration>),
    /// It waits for a slot or for room.
    InTurn(BoxFuture<'static, Result<ResponseFuture, RequestError>>),
    Sent(ResponseFuture),
    #[default]
    Done,
}

impl<T> RequestFuture<T> {
    pub(in crate::link) fn new(
        handle: Handle,
        message: Result<EncodedMessage, SendError>,
        timeout: Option<Duration>,
        read: fn(&str) -> Result<T, DecodeError>,
    ) -> Self {
        Self { state: RequestState::Unsent(handle, message.map_err(Box::new), timeout), read }
    }
}

impl RequestFuture<Box<RawValue>> {
    /// The answer is the response's data without the protocol's keys.
    pub(in crate::link) fn raw(
        handle: Handle,
        message: Result<EncodedMessage, SendError>,
        timeout: Option<Duration>,
    ) -> Self {
        Self::new(handle, message, timeout, |data| {
            without_seq(data).map_err(|error| DecodeError::new(&error))
        })
    }
}

impl<T> Future for RequestFuture<T> {
    type Output = Result<T, RequestError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { state, read } = self.get_mut();
        loop {
            match state {
                RequestState::Unsent(..) => {
                    if let RequestState::Unsent(handle, message, timeout) = mem::take(state) {
                        let message = message.map_err(|error| RequestError::Send(*error))?;
                        *state = start(handle, message, timeout)?;
                    }
                }
                RequestState::InTurn(turn) => {
                    let sent = ready!(turn.poll_unpin(cx));
                    // Before `?` returns: a future that has ended must not be polled again.
                    *state = RequestState::Done;
                    *state = RequestState::Sent(sent?);
                }
                RequestState::Sent(response) => {
                    let outcome = ready!(response.poll_unpin(cx));
                    let answer = outcome.map_err(|error| *error);
                    let read = answer.and_then(|answer| {
                        answer.read(*read).map_err(|unread| response.unread(unread))
                    });
                    // Gives the slot back now: the caller may ask again before it drops this
                    // future.
                    *state = RequestState::Done;
                    return Poll::Ready(read);
                }
                RequestState::Done => panic!("a request was polled after its end"),
            }
        }
    }
}

/// The wait for the answer to a queued request. Dropping it ends the wait.
pub(in crate::link) struct ResponseFuture {
    handle: Handle,
    seq: u64,
    answer: oneshot::Receiver<ResponseResult>,
    /// Whether it holds one of the slots for requests.
    slot: bool,
    /// The wait was ended elsewhere, by an answer or an error.
    over: bool,
}

/// The number of a request that is queued, and where its answer comes.
type Sent = (u64, oneshot::Receiver<ResponseResult>);

impl ResponseFuture {
    /// `slot` tells whether the request has taken one of the slots for requests.
    fn new(handle: Handle, (seq, answer): Sent, slot: bool) -> Self {
        Self { handle, seq, answer, slot, over: false }
    }

    /// Returns the error for an answer that is not as expected. One that is no frame ends the link.
    fn unread(&self, unread: Unread) -> RequestError {
        match unread {
            Unread::Error(error) => RequestError::Remote(RemoteError::new(&error)),
            Unread::Decode(error) => RequestError::Decode(error),
            // Its number was accepted before its data was read, so only the end is left.
            Unread::NoFrame(fault, error) => {
                self.handle.ask_close(Closed::malformed(&fault));
                RequestError::Decode(error)
            }
        }
    }
}

impl Future for ResponseFuture {
    type Output = ResponseResult;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<ResponseResult> {
        let outcome = ready!(self.answer.poll_unpin(cx));
        self.over = outcome.is_ok();
        // Dropped without a result: the link's task was dropped half-way, with its runtime.
        Poll::Ready(outcome.unwrap_or_else(|_| Err(Box::new(self.handle.lost(Delivery::Unknown)))))
    }
}

impl Drop for ResponseFuture {
    fn drop(&mut self) {
        let Self { handle, seq, slot, over, .. } = self;
        // The entry before the slot: `wake_drained` counts the entries.
        if !*over {
            handle.0.pending.forget(*seq);
        }
        if *slot {
            handle.with(|state, wake| {
                state.give(BudgetKind::Slots, 1, wake);
                handle.wake_drained(state, wake);
            });
        }
    }
}

/// Sends a request, at once if there is room.
fn start(
    handle: Handle,
    message: EncodedMessage,
    timeout: Option<Duration>,
) -> Result<RequestState, RequestError> {
    handle.fits(&message).map_err(|error| RequestError::Send(error.into()))?;
    let limit = Limit::new(timeout.unwrap_or(handle.config().request_timeout));
    match try_request(&handle, &message, limit) {
        Ok(sent) => Ok(RequestState::Sent(ResponseFuture::new(handle, sent, true))),
        // Boxed, because it is rare: every `RequestFuture` would reserve room for it.
        Err(SendRefused::Full) => {
            Ok(RequestState::InTurn(request_in_turn(handle, message, limit).boxed()))
        }
        Err(SendRefused::Closed) => Err(handle.lost(Delivery::NotDelivered)),
    }
}

fn try_request(
    handle: &Handle,
    message: &EncodedMessage,
    limit: Limit,
) -> Result<Sent, SendRefused> {
    let class = handle.message_class();
    handle.with(|state, wake| {
        // Before the budgets: a request that is refused anyway must not wait for room.
        state.may_send(class)?;
        if !state.slots.try_take(1) {
            return Err(SendRefused::Full);
        }
        if !state.room.try_take(message.bytes()) {
            state.give(BudgetKind::Slots, 1, wake);
            return Err(SendRefused::Full);
        }
        let sent = handle.begin(state, message, class, limit, wake);
        // Only the slot: `begin` has given the room back.
        if sent.is_err() {
            state.give(BudgetKind::Slots, 1, wake);
        }
        sent
    })
}

/// Waits for a slot and for room, behind all that already wait, and sends a request.
async fn request_in_turn(
    handle: Handle,
    message: EncodedMessage,
    limit: Limit,
) -> Result<ResponseFuture, RequestError> {
    let sent = {
        let state = &handle.0.send_state;
        let undelivered = |_| handle.lost(Delivery::NotDelivered);
        let sending = async {
            let slot = state.permits(BudgetKind::Slots, 1).await.map_err(undelivered)?;
            let room =
                state.permits(BudgetKind::Room, message.bytes()).await.map_err(undelivered)?;
            room.spend();
            // Not before the wait: the peer's requests may have been answered in the meantime.
            let class = handle.message_class();
            let sent = state.with(|state, wake| handle.begin(state, &message, class, limit, wake));
            let sent = sent.map_err(undelivered)?;
            // From here on the `ResponseFuture` gives it back.
            slot.spend();
            Ok(sent)
        };
        match limit.deadline {
            Some(end) => timeout_at(end, sending)
                .await
                .unwrap_or(Err(RequestError::Timeout { after: limit.after })),
            None => sending.await,
        }?
    };
    Ok(ResponseFuture::new(handle, sent, true))
}

/// Asks the peer to finish, and waits for its answer; an error counts as one. Only what the answer
/// waits for may be sent behind the question.
pub(in crate::link) async fn prepare_disconnect(handle: &Handle, question: &EncodedMessage) {
    let state = &handle.0.send_state;
    let Ok(room) = state.permits(BudgetKind::Room, question.bytes()).await else { return };
    room.spend();
    // The caller limits the time. No slot is taken: the requests that hold all of them are what
    // this one waits for.
    let limit = Limit::new(Duration::MAX);
    let sent = state.with(|state, wake| {
        let sent = handle.begin(state, question, SendClass::Prepare, limit, wake);
        // Under the same lock, so that no message slips in behind the question.
        state.phase.drain(false, false);
        sent
    });
    if let Ok(sent) = sent {
        let _ = ResponseFuture::new(handle.clone(), sent, false).await;
    }
}

/// Answers the peer's `prepare_disconnect_request` numbered `seq`, when this side has finished or
/// the time for that is over. Only answers follow it.
pub(in crate::link) async fn agree_to_disconnect(handle: Handle, seq: u64) {
    let limit = handle.config().disconnect_timeout;
    if timeout(limit, handle.drained()).await.is_err() {
        let peer = handle.peer();
        tracing::warn!(%peer, ?limit, "not drained in time for the peer");
    }
    // Before the answer is queued, so that no request follows it.
    handle.drain(true, true);
    let answer = EncodedMessage::response(PREPARE_DISCONNECT, seq, &Empty {});
    handle.respond(PREPARE_DISCONNECT, seq, answer).await;
}
