//! Everything that changes together when something is sent, under one lock.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use futures::task::AtomicWaker;

use super::budget::{Budget, Granted};
use super::pending::Deadlines;
use super::phase::{CloseFrame, Phase, SendClass};
use crate::close::{CloseCode, Closed, ClosedBy};
use crate::handshake::ResumeInfo;
use crate::link::config::Config;
use crate::link::memory::Share;
use crate::link::state::Ignored;
use crate::session::Sending;
use crate::wire::{Close, EncodedMessage};

/// The sending half of a link: its session, how much room there is, and what may still be sent.
#[derive(Debug)]
pub(super) struct SendState {
    pub(super) session: Sending,
    /// One permit for each request that may still be made.
    pub(super) slots: Budget,
    /// One permit for each byte that may still be queued.
    pub(super) room: Budget,
    /// One permit, for the one answer that may be encoded and wait for room.
    // Otherwise a peer that does not read would cost an encoded answer for each finished handler.
    pub(super) turn: Budget,
    pub(super) phase: Phase,
    /// How the link outlives its socket; `None` if it does not.
    pub(super) resume_info: Option<ResumeInfo>,
    /// The number of this side's `prepare_disconnect_request`.
    pub(super) prepare: Option<u64>,
    /// The tasks that wait until no request is under way.
    pub(super) drains: Vec<Waker>,
    pub(super) deadlines: Deadlines,
    pub(super) ignored: Ignored,
    /// Bytes of received messages that are not handled yet, as the link's task has last told.
    pub(super) received: usize,
    pub(super) share: Share,
}

/// Why a frame was not queued.
#[derive(Debug)]
pub(in crate::link) enum SendRefused {
    /// The link is closing or has ended.
    Closed,
    /// There is no room now, or others already wait for it.
    Full,
}

/// The class of a frame that waits for no link: one that is handed on, or broadcast.
pub(super) const HANDED_ON: SendClass = SendClass::Message { needed: false };

/// Names one of the budgets.
#[derive(Clone, Copy, Debug)]
pub(super) enum BudgetKind {
    Slots,
    Room,
    Turn,
}

/// What to wake when the lock has been released.
#[derive(Debug, Default)]
#[must_use]
pub(super) struct Wake {
    pub(super) tasks: Vec<Waker>,
    /// The link's task, for new frames, unless it will look for them by itself.
    pub(super) frames: bool,
    /// The link's task, in any case.
    pub(super) driver: bool,
}

/// A [`SendState`] under its lock.
#[derive(Debug)]
pub(super) struct LockedSendState {
    state: Mutex<SendState>,
    /// Wakes the link's task, to write or to close.
    driver: AtomicWaker,
    /// Whether the link's task will look for frames before it rests.
    // It is not woken then for what its own handlers send: each wake would be another poll, 20 % of
    // a round trip on the multi-thread runtime.
    looks: AtomicBool,
}

impl LockedSendState {
    pub(super) fn new(state: SendState) -> Self {
        let (state, driver) = (Mutex::new(state), AtomicWaker::new());
        Self { state, driver, looks: AtomicBool::new(false) }
    }

    /// Sets whether the link's task will look for frames before it rests.
    pub(super) fn set_looks(&self, looks: bool) {
        // Relaxed, because the lock orders it: the task clears this before it takes the lock to
        // look, so a sender that takes the lock after that look sees `false`.
        self.looks.store(looks, Ordering::Relaxed);
    }

    /// Changes the state under its lock, then wakes the tasks that the change concerns.
    pub(super) fn with<T>(&self, change: impl FnOnce(&mut SendState, &mut Wake) -> T) -> T {
        let mut wake = Wake::default();
        let changed = {
            // Nothing panics while the lock is held, so a poisoned one is still good.
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let changed = change(&mut state, &mut wake);
            wake.driver |= wake.frames && !self.looks.load(Ordering::Relaxed);
            let bytes = state.bytes();
            state.share.set(bytes);
            changed
        };
        // After the lock: a waker may run foreign code, which may send at once.
        wake.tasks.into_iter().for_each(Waker::wake);
        if wake.driver {
            self.driver.wake();
        }
        changed
    }

