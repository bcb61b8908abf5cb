//! The task behind the handles of a link.

mod pace;
mod resume;
mod socket;

use std::future::{Future as _, poll_fn};
use std::mem;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, Sleep, interval_at, sleep_until, timeout};

use pace::Pace;
pub(crate) use resume::{CutSession, Recover, Resumption, Unrecoverable};
use socket::Socket;

use super::inbound::{Halt, Inbound, Routes};
use super::outbound::Handle;
use super::state::LinkState;
use crate::close::{CloseCode, Closed, ClosedBy};
use crate::error::TransportError;
use crate::handshake;
use crate::message::Role;
use crate::session::{Liveness, Receiving, Verdict};
use crate::transport::{Gone, Incoming, Transport};
use crate::wire::{Continue, EncodeError, EncodedMessage, Text};

/// The most steps of one poll, after which other tasks run.
// Odd: requests and handlers that are ready at once come in pairs, and not every poll should end
// between the two.
const STEPS: u32 = 511;
/// The most messages that are read before the frames that they led to are written.
// A peer that never pauses must not hold them up.
const BURST: u32 = 256;

/// The task behind the handles of one link: owns the socket, reads, writes and runs the handlers.
///
/// It owns the session too, in every dialect: at most one socket works on it at any time. An older
/// socket is dropped with everything it holds, so nothing of it can act on the session any more.
#[derive(Debug)]
pub(crate) struct Driver {
    socket: Socket,
    handle: Handle,
    inbound: Inbound,
    liveness: Liveness,
    /// How many messages were read.
    messages: u64,
    /// The number before the one that is being received, and when that began, at the last heartbeats.
    slow_frame: Option<(u64, Instant)>,
    pace: Option<Pace>,
    /// For the time limits of all requests.
    // Made when it is first needed: many links never send a request.
    timer: Option<(Instant, Pin<Box<Sleep>>)>,
}

/// Why a socket is no longer served.
enum SocketEnd {
    /// The link has ended.
    Ended(Closed),
    /// The socket is lost, and the session is kept.
    Cut(Closed),
    /// Another socket takes over.
    TakenOver(Resumption),
}

/// Handlers that still run after their link has ended.
#[derive(Debug)]
pub(crate) struct RemainingHandlers(Driver);

impl Driver {
    /// Creates the task over a transport after the handshake; `first` is sent before all else.
    pub(super) fn new(
        transport: Box<dyn Transport>,
        first: Option<Text>,
        handle: Handle,
        receiving: Receiving,
        routes: Arc<Routes>,
    ) -> Self {
        let mut socket = Socket::new(transport);
        if let Some(first) = first {
            socket.send_first(first);
        }
        let config = handle.config();
        let pace = Pace::new(config.messages_per_second, heartbeat_interval(&handle));
        let inbound = Inbound::new(handle.clone(), routes, receiving);
        Self {
            socket,
            handle,
            inbound,
            liveness: Liveness::default(),
            messages: 0,
            slow_frame: None,
            pace,
            timer: None,
        }
    }

    /// Runs the link to its end. Returns how it ended, and the handlers that still run.
    pub(crate) async fn run(mut self, recover: &mut impl Recover) -> (Closed, RemainingHandlers) {
        let closed = loop {
            let resumption = match self.serve(recover).await {
                SocketEnd::Ended(closed) => break self.close(closed).await,
                SocketEnd::TakenOver(resumption) => Ok(resumption),
                SocketEnd::Cut(cut) => self.hold_session(recover, cut).await,
            };
            match resumption.map(|resumption| self.resume(resumption)) {
                Ok(Ok(())) => {}
                Ok(Err(closed)) => break self.close(closed).await,
                // No socket is left on which the peer could be told.
                Err(closed) => break closed,
            }
        };
        self.handle.end(closed.clone());
        // The peer must not wait for the handlers that remain.
        self.socket = Socket::new(Box::new(Gone));
        (closed, RemainingHandlers(self))
    }

    /// Serves a socket until the link is closed, the socket fails, or another one takes over.
    async fn serve(&mut self, recover: &mut impl Recover) -> SocketEnd {
        let every = heartbeat_interval(&self.handle);
        let mut heartbeat = interval_at(Instant::now() + every, every);
        // Otherwise several ticks at once, after a pause of this process, give up a live peer.
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut takeover = pin!(recover.takeover());
        let end = poll_fn(|cx| {
            // Before anything is looked at, so that no wake is lost in between.
            self.handle.register(cx.waker());
            // What is rare comes first: a busy link must not put it off.
            if let Poll::Ready(resumption) = takeover.as_mut().poll(cx) {
                return Poll::Ready(Err(resumption));
            }
            while heartbeat.poll_tick(cx).is_ready() {
                if let Some(closed) = self.beat() {
                    return Poll::Ready(Ok(closed));
                }
            }
            self.poll(cx).map(Ok)
        });
        match end.await {
            Ok(closed) => self.judge(closed),
            Err(resumption) => SocketEnd::TakenOver(resumption),
        }
    }

