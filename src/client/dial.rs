use std::future::Future;
use std::io;
use std::sync::Arc;

use futures::future::BoxFuture;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::error::{ConnectError, HandshakeError};
use crate::handshake::{self, HandshakeConfig, Identity, Negotiated, Registered, ResumeInfo};
use crate::link::{Config, Driver, Link, Resumption, Routes};
#[cfg(feature = "tls")]
use crate::transport::tls::{self, Connector};
use crate::transport::websocket::{self, Address, IoStream, UpgradeError};
use crate::transport::{Below, Transport};
use crate::version::Versions;

/// Where a client's transports come from.
pub(super) enum Dial {
    /// A WebSocket to the master's address.
    Url(Address),
    /// The same over TLS.
    #[cfg(feature = "tls")]
    Tls(Address, Box<Connector>),
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
    pub(super) identity: Identity,
    pub(super) routes: Arc<Routes>,
    pub(super) config: Config,
    pub(super) versions: Versions,
}

impl Dialer {
    /// One attempt: connection, upgrade and handshake, in one time limit but for TLS, which has its
    /// own. `held` is a session to go on with, and the last number that was received in it.
    pub(super) async fn dial(
        &self,
        held: Option<(&ResumeInfo, Option<u64>)>,
    ) -> Result<Dialled, ConnectError> {
        // A client that is closed still resumes its session, to end it gracefully.
        let stop = if held.is_some() { CancellationToken::new() } else { self.stop.clone() };
        let Some(opened) = stop.run_until_cancelled(self.open()).await else {
            return Err(HandshakeError::Shutdown("closed by this side".into()).into());
        };
        let (transport, deadline) = opened?;
        self.registrant.register(transport, deadline, held, stop).await
    }

    /// A transport, and until when it is to be a link.
    async fn open(&self) -> Result<(Box<dyn Transport>, Instant), ConnectError> {
        let deadline = self.registrant.config.handshake_deadline();
        let transport = match &self.dial {
            Dial::Url(address) => {
                let stream = self.reach(address, deadline).await?;
                self.upgrade(stream, &Below::default(), address, deadline).await?
            }
            #[cfg(feature = "tls")]
            Dial::Tls(address, connector) => {
                let stream = self.reach(address, deadline).await?;
                let encrypting = connector.connect(stream, self.registrant.config.tls_timeout);
                let no_tls =
                    |fault| ConnectError::Tls { address: address.to_string().into(), fault };
                let (stream, counts) = encrypting.await.map_err(no_tls)?;
                let below = Below { certificate: None, counts: Some(counts) };
                let deadline = self.registrant.config.handshake_deadline();
                let transport = self.upgrade(stream, &below, address, deadline).await?;
                return Ok((transport, deadline));
            }
            Dial::Custom(dial) => {
                let dialled = self.in_time(deadline, dial()).await;
                dialled.map_err(|error| ConnectError::Dial(Arc::new(error)))?
            }
        };
        Ok((transport, deadline))
    }

    async fn reach(&self, address: &Address, deadline: Instant) -> Result<TcpStream, ConnectError> {
        let dialled = self.in_time(deadline, websocket::dial(address)).await;
        dialled.map_err(|error| unreachable(address, error))
    }

    async fn upgrade(
        &self,
        stream: impl IoStream,
        below: &Below,
        address: &Address,
        deadline: Instant,
    ) -> Result<Box<dyn Transport>, ConnectError> {
        let shown = || address.to_string().into();
        let Config { max_frame, handshake_timeout: after, .. } = self.registrant.config;
        let upgrade = websocket::connect(stream, address, max_frame, self.sessions);
        match timeout_at(deadline, upgrade).await {
            Ok(Ok(mut socket)) => {
                socket.rest_on(below);
                Ok(Box::new(socket))
            }
            Ok(Err(UpgradeError::Io(error))) => Err(unreachable(address, error)),
            Ok(Err(UpgradeError::Refused(status))) => {
                Err(ConnectError::Http { address: shown(), status })
            }
            Err(_) => Err(ConnectError::Timeout { address: shown(), after }),
        }
    }

    /// A master that does not answer in time is not reached.
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

fn unreachable(address: &Address, error: io::Error) -> ConnectError {
    let address = address.to_string().into();
    // A master says what it has against a certificate when this side takes the handshake for over.
    #[cfg(feature = "tls")]
    if let Some(fault) = tls::fault(&error) {
        return ConnectError::Tls { address, fault };
    }
    ConnectError::Unreachable { address, error: Arc::new(error) }
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
        let script = handshake::client(&mut transport, &handshake_config, &self.identity, held);
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
        Link::start(transport, negotiated, self.identity.peer.role, config, routes)
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
