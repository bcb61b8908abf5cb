//! Slaves and controls: they dial their master, register, and come back when the link is lost.

mod backoff;
mod builder;
mod dial;

use std::fmt;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use backoff::Backoff;
pub use backoff::Reconnect;
pub use builder::ClientBuilder;
use dial::{Dialer, Dialled};

use crate::close::{CloseCode, Closed, ClosedBy, Reason};
use crate::error::ConnectError;
use crate::link::{CutSession, Driver, Link, Recover, Resumption};

/// A client that does the work, known by its id.
#[derive(Debug)]
pub struct Slave;

/// A client that steers.
#[derive(Debug)]
pub struct Control;

impl Slave {
    /// A slave to be set up; it needs [`url`](ClientBuilder::url) and [`id`](ClientBuilder::id).
    pub fn builder() -> ClientBuilder {
        ClientBuilder::slave()
    }
}

impl Control {
    /// A control to be set up; it needs [`url`](ClientBuilder::url).
    pub fn builder() -> ClientBuilder {
        ClientBuilder::control()
    }
}

/// A slave or a control that keeps itself registered with its master. Cheap to clone; all clones
/// are the same client.
///
/// Messages go over its [`link`](Self::link), which is a new one after each registration:
///
/// ```no_run
/// # use seqlink::{Request, Slave, Empty}; use serde::{Deserialize, Serialize};
/// # #[derive(Serialize, Deserialize)] struct Report { load: f64 }
/// # impl Request for Report { const NAME: &'static str = "report"; type Response = Empty; }
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let slave = Slave::builder().url("ws://127.0.0.1:8750/").id(7).connect().await?;
/// // Ends when the slave is closed, refused or replaced.
/// while let Ok(link) = slave.link().await {
///     link.request(&Report { load: 0.25 }).await?;
///     println!("{}", link.closed().await);
/// }
/// println!("{}", slave.stopped().await);
/// # Ok(()) }
/// ```
///
/// # Behaviour
///
/// - A lost socket does not end the link where the master speaks
///   [sessions](ClientBuilder::sessions): the client dials again and resumes it.
///   [`Link::states`] tells what goes on.
/// - When the link ends, whoever ended it, the client dials again after a delay (see
///   [`Reconnect`]) and registers anew. That is a new [`Link`]: requests of the old one have failed
///   and are not sent again, and what its peer knew of it may be gone.
/// - It stops for good when it is [closed](Self::close), and after a refused token, a version
///   refusal or a replacement by a newer link with its id.
/// - Dropping every clone does not end it; [`close`](Self::close) does.
#[derive(Clone)]
pub struct Client {
    state: watch::Receiver<State>,
    stop: Stop,
}

#[derive(Clone, Debug)]
enum State {
    Connecting,
    Connected(Link),
    Stopped(Stopped),
}

/// Tells the client's task to stop, and with which words.
#[derive(Clone, Debug)]
struct Stop {
    token: CancellationToken,
    reason: Arc<std::sync::OnceLock<Reason>>,
}

impl Stop {
    /// Waits until the client is to stop; then ends the link for good, and gracefully where anything
    /// would be lost otherwise. A link without a socket that holds something resumes first.
    async fn end(self, link: Link) {
        self.token.cancelled().await;
        let reason = self.reason.get().map_or("", Reason::as_str);
        if link.is_resuming() && link.holds_nothing() {
            // The next socket may be long in coming, and nobody waits for anything.
            link.close(reason);
        } else {
            link.disconnect(reason).await;
        }
    }
}

/// Why a client has no link any more and will have none.
#[derive(Clone, Debug)]
pub struct Stopped {
    error: Option<ConnectError>,
}

impl Stopped {
    fn task_ended() -> Self {
        Self { error: Some(ConnectError::TaskEnded) }
    }

