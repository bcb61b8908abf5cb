use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use semver::{Version, VersionReq};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::{Client, Reconnect};
use crate::error::{ConfigError, ConnectError, HandshakeError, TransportError};
use crate::handshake::{self, Peer, Registration, Terms};
use crate::link::{Config, Driver, Link, Router, Routes};
use crate::message::Role;
use crate::secret::Secret;
use crate::transport::Transport;
use crate::transport::websocket::{self, Address, UpgradeError};
use crate::version::Versions;

/// Most bytes that a client says of itself; they must fit a handshake frame.
const MOST_SAID: usize = 8 * 1024;

/// Sets up a slave or a control.
#[must_use = "a builder does nothing until `connect` or `attach`"]
pub struct ClientBuilder {
    role: Role,
    id: Option<i64>,
    name: Option<String>,
    agent: String,
    token: Option<Secret>,
    url: Option<String>,
    routes: Result<Arc<Routes>, ConfigError>,
    config: Config,
    versions: Versions,
    reconnect: Reconnect,
}

impl ClientBuilder {
    pub(super) fn slave() -> Self {
        Self::new(Role::Slave)
    }

    pub(super) fn control() -> Self {
        Self::new(Role::Control)
    }

    fn new(role: Role) -> Self {
        Self {
            role,
            id: None,
            name: None,
            agent: concat!("seqlink/", env!("CARGO_PKG_VERSION")).to_owned(),
            token: None,
            url: None,
            routes: Ok(Arc::default()),
            config: Config::default(),
            versions: Versions::default(),
            reconnect: Reconnect::default(),
        }
    }

    /// The master's address: `ws://host:port/`, with a prefix if it has one; `api/socket` is
    /// added when it is not there.
    pub fn url(mut self, url: impl Into<String>) -> Self {
        self.url = Some(url.into());
        self
    }

    /// The slave's id. A control has none.
    pub fn id(mut self, id: i64) -> Self {
        self.id = Some(id);
        self
    }

    /// The slave's name, for people; without one it is `slave` and the id.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The software that connects, for people.
    pub fn agent(mut self, agent: impl Into<String>) -> Self {
        self.agent = agent.into();
        self
    }

    /// What lets the client in.
    pub fn token(mut self, token: impl Into<Secret>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// The handlers of what the master sends. Without it every request is answered with an error.
    pub fn router<S>(mut self, router: Router<S>) -> Self {
        self.routes = router.into_routes();
        self
    }

    /// Times and limits of the link.
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// The protocol version to speak, instead of 2.0.0.
    pub fn version(mut self, version: Version) -> Self {
        self.versions = self.versions.speaking(version);
        self
    }

    /// The versions of masters that are good enough, instead of those that are compatible by
    /// semver.
    pub fn accept_versions(mut self, range: VersionReq) -> Self {
        self.versions = self.versions.accepting(range);
        self
    }

    /// When to dial again.
    pub fn reconnect(mut self, reconnect: Reconnect) -> Self {
        self.reconnect = reconnect;
        self
    }

    /// Dials the master, registers, and keeps the client registered from then on. Returns with the
    /// first `ready`; until then it goes on trying as [`reconnect`](Self::reconnect) says.
    ///
    /// # Errors
    ///
    /// What is final: what the builder was given, a refused token, a version refusal; and, when
    /// the attempts are limited, the failure of the last one.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is ready, the client stops.
    pub async fn connect(self) -> Result<Client, ConnectError> {
        let reconnect = self.reconnect.clone();
        let dialer = self.into_dialer()?;
        let guard = dialer.stop.clone().drop_guard();
        let client = Client::start(dialer, reconnect);
        match client.link().await {
            Ok(_) => {
                guard.disarm();
                Ok(client)
            }
            Err(stopped) => Err(stopped.error().cloned().unwrap_or_else(|| {
                // Nobody but this call can have stopped it: the link came and went.
                ConnectError::Handshake(TransportError::Ended.into())
            })),
        }
    }

    /// Registers over a transport that is already there, once: for tests with
    /// [`memory`](crate::transport::memory), and for sockets that the application dials itself.
    ///
    /// # Errors
    ///
    /// Why there is no link; the peer has been told.
    pub async fn attach(mut self, transport: impl Transport) -> Result<Link, ConnectError> {
        self.url.get_or_insert_with(|| String::from("ws://attached/"));
        let dialer = self.into_dialer()?;
        let deadline = dialer.deadline();
        dialer.register(transport, deadline).await
    }

    fn into_dialer(self) -> Result<Dialer, ConfigError> {
        self.config.check()?;
        let url = self.url.ok_or(ConfigError::MissingUrl)?;
        let address = Address::parse(&url)
            .map_err(|fault| ConfigError::Url { url: without_userinfo(&url).into(), fault })?;
        let (id, name) = match (self.role, self.id) {
            (Role::Slave, None) => return Err(ConfigError::MissingId),
            (Role::Slave, Some(id)) => {
                (Some(id), Some(self.name.unwrap_or_else(|| format!("slave {id}"))))
            }
            _ => (None, None),
        };
        let token = self.token.as_ref().map_or(0, |token| token.expose().len());
        if self.agent.len() + name.as_ref().map_or(0, String::len) + token > MOST_SAID {
            let (name, must) = ("agent, name and token", "8 KiB together, at most");
            return Err(ConfigError::Limit { name, must });
        }
        let version = self.versions.ours().clone();
        let peer = Peer { role: self.role, id, name, agent: self.agent, version };
        Ok(Dialer {
            address,
            registration: Registration { peer, token: self.token },
            routes: self.routes?,
            config: self.config,
            versions: self.versions,
            stop: CancellationToken::new(),
        })
    }
}

/// Everything it takes to register once.
pub(super) struct Dialer {
    address: Address,
    registration: Registration,
    routes: Arc<Routes>,
    config: Config,
    versions: Versions,
    stop: CancellationToken,
}

impl Dialer {
    pub(super) fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// One attempt: connection, upgrade and handshake, in one time limit.
    pub(super) async fn dial(&self) -> Result<Link, ConnectError> {
        let deadline = self.deadline();
        let opening = self.open(deadline);
        let Some(opened) = self.stop.run_until_cancelled(opening).await else {
            return Err(HandshakeError::Shutdown("closed by this side".into()).into());
        };
        self.register(opened?, deadline).await
    }

