//! Handing messages on from one link to others, unread.

use serde_json::value::RawValue;

use super::Link;
use crate::error::{RequestError, SendError};
use crate::message::{Event, Request};
use crate::wire::{Draft, EncodeError};

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
    let handle = target.handle();
    handle.fits(draft)?;
    handle.hand_on(draft);
    Ok(())
}

impl Link {
    /// Sends one event over many links: it is written as JSON once, and no link waits for another.
    ///
    /// What has no room in a link's outbox waits in front of it, in turn with whatever else waits
    /// there and in as many bytes again as [`Config::outbox`](super::Config); a link for which more
    /// than that waits is closed with a reason. A link that has ended is passed over: this tells no
    /// more than [`event`](Self::event) does of what arrived.
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

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use super::super::outbound::{Next, tests::handle};
    use super::*;
    use crate::close::CloseCode;
    use crate::wire::{Frame, decode};

    #[derive(Serialize, Deserialize)]
    struct Line {
        n: usize,
        text: String,
    }

    impl Event for Line {
        const NAME: &'static str = "line";
    }

    /// A link without a task: what is queued stays until the test takes it.
    fn link() -> Link {
        Link::new(handle(|config| config.outbox = 8 * 1024))
    }

    fn hand_on_line(link: &Link, n: usize) {
        let line = Line { n, text: "x".repeat(900) };
        let json = serde_json::to_string(&line).unwrap();
        hand_on::<Line>([link.clone()], Draft::event_read(Line::NAME, &json));
    }

    fn taken(link: &Link) -> Option<usize> {
        let Next::Frames([Some(text)]) = link.handle().next() else { return None };
        link.handle().wrote(1);
        let frame = Frame::read(text.as_str()).unwrap();
        Some(decode::<Line>(frame.data).unwrap().n)
    }

    /// What is handed on keeps its order, whatever room there is in between.
    #[test]
    fn what_comes_later_stays_behind_what_waits() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _inside = runtime.enter();
        let link = link();
        let mut written = Vec::new();
        for n in 0..200 {
            hand_on_line(&link, n);
            if n >= 10 {
                written.extend(taken(&link));
                written.extend(taken(&link));
                hand_on_line(&link, 1000 + n);
            }
        }
        written.extend(std::iter::from_fn(|| taken(&link)));
        let sent = (0..200).flat_map(|n| [Some(n), (n >= 10).then_some(1000 + n)]).flatten();
        assert_eq!(written, sent.collect::<Vec<_>>());
        assert!(link.handle().close_asked().is_none());
    }

    /// Both limits are counted in bytes, and what is over them ends the target and nothing else.
    #[tokio::test]
    async fn a_target_for_which_too_much_waits_is_closed() {
        let link = link();
        let fit = 2 * (8 * 1024 / 960);
        (0..fit).for_each(|n| hand_on_line(&link, n));
        assert!(link.handle().close_asked().is_none());
        (0..2).for_each(|n| hand_on_line(&link, fit + n));
        let closed = link.handle().close_asked().expect("too much");
        assert_eq!(closed.code, CloseCode::POLICY);
        assert!(closed.reason.as_str().starts_with("The outbox is full: "), "{closed}");
    }
}
