//! The sending half as the link's task sees it: what goes out, and the end.

use std::ops::Deref;
use std::sync::atomic::Ordering;
use std::task::Waker;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::handle::Handle;
use super::pending::ResponseResult;
use super::phase::{CloseFrame, Phase};
use super::send_state::BudgetKind;
use crate::close::{CloseCode, Closed, Reason};
use crate::error::Delivery;
use crate::handshake::ResumeInfo;
use crate::link::state::LinkState;
use crate::session::{AckError, Receiving};
use crate::transport::Outgoing;
use crate::wire::{EncodedMessage, HeartbeatMessage, Text};

/// What only the task of a link may do with its sending half.
#[derive(Clone, Debug)]
pub(in crate::link) struct Outlet(Handle);

impl Deref for Outlet {
    type Target = Handle;

    fn deref(&self) -> &Handle {
        &self.0
    }
}

/// What the link's task has to write next.
#[derive(Debug)]
pub(in crate::link) enum NextWrite<const N: usize> {
    /// The next frames, as many as there are or `N`; it has to be said when they are
    /// [written](Outlet::wrote).
    Frames([Option<Text>; N]),
    /// The close frame, and nothing behind it; it has to be said when it is
    /// [written](Outlet::sent_close_frame).
    Close(CloseCode, Reason),
    /// Nothing; this side wants to close.
    Asked,
    Nothing,
}

impl Outlet {
    pub(in crate::link) fn new(handle: Handle) -> Self {
        Self(handle)
    }

    /// For handlers, and for whoever else holds the link.
    pub(in crate::link) fn handle(&self) -> &Handle {
        &self.0
    }

    /// Who waits for the answer to `seq`, and does so no longer.
    pub(in crate::link) fn take_pending(
        &self,
        seq: u64,
    ) -> Option<oneshot::Sender<ResponseResult>> {
        self.0.0.pending.take(seq)
    }

    /// When [`expire`](Self::expire) has to be called next.
    pub(in crate::link) fn next_deadline(&self) -> Option<Instant> {
        self.0.with(|state, _| state.deadlines.next())
    }

    /// Ends every wait whose time is over.
    pub(in crate::link) fn expire(&self, now: Instant) {
        // A request that comes meanwhile is either seen below or makes itself known here.
        self.0.with(|state, _| state.deadlines.begin_look());
        let next = self.0.0.pending.expire(now);
        let waiting = self.pending();
        self.0.with(|state, _| state.deadlines.end_look(now, next, waiting));
    }

    /// The next for the socket.
    pub(in crate::link) fn next<const N: usize>(&self) -> NextWrite<N> {
        self.0.with(|state, _| {
            if state.phase.asked().is_some() {
                return NextWrite::Asked;
            }
            if !state.session.is_idle() {
                return NextWrite::Frames(state.session.unwritten());
            }
            match &state.phase {
                Phase::Closing(_, CloseFrame::Due(code, reason)) => {
                    NextWrite::Close(*code, reason.clone())
                }
                _ => NextWrite::Nothing,
            }
        })
    }

    /// The close frame is with the socket: nothing follows it.
    pub(in crate::link) fn sent_close_frame(&self) {
        self.0.with(|state, _| {
            if let Phase::Closing(_, close_frame) = &mut state.phase {
                *close_frame = CloseFrame::Sent;
            }
        });
    }

    /// So many of the next frames are with the socket; in plain their room is free again.
    pub(in crate::link) fn wrote(&self, frames: usize) {
        self.0.with(|state, wake| {
            let room = state.session.wrote(frames);
            state.give(BudgetKind::Room, room, wake);
            // It looks again by itself.
            wake.frames = false;
        });
    }

    /// Whether nothing waits to be written.
    pub(in crate::link) fn is_idle(&self) -> bool {
        self.0.with(|state, _| state.session.is_idle())
    }

