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
    /// The next frames, at most `N`. The task calls [`wrote`](Outlet::wrote) when they are written.
    Frames([Option<Text>; N]),
    /// The close frame, and nothing behind it. The task calls
    /// [`sent_close_frame`](Outlet::sent_close_frame) when it is written.
    Close(CloseCode, Reason),
    /// Nothing, because this side wants to close.
    Asked,
    Nothing,
}

impl Outlet {
    pub(in crate::link) fn new(handle: Handle) -> Self {
        Self(handle)
    }

    /// Returns the handle, for handlers and other holders of the link.
    pub(in crate::link) fn handle(&self) -> &Handle {
        &self.0
    }

    /// Ends the wait for the answer to `seq`. Returns the sender that has to tell the caller.
    pub(in crate::link) fn take_pending(
        &self,
        seq: u64,
    ) -> Option<oneshot::Sender<ResponseResult>> {
        self.0.0.pending.take(seq)
    }

    /// Returns when [`expire`](Self::expire) has to be called next.
    pub(in crate::link) fn next_deadline(&self) -> Option<Instant> {
        self.0.with(|state, _| state.deadlines.next())
    }

    /// Ends every wait whose time is over.
    pub(in crate::link) fn expire(&self, now: Instant) {
        // The scan runs without the lock, because it visits every request. One that comes meanwhile
        // is either seen by it or adds its own time limit.
        self.0.with(|state, _| state.deadlines.begin_scan());
        let next = self.0.0.pending.expire(now);
        let waiting = self.pending();
        self.0.with(|state, _| state.deadlines.end_scan(now, next, waiting));
    }

    /// Returns what to write next.
    pub(in crate::link) fn next<const N: usize>(&self) -> NextWrite<N> {
        self.0.with(|state, _| {
            // Before the frames: the task has to queue the `close` message behind them first.
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

    /// Notes that the socket has the close frame: nothing follows it.
    pub(in crate::link) fn sent_close_frame(&self) {
        self.0.with(|state, _| {
            if let Phase::Closing(_, close_frame) = &mut state.phase {
                *close_frame = CloseFrame::Sent;
            }
        });
    }

    /// Notes that the socket has the next `frames`; in plain their room is free again.
    pub(in crate::link) fn wrote(&self, frames: usize) {
        self.0.with(|state, wake| {
            let room = state.session.wrote(frames);
            state.give(BudgetKind::Room, room, wake);
            // The task, which calls this, looks for frames again anyway.
            wake.frames = false;
        });
    }

    /// Whether nothing waits to be written.
    pub(in crate::link) fn is_idle(&self) -> bool {
        self.0.with(|state, _| state.session.is_idle())
    }

    /// Returns the message that shows the peer that this side is alive.
    pub(in crate::link) fn sign_of_life(&self, receiving: &mut Receiving) -> Outgoing {
        if !self.dialect().resumes() {
            return Outgoing::Ping;
        }
        let heartbeat = HeartbeatMessage { seq: receiving.acknowledge() };
        // If it cannot be written, a ping shows life too, and the next heartbeat acknowledges.
        let text = EncodedMessage::protocol(HeartbeatMessage::TYPE, &heartbeat).ok();
        text.and_then(|message| message.to_frame(None).ok()).map_or(Outgoing::Ping, Outgoing::Text)
    }

    /// Drops the frames up to `seq`, which the peer has.
    pub(in crate::link) fn acknowledged(&self, seq: Option<u64>) -> Result<(), AckError> {
        self.0.with(|state, wake| {
            let room = state.session.acknowledged(seq)?;
            state.give(BudgetKind::Room, room, wake);
            Ok(())
        })
    }

    /// Resumes the session over a new socket; the peer has all frames up to `seq`. Returns how many
    /// frames are sent again.
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

    /// Releases memory that only a busy link needs.
    pub(in crate::link) fn shrink(&self) {
        self.0.with(|state, _| state.session.shrink());
    }

    /// Begins to read and handle: the task will look for what is [next](Self::next) by itself.
    pub(in crate::link) fn begin_look(&self) {
        self.0.0.send_state.set_looks(true);
    }

    /// The opposite: from here on the task has to be woken for new frames.
    pub(in crate::link) fn end_look(&self) {
        self.0.0.send_state.set_looks(false);
    }

    /// Registers the waker of the link's task.
    pub(in crate::link) fn register(&self, waker: &Waker) {
        self.0.0.send_state.register(waker);
    }

    pub(in crate::link) fn set_answers_owed(&self, requests: usize) {
        // Most often it is unchanged, and the store costs more than the load.
        if self.answers_owed() != requests {
            self.0.0.answers_owed.store(requests, Ordering::SeqCst);
        }
    }

    /// Wakes the tasks in [`drained`](Handle::drained) if no request is under way any more.
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

    /// Returns the close that this side has asked for.
    pub(in crate::link) fn close_asked(&self) -> Option<Closed> {
        self.0.with(|state, _| state.phase.asked().cloned())
    }

    /// Whether the peer has announced its close: one that comes now is intended.
    pub(in crate::link) fn is_meant(&self) -> bool {
        self.0.with(|state, _| state.phase.is_meant())
    }

    /// Begins to close: only what is queued, the `close` message and the close frame with `code`
    /// are sent from here on.
    pub(in crate::link) fn begin_close(&self, closed: &Closed, code: CloseCode) {
        let close_frame = CloseFrame::Due(code, closed.reason.clone());
        self.0.with(|state, wake| state.begin_close(closed, close_frame, wake));
    }

    /// Ends the link: every waiting caller is told, once.
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
        // No request slips in between: `begin` inserts under the same lock, and is refused by now.
        self.0.0.pending.close(|seq| {
            let written = self.0.with(|state, _| state.session.was_written(seq));
            self.0.lost(if written { Delivery::Unknown } else { Delivery::NotDelivered })
        });
        self.set_state(LinkState::of_end(closed));
    }
}
