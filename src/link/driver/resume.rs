//! Where a link's next socket comes from.

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

use crate::close::Closed;
use crate::handshake::ResumeInfo;
use crate::link::outbound::Handle;
use crate::link::state::LinkState;
use crate::transport::Transport;

/// The source of a link's next socket.
pub(crate) trait Recover: Send {
    /// Waits for a socket that takes over while the present one still works. Cancel safe.
    fn takeover(&mut self) -> impl Future<Output = Resumption> + Send;

    /// Waits for a socket after the last one was cut. An error is how the session ends.
    fn recover(
        &mut self,
        session: &CutSession,
    ) -> impl Future<Output = Result<Resumption, Closed>> + Send;
}

/// A session without a socket.
#[derive(Debug)]
pub(crate) struct CutSession {
    handle: Handle,
    /// How its socket was lost.
    pub(crate) cut: Closed,
    pub(crate) resume_info: ResumeInfo,
    /// The last number that this side has received.
    pub(crate) last_seq: Option<u64>,
    until: Instant,
}

impl CutSession {
    pub(super) fn new(
        handle: Handle,
        cut: Closed,
        resume_info: ResumeInfo,
        last_seq: Option<u64>,
    ) -> Self {
        let now = Instant::now();
        // For a time that `Instant` cannot represent, a day is as good.
        let until =
            now.checked_add(resume_info.timeout).unwrap_or(now + Duration::from_secs(86_400));
        let session = Self { handle, cut, resume_info, last_seq, until };
        let held = session.tell(None);
        let (peer, cut) = (session.handle.peer(), &session.cut);
        tracing::info!(%peer, %cut, held, "the socket is lost, holding the session");
        session
    }

    /// Shows in the link's state that the next attempt follows after `delay`.
    pub(crate) fn next_try(&self, delay: Duration) {
        self.tell(Instant::now().checked_add(delay));
    }

    /// Sets the link's state. Returns the number of frames that are held.
    fn tell(&self, next_try: Option<Instant>) -> usize {
        let held = self.handle.held();
        let (cut, until) = (self.cut.clone(), self.until);
        self.handle.set_state(LinkState::Resuming { cut, held, until, next_try });
        held
    }
}

/// A link that ends with its socket.
#[derive(Debug)]
pub(crate) struct Unrecoverable;

impl Recover for Unrecoverable {
    async fn takeover(&mut self) -> Resumption {
        std::future::pending().await
    }

    async fn recover(&mut self, session: &CutSession) -> Result<Resumption, Closed> {
        Err(session.cut.clone())
    }
}

/// A socket on which a session goes on.
pub(crate) struct Resumption {
    pub(crate) transport: Box<dyn Transport>,
    /// The last number that the peer has received.
    pub(crate) last_seq: Option<u64>,
    pub(crate) resume_info: ResumeInfo,
}
