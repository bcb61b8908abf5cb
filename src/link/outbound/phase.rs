//! How near its end a link is, and what may still be sent.

use crate::close::{CloseCode, Closed, Reason};

/// How near its end a link is. It only ever moves forward:
///
/// ```text
/// Open ─► Draining ─► Closing: Asked ─► Due ─► Sent ─► Ended
/// ```
///
/// Any of them may be skipped; a link that is lost goes to `Ended` at once.
#[derive(Debug)]
pub(super) enum Phase {
    Open,
    /// One side prepares to disconnect.
    Draining {
        /// This side has told the peer that it is ready.
        ready: bool,
        /// The peer has asked for it: a close that comes now is intended.
        by_peer: bool,
    },
    /// The link closes, for this reason.
    Closing(Closed, CloseFrame),
    Ended(Closed),
}

/// How far this side is with closing.
#[derive(Debug)]
pub(super) enum CloseFrame {
    /// A close was asked for; what may be sent until the link's task begins to close.
    Asked(Sendable),
    /// The close frame goes out behind everything that is queued.
    Due(CloseCode, Reason),
    /// The close frame is sent, and nothing follows it.
    Sent,
}

/// What may still be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Sendable {
    Everything,
    /// Answers, and what handlers of the peer's requests send for them.
    WhatIsNeeded,
    Answers,
    Nothing,
}

/// What a frame is, to decide whether it may be sent while its link ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::link) enum SendClass {
    /// A request or an event; `needed` when the peer waits for an answer that it may be part of.
    Message {
        needed: bool,
    },
    Answer,
    /// `prepare_disconnect_request`.
    Prepare,
}

impl Phase {
    /// Whether frames of this class may still be sent.
    pub(super) fn admits(&self, class: SendClass) -> bool {
        let admits = self.admitted();
        match class {
            SendClass::Message { needed: true } => admits <= Sendable::WhatIsNeeded,
            SendClass::Message { needed: false } => admits == Sendable::Everything,
            // Both sides may prepare at once: one that is ready may still ask the other.
            SendClass::Answer | SendClass::Prepare => admits <= Sendable::Answers,
        }
    }

    /// Whether nothing is sent any more, of whatever class.
    pub(super) fn admits_nothing(&self) -> bool {
        self.admitted() == Sendable::Nothing
    }

    fn admitted(&self) -> Sendable {
        match self {
            Self::Open => Sendable::Everything,
            Self::Draining { ready: false, .. } => Sendable::WhatIsNeeded,
            Self::Draining { ready: true, .. } => Sendable::Answers,
            Self::Closing(_, CloseFrame::Asked(admits)) => *admits,
            Self::Closing(..) | Self::Ended(_) => Sendable::Nothing,
        }
    }

    /// One side prepares to disconnect; `ready` when this side has told the peer that it is.
    pub(super) fn drain(&mut self, ready: bool, by_peer: bool) {
        match self {
            // At once: a moment without requests might never come on a busy link.
            Self::Open => *self = Self::Draining { ready, by_peer },
            Self::Draining { ready: r, by_peer: p } => {
                *r |= ready;
                *p |= by_peer;
            }
            // The task has not begun to close, so the graceful end still restricts what is sent.
            Self::Closing(_, CloseFrame::Asked(admits)) => {
                let most = if ready { Sendable::Answers } else { Sendable::WhatIsNeeded };
                *admits = (*admits).max(most);
            }
            Self::Closing(..) | Self::Ended(_) => {}
        }
    }

    /// Asks to close. Only the first call counts; returns whether this is it.
    pub(super) fn ask(&mut self, closed: Closed) -> bool {
        let first = matches!(self, Self::Open | Self::Draining { .. });
        if first {
            *self = Self::Closing(closed, CloseFrame::Asked(self.admitted()));
        }
        first
    }

    /// Asks to close at once: nothing is sent but the close frame. Only the first close that is asked for
    /// counts; returns whether this is it.
    pub(super) fn abort(&mut self, closed: Closed) -> bool {
        let first = self.ask(closed);
        if first && let Self::Closing(_, CloseFrame::Asked(admits)) = self {
            *admits = Sendable::Nothing;
        }
        first
    }

    /// Whether an abort was asked for, until the link's task begins with it.
    pub(super) fn is_abort(&self) -> bool {
        matches!(self, Self::Closing(_, CloseFrame::Asked(Sendable::Nothing)))
    }

    /// Returns the close that was asked for, until the link's task begins with it.
    pub(super) fn asked(&self) -> Option<&Closed> {
        match self {
            Self::Closing(closed, CloseFrame::Asked(_)) => Some(closed),
            _ => None,
        }
    }

    /// Whether the peer has announced its close: one that comes now is intended.
    pub(super) fn is_meant(&self) -> bool {
        matches!(self, Self::Draining { by_peer: true, .. })
    }

    /// Returns why the link closes or has closed.
    pub(super) fn why(&self) -> Option<&Closed> {
        match self {
            Self::Open | Self::Draining { .. } => None,
            Self::Closing(closed, _) | Self::Ended(closed) => Some(closed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE: SendClass = SendClass::Message { needed: false };
    const NEEDED: SendClass = SendClass::Message { needed: true };

    fn admitted(phase: &Phase) -> [bool; 4] {
        [MESSAGE, NEEDED, SendClass::Answer, SendClass::Prepare].map(|class| phase.admits(class))
    }

    #[test]
    fn less_and_less_may_be_sent() {
        let closed = || Closed::local(CloseCode::NORMAL, "bye");
        let mut phase = Phase::Open;
        assert_eq!(admitted(&phase), [true; 4]);
        phase.drain(false, true);
        assert_eq!(admitted(&phase), [false, true, true, true]);
        assert!(phase.is_meant());
        phase.drain(true, false);
        phase.drain(false, false);
        assert_eq!(admitted(&phase), [false, false, true, true], "there is no way back");
        assert!(phase.is_meant());
        assert!(phase.ask(closed()) && !phase.ask(closed()));
        assert_eq!(admitted(&phase), [false, false, true, true], "until the task begins with it");
        phase.drain(false, false);
        assert_eq!(admitted(&phase), [false, false, true, true], "here neither");
        phase = Phase::Closing(closed(), CloseFrame::Sent);
        assert_eq!(admitted(&phase), [false; 4]);
        phase.drain(false, false);
        assert!(matches!(phase, Phase::Closing(_, CloseFrame::Sent)));
    }

    #[test]
    fn an_abort_sends_nothing_until_the_task_begins_with_it() {
        let closed = || Closed::local(CloseCode::TRY_AGAIN, "full");
        let mut phase = Phase::Open;
        assert!(phase.abort(closed()) && phase.is_abort() && phase.admits_nothing());
        assert_eq!(admitted(&phase), [false; 4]);
        assert!(phase.asked().is_some() && !phase.ask(closed()) && !phase.abort(closed()));
        // One that closes already goes on with that.
        let mut phase = Phase::Open;
        assert!(phase.ask(closed()) && !phase.abort(closed()));
        assert!(!phase.is_abort() && !phase.admits_nothing());
    }

    /// A graceful end that begins after a plain close was asked for still counts.
    #[test]
    fn who_asked_to_close_may_still_drain() {
        let mut phase = Phase::Open;
        phase.ask(Closed::local(CloseCode::NORMAL, "bye"));
        assert_eq!(admitted(&phase), [true; 4], "until the task begins with it");
        phase.drain(false, false);
        assert_eq!(admitted(&phase), [false, true, true, true]);
    }
}
