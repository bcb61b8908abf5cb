//! The sending half as the link's task sees it: what goes out, and the end.

use std::ops::Deref;
use std::sync::atomic::Ordering;
use std::task::Waker;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::handle::Handle;
use super::pending::Outcome;
use super::phase::{Goodbye, Phase};
use super::stream::Of;
use crate::close::{CloseCode, Closed, Reason};
use crate::error::Delivery;
use crate::handshake::Hold;
use crate::link::state::LinkState;
use crate::session::{AckError, Receiving};
use crate::transport::Outgoing;
use crate::wire::{Draft, Heartbeat, Text};

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
pub(in crate::link) enum Next<const N: usize> {
    /// The next frames, as many as there are or `N`; it has to be said when they are
    /// [written](Outlet::wrote).
    Frames([Option<Text>; N]),
    /// The close frame, and nothing behind it; it has to be said when it is
    /// [written](Outlet::said_goodbye).
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
    pub(in crate::link) fn take_pending(&self, seq: u64) -> Option<oneshot::Sender<Outcome>> {
        self.0.0.pending.take(seq)
    }

    /// When [`expire`](Self::expire) has to be called next.
    pub(in crate::link) fn next_deadline(&self) -> Option<Instant> {
        self.0.with(|stream, _| stream.deadlines.next())
    }

    /// Ends every wait whose time is over.
    pub(in crate::link) fn expire(&self, now: Instant) {
        // A request that comes meanwhile is either seen below or makes itself known here.
        self.0.with(|stream, _| stream.deadlines.begin_look());
        let next = self.0.0.pending.expire(now);
        let waiting = self.pending();
        self.0.with(|stream, _| stream.deadlines.end_look(now, next, waiting));
    }

    /// The next for the socket.
    pub(in crate::link) fn next<const N: usize>(&self) -> Next<N> {
        self.0.with(|stream, _| {
            if stream.phase.asked().is_some() {
                return Next::Asked;
            }
            if !stream.session.is_idle() {
                return Next::Frames(stream.session.unwritten());
            }
            match &stream.phase {
                Phase::Closing(_, Goodbye::Due(code, reason)) => Next::Close(*code, reason.clone()),
                _ => Next::Nothing,
            }
        })
    }

    /// The close frame is with the socket: nothing follows it.
    pub(in crate::link) fn said_goodbye(&self) {
        self.0.with(|stream, _| {
            if let Phase::Closing(_, goodbye) = &mut stream.phase {
                *goodbye = Goodbye::Said;
            }
        });
    }

    /// So many of the next frames are with the socket; in plain their room is free again.
    pub(in crate::link) fn wrote(&self, frames: usize) {
        self.0.with(|stream, wake| {
            let room = stream.session.wrote(frames);
            stream.give(Of::Room, room, wake);
            // It looks again by itself.
            wake.frames = false;
        });
    }

    /// Whether nothing waits to be written.
    pub(in crate::link) fn is_idle(&self) -> bool {
        self.0.with(|stream, _| stream.session.is_idle())
    }

    /// What shows the peer that this side lives.
    pub(in crate::link) fn sign_of_life(&self, receiving: &mut Receiving) -> Outgoing {
        if !self.dialect().resumes() {
            return Outgoing::Ping;
        }
        let heartbeat = Heartbeat { seq: receiving.acknowledge() };
        // Without a text for it, a ping shows life as well, and the next heartbeat acknowledges.
        let text = Draft::protocol(Heartbeat::TYPE, &heartbeat).ok();
        text.and_then(|draft| draft.number(None).ok()).map_or(Outgoing::Ping, Outgoing::Text)
    }

    /// The peer has all frames up to `seq`.
    pub(in crate::link) fn acknowledged(&self, seq: Option<u64>) -> Result<(), AckError> {
        self.0.with(|stream, wake| {
            let room = stream.session.acknowledged(seq)?;
            stream.give(Of::Room, room, wake);
            Ok(())
        })
    }

    /// The session goes on over a new socket, and the peer has all frames up to `seq`. Says how
    /// many frames go out again.
    pub(in crate::link) fn resumed(&self, seq: Option<u64>, hold: Hold) -> Result<usize, AckError> {
        self.0.with(|stream, wake| {
            let (room, again) = stream.session.resumed(seq)?;
            stream.give(Of::Room, room, wake);
            stream.hold = Some(hold);
            Ok(again)
        })
    }

    /// Lets go of memory that is only of use to a link that has much to say.
    pub(in crate::link) fn shrink(&self) {
        self.0.with(|stream, _| stream.session.rest());
    }

    /// The task begins to read and handle, and will look for what is [next](Self::next).
    pub(in crate::link) fn begin_look(&self) {
        self.0.0.stream.set_looks(true);
    }

    /// What it is woken for from here on is not seen by the look that follows.
    pub(in crate::link) fn end_look(&self) {
        self.0.0.stream.set_looks(false);
    }

    /// For the link's task only.
    pub(in crate::link) fn register(&self, waker: &Waker) {
        self.0.0.stream.register(waker);
    }

    pub(in crate::link) fn set_answers_owed(&self, requests: usize) {
        // Most often it is what it was.
        if self.answers_owed() != requests {
            self.0.0.answers_owed.store(requests, Ordering::SeqCst);
        }
    }

    /// The link's task has worked: what those in [`drained`](Self::drained) wait for may have come about.
    pub(in crate::link) fn check_drained(&self) {
        self.0.with(|stream, wake| self.0.wake_drained(stream, wake));
    }

    pub(in crate::link) fn ignore_event(&self) {
        self.0.with(|stream, _| stream.ignored.events += 1);
    }

    pub(in crate::link) fn ignore_response(&self) {
        self.0.with(|stream, _| stream.ignored.responses += 1);
    }

    pub(in crate::link) fn set_state(&self, state: LinkState) {
        self.0.0.state.send_replace(state);
    }

    /// What this side has asked for.
    pub(in crate::link) fn close_asked(&self) -> Option<Closed> {
        self.0.with(|stream, _| stream.phase.asked().cloned())
    }

    /// Whether the peer has said that whatever close comes is meant.
    pub(in crate::link) fn is_meant(&self) -> bool {
        self.0.with(|stream, _| stream.phase.is_meant())
    }

    /// Nothing new is sent from here on: what is queued, the `close` message and the close frame
    /// with `code`.
    pub(in crate::link) fn begin_close(&self, closed: &Closed, code: CloseCode) {
        let goodbye = Goodbye::Due(code, closed.reason.clone());
        self.0.with(|stream, wake| stream.begin_close(closed, goodbye, wake));
    }

    /// The end: everybody who waits is told, once.
    pub(in crate::link) fn end(&self, closed: Closed) {
        let ended = self.0.with(|stream, wake| {
            if matches!(stream.phase, Phase::Ended(_)) {
                return false;
            }
            stream.end_waits(Phase::Ended(closed.clone()), wake);
            true
        });
        if !ended {
            return;
        }
        // Nothing is inserted any more: that happens under the lock, while the link may send.
        self.0.0.pending.close(|seq| {
            let written = self.0.with(|stream, _| stream.session.was_written(seq));
            self.0.lost(if written { Delivery::Unknown } else { Delivery::NotDelivered })
        });
        self.set_state(LinkState::of_end(closed));
    }
}
