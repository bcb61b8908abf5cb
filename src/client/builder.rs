use std::fmt;
use std::future::Future;
use std::io;
use std::sync::Arc;

use futures::FutureExt as _;
use semver::{Version, VersionReq};
use tokio_util::sync::CancellationToken;

use super::dial::{Dial, Dialer, Dialled, Registrant};
use super::{Client, Reconnect};
use crate::error::{ConfigError, ConnectError, HandshakeError, TransportError};
use crate::handshake::{Identity, MAX_TEXT};
use crate::link::{Config, Link, Router, Routes, Unrecoverable};
use crate::message::{Peer, Role};
use crate::secret::Secret;
use crate::transport::Transport;
#[cfg(feature = "tls")]
use crate::transport::tls::{ClientTls, Connector};
use crate::transport::websocket::Address;
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
    routes: Option<Result<Arc<Routes>, ConfigError>>,
    config: Config,
    versions: Versions,
    reconnect: Reconnect,
    sessions: bool,
    #[cfg(feature = "tls")]
    tls: Option<ClientTls>,
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
            routes: None,
            config: Config::default(),
            versions: Versions::default(),
            reconnect: Reconnect::default(),
            sessions: true,
            #[cfg(feature = "tls")]
            tls: None,
        }
    }

    /// The master's address: `ws://host:port/`, with a prefix if it has one; `api/socket` is
    /// added when it is not there. `wss://` takes the feature `tls`.
    pub fn url(mut self, url: impl Into<String>) -> Self {
        self.url = Some(url.into());
        self
    }

    /// How the master is known over `wss://`, and what this client shows of itself: without it, as
    /// [`ClientTls::platform`] says. [`Config::tls_timeout`] is the time for the handshake.
    /// Feature `tls`.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: ClientTls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// The slave's id. A control has none.
    pub fn id(mut self, id: i64) -> Self {
        self.id = Some(id);
        self
    }

    /// The slave's name, for people, at most 256 bytes; without one it is `slave` and the id.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The software that connects, for people; at most 256 bytes.
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
        self.routes = Some(match self.routes {
            None => router.into_routes(),
            Some(_) => Err(ConfigError::Twice(".router(…)")),
        });
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

    /// Whether to ask the master for a session that outlives its socket: yes unless told
    /// otherwise. A master that does not know the question is spoken to as it can: Clusterio's have
    /// sessions too, those of the plain generation have none.
    ///
    /// With a session a lost socket does not end the link: what is sent meanwhile waits, and
    /// [`Link::states`] tells what goes on. Every message reaches its handler exactly once and in
    /// order, as long as the session is resumed within the master's
    /// [`Config::session_timeout`].
    pub fn sessions(mut self, ask: bool) -> Self {
        self.sessions = ask;
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
        let dial = self.dial()?;
        self.first_link(dial).await
    }

    /// Connections to the master's address.
    fn dial(&self) -> Result<Dial, ConfigError> {
        let url = self.url.as_deref().ok_or(ConfigError::MissingUrl)?;
        let wrong = |fault| ConfigError::Url { url: without_secrets(url).into(), fault };
        let address = Address::parse(url).map_err(wrong)?;
        #[cfg(feature = "tls")]
        if address.is_secure {
            let tls = self.tls.clone().map_or_else(ClientTls::platform, Ok)?;
            let connector = Connector::new(&tls, &address.host)?;
            let connector = connector.ok_or_else(|| wrong("no certificate can be for its host"))?;
            return Ok(Dial::Tls(address, Box::new(connector)));
        }
        #[cfg(feature = "tls")]
        if self.tls.is_some() {
            return Err(wrong("where `.tls(…)` is called, it must start with wss://"));
        }
        if address.is_secure {
            let fault = "TLS takes the feature `tls` of seqlink; or put a TLS proxy in front, and use ws://";
            return Err(wrong(fault));
        }
        Ok(Dial::Url(address))
    }

    /// Registers over a transport that is already there, once: for tests with
    /// [`memory`](crate::transport::memory), and for sockets that the application dials itself. No
    /// [`url`](Self::url) is needed.
    ///
    /// # Errors
    ///
    /// Why there is no link; the peer has been told.
    pub async fn attach(self, transport: impl Transport) -> Result<Link, ConnectError> {
        let registrant = self.into_registrant()?;
        let deadline = registrant.config.handshake_deadline();
        let stop = CancellationToken::new();
        match registrant.register(Box::new(transport), deadline, None, stop).await? {
            Dialled::Fresh(transport, negotiated) => {
                let (link, driver) = registrant.link(transport, *negotiated);
                tokio::spawn(async move {
                    let (_, rest) = driver.run(&mut Unrecoverable).await;
                    rest.finish().await;
                });
                Ok(link)
            }
            // Nothing was there to go on with.
            Dialled::Resumed(_) => Err(HandshakeError::Transport(TransportError::Ended).into()),
        }
    }

    /// As [`connect`](Self::connect), over transports that `dial` brings instead of a WebSocket to
    /// [`url`](Self::url), which is not needed: for TLS streams and tunnels with
    /// [`WebSocket::connect`](crate::transport::websocket::WebSocket::connect), and for tests with
    /// [`memory`](crate::transport::memory) of what a program does when its client comes back.
    ///
    /// # Errors and cancel safety
    ///
    /// As [`connect`](Self::connect).
    pub async fn connect_by<D, F, T>(self, dial: D) -> Result<Client, ConnectError>
    where
        D: Fn() -> F + Send + Sync + 'static,
        F: Future<Output = io::Result<T>> + Send + 'static,
        T: Transport,
    {
        let dial = Box::new(move || {
            let transport = dial();
            async move { Ok(Box::new(transport.await?) as Box<dyn Transport>) }.boxed()
        });
        self.first_link(Dial::Custom(dial)).await
    }

    async fn first_link(self, dial: Dial) -> Result<Client, ConnectError> {
        let (sessions, reconnect) = (self.sessions, self.reconnect.clone());
        let registrant = self.into_registrant()?;
        let dialer = Dialer { dial, sessions, registrant, stop: CancellationToken::new() };
        let guard = dialer.stop.clone().drop_guard();
        let client = Client::start(dialer, reconnect);
        match client.link().await {
            Ok(_) => {
                guard.disarm();
                Ok(client)
            }
            Err(stopped) => Err(stopped.error().cloned().unwrap_or_else(|| {
                // Only this call can have stopped it: the link came and went.
                ConnectError::Handshake(TransportError::Ended.into())
            })),
        }
    }

    fn into_registrant(self) -> Result<Registrant, ConfigError> {
        self.config.check()?;
        let (id, name) = match (self.role, self.id) {
            (Role::Slave, None) => return Err(ConfigError::MissingId),
            (Role::Slave, Some(id)) => {
                (Some(id), Some(self.name.unwrap_or_else(|| format!("slave {id}"))))
            }
            _ if self.id.is_some() => return Err(ConfigError::NotOfControl(".id(…)")),
            _ if self.name.is_some() => return Err(ConfigError::NotOfControl(".name(…)")),
            _ => (None, None),
        };
        let said = [("agent", Some(&self.agent)), ("name", name.as_ref())];
        for (name, text) in said {
            if text.is_some_and(|text| text.len() > MAX_TEXT) {
                return Err(ConfigError::Limit { name, must: "256 bytes, at most" });
            }
        }
        let token = self.token.as_ref().map_or(0, |token| token.expose().len());
        if self.agent.len() + name.as_ref().map_or(0, String::len) + token > MOST_SAID {
            let (name, must) = ("agent, name and token", "8 KiB together, at most");
            return Err(ConfigError::Limit { name, must });
        }
        let version = self.versions.ours().clone();
        let peer = Peer { role: self.role, id, name, agent: self.agent, version };
        Ok(Registrant {
            identity: Identity { peer, token: self.token },
            routes: self.routes.unwrap_or_else(|| Ok(Arc::default()))?,
            config: self.config,
            versions: self.versions,
        })
    }
}

/// An address without what may be secret in it: user and password, the query, a fragment.
fn without_secrets(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let scheme = &url[..url.len() - rest.len()];
    let query = rest.find(['?', '#']).unwrap_or(rest.len());
    let path = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (shown, user) = match rest[..path].rfind('@') {
        Some(at) => (&rest[at + 1..query], "…@"),
        // It may be a password that holds the `/` or `?`, which belongs written as `%2F` and `%3F`.
        None if rest.contains('@') => return format!("{scheme}…"),
        None => (&rest[..query], ""),
    };
    let more = if query < rest.len() { "?…" } else { "" };
    format!("{scheme}{user}{shown}{more}")
}

impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBuilder")
            .field("role", &self.role)
            .field("id", &self.id)
            .field("url", &self.url.as_deref().map(without_secrets))
            .finish_non_exhaustive()
    }
}