    async fn open(&self, deadline: Instant) -> Result<impl Transport + use<>, ConnectError> {
        let unreachable = |error: io::Error| ConnectError::Unreachable {
            address: self.address.to_string().into(),
            error: Arc::new(error),
        };
        let after = self.config.handshake_timeout;
        let silent = |_| {
            let fault = format!("no answer within {after:?}");
            unreachable(io::Error::new(io::ErrorKind::TimedOut, fault))
        };
        let dialling = timeout_at(deadline, websocket::dial(&self.address));
        let stream = dialling.await.map_err(silent)?.map_err(unreachable)?;
        let upgrade = websocket::connect(stream, &self.address, self.config.max_frame);
        let late = |_| {
            let address = self.address.to_string().into();
            ConnectError::Timeout { address, after }
        };
        timeout_at(deadline, upgrade).await.map_err(late)?.map_err(|error| match error {
            UpgradeError::Io(error) => unreachable(error),
            UpgradeError::Refused(status) => {
                ConnectError::Http { address: self.address.to_string().into(), status }
            }
        })
    }

    /// The handshake; the link then runs on a task of its own.
    async fn register(
        &self,
        mut transport: impl Transport,
        deadline: Instant,
    ) -> Result<Link, ConnectError> {
        let terms = Terms {
            versions: self.versions.clone(),
            deadline,
            timeout: self.config.handshake_timeout,
            close_timeout: self.config.close_timeout,
            stop: self.stop.clone(),
        };
        let agreement = handshake::client(&mut transport, &terms, &self.registration).await?;
        let link = Link::new(agreement, self.registration.peer.role, self.config.clone());
        let driver = Driver::new(transport, link.clone(), Arc::clone(&self.routes));
        tokio::spawn(async move {
            let (_, rest) = driver.run().await;
            rest.finish().await;
        });
        Ok(link)
    }

    fn deadline(&self) -> Instant {
        let now = Instant::now();
        // A limit beyond what the clock can hold is none.
        now.checked_add(self.config.handshake_timeout)
            .unwrap_or(now + Duration::from_secs(86_400 * 365))
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

/// An address without the user and password that some write into it.
fn without_userinfo(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    match authority.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://…@{host}{path}"),
        None => url.to_owned(),
    }
}

impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBuilder")
            .field("role", &self.role)
            .field("id", &self.id)
            .field("url", &self.url.as_deref().map(without_userinfo))
            .finish_non_exhaustive()
    }
}