    /// Waits for the next socket. Meanwhile handlers go on, and what is sent is queued.
    async fn hold_session(
        &mut self,
        recover: &mut impl Recover,
        cut: Closed,
    ) -> Result<Resumption, Closed> {
        // Dropped now: a peer that is alive after all learns by the end of the socket that it was
        // given up.
        let old = mem::replace(&mut self.socket, Socket::new(Box::new(Gone)));
        if cut.by == ClosedBy::Remote {
            // Its close frame still has to be answered, but the session does not wait for that.
            tokio::spawn(timeout(self.handle.config().close_timeout, old.hang_up()));
        } else {
            drop(old);
        }
        let Some(resume_info) = self.handle.resume_info() else { return Err(cut) };
        let last_seq = self.inbound.receiving().last_received();
        let session = CutSession::new(self.handle.clone(), cut, resume_info, last_seq);
        let mut recovering = pin!(recover.recover(&session));
        poll_fn(|cx| {
            self.handle.register(cx.waker());
            if let Some(closed) = self.handle.close_asked() {
                return Poll::Ready(Err(closed));
            }
            if let Poll::Ready(resumption) = recovering.as_mut().poll(cx) {
                return Poll::Ready(resumption);
            }
            self.poll_without_socket(cx);
            Poll::Pending
        })
        .await
    }

    /// Resumes over another socket. The present one is dropped with everything it holds. An error
    /// is how the link ends.
    fn resume(&mut self, resumption: Resumption) -> Result<(), Closed> {
        let Resumption { mut transport, last_seq, resume_info } = resumption;
        // The allowance was for the handshake.
        transport.set_limit(usize::MAX);
        self.socket = Socket::new(transport);
        // It counts the bytes of one socket.
        self.liveness = Liveness::default();
        self.slow_frame = None;
        let handle = &self.handle;
        // `resume` has told the peer, or the `continue` below does, so this counts as acknowledged.
        let last = self.inbound.receiving().acknowledge();
        if handle.us() == Role::Master {
            let answer = handshake::cont(last, &resume_info, handle.dialect(), handle.peer());
            let text = EncodedMessage::protocol(Continue::TYPE, &answer)
                .and_then(|message| message.to_frame(None).map_err(EncodeError::from));
            self.socket.send_first(text.map_err(|fault| {
                Closed::local(CloseCode::INTERNAL, format!("`continue` cannot be written: {fault}"))
            })?);
        }
        let again = handle.resumed(last_seq, resume_info).map_err(|fault| {
            let reason = format!("Impossible acknowledgement: {fault}");
            Closed::local(CloseCode::PROTOCOL, reason)
        })?;
        handle.set_state(LinkState::Resumed { again });
        tracing::info!(peer = %handle.peer(), again, "the session goes on");
        Ok(())
    }

    /// Ends the link: sends the reason, unless the peer has sent one, and waits for the peer to
    /// hang up. Responses and events that are still under way are handled; requests are not,
    /// because they could not be answered.
    async fn close(&mut self, mut closed: Closed) -> Closed {
        self.inbound.close();
        // One that is aborted holds too much, and must not wait for its peer.
        let limit = match self.handle.is_abort() {
            true => Duration::ZERO,
            false => self.handle.config().close_timeout,
        };
        // A peer's `close` message carries no code; its close frame, still to come, may.
        let code = if closed.by == ClosedBy::Local { closed.code } else { CloseCode::NORMAL };
        self.handle.begin_close(&closed, code);
        if closed.by == ClosedBy::Lost {
            return closed;
        }
        let hang_up = poll_fn(|cx| {
            self.handle.register(cx.waker());
            self.poll_to_the_end(cx, &mut closed)
        });
        // A peer that does not answer the close frame must not hold this side up.
        if timeout(limit, hang_up).await.is_err() && !self.handle.is_idle() {
            let peer = self.handle.peer();
            tracing::warn!(%peer, "closed before the peer took all of it");
        }
        closed
    }
}