    /// What stopped it; `None` when this side closed it.
    pub fn error(&self) -> Option<&ConnectError> {
        self.error.as_ref()
    }
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.error {
            Some(error) => error.fmt(f),
            None => f.write_str("closed by this side"),
        }
    }
}

impl std::error::Error for Stopped {}

impl Client {
    /// The registered link; waits for the next one while there is none.
    ///
    /// # Errors
    ///
    /// Why there will be none.
    ///
    /// # Cancel safety
    ///
    /// May be dropped and called again at any time, from any number of tasks.
    pub async fn link(&self) -> Result<Link, Stopped> {
        let mut state = self.state.clone();
        let settled = state.wait_for(|state| match state {
            State::Connecting => false,
            // The next look would find the same link until the client's task has seen its end.
            State::Connected(link) => !link.is_closed(),
            State::Stopped(_) => true,
        });
        match settled.await.as_deref() {
            Ok(State::Connected(link)) => Ok(link.clone()),
            Ok(State::Stopped(stopped)) => Err(stopped.clone()),
            Ok(State::Connecting) | Err(_) => Err(Stopped::task_ended()),
        }
    }

    /// Ends the link gracefully, as [`Link::disconnect`] does, and stops for good; returns when the
    /// link has ended. A link that has lost its socket has as long to resume; when nothing is held
    /// for the master, it is closed at once.
    ///
    /// # Cancel safety
    ///
    /// Dropped half-way, the client still stops; only the wait is given up.
    pub async fn close(&self, reason: impl AsRef<str>) {
        let _ = self.stop.reason.set(Reason::new(reason));
        self.stop.token.cancel();
        self.stopped().await;
    }

    /// Waits until the client has stopped for good, and says why.
    pub async fn stopped(&self) -> Stopped {
        let mut state = self.state.clone();
        let stopped = state.wait_for(|state| matches!(state, State::Stopped(_)));
        match stopped.await.as_deref() {
            Ok(State::Stopped(stopped)) => stopped.clone(),
            _ => Stopped::task_ended(),
        }
    }

    fn start(dialer: Dialer, reconnect: Reconnect) -> Self {
        let (sender, state) = watch::channel(State::Connecting);
        let stop = Stop { token: dialer.stop.clone(), reason: Arc::default() };
        let task = ClientTask {
            dialer,
            backoff: Backoff::new(reconnect),
            state: sender,
            stop: stop.clone(),
        };
        tokio::spawn(task.run());
        Self { state, stop }
    }
}

/// The client's own task: dials, runs the link to its end, dials again.
struct ClientTask {
    dialer: Dialer,
    backoff: Backoff,
    state: watch::Sender<State>,
    stop: Stop,
}

impl ClientTask {
    async fn run(mut self) {
        let error = loop {
            let mut next = self.dialer.dial(None).await;
            // A link that ends may leave its successor behind: the master did not know the session
            // any more, and the client has registered on the same socket.
            let failure = loop {
                match next {
                    Ok(Dialled::Fresh(transport, negotiated)) => {
                        let (link, driver) = self.dialer.registrant.link(transport, *negotiated);
                        match self.hold_session(&link, driver).await {
                            End::Final(error) => break Err(error),
                            End::Lost(failure) => break Ok(failure),
                            End::Replaced(dialled) => next = Ok(dialled),
                        }
                    }
                    // There was no session to go on with.
                    Ok(Dialled::Resumed(_)) => break Ok(ended("resumed without a session")),
                    Err(_) if self.stop.token.is_cancelled() => break Err(None),
                    Err(error) if error.is_final() => break Err(Some(error)),
                    Err(error) => break Ok(error),
                }
            };
            let failure = match failure {
                Ok(failure) => failure,
                Err(error) => break error,
            };
            let Some(delay) = self.backoff.next() else { break Some(failure) };
            tracing::info!(error = %failure, ?delay, "no link, trying again");
            if self.stop.token.run_until_cancelled(sleep(delay)).await.is_none() {
                break None;
            }
        };
        self.state.send_replace(State::Stopped(Stopped { error }));
    }