    /// What shows the peer that this side lives.
    pub(in crate::link) fn sign_of_life(&self, receiving: &mut Receiving) -> Outgoing {
        if !self.dialect().resumes() {
            return Outgoing::Ping;
        }
        let heartbeat = HeartbeatMessage { seq: receiving.acknowledge() };
        // Without a text for it, a ping shows life as well, and the next heartbeat acknowledges.
        let text = EncodedMessage::protocol(HeartbeatMessage::TYPE, &heartbeat).ok();
        text.and_then(|message| message.to_frame(None).ok()).map_or(Outgoing::Ping, Outgoing::Text)
    }

    /// The peer has all frames up to `seq`.
    pub(in crate::link) fn acknowledged(&self, seq: Option<u64>) -> Result<(), AckError> {
        self.0.with(|state, wake| {
            let room = state.session.acknowledged(seq)?;
            state.give(BudgetKind::Room, room, wake);
            Ok(())
        })
    }

    /// The session goes on over a new socket, and the peer has all frames up to `seq`. Says how
    /// many frames go out again.
    pub(in crate::link) fn resumed(
        &self,
        seq: Option<u64>,
        resume_info: ResumeInfo,
    ) -> Result<usize, AckError> {
        self.0.with(|state, wake| {
            let (room, again) = state.session.resumed(seq)?;
            state.give(BudgetKind::Room, room, wake);
            state.resume_info = Some(resume_info);
            Ok(again)
        })
    }

    /// Lets go of memory that is only of use to a link that has much to say.
    pub(in crate::link) fn shrink(&self) {
        self.0.with(|state, _| state.session.shrink());
    }

    /// The task begins to read and handle, and will look for what is [next](Self::next).
    pub(in crate::link) fn begin_look(&self) {
        self.0.0.send_state.set_looks(true);
    }

    /// What it is woken for from here on is not seen by the look that follows.
    pub(in crate::link) fn end_look(&self) {
        self.0.0.send_state.set_looks(false);
    }

    /// For the link's task only.
    pub(in crate::link) fn register(&self, waker: &Waker) {
        self.0.0.send_state.register(waker);
    }

    pub(in crate::link) fn set_answers_owed(&self, requests: usize) {
        // Most often it is what it was.
        if self.answers_owed() != requests {
            self.0.0.answers_owed.store(requests, Ordering::SeqCst);
        }
    }

    /// The link's task has worked: what those in [`drained`](Self::drained) wait for may have come about.
    pub(in crate::link) fn check_drained(&self) {
        self.0.with(|state, wake| self.0.wake_drained(state, wake));
    }

    pub(in crate::link) fn ignore_event(&self) {
        self.0.with(|state, _| state.ignored.events += 1);
    }

    pub(in crate::link) fn ignore_response(&self) {
        self.0.with(|state, _| state.ignored.responses += 1);
    }

    pub(in crate::link) fn set_state(&self, state: LinkState) {
        self.0.0.link_state.send_replace(state);
    }

    /// What this side has asked for.
    pub(in crate::link) fn close_asked(&self) -> Option<Closed> {
        self.0.with(|state, _| state.phase.asked().cloned())
    }

    /// Whether the peer has said that whatever close comes is meant.
    pub(in crate::link) fn is_meant(&self) -> bool {
        self.0.with(|state, _| state.phase.is_meant())
    }

    /// Nothing new is sent from here on: what is queued, the `close` message and the close frame
    /// with `code`.
    pub(in crate::link) fn begin_close(&self, closed: &Closed, code: CloseCode) {
        let close_frame = CloseFrame::Due(code, closed.reason.clone());
        self.0.with(|state, wake| state.begin_close(closed, close_frame, wake));
    }

    /// The end: everybody who waits is told, once.
    pub(in crate::link) fn end(&self, closed: Closed) {
        let ended = self.0.with(|state, wake| {
            if matches!(state.phase, Phase::Ended(_)) {
                return false;
            }
            state.end_waits(Phase::Ended(closed.clone()), wake);
            true
        });
        if !ended {
            return;
        }
        // Nothing is inserted any more: that happens under the lock, while the link may send.
        self.0.0.pending.close(|seq| {
            let written = self.0.with(|state, _| state.session.was_written(seq));
            self.0.lost(if written { Delivery::Unknown } else { Delivery::NotDelivered })
        });
        self.set_state(LinkState::of_end(closed));
    }
}
