//! How near its end a link is, and what may still be sent.

use crate::close::{CloseCode, Closed, Reason};

/// How near its end a link is. It only ever goes down this list.
///
/// ```text
/// Open ─► Draining ─► Closing: Asked ─► Due ─► Sent ─► Ended
/// ```
///
/// Any of them may be left out; a link that is lost goes to `Ended` at once.
#[derive(Debug)]
pub(super) enum Phase {
    Open,
    /// One side prepares to disconnect.
    Draining {
        /// This side has told the peer that it is ready.
        ready: bool,
        /// The peer has asked for it: whatever close comes now is meant.
        by_peer: bool,
    },
    /// The link closes, for this reason.
    Closing(Closed, CloseFrame),
    Ended(Closed),
}

/// How far this side is with closing.
#[derive(Debug)]
pub(super) enum CloseFrame {
    /// Somebody has asked for it; what may be sent until the link's task begins with it.
    Asked(Admits),
    /// The close frame goes out behind everything that is queued.
    Due(CloseCode, Reason),
    /// Nothing more is to be sent.
    Sent,
}

/// What may still be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Admits {
    Everything,
    /// Answers, and what handlers of the peer's requests send for them.
    WhatIsNeeded,
    Answers,
    Nothing,
}

/// What a frame is to the end of its link.
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
            SendClass::Message { needed: true } => admits <= Admits::WhatIsNeeded,
            SendClass::Message { needed: false } => admits == Admits::Everything,
            SendClass::Answer | SendClass::Prepare => admits <= Admits::Answers,
        }
    }

    fn admitted(&self) -> Admits {
        match self {
            Self::Open => Admits::Everything,
            Self::Draining { ready: false, .. } => Admits::WhatIsNeeded,
            Self::Draining { ready: true, .. } => Admits::Answers,
            Self::Closing(_, CloseFrame::Asked(admits)) => *admits,
            Self::Closing(..) | Self::Ended(_) => Admits::Nothing,
        }
    }

    /// One side prepares to disconnect; `ready` when this side has told so.
    pub(super) fn drain(&mut self, ready: bool, by_peer: bool) {
        match self {
            Self::Open => *self = Self::Draining { ready, by_peer },
            Self::Draining { ready: r, by_peer: p } => {
                *r |= ready;
                *p |= by_peer;
            }
            Self::Closing(_, CloseFrame::Asked(admits)) => {
                let most = if ready { Admits::Answers } else { Admits::WhatIsNeeded };
                *admits = (*admits).max(most);
            }
            Self::Closing(..) | Self::Ended(_) => {}
        }
    }

    /// This side wants to close. Only the first call counts; says whether this is it.
    pub(super) fn ask(&mut self, closed: Closed) -> bool {
        let first = matches!(self, Self::Open | Self::Draining { .. });
        if first {
            *self = Self::Closing(closed, CloseFrame::Asked(self.admitted()));
        }
        first
    }

    /// What this side has asked for, for as long as the link's task has not begun with it.
    pub(super) fn asked(&self) -> Option<&Closed> {
        match self {
            Self::Closing(closed, CloseFrame::Asked(_)) => Some(closed),
            _ => None,
        }
    }

    /// Whether the peer has said that whatever close comes is meant.
    pub(super) fn is_meant(&self) -> bool {
        matches!(self, Self::Draining { by_peer: true, .. })
    }

    /// Why the link closes or has closed.
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

    /// A graceful end that is begun after somebody has asked for a plain one is kept to.
    #[test]
    fn who_asked_to_close_may_still_drain() {
        let mut phase = Phase::Open;
        phase.ask(Closed::local(CloseCode::NORMAL, "bye"));
        assert_eq!(admitted(&phase), [true; 4], "until the task begins with it");
        phase.drain(false, false);
        assert_eq!(admitted(&phase), [false, true, true, true]);
    }
}
