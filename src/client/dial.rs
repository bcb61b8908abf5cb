use std::future::Future;
use std::io;
use std::sync::Arc;

use futures::future::BoxFuture;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::error::{ConnectError, HandshakeError};
use crate::handshake::{self, HandshakeConfig, Negotiated, Registered, Registration, ResumeInfo};
use crate::link::{Config, Driver, Link, Resumption, Routes};
use crate::transport::Transport;
use crate::transport::websocket::{self, Address, UpgradeError};
use crate::version::Versions;

/// Where a client's transports come from.
pub(super) enum Dial {
    /// A WebSocket to the master's address.
    Url(Address),
    /// What the application dials.
    Custom(CustomDial),
}

pub(super) type CustomDial =
    Box<dyn Fn() -> BoxFuture<'static, io::Result<Box<dyn Transport>>> + Send + Sync>;

/// What came of an attempt.
pub(super) enum Dialled {
    Fresh(Box<dyn Transport>, Box<Negotiated>),
    Resumed(Resumption),
}

/// Everything it takes to dial a master and register.
pub(super) struct Dialer {
    pub(super) dial: Dial,
    /// Whether to ask for this library's sessions.
    pub(super) sessions: bool,
    pub(super) registrant: Registrant,
    pub(super) stop: CancellationToken,
}

/// Everything it takes to register over a transport that is there.
pub(super) struct Registrant {
    pub(super) registration: Registration,
    pub(super) routes: Arc<Routes>,
    pub(super) config: Config,
    pub(super) versions: Versions,
}

impl Dialer {
    /// One attempt: connection, upgrade and handshake, in one time limit. `held` is a session to
    /// go on with, and the last number that was received in it.
    pub(super) async fn dial(
        &self,
        held: Option<(&ResumeInfo, Option<u64>)>,
    ) -> Result<Dialled, ConnectError> {
        let deadline = self.registrant.config.handshake_deadline();
        // A client that is closed still resumes its session, to end it gracefully.
        let stop = if held.is_some() { CancellationToken::new() } else { self.stop.clone() };
        let opening = self.open(deadline);
        let Some(opened) = stop.run_until_cancelled(opening).await else {
            return Err(HandshakeError::Shutdown("closed by this side".into()).into());
        };
        self.registrant.register(opened?, deadline, held, stop).await
    }

    async fn open(&self, deadline: Instant) -> Result<Box<dyn Transport>, ConnectError> {
        match &self.dial {
            Dial::Url(address) => self.open_websocket(address, deadline).await,
            Dial::Custom(dial) => {
                let dialled = self.in_time(deadline, dial()).await;
                dialled.map_err(|error| ConnectError::Dial(Arc::new(error)))
            }
        }
    }

    async fn open_websocket(
        &self,
        address: &Address,
        deadline: Instant,
    ) -> Result<Box<dyn Transport>, ConnectError> {
        let shown = || address.to_string().into();
        let unreachable =
            |error| ConnectError::Unreachable { address: shown(), error: Arc::new(error) };
        let dialling = self.in_time(deadline, websocket::dial(address));
        let stream = dialling.await.map_err(unreachable)?;
        let Config { max_frame, handshake_timeout: after, .. } = self.registrant.config;
        let upgrade = websocket::connect(stream, address, max_frame, self.sessions);
        match timeout_at(deadline, upgrade).await {
            Ok(Ok(socket)) => Ok(Box::new(socket)),
            Ok(Err(UpgradeError::Io(error))) => Err(unreachable(error)),
            Ok(Err(UpgradeError::Refused(status))) => {
                Err(ConnectError::Http { address: shown(), status })
            }
            Err(_) => Err(ConnectError::Timeout { address: shown(), after }),
        }
    }

    /// Whoever does not answer in time is not reached.
    async fn in_time<T>(
        &self,
        deadline: Instant,
        dialling: impl Future<Output = io::Result<T>>,
    ) -> io::Result<T> {
        let after = self.registrant.config.handshake_timeout;
        timeout_at(deadline, dialling).await.unwrap_or_else(|_| {
            let fault = format!("no answer within {after:?}");
            Err(io::Error::new(io::ErrorKind::TimedOut, fault))
        })
    }
}

impl Registrant {
    pub(super) async fn register(
        &self,
        mut transport: Box<dyn Transport>,
        deadline: Instant,
        held: Option<(&ResumeInfo, Option<u64>)>,
        stop: CancellationToken,
    ) -> Result<Dialled, ConnectError> {
        let handshake_config = HandshakeConfig {
            versions: self.versions.clone(),
            deadline,
            timeout: self.config.handshake_timeout,
            close_timeout: self.config.close_timeout,
            stop,
            outbox: self.config.outbox,
        };
        let script = handshake::client(&mut transport, &handshake_config, &self.registration, held);
        Ok(match script.await? {
            Registered::Fresh(negotiated) => Dialled::Fresh(transport, negotiated),
            Registered::Resumed { last_seq, resume_info } => {
                Dialled::Resumed(Resumption { transport, last_seq, resume_info })
            }
        })
    }

    /// A link over a finished handshake.
    pub(super) fn link(
        &self,
        transport: Box<dyn Transport>,
        negotiated: Negotiated,
    ) -> (Link, Driver) {
        let (config, routes) = (self.config.clone(), Arc::clone(&self.routes));
        Link::start(transport, negotiated, self.registration.peer.role, config, routes)
    }
}

impl From<HandshakeError> for ConnectError {
    fn from(error: HandshakeError) -> Self {
        match error {
            HandshakeError::Authentication(reason) => Self::Authentication(reason),
            HandshakeError::Version(error) => Self::Version(error),
            HandshakeError::Closed(closed)
                if closed.reason.as_str() == crate::close::Reason::REPLACED =>
            {
                Self::Replaced
            }
            other => Self::Handshake(other),
        }
    }
}