    /// Runs a link to its end.
    async fn hold_session(&mut self, link: &Link, driver: Driver) -> End {
        self.backoff.connected();
        self.state.send_replace(State::Connected(link.clone()));
        let Self { dialer, backoff, stop, .. } = self;
        let stopping = AbortOnDropHandle::new(tokio::spawn(stop.clone().end(link.clone())));
        let mut redial = Redial { dialer, backoff, found: None };
        let (closed, rest) = driver.run(&mut redial).await;
        drop(stopping);
        let found = redial.found.take();
        self.backoff.disconnected();
        // Handlers that still run hold nobody up.
        tokio::spawn(rest.finish());
        if stop.token.is_cancelled() {
            return End::Final(None);
        }
        if closed.by == ClosedBy::Remote && closed.code == CloseCode::GOING_AWAY {
            self.backoff.spread();
        }
        self.state.send_replace(State::Connecting);
        match found {
            Some(Ok(dialled)) => End::Replaced(dialled),
            Some(Err(error)) if error.is_final() => End::Final(Some(error)),
            _ if closed.by == ClosedBy::Remote && closed.reason.is_final() => {
                End::Final(Some(refusal(closed)))
            }
            _ => End::Lost(ConnectError::Ended(closed)),
        }
    }
}

fn ended(reason: &str) -> ConnectError {
    ConnectError::Ended(Closed::lost(reason))
}

/// The refusal that a final reason stands for.
fn refusal(closed: Closed) -> ConnectError {
    let reason = closed.reason.as_str();
    if reason == Reason::REPLACED {
        ConnectError::Replaced
    } else if reason.starts_with(Reason::VERSION) {
        ConnectError::Version(crate::version::VersionError::Refused(closed.reason))
    } else {
        ConnectError::Authentication(closed.reason)
    }
}

/// How a link's end concerns its client.
enum End {
    Final(Option<ConnectError>),
    Lost(ConnectError),
    /// The session is gone at the master, and the client has a new one.
    Replaced(Dialled),
}

/// Where a client's link gets its next socket from: it dials.
struct Redial<'a> {
    dialer: &'a Dialer,
    backoff: &'a mut Backoff,
    /// What dialling came to when it was no socket for the session.
    found: Option<Result<Dialled, ConnectError>>,
}

impl Recover for Redial<'_> {
    /// Only a master is brought sockets.
    async fn takeover(&mut self) -> Resumption {
        std::future::pending().await
    }

    async fn recover(&mut self, session: &CutSession) -> Result<Resumption, Closed> {
        let CutSession { cut, resume_info, last_seq, .. } = session;
        self.backoff.disconnected();
        let Self { dialer, backoff, found } = self;
        let dialling = async {
            loop {
                let Some(delay) = backoff.next() else { return Err(cut.clone()) };
                session.next_try(delay);
                tracing::debug!(?delay, "trying to resume");
                sleep(delay).await;
                match dialer.dial(Some((resume_info, *last_seq))).await {
                    Ok(Dialled::Resumed(resumption)) => {
                        backoff.connected();
                        return Ok(resumption);
                    }
                    Ok(fresh) => {
                        *found = Some(Ok(fresh));
                        let reason = "The master does not know the session any more";
                        return Err(Closed::lost(reason));
                    }
                    Err(error) if error.is_final() => {
                        let reason = error.to_string();
                        *found = Some(Err(error));
                        return Err(Closed::lost(reason));
                    }
                    Err(error) => tracing::info!(%error, "not resumed"),
                }
            }
        };
        timeout(resume_info.timeout, dialling).await.unwrap_or_else(|_| {
            let reason = format!("Not resumed within {:?}: {}", resume_info.timeout, cut.reason);
            Err(Closed::lost(reason))
        })
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("state", &*self.state.borrow()).finish_non_exhaustive()
    }
}
