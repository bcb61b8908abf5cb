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

/// A request and its answer, read as `T`.
///
/// Not an `async` block: that would be ten times as large, and each caller of a large fleet finds
/// all of it in memory that it has not seen for a while.
pub(in crate::link) struct RequestFuture<T> {
    state: RequestState,
    read: fn(&str) -> Result<T, DecodeError>,
}

#[derive(Default)]
enum RequestState {
    /// It has not been polled.
    Unsent(Handle, Result<EncodedMessage, Box<SendError>>, Option<Duration>),
    /// Others come first.
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
                    *state = RequestState::Done;
                    *state = RequestState::Sent(sent?);
                }
                RequestState::Sent(response) => {
                    let outcome = ready!(response.poll_unpin(cx));
                    let answer = outcome.map_err(|error| *error);
                    let read = answer.and_then(|answer| {
                        answer.read(*read).map_err(|unread| response.unread(unread))
                    });
                    *state = RequestState::Done;
                    return Poll::Ready(read);
                }
                RequestState::Done => panic!("a request was polled after its end"),
            }
        }
    }
}

/// The wait for the answer to a request that is queued. A caller that goes away takes it along.
pub(in crate::link) struct ResponseFuture {
    handle: Handle,
    seq: u64,
    answer: oneshot::Receiver<ResponseResult>,
    /// Whether it holds one of the slots for requests.
    slot: bool,
    /// Somebody else has ended it.
    over: bool,
}

/// The number of a request that is queued, and where its answer comes.
type Sent = (u64, oneshot::Receiver<ResponseResult>);

impl ResponseFuture {
    /// `slot` says whether the request has taken one of the slots for requests.
    fn new(handle: Handle, (seq, answer): Sent, slot: bool) -> Self {
        Self { handle, seq, answer, slot, over: false }
    }

    /// What an answer is that is not as expected. One that is no frame ends the link.
    fn unread(&self, unread: Unread) -> RequestError {
        match unread {
            Unread::Error(error) => RequestError::Remote(RemoteError::new(&error)),
            Unread::Decode(error) => RequestError::Decode(error),
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
        // Without a word: the link's task was dropped in the middle, with its runtime.
        Poll::Ready(outcome.unwrap_or_else(|_| Err(Box::new(self.handle.lost(Delivery::Unknown)))))
    }
}

impl Drop for ResponseFuture {
    fn drop(&mut self) {
        let Self { handle, seq, slot, over, .. } = self;
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

/// Sends a request, now if it can be.
fn start(
    handle: Handle,
    message: EncodedMessage,
    timeout: Option<Duration>,
) -> Result<RequestState, RequestError> {
    handle.fits(&message).map_err(|error| RequestError::Send(error.into()))?;
    let limit = Limit::new(timeout.unwrap_or(handle.config().request_timeout));
    match try_request(&handle, &message, limit) {
        Ok(sent) => Ok(RequestState::Sent(ResponseFuture::new(handle, sent, true))),
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
        state.may_send(class)?;
        if !state.slots.try_take(1) {
            return Err(SendRefused::Full);
        }
        if !state.room.try_take(message.bytes()) {
            state.give(BudgetKind::Slots, 1, wake);
            return Err(SendRefused::Full);
        }
        let sent = handle.begin(state, message, class, limit, wake);
        if sent.is_err() {
            state.give(BudgetKind::Slots, 1, wake);
        }
        sent
    })
}

/// Waits for a slot and for room, in turn with whoever waits already.
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
            let class = handle.message_class();
            let sent = state.with(|state, wake| handle.begin(state, &message, class, limit, wake));
            let sent = sent.map_err(undelivered)?;
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

/// Asks the peer to finish, and lets nothing but what the answer waits for follow the question.
/// Waits for the answer; an error counts as one.
pub(in crate::link) async fn prepare_disconnect(handle: &Handle, question: &EncodedMessage) {
    let state = &handle.0.send_state;
    let Ok(room) = state.permits(BudgetKind::Room, question.bytes()).await else { return };
    room.spend();
    let limit = Limit::new(Duration::MAX);
    let sent = state.with(|state, wake| {
        let sent = handle.begin(state, question, SendClass::Prepare, limit, wake);
        state.phase.drain(false, false);
        sent
    });
    if let Ok(sent) = sent {
        let _ = ResponseFuture::new(handle.clone(), sent, false).await;
    }
}

/// The answer to the peer's question numbered `seq`, when this side has finished or the time for
/// that is over. Nothing but answers follows it.
pub(in crate::link) async fn agree_to_disconnect(handle: Handle, seq: u64) {
    let limit = handle.config().disconnect_timeout;
    if timeout(limit, handle.drained()).await.is_err() {
        let peer = handle.describe_peer();
        tracing::warn!(%peer, ?limit, "not drained in time for the peer");
    }
    handle.drain(true, true);
    let answer = EncodedMessage::response(PREPARE_DISCONNECT, seq, &Empty {});
    handle.respond(PREPARE_DISCONNECT, seq, answer).await;
}
