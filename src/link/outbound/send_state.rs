//! Everything that changes together when something is sent, under one lock.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use futures::task::AtomicWaker;
use tokio::time::Instant;

use crate::close::{CloseCode, Closed, ClosedBy, Reason};
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
    pub(super) is_aborted: bool,
    /// Bytes of received messages that are not handled yet, as the link's task has last told.
    pub(super) received: usize,
    pub(super) share: Share,
}

/// When the waiting requests have to be scanned for expired time limits.
#[derive(Debug)]
pub(super) struct Deadlines {
    /// The earliest time limit, or an earlier one whose request has ended in the meantime.
    earliest: Option<Instant>,
    /// The earliest time of the next scan.
    // A scan visits each waiting request, so at most one starts in as many microseconds as there
    // are. That bounds its cost to a few hundredths of a core. With the usual 1,024 in flight a
    // time limit is late by a millisecond, and timers are no more exact than that anyway.
    rested: Instant,
}

impl Deadlines {
    fn new() -> Self {
        Self { earliest: None, rested: Instant::now() }
    }

    /// Returns when to scan next.
    pub(super) fn next(&self) -> Option<Instant> {
        self.earliest.map(|earliest| earliest.max(self.rested))
    }

    /// Adds the time limit of a request. Returns whether it is before all others.
    pub(super) fn add(&mut self, deadline: Option<Instant>) -> bool {
        let Some(deadline) = deadline else { return false };
        let first = self.earliest.is_none_or(|earliest| deadline < earliest);
        if first {
            self.earliest = Some(deadline);
        }
        first
    }

    /// Begins a scan.
    pub(super) fn begin_scan(&mut self) {
        // Cleared before the scan: a request that it misses sets this again.
        self.earliest = None;
    }