    /// Registers the link's task, the only one that may call this.
    pub(super) fn register(&self, waker: &Waker) {
        self.driver.register(waker);
    }
}

impl SendState {
    pub(super) fn new(session: Sending, resume_info: Option<ResumeInfo>, config: &Config) -> Self {
        Self {
            session,
            slots: Budget::new(config.requests_in_flight),
            room: Budget::new(config.outbox),
            turn: Budget::new(1),
            phase: Phase::Open,
            resume_info,
            prepare: None,
            drains: Vec::new(),
            deadlines: Deadlines::new(),
            ignored: Ignored::default(),
            received: 0,
            share: Share::default(),
        }
    }

    /// Drops what is queued: nothing is sent any more.
    pub(super) fn discard(&mut self) {
        self.session.discard();
        self.room.forget_taken();
        self.received = 0;
        self.share = Share::default();
    }

    /// Returns the bytes of all messages that the link holds, in either direction.
    pub(super) fn bytes(&self) -> usize {
        self.room.taken() + self.room.frame_bytes() + self.received
    }

    pub(super) fn may_send(&self, class: SendClass) -> Result<(), SendRefused> {
        if self.phase.admits(class) { Ok(()) } else { Err(SendRefused::Closed) }
    }

    pub(super) fn budget(&mut self, kind: BudgetKind) -> &mut Budget {
        match kind {
            BudgetKind::Slots => &mut self.slots,
            BudgetKind::Room => &mut self.room,
            BudgetKind::Turn => &mut self.turn,
        }
    }

    /// Numbers and queues a frame now, if there is room for it.
    pub(super) fn try_send(
        &mut self,
        message: &EncodedMessage,
        class: SendClass,
        wake: &mut Wake,
    ) -> Result<(), SendRefused> {
        self.may_send(class)?;
        if !self.room.try_take(message.bytes()) {
            return Err(SendRefused::Full);
        }
        self.send(message, class, wake).map(drop)
    }

    /// Numbers and queues a frame that has its room already, and gives the room back if the frame
    /// is refused. Returns its number.
    pub(super) fn send(
        &mut self,
        message: &EncodedMessage,
        class: SendClass,
        wake: &mut Wake,
    ) -> Result<u64, SendRefused> {
        let sent = self.enqueue(message, class, wake);
        if sent.is_err() {
            self.give(BudgetKind::Room, message.bytes(), wake);
        }
        sent
    }

    fn enqueue(
        &mut self,
        message: &EncodedMessage,
        class: SendClass,
        wake: &mut Wake,
    ) -> Result<u64, SendRefused> {
        self.may_send(class)?;
        let was_idle = self.session.is_idle();
        match self.session.send(message) {
            Ok(seq) => {
                // Once for a burst: the task, once woken, looks for frames until it finds none.
                wake.frames |= was_idle;
                Ok(seq)
            }
            // Without the frame the peer would miss a message, so the link cannot go on.
            Err(error) => {
                let closed = Closed::local(CloseCode::INTERNAL, error.to_string());
                wake.driver |= self.phase.ask(closed);
                Err(SendRefused::Closed)
            }
        }
    }

    /// Gives permits back, and grants what has become free to the waiters.
    pub(super) fn give(&mut self, kind: BudgetKind, permits: usize, wake: &mut Wake) {
        let budget = self.budget(kind);
        budget.give(permits);
        while let Some(granted) = self.budget(kind).grant() {
            match granted {
                Granted::Task(waker) => wake.tasks.push(waker),
                Granted::Frame(frame) => {
                    // One that may not be sent any more leaves its room to the next. Not by `send`,
                    // which would call this function again.
                    if self.enqueue(&frame, HANDED_ON, wake).is_err() {
                        self.room.give(frame.bytes());
                    }
                }
            }
        }
    }