/// One poll: it handles, reads and writes.
impl Driver {
    /// Decides whether the end of a socket is the end of its link.
    fn judge(&mut self, closed: Closed) -> SocketEnd {
        let closed = match closed.by {
            ClosedBy::Lost => self.last_words(closed),
            _ => closed,
        };
        // A `close` message is intended. A close frame alone may be a proxy's, so it counts only if
        // its code or reason is final, or the peer had announced it.
        let meant = match closed.by {
            ClosedBy::Local => true,
            ClosedBy::Lost => false,
            ClosedBy::Remote => {
                self.handle.is_meant()
                    || closed.code == CloseCode::AUTHENTICATION
                    || closed.reason.is_final()
            }
        };
        let resumes = self.handle.dialect().resumes();
        if meant || !resumes { SocketEnd::Ended(closed) } else { SocketEnd::Cut(closed) }
    }

    /// Judges the last heartbeat interval, and asks for a sign of life. Returns how the link ends
    /// if the peer is given up.
    fn beat(&mut self) -> Option<Closed> {
        if self.is_frame_slow() {
            let limit = self.handle.config().frame_timeout;
            let reason = format!("Invalid message: longer than {limit:?} on its way");
            return Some(Closed::local(CloseCode::POLICY, reason));
        }
        let traffic = self.socket.traffic();
        let every = heartbeat_interval(&self.handle);
        let writing = self.socket.is_writing(&self.handle);
        // What is read shows life too: while reading pauses, nothing may have to be fetched for it.
        let received = traffic.received + self.messages;
        match self.liveness.beat(received, traffic.sent, writing) {
            Verdict::Ask => {
                self.handle.shrink();
                self.socket.shrink();
                self.socket.show_life();
                None
            }
            Verdict::Silent => Some(Closed::lost(format!("Not a byte came for {:?}", every * 2))),
            Verdict::Stuck => {
                Some(Closed::lost(format!("The peer took not a byte for {:?}", every * 2)))
            }
        }
    }

    /// Whether the message that is being received takes longer than it may.
    fn is_frame_slow(&mut self) -> bool {
        if self.socket.buffered() == 0 {
            self.slow_frame = None;
            return false;
        }
        let now = Instant::now();
        let (before, since) = *self.slow_frame.get_or_insert((self.messages, now));
        if before != self.messages {
            self.slow_frame = Some((self.messages, now));
            return false;
        }
        now - since >= self.handle.config().frame_timeout
    }

