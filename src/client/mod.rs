//! Slaves and controls: they dial their master, register, and come back when the link is lost.

mod backoff;
mod builder;

use std::fmt;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use backoff::Backoff;
pub use backoff::Reconnect;
pub use builder::ClientBuilder;
use builder::Dialer;

use crate::close::{Closed, ClosedBy, Reason};
use crate::error::ConnectError;
use crate::link::Link;

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

/// Why a client has no link any more and will have none.
#[derive(Clone, Debug)]
pub struct Stopped {
    error: Option<ConnectError>,
}

impl Stopped {
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
            Ok(State::Connecting) | Err(_) => Err(Stopped { error: None }),
        }
    }

    /// Closes the link with `reason` and stops for good; returns when the link has ended.
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
            // The task is gone with its runtime.
            _ => Stopped { error: None },
        }
    }

    fn start(dialer: Dialer, reconnect: Reconnect) -> Self {
        let (sender, state) = watch::channel(State::Connecting);
        let stop = Stop { token: dialer.stop().clone(), reason: Arc::default() };
        let task =
            Task { dialer, backoff: Backoff::new(reconnect), state: sender, stop: stop.clone() };
        tokio::spawn(task.run());
        Self { state, stop }
    }
}

/// The client's own task: dials, waits for the end of the link, dials again.
struct Task {
    dialer: Dialer,
    backoff: Backoff,
    state: watch::Sender<State>,
    stop: Stop,
}

impl Task {
    async fn run(mut self) {
        let error = loop {
            let outcome = self.dialer.dial().await;
            if self.stop.token.is_cancelled() {
                if let Ok(link) = outcome {
                    self.hang_up(&link).await;
                }
                break None;
            }
            let failure = match outcome {
                Ok(link) => match self.hold(link).await {
                    End::Final(error) => break error,
                    End::Lost(failure) => failure,
                },
                Err(error) if error.is_final() => break Some(error),
                Err(error) => error,
            };
            let Some(delay) = self.backoff.next() else { break Some(failure) };
            tracing::info!(error = %failure, ?delay, "no link, trying again");
            if self.stop.token.run_until_cancelled(sleep(delay)).await.is_none() {
                break None;
            }
        };
        self.state.send_replace(State::Stopped(Stopped { error }));
    }

    /// Holds a link to its end.
    async fn hold(&mut self, link: Link) -> End {
        self.backoff.connected();
        self.state.send_replace(State::Connected(link.clone()));
        let closed = tokio::select! {
            closed = link.closed() => closed,
            () = self.stop.token.cancelled() => {
                self.hang_up(&link).await;
                return End::Final(None);
            }
        };
        self.backoff.disconnected();
        self.state.send_replace(State::Connecting);
        let reason = closed.reason.as_str();
        if closed.by == ClosedBy::Remote && closed.reason.is_final() {
            End::Final(Some(if reason == Reason::REPLACED {
                ConnectError::Replaced
            } else if reason.starts_with(Reason::VERSION) {
                ConnectError::Version(crate::version::VersionError::Refused(closed.reason))
            } else {
                ConnectError::Authentication(closed.reason)
            }))
        } else {
            End::Lost(ConnectError::Ended(closed))
        }
    }

    async fn hang_up(&self, link: &Link) -> Closed {
        let reason = self.stop.reason.get().map_or("", Reason::as_str);
        link.close(reason);
        link.closed().await
    }
}

/// How a link's end concerns its client.
enum End {
    Final(Option<ConnectError>),
    Lost(ConnectError),
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("state", &*self.state.borrow()).finish_non_exhaustive()
    }
}