    /// Begins to close: if this side closes and the dialect has a `close` message, queues that
    /// behind everything else; the close frame follows.
    pub(super) fn begin_close(
        &mut self,
        closed: &Closed,
        close_frame: CloseFrame,
        wake: &mut Wake,
    ) {
        if closed.by == ClosedBy::Local
            && self.phase.admits(SendClass::Answer)
            && self.session.dialect().close_message
        {
            let close = Close { reason: closed.reason.as_str().to_owned() };
            if let Ok(message) = EncodedMessage::protocol(Close::TYPE, &close) {
                // Without room in the budget, because a full outbox must not keep the reason back.
                // If no number is left, the close frame alone carries it.
                let _ = self.session.send(&message);
            }
        }
        self.phase = Phase::Closing(closed.clone(), close_frame);
        self.end_waits(wake);
    }

    /// Asks to close at once, with the close frame alone: what is queued is dropped.
    pub(super) fn abort(&mut self, closed: Closed, wake: &mut Wake) {
        if self.phase.abort(closed) {
            wake.driver = true;
            self.end_waits(wake);
            self.discard();
        }
    }

    /// Ends the waits for permits, in a phase in which nothing is sent any more.
    pub(super) fn end_waits(&mut self, wake: &mut Wake) {
        for kind in [BudgetKind::Slots, BudgetKind::Room, BudgetKind::Turn] {
            wake.tasks.extend(self.budget(kind).close());
        }
        wake.tasks.append(&mut self.drains);
    }
}

/// Permits that are given back when this is dropped.
#[derive(Debug)]
pub(super) struct Permits<'a> {
    state: &'a LockedSendState,
    kind: BudgetKind,
    count: usize,
}

impl Permits<'_> {
    /// Marks the permits as used: they are given back elsewhere.
    pub(super) fn spend(mut self) {
        self.count = 0;
    }
}

impl Drop for Permits<'_> {
    fn drop(&mut self) {
        if self.count > 0 {
            self.state.with(|state, wake| state.give(self.kind, self.count, wake));
        }
    }
}

/// Waits for permits.
#[derive(Debug)]
struct Acquire<'a> {
    state: &'a LockedSendState,
    kind: BudgetKind,
    count: usize,
    /// Its place in the queue, while it waits.
    ticket: Option<u64>,
}

impl<'a> Future for Acquire<'a> {
    type Output = Result<Permits<'a>, SendRefused>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { state, kind, count, ticket } = *self;
        let (ticket, outcome) = state.with(|state, _| {
            // What is admitted only in part is checked when it is numbered, by its class.
            if state.phase.admits_nothing() {
                return (None, Poll::Ready(Err(SendRefused::Closed)));
            }
            let budget = state.budget(kind);
            let taken = match ticket {
                Some(ticket) => !budget.still_waits(ticket, cx.waker()),
                None => budget.try_take(count),
            };
            // Under the lock of the attempt, or permits given back in between would wake nothing.
            if taken {
                (None, Poll::Ready(Ok(())))
            } else {
                (ticket.or_else(|| Some(budget.join(count, cx.waker()))), Poll::Pending)
            }
        });
        self.ticket = ticket;
        outcome.map_ok(|()| Permits { state, kind, count })
    }
}

impl Drop for Acquire<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.state.with(|state, wake| {
                state.budget(self.kind).leave(ticket, self.count);
                // It may have been all that those behind it waited for.
                state.give(self.kind, 0, wake);
            });
        }
    }
}

impl LockedSendState {
    /// Waits for permits, behind all that already wait. Cancel safe.
    ///
    /// # Errors
    ///
    /// The link sends nothing any more.
    pub(super) async fn permits(
        &self,
        kind: BudgetKind,
        count: usize,
    ) -> Result<Permits<'_>, SendRefused> {
        Acquire { state: self, kind, count, ticket: None }.await
    }
}
