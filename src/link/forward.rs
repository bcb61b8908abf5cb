//! Handing messages on from one link to others, unread.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::value::RawValue;

use super::Link;
use super::shared::Shared;
use crate::close::{CloseCode, Closed};
use crate::error::{RequestError, SendError};
use crate::message::{Event, Request};
use crate::wire::Draft;

/// Events that were handed on to a link and wait for room in its outbox, so that no other link
/// waits for it.
#[derive(Debug, Default)]
pub(crate) struct Backlog(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    drafts: VecDeque<Draft>,
    /// Bytes of those above, and of the one that is next.
    bytes: usize,
    /// Whether a task moves them into the outbox.
    moving: bool,
}

impl Backlog {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing panics while the lock is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks the link and gives its answer, or the text of the error that its asker is answered with.
pub(super) async fn relay<R: Request>(
    link: &Link,
    data: &RawValue,
) -> Result<Box<RawValue>, String> {
    let link = match R::TIMEOUT {
        Some(timeout) => link.timeout(timeout),
        None => link.clone(),
    };
    link.request_raw(R::NAME, data).await.map_err(|error| match error {
        RequestError::Remote(error) => error.message().to_owned(),
        other => format!("{} did not answer {}: {other}", link.describe_peer(), R::NAME),
    })
}

/// Hands an event on to a link, behind those that wait for it already. Waits for nothing.
pub(super) fn hand_on<E: Event>(target: &Link, data: &RawValue) {
    let shared = target.shared();
    let draft = target
        .may_send(E::NAME, E::DIRECTION, E::SINCE)
        .and_then(|()| Ok(Draft::event(E::NAME, data)?))
        .and_then(|draft| shared.fits(&draft).map(|()| draft).map_err(SendError::from));
    match draft {
        Ok(draft) => queue(shared, draft),
        Err(error) => {
            let to = target.describe_peer();
            tracing::error!(name = E::NAME, %to, %error, "an event cannot be handed on");
        }
    }
}

fn queue(shared: &Arc<Shared>, draft: Draft) {
    let mut waiting = shared.backlog().lock();
    let draft = if waiting.moving {
        draft
    } else {
        let Err(draft) = shared.try_queue(draft) else { return };
        draft
    };
    let bytes = waiting.bytes + draft.bytes();
    if bytes > shared.config().outbox {
        drop(waiting);
        let reason = "The outbox is full: events come faster than they are read";
        shared.ask_to_close(Closed::local(CloseCode::POLICY, reason));
        return;
    }
    waiting.bytes = bytes;
    waiting.drafts.push_back(draft);
    if !waiting.moving {
        waiting.moving = true;
        tokio::spawn(move_on(Arc::clone(shared)));
    }
}

/// Moves what waits into the outbox, until nothing does or the link has ended.
async fn move_on(shared: Arc<Shared>) {
    loop {
        let draft = {
            let mut waiting = shared.backlog().lock();
            let Some(draft) = waiting.drafts.pop_front() else {
                *waiting = Waiting::default();
                return;
            };
            draft
        };
        let bytes = draft.bytes();
        let queued = shared.event(draft).await;
        let mut waiting = shared.backlog().lock();
        if queued.is_err() {
            *waiting = Waiting::default();
            return;
        }
        waiting.bytes -= bytes;
    }
}