    /// Handles, reads and writes for as long as there is anything to do, but lets other tasks run
    /// in between. Ready when the link ends.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Closed> {
        self.poll_deadlines(cx);
        self.inbound.begin_poll();
        self.socket.begin_poll();
        let end = self.work_off(cx);
        // Again, because it may have returned before it wrote.
        self.inbound.deliver();
        self.handle.end_look();
        // In this order: what waits to be drained counts the answers that are owed.
        self.inbound.end_poll();
        self.handle.end_poll(self.inbound.bytes() + self.socket.buffered());
        end
    }

    fn work_off(&mut self, cx: &mut Context<'_>) -> Poll<Closed> {
        let mut reads = 0;
        self.handle.begin_look();
        for _ in 0..STEPS {
            // What has been received comes before what is still to be read.
            if self.inbound.poll_handlers(cx).is_ready() {
                continue;
            }
            // Reading before writing gathers the answers to all that has come into one write.
            let reading = reads < BURST && self.may_read(cx);
            let incoming = if reading { self.socket.poll_read(cx) } else { Poll::Pending };
            reads += 1;
            match incoming {
                Poll::Ready(Ok(incoming)) => {
                    self.messages += 1;
                    if let Some(pace) = &mut self.pace {
                        pace.spend();
                    }
                    if let Err(halt) = self.inbound.receive(incoming, cx) {
                        return Poll::Ready(self.inbound.end_with(halt));
                    }
                    if self.inbound.receiving().is_acknowledgement_due() {
                        self.socket.acknowledge();
                    }
                }
                Poll::Ready(Err(error)) => return Poll::Ready(fault(&error)),
                Poll::Pending => {
                    if let Some(closed) = self.write(cx) {
                        return Poll::Ready(closed);
                    }
                    // The socket itself had nothing more, and wakes the task.
                    if reads <= BURST {
                        return Poll::Pending;
                    }
                    reads = 0;
                    self.handle.begin_look();
                }
            }
        }
        // The steps are used up, but there may be more to do: come back behind the other tasks.
        cx.waker().wake_by_ref();
        self.write(cx).map_or(Poll::Pending, Poll::Ready)
    }

    fn may_read(&mut self, cx: &mut Context<'_>) -> bool {
        self.pace.as_mut().is_none_or(|pace| pace.poll_ready(cx).is_ready())
    }

    /// Writes what is queued. Returns how the link ends if this side wants to close.
    fn write(&mut self, cx: &mut Context<'_>) -> Option<Closed> {
        self.inbound.deliver();
        // Before the look for frames: one that is queued behind that look has to wake the task.
        self.handle.end_look();
        self.socket.write(cx, &self.handle, self.inbound.receiving())
    }

    /// Polls the handlers and the time limits alone.
    fn poll_without_socket(&mut self, cx: &mut Context<'_>) {
        self.poll_deadlines(cx);
        self.inbound.begin_poll();
        while self.inbound.poll_handlers(cx).is_ready() {}
        self.inbound.end_poll();
        self.handle.end_poll(self.inbound.bytes() + self.socket.buffered());
    }

    /// Takes what still comes and writes what is queued. Ready when the peer has hung up.
    fn poll_to_the_end(&mut self, cx: &mut Context<'_>, closed: &mut Closed) -> Poll<()> {
        self.poll_without_socket(cx);
        for _ in 0..BURST {
            match self.socket.poll_read(cx) {
                // The peer's `close` message, which came before, had no code.
                Poll::Ready(Ok(Incoming::Close(code, _))) if closed.by == ClosedBy::Remote => {
                    closed.code = code;
                }
                // A client that may not be here any more is not listened to.
                Poll::Ready(Ok(_)) if closed.is_denial() => {}
                // A broken rule no longer matters: the link ends anyway.
                Poll::Ready(Ok(incoming)) => drop(self.inbound.receive(incoming, cx)),
                Poll::Ready(Err(_)) => {
                    self.inbound.deliver();
                    return Poll::Ready(());
                }
                Poll::Pending => {
                    self.write(cx);
                    return Poll::Pending;
                }
            }
        }
        cx.waker().wake_by_ref();
        self.write(cx);
        Poll::Pending
    }

    /// Reads what the peer sent before the socket failed. Its reason is better than the system's,
    /// and so is one for which this side would have ended the link.
    fn last_words(&mut self, closed: Closed) -> Closed {
        let mut cx = Context::from_waker(Waker::noop());
        let closed = loop {
            let Poll::Ready(Ok(incoming)) = self.socket.poll_read(&mut cx) else { break closed };
            match self.inbound.receive(incoming, &mut cx) {
                Ok(()) => {}
                // Left for the next socket, with everything behind it.
                Err(Halt::NoRoom(..)) => break closed,
                Err(Halt::End(end)) => break end,
            }
        };
        self.inbound.deliver();
        closed
    }

    /// Ends the requests whose time is over, with one timer for all of them, and sets it for the
    /// next one.
    fn poll_deadlines(&mut self, cx: &mut Context<'_>) {
        // A request that is answered leaves the timer alone, which finds the next time limit when
        // it goes off; a new request wakes the task only if its time limit is before all others.
        while let Some(next) = self.handle.next_deadline() {
            let (set, timer) =
                self.timer.get_or_insert_with(|| (next, Box::pin(sleep_until(next))));
            if *set != next {
                *set = next;
                timer.as_mut().reset(next);
            }
            if timer.as_mut().poll(cx).is_pending() {
                return;
            }
            self.handle.expire(Instant::now());
        }
    }
}

fn heartbeat_interval(handle: &Handle) -> Duration {
    let usual = handle.config().heartbeat_interval;
    handle.resume_info().map_or(usual, |resume_info| resume_info.heartbeat_interval)
}

/// Returns how a link ends after an error of its socket.
fn fault(error: &TransportError) -> Closed {
    match error {
        TransportError::TooLong { limit } => {
            let reason = format!("Invalid message: longer than {limit} bytes");
            Closed::local(CloseCode::TOO_BIG, reason)
        }
        TransportError::WebSocket(fault) => {
            Closed::local(CloseCode::PROTOCOL, format!("Invalid WebSocket frame: {fault}"))
        }
        TransportError::Ended | TransportError::Io(_) => Closed::lost(error.to_string()),
    }
}

impl Drop for Driver {
    /// Ends the link if its task is dropped half-way, with its runtime: no caller waits for ever.
    fn drop(&mut self) {
        let how =
            if std::thread::panicking() { "panicked" } else { "was dropped with its runtime" };
        self.handle.end(Closed::lost(format!("The link's task {how}")));
    }
}

impl RemainingHandlers {
    /// Waits until the handlers of everything received have ended.
    pub(crate) async fn finish(mut self) {
        poll_fn(|cx| {
            self.0.poll_without_socket(cx);
            if self.0.inbound.is_empty() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}