    /// Ends a scan of `waiting` requests, of which `next` is the earliest time limit.
    pub(super) fn end_scan(&mut self, now: Instant, next: Option<Instant>, waiting: usize) {
        // Not assigned: a request that came during the scan may end earlier.
        self.add(next);
        let rest = std::time::Duration::from_micros(waiting as u64);
        self.rested = now.checked_add(rest).unwrap_or(now);
    }
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
            is_aborted: false,
            received: 0,
            share: Share::default(),
        }
    }

    /// Drops what is queued: nothing is sent any more.
    pub(super) fn discard(&mut self) {
        self.session.discard();
        self.room.free = self.room.permits;
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
        self.end_waits(Phase::Closing(closed.clone(), close_frame), wake);
    }

    /// Asks to close at once, with the close frame alone: what is queued is dropped.
    pub(super) fn abort(&mut self, closed: Closed, wake: &mut Wake) {
        if self.phase.ask(closed.clone()) {
            wake.driver = true;
            self.is_aborted = true;
            let nothing = CloseFrame::Asked(Sendable::Nothing);
            self.end_waits(Phase::Closing(closed, nothing), wake);
            self.discard();
        }
    }

    /// Enters a phase in which nothing is sent any more, and ends the waits for permits.
    pub(super) fn end_waits(&mut self, phase: Phase, wake: &mut Wake) {
        self.phase = phase;
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
            if state.phase.admitted() == Sendable::Nothing {
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

/// A number of permits, granted in the order of the waits. The owner keeps it under a lock, and
/// wakes the tasks whose wakers the methods return when it has released the lock.
// No semaphore: measured, one beside the owner's lock gains nothing.
#[derive(Debug)]
pub(super) struct Budget {
    permits: usize,
    free: usize,
    waiters: VecDeque<Waiter>,
    /// Bytes of the frames among the waiters.
    frame_bytes: usize,
    next_ticket: u64,
}

#[derive(Debug)]
struct Waiter {
    permits: usize,
    kind: WaiterKind,
}

#[derive(Debug)]
enum WaiterKind {
    /// A task, which asks again with its ticket.
    Task(u64, Waker),
    /// A frame that is handed on: no task waits for it.
    Frame(EncodedMessage),
}

/// The waiter to which permits were granted.
#[derive(Debug)]
pub(super) enum Granted {
    Task(Waker),
    Frame(EncodedMessage),
}

impl Budget {
    pub(super) fn new(permits: usize) -> Self {
        let waiters = VecDeque::new();
        Self { permits, free: permits, waiters, frame_bytes: 0, next_ticket: 0 }
    }

    /// Takes that many permits, unless there are too few or others wait.
    pub(super) fn try_take(&mut self, permits: usize) -> bool {
        let enough = self.has(permits);
        if enough {
            self.free -= permits;
        }
        enough
    }

    /// Returns how many are taken.
    fn taken(&self) -> usize {
        // One that is given back and was never taken is a bug that the tests look for.
        self.permits.saturating_sub(self.free)
    }

    /// Whether that many can be taken now.
    pub(super) fn has(&self, permits: usize) -> bool {
        // If small frames could overtake, a large one might never find enough at once.
        self.waiters.is_empty() && self.free >= permits
    }

    /// Gives permits back. The caller has to [grant](Self::grant) them.
    pub(super) fn give(&mut self, permits: usize) {
        self.free += permits;
    }

    /// Grants the first waiter its permits, if there are enough now.
    pub(super) fn grant(&mut self) -> Option<Granted> {
        self.waiters.front().filter(|waiter| waiter.permits <= self.free)?;
        let Waiter { permits, kind } = self.waiters.pop_front()?;
        // Taken now and not when the task runs: it has left the queue, and others may come first.
        self.free -= permits;
        Some(match kind {
            WaiterKind::Task(_, waker) => Granted::Task(waker),
            WaiterKind::Frame(frame) => {
                self.frame_bytes -= permits;
                Granted::Frame(frame)
            }
        })
    }

    /// Joins the queue for permits, behind all others. Returns the ticket of the wait.
    pub(super) fn join(&mut self, permits: usize, waker: &Waker) -> u64 {
        self.next_ticket += 1;
        let kind = WaiterKind::Task(self.next_ticket, waker.clone());
        self.waiters.push_back(Waiter { permits, kind });
        self.next_ticket
    }

    /// Lets a frame wait for room of its bytes, behind all others.
    pub(super) fn join_frame(&mut self, frame: EncodedMessage) {
        let permits = frame.bytes();
        self.frame_bytes += permits;
        self.waiters.push_back(Waiter { permits, kind: WaiterKind::Frame(frame) });
    }

    /// Returns the bytes of the frames that wait.
    pub(super) fn frame_bytes(&self) -> usize {
        self.frame_bytes
    }

    /// Whether the wait of `ticket` still lasts; from now on `waker` is woken at its end.
    pub(super) fn still_waits(&mut self, ticket: u64, waker: &Waker) -> bool {
        let mine = self.waiters.iter_mut().find_map(|waiter| match &mut waiter.kind {
            WaiterKind::Task(known, waker) if *known == ticket => Some(waker),
            _ => None,
        });
        mine.is_some_and(|mine| {
            // The future may have moved to another task since its last poll.
            mine.clone_from(waker);
            true
        })
    }

    /// Ends the wait of `ticket`. Permits that were granted to it and not fetched are given back;
    /// the caller has to [grant](Self::grant) them.
    pub(super) fn leave(&mut self, ticket: u64, permits: usize) {
        let mine =
            |waiter: &Waiter| matches!(waiter.kind, WaiterKind::Task(known, _) if known == ticket);
        match self.waiters.iter().position(mine) {
            Some(at) => drop(self.waiters.remove(at)),
            // It has left the queue: its permits were granted and not fetched.
            None => self.give(permits),
        }
    }

    /// Empties the queue. Returns the wakers of its tasks, and drops its frames.
    pub(super) fn close(&mut self) -> Vec<Waker> {
        self.frame_bytes = 0;
        let waiters = self.waiters.drain(..);
        let wakers = waiters.filter_map(|waiter| match waiter.kind {
            WaiterKind::Task(_, waker) => Some(waker),
            WaiterKind::Frame(_) => None,
        });
        wakers.collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_earliest_deadline_is_looked_at_and_not_too_often() {
        let start = Instant::now();
        let at = |ms| Some(start + Duration::from_millis(ms));
        let mut deadlines = Deadlines { earliest: None, rested: start };
        assert!(!deadlines.add(None) && deadlines.next().is_none());
        assert!(deadlines.add(at(500)) && !deadlines.add(at(900)) && deadlines.add(at(300)));
        assert_eq!(deadlines.next(), at(300));
        deadlines.begin_scan();
        assert_eq!(deadlines.next(), None);
        deadlines.end_scan(start + Duration::from_millis(300), at(500), 2);
        assert_eq!(deadlines.next(), at(500));
        // The scan has not seen a request that comes during it.
        deadlines.begin_scan();
        assert!(deadlines.add(at(600)));
        deadlines.end_scan(start + Duration::from_millis(500), at(900), 2);
        assert_eq!(deadlines.next(), at(600));
        // Each of those that wait takes a microsecond.
        deadlines.begin_scan();
        deadlines.end_scan(start + Duration::from_millis(600), at(601), 5000);
        assert_eq!(deadlines.next(), at(605));
    }

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

    /// A graceful end that begins after a plain close was asked for still counts.
    #[test]
    fn who_asked_to_close_may_still_drain() {
        let mut phase = Phase::Open;
        phase.ask(Closed::local(CloseCode::NORMAL, "bye"));
        assert_eq!(admitted(&phase), [true; 4], "until the task begins with it");
        phase.drain(false, false);
        assert_eq!(admitted(&phase), [false, true, true, true]);
    }

    fn granted(budget: &mut Budget) -> usize {
        std::iter::from_fn(|| budget.grant()).count()
    }

    #[test]
    fn permits_are_handed_out_in_turn() {
        let mut budget = Budget::new(3);
        let waker = Waker::noop();
        assert!(budget.try_take(2) && !budget.try_take(2));
        let (large, small) = (budget.join(3, waker), budget.join(1, waker));
        assert!(!budget.try_take(1), "others wait");
        assert_eq!(granted(&mut budget), 0, "the first of them comes first");
        budget.give(2);
        assert_eq!(granted(&mut budget), 1);
        assert!(!budget.still_waits(large, waker) && budget.still_waits(small, waker));
        budget.give(3);
        assert_eq!(granted(&mut budget), 1);
        assert!(budget.try_take(2) && !budget.try_take(1));
    }

    #[test]
    fn who_leaves_takes_nothing_along() {
        let mut budget = Budget::new(2);
        let waker = Waker::noop();
        assert!(budget.try_take(2));
        let (first, second) = (budget.join(2, waker), budget.join(1, waker));
        budget.leave(first, 2);
        budget.give(1);
        assert_eq!(granted(&mut budget), 1, "the second is the first now");
        // It has not fetched what was granted.
        budget.leave(second, 1);
        assert!(budget.try_take(1) && !budget.try_take(1));
    }

    #[test]
    fn who_came_back_is_woken_where_it_is_now() {
        let mut budget = Budget::new(0);
        let waker = futures::task::noop_waker();
        let ticket = budget.join(1, Waker::noop());
        assert!(budget.still_waits(ticket, &waker));
        budget.give(1);
        let Some(Granted::Task(granted)) = budget.grant() else { panic!("it waits") };
        assert!(granted.will_wake(&waker) && !granted.will_wake(Waker::noop()));
    }

    #[test]
    fn at_the_end_all_tasks_are_woken() {
        let mut budget = Budget::new(0);
        budget.join(1, Waker::noop());
        budget.join_frame(EncodedMessage::event("tick", &crate::message::Empty {}).unwrap());
        assert!(budget.frame_bytes() > 0);
        assert_eq!((budget.close().len(), budget.frame_bytes()), (1, 0));
    }
}
