//! Hands messages on from one link to others without decoding them.

use std::time::Duration;

use serde_json::value::RawValue;

use super::outbound::{Handle, RequestFuture};
use crate::error::{RequestError, SendError};
use crate::message::{Event, Request};
use crate::wire::{EncodeError, EncodedMessage};

/// Sends the request to `target`. Returns the answer, or the text of the error for the asker.
pub(super) async fn relay<R: Request>(
    target: Handle,
    request: Result<EncodedMessage, EncodeError>,
    timeout: Option<Duration>,
) -> Result<Box<RawValue>, String> {
    let request = request.map_err(SendError::from);
    let timeout = R::TIMEOUT.or(timeout);
    RequestFuture::raw(target.clone(), request, timeout).await.map_err(|error| match error {
        // The target's own error reaches the asker as if it had been asked directly.
        RequestError::Remote(error) => error.message().to_owned(),
        other => format!("{} did not answer {}: {other}", target.peer(), R::NAME),
    })
}

/// Hands an event on to a link, behind those that already wait there. Does not wait.
pub(super) fn hand_on<E: Event>(target: &Handle, event: &EncodedMessage) -> Result<(), SendError> {
    target.may_send(E::NAME, E::DIRECTION, E::SINCE)?;
    target.fits(event)?;
    target.hand_on(event);
    Ok(())
}

/// Hands an event on to any number of links. Those to which it cannot be sent are logged.
pub(super) fn hand_on_to_all<E: Event>(
    targets: impl IntoIterator<Item = Handle>,
    event: Result<EncodedMessage, EncodeError>,
) {
    let event = event.map_err(SendError::from);
    for target in targets {
        let handed = event.as_ref().map_err(SendError::clone);
        if let Err(error) = handed.and_then(|event| hand_on::<E>(&target, event)) {
            let to = target.peer();
            tracing::error!(name = E::NAME, %to, %error, "an event cannot be handed on");
        }
    }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use super::super::outbound::{Handle, NextWrite, tests::without_task};
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
    fn link() -> Handle {
        without_task(|config| config.outbox = 8 * 1024)
    }

    fn hand_on_line(link: &Handle, n: usize) {
        let line = Line { n, text: "x".repeat(900) };
        let json = serde_json::to_string(&line).unwrap();
        hand_on::<Line>(link, &EncodedMessage::event_read(Line::NAME, &json).unwrap()).unwrap();
    }

    fn taken(link: &Handle) -> Option<usize> {
        let NextWrite::Frames([Some(text)]) = link.next() else { return None };
        link.wrote(1);
        let frame = Frame::parse(text.as_str()).unwrap();
        Some(decode::<Line>(frame.data).unwrap().n)
    }

    /// Events that are handed on keep their order, whether there is room or not.
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
        assert!(link.close_asked().is_none());
    }

    /// Both limits are counted in bytes, and only the target ends when they are exceeded.
    #[tokio::test]
    async fn a_target_for_which_too_much_waits_is_closed() {
        let link = link();
        let fit = 2 * (8 * 1024 / 960);
        (0..fit).for_each(|n| hand_on_line(&link, n));
        assert!(link.close_asked().is_none());
        (0..2).for_each(|n| hand_on_line(&link, fit + n));
        let closed = link.close_asked().expect("too much");
        assert_eq!(closed.code, CloseCode::POLICY);
        assert!(closed.reason.as_str().starts_with("The outbox is full: "), "{closed}");
    }
}
