//! One request of this side, from its draft to the end of the wait for its answer.

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
use super::pending::{Limit, Outcome};
use super::phase::Class;
use super::stream::{Of, Refused};
use crate::close::Closed;
use crate::error::{DecodeError, Delivery, RemoteError, RequestError, SendError};
use crate::message::Empty;
use crate::wire::{Draft, PREPARE_DISCONNECT, Unread, without_seq};

/// A request and its answer, read as `T`.
///
/// Not an `async` block: that would be ten times as large, and each caller of a large fleet finds
/// all of it in memory that it has not seen for a while.
pub(in crate::link) struct RequestFuture<T> {
    state: State,
    read: fn(&str) -> Result<T, DecodeError>,
}

#[derive(Default)]
enum State {
    /// It has not been polled.
    Drafted(Handle, Result<Draft, Box<SendError>>, Option<Duration>),
    /// Others come first.
    InTurn(BoxFuture<'static, Result<ResponseFuture, RequestError>>),
    Sent(ResponseFuture),
    #[default]
    Done,
}

impl<T> RequestFuture<T> {
    pub(in crate::link) fn new(
        handle: Handle,
        draft: Result<Draft, SendError>,
        timeout: Option<Duration>,
        read: fn(&str) -> Result<T, DecodeError>,
    ) -> Self {
        Self { state: State::Drafted(handle, draft.map_err(Box::new), timeout), read }
    }
}

impl RequestFuture<Box<RawValue>> {
    /// The answer is the response's data without the protocol's keys.
    pub(in crate::link) fn raw(
        handle: Handle,
        draft: Result<Draft, SendError>,
        timeout: Option<Duration>,
    ) -> Self {
        Self::new(handle, draft, timeout, |data| {
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
                State::Drafted(..) => {
                    if let State::Drafted(handle, draft, timeout) = mem::take(state) {
                        let draft = draft.map_err(|error| RequestError::Send(*error))?;
                        *state = start(handle, draft, timeout)?;
                    }
                }
                State::InTurn(turn) => {
                    let sent = ready!(turn.poll_unpin(cx));
                    *state = State::Done;
                    *state = State::Sent(sent?);
                }
                State::Sent(response) => {
                    let outcome = ready!(response.poll_unpin(cx));
                    let answer = outcome.map_err(|error| *error);
                    let read = answer.and_then(|answer| {
                        answer.read(*read).map_err(|unread| response.unread(unread))
                    });
                    *state = State::Done;
                    return Poll::Ready(read);
                }
                State::Done => panic!("a request was polled after its end"),
            }
        }
    }
}

/// The wait for the answer to a request that is queued. A caller that goes away takes it along.
pub(in crate::link) struct ResponseFuture {
    handle: Handle,
    seq: u64,
    answer: oneshot::Receiver<Outcome>,
    /// Whether it holds one of the slots for requests.
    slot: bool,
    /// Somebody else has ended it.
    over: bool,
}

/// The number of a request that is queued, and where its answer comes.
type Sent = (u64, oneshot::Receiver<Outcome>);

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
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
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
            handle.with(|stream, wake| {
                stream.give(Of::Slots, 1, wake);
                handle.wake_drained(stream, wake);
            });
        }
    }
}

/// Sends a request, now if it can be.
fn start(handle: Handle, draft: Draft, timeout: Option<Duration>) -> Result<State, RequestError> {
    handle.fits(&draft).map_err(|error| RequestError::Send(error.into()))?;
    let limit = Limit::new(timeout.unwrap_or(handle.config().request_timeout));
    match try_request(&handle, &draft, limit) {
        Ok(sent) => Ok(State::Sent(ResponseFuture::new(handle, sent, true))),
        Err(Refused::Full) => Ok(State::InTurn(request_in_turn(handle, draft, limit).boxed())),
        Err(Refused::Closed) => Err(handle.lost(Delivery::NotDelivered)),
    }
}

fn try_request(handle: &Handle, draft: &Draft, limit: Limit) -> Result<Sent, Refused> {
    let class = handle.message();
    handle.with(|stream, wake| {
        stream.may_send(class)?;
        if !stream.slots.try_take(1) {
            return Err(Refused::Full);
        }
        if !stream.room.try_take(draft.bytes()) {
            stream.give(Of::Slots, 1, wake);
            return Err(Refused::Full);
        }
        let sent = handle.begin(stream, draft, class, limit, wake);
        if sent.is_err() {
            stream.give(Of::Slots, 1, wake);
        }
        sent
    })
}

/// Waits for a slot and for room, in turn with whoever waits already.
async fn request_in_turn(
    handle: Handle,
    draft: Draft,
    limit: Limit,
) -> Result<ResponseFuture, RequestError> {
    let sent = {
        let stream = &handle.0.stream;
        let undelivered = |_| handle.lost(Delivery::NotDelivered);
        let sending = async {
            let slot = stream.permits(Of::Slots, 1).await.map_err(undelivered)?;
            let room = stream.permits(Of::Room, draft.bytes()).await.map_err(undelivered)?;
            room.spend();
            let class = handle.message();
            let sent = stream.with(|stream, wake| handle.begin(stream, &draft, class, limit, wake));
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
pub(in crate::link) async fn prepare_disconnect(handle: &Handle, question: &Draft) {
    let stream = &handle.0.stream;
    let Ok(room) = stream.permits(Of::Room, question.bytes()).await else { return };
    room.spend();
    let limit = Limit::new(Duration::MAX);
    let sent = stream.with(|stream, wake| {
        let sent = handle.begin(stream, question, Class::Prepare, limit, wake);
        stream.phase.drain(false, false);
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
    let answer = Draft::response(PREPARE_DISCONNECT, seq, &Empty {});
    handle.respond(PREPARE_DISCONNECT, seq, answer).await;
}
