//! Handing messages on from one link to others, unread.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::value::RawValue;

use super::Link;
use super::shared::Shared;
use super::stream::{Refused, Sort};
use crate::close::{CloseCode, Closed};
use crate::error::{RequestError, SendError};
use crate::message::{Event, Request};
use crate::wire::{Draft, EncodeError};

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
    request: Result<Draft, EncodeError>,
) -> Result<Box<RawValue>, String> {
    let timeout = R::TIMEOUT.or(link.timeout);
    link.ask_raw(request, timeout).await.map_err(|error| match error {
        RequestError::Remote(error) => error.message().to_owned(),
        other => format!("{} did not answer {}: {other}", link.describe_peer(), R::NAME),
    })
}

/// Hands an event on to links, behind those that wait for each already. Waits for nothing.
pub(super) fn hand_on<E: Event>(
    targets: impl IntoIterator<Item = Link>,
    event: Result<Draft, EncodeError>,
) {
    let event = event.map_err(SendError::from);
    for target in targets {
        let handed = event.as_ref().map_err(SendError::clone);
        if let Err(error) = handed.and_then(|draft| hand::<E>(&target, draft)) {
            let to = target.describe_peer();
            tracing::error!(name = E::NAME, %to, %error, "an event cannot be handed on");
        }
    }
}

fn hand<E: Event>(target: &Link, draft: &Draft) -> Result<(), SendError> {
    target.may_send(E::NAME, E::DIRECTION, E::SINCE)?;
    target.shared().fits(draft)?;
    queue(target.shared(), draft);
    Ok(())
}

impl Link {
    /// Sends one event over many links: it is written as JSON once, and no link waits for another.
    ///
    /// What has no room in a link's outbox waits in front of it, in as many bytes again as
    /// [`Config::outbox`](super::Config); a link for which more than that waits is closed with a
    /// reason. Broadcasts keep their order among each other; an [`event`](Self::event) that is sent
    /// over a link while they wait may overtake them. A link that has ended is passed over: this tells no more than [`event`](Self::event)
    /// does of what arrived.
    ///
    /// # Errors
    ///
    /// The event cannot be sent to any link, as for [`event`](Self::event): then none gets it. A
    /// link to which alone it cannot be sent, by its direction, version or limits, is passed over
    /// and the error of the first such link returned when all others have it.
    pub fn broadcast<'a, E: Event>(
        event: &E,
        links: impl IntoIterator<Item = &'a Self>,
    ) -> Result<(), SendError> {
        let draft = Draft::event(E::NAME, event)?;
        let mut outcome = Ok(());
        for link in links {
            outcome = outcome.and(hand::<E>(link, &draft));
        }
        outcome
    }
}

fn queue(shared: &Arc<Shared>, draft: &Draft) {
    let mut waiting = shared.backlog().lock();
    if !waiting.moving {
        let Err(Refused::Full) = shared.try_queue(draft, Sort::Message { needed: false }) else {
            return;
        };
    }
    let bytes = waiting.bytes + draft.bytes();
    if bytes > shared.config().outbox {
        drop(waiting);
        let reason = "The outbox is full: events come faster than they are read";
        shared.ask_to_close(Closed::local(CloseCode::POLICY, reason));
        return;
    }
    waiting.bytes = bytes;
    waiting.drafts.push_back(draft.clone());
    if !waiting.moving {
        waiting.moving = true;
        shared.runtime().spawn(move_on(Arc::clone(shared)));
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
        let queued = shared.event(&draft).await;
        let mut waiting = shared.backlog().lock();
        if queued.is_err() {
            *waiting = Waiting::default();
            return;
        }
        waiting.bytes -= bytes;
    }
}

#[cfg(test)]
mod tests {
    use semver::Version;
    use serde::{Deserialize, Serialize};

    use super::super::Config;
    use super::*;
    use crate::handshake::{Agreement, Peer};
    use crate::message::Role;
    use crate::session::Session;
    use crate::wire::{Dialect, Frame, decode};

    #[derive(Serialize, Deserialize)]
    struct Line {
        n: usize,
        text: String,
    }

    impl Event for Line {
        const NAME: &'static str = "line";
    }

    /// A link without a driver: what is queued stays until the test takes it.
    fn link() -> Link {
        let config = Config { outbox: 8 * 1024, ..Config::default() };
        let (version, agent) = (Version::new(2, 0, 0), String::new());
        let role = Role::Control;
        let peer = Peer { role, id: None, name: None, agent, version: version.clone() };
        let session = Session::continuing(Dialect::PLAIN, 0);
        let agreement = Agreement { first: None, session, peer, version, hold: None };
        Link::new(agreement, Role::Master, config).0
    }

    fn hand_on_line(link: &Link, n: usize) {
        let line = Line { n, text: "x".repeat(900) };
        let json = serde_json::to_string(&line).unwrap();
        hand_on::<Line>([link.clone()], Draft::event_read(Line::NAME, &json));
    }

    fn taken(link: &Link) -> Option<usize> {
        let [text] = link.shared().unwritten();
        let text = text?;
        link.shared().wrote(1);
        let frame = Frame::read(text.as_str()).unwrap();
        Some(decode::<Line>(frame.data).unwrap().n)
    }

    /// Room that is free before the waiting events have moved is theirs: what comes meanwhile does
    /// not overtake them.
    #[tokio::test]
    async fn what_comes_later_stays_behind_what_waits() {
        let link = link();
        let mut written = Vec::new();
        for n in 0..200 {
            hand_on_line(&link, n);
            if n >= 10 {
                // Two places are free; of those that wait, none has been moved yet.
                written.extend(taken(&link));
                written.extend(taken(&link));
                hand_on_line(&link, 1000 + n);
                if n % 3 == 0 {
                    tokio::task::yield_now().await;
                }
            }
        }
        for _ in 0..500 {
            written.extend(taken(&link));
            tokio::task::yield_now().await;
        }
        let sent = (0..200).flat_map(|n| [Some(n), (n >= 10).then_some(1000 + n)]).flatten();
        assert_eq!(written, sent.collect::<Vec<_>>());
        assert!(link.shared().close_asked().is_none());
        let waiting = link.shared().backlog().lock();
        assert_eq!((waiting.bytes, waiting.drafts.len(), waiting.moving), (0, 0, false));
    }

    /// Both limits are counted in bytes, and what is over them ends the target and nothing else.
    #[tokio::test]
    async fn a_target_for_which_too_much_waits_is_closed() {
        let link = link();
        let fit = 2 * (8 * 1024 / 960);
        for n in 0..fit {
            hand_on_line(&link, n);
            tokio::task::yield_now().await;
        }
        assert!(link.shared().close_asked().is_none());
        (0..2).for_each(|n| hand_on_line(&link, fit + n));
        let closed = link.shared().close_asked().expect("too much").clone();
        assert_eq!(closed.code, CloseCode::POLICY);
        assert!(closed.reason.as_str().starts_with("The outbox is full: "), "{closed}");
        // Nothing of it is kept once the link has ended.
        link.shared().conclude(closed);
        tokio::task::yield_now().await;
        hand_on_line(&link, 0);
        assert_eq!(link.shared().backlog().lock().bytes, 0);
    }
}
