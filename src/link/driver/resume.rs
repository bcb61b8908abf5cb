//! Where a link's next socket comes from.

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

use crate::close::Closed;
use crate::handshake::ResumeInfo;
use crate::link::outbound::Outlet;
use crate::link::state::LinkState;
use crate::transport::Transport;

/// Where a link gets its next socket from.
pub(crate) trait Recover: Send {
    /// A socket that takes the session over while the present one still works. Cancel safe.
    fn takeover(&mut self) -> impl Future<Output = Resumption> + Send;

    /// A socket after the last one was cut, or how the session ends.
    fn recover(
        &mut self,
        session: &CutSession,
    ) -> impl Future<Output = Result<Resumption, Closed>> + Send;
}

/// A session without a socket.
#[derive(Debug)]
pub(crate) struct CutSession {
    outlet: Outlet,
    /// How its socket was lost.
    pub(crate) cut: Closed,
    pub(crate) resume_info: ResumeInfo,
    /// The last number that this side has received.
    pub(crate) last_seq: Option<u64>,
    until: Instant,
}

impl CutSession {
    pub(super) fn new(
        outlet: Outlet,
        cut: Closed,
        resume_info: ResumeInfo,
        last_seq: Option<u64>,
    ) -> Self {
        let now = Instant::now();
        // A time beyond what the clock can hold is as good as a day.
        let until =
            now.checked_add(resume_info.timeout).unwrap_or(now + Duration::from_secs(86_400));
        let session = Self { outlet, cut, resume_info, last_seq, until };
        let held = session.tell(None);
        let (peer, cut) = (session.outlet.describe_peer(), &session.cut);
        tracing::info!(%peer, %cut, held, "the socket is lost, holding the session");
        session
    }

    /// The next attempt is made after `delay`.
    pub(crate) fn next_try(&self, delay: Duration) {
        self.tell(Instant::now().checked_add(delay));
    }

    fn tell(&self, next_try: Option<Instant>) -> usize {
        let held = self.outlet.held();
        let (cut, until) = (self.cut.clone(), self.until);
        self.outlet.set_state(LinkState::Resuming { cut, held, until, next_try });
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

/// A socket to go on with.
pub(crate) struct Resumption {
    pub(crate) transport: Box<dyn Transport>,
    /// The last number that the peer has received.
    pub(crate) last_seq: Option<u64>,
    pub(crate) resume_info: ResumeInfo,
}
