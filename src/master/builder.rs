use std::fmt;
use std::future::Future;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, OnceLock};

use semver::{Version, VersionReq};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connections::Connections;
use super::detached::Detached;
use super::members::{Members, MembershipEvent, OnChange};
use super::refused::RefusedConnections;
use super::{Inner, Master};
use crate::error::ConfigError;
use crate::link::{Config, Memory, Router, Routes};
use crate::secret::Secret;
#[cfg(feature = "tls")]
use crate::transport::tls::{Acceptor, ServerTls};
use crate::transport::websocket::Admission;
use crate::trust::{
    Authenticator, Closure, DynAuthenticator, Limits, Registration, SharedToken, Verdict,
};
use crate::version::Versions;
use crate::wire::Dialect;

/// Sets up a [`Master`].
#[must_use = "a builder does nothing until `build`"]
pub struct MasterBuilder {
    routes: Option<Result<Arc<Routes>, ConfigError>>,
    config: Config,
    limits: Limits,
    versions: Versions,
    token: Option<Secret>,
    authenticator: Result<Option<Arc<dyn DynAuthenticator>>, ConfigError>,
    dialect: Dialect,
    admission: Result<Admission, ConfigError>,
    on_change: Option<OnChange>,
    #[cfg(feature = "tls")]
    tls: Option<ServerTls>,
}

impl MasterBuilder {
    pub(super) fn new() -> Self {
        Self {
            routes: None,
            config: Config::default(),
            limits: Limits::default(),
            versions: Versions::default(),
            token: None,
            authenticator: Ok(None),
            dialect: Dialect::PLAIN,
            admission: Ok(Admission::default()),
            on_change: None,
            #[cfg(feature = "tls")]
            tls: None,
        }
    }

    /// Listens with TLS, on every address: a client that comes without is told so, and refused.
    /// [`Config::tls_timeout`] is the time that its handshake has. Feature `tls`.
    ///
    /// What the application accepts itself ([`Master::accept`] and the others) is not touched by it, and
    /// by what it asks of clients neither.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: ServerTls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// The handlers of what slaves and controls send. Without it every request is answered with
    /// an error.
    pub fn router<S>(mut self, router: Router<S>) -> Self {
        self.routes = Some(match self.routes {
            None => router.into_routes(),
            Some(_) => Err(ConfigError::Twice(".router(…)")),
        });
        self
    }

    /// Times and limits of every link.
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// How much the master takes on, over all its links.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The protocol version to speak, instead of 2.0.0.
    pub fn version(mut self, version: Version) -> Self {
        self.versions = self.versions.speaking(version);
        self
    }

    /// The versions of clients that are let in, instead of those that are compatible by semver.
    pub fn accept_versions(mut self, range: VersionReq) -> Self {
        self.versions = self.versions.accepting(range);
        self
    }

    /// What to speak with clients that do not ask for this library's sessions: plain unless told
    /// otherwise, [`Dialect::SESSION`] for real Clusterio slaves and controls.
    ///
    /// A master that listens serves both side by side whatever this says: `/plain/api/socket` and
    /// `/session/api/socket` speak what their name says.
    pub fn dialect(mut self, dialect: Dialect) -> Self {
        self.dialect = dialect;
        self
    }

    /// Lets pages of this origin in, such as `https://panel.example.org`: the scheme, the host and,
    /// where it is not the scheme's own, the port, in lower case as a browser sends it in `Origin`.
    /// May be called several times.
    ///
    /// Requests with any other `Origin` get a 403: a browser lets every page of every site open a
    /// WebSocket to whatever the machine can reach, and such a page could do all that a control or
    /// a slave can. Programs send no `Origin`, but for a few WebSocket clients that can be told not to.
    /// This is no substitute for a [`token`](Self::token): programs can send what they like.
    pub fn allow_origin(mut self, origin: impl AsRef<str>) -> Self {
        let allow = |mut admission: Admission| {
            admission.allow_origin(origin.as_ref())?;
            Ok(admission)
        };
        self.admission = self.admission.and_then(allow);
        self
    }

    /// A name, or an address, that clients may call this master by in `Host`, besides `localhost`
    /// and loopback addresses. Ports, upper case and a dot at the end do not matter; IPv6 addresses
    /// stand in brackets. May be called several times.
    ///
    /// Once a name is given, a request with another `Host`, without one or with two gets a 403. On a
    /// listener of a loopback address that holds without any name given, because only a page whose
    /// site has made its own name stand for this machine (DNS rebinding) would ask there by another.
    pub fn allow_host(mut self, host: impl AsRef<str>) -> Self {
        let allow = |mut admission: Admission| {
            admission.allow_host(host.as_ref())?;
            Ok(admission)
        };
        self.admission = self.admission.and_then(allow);
        self
    }

    /// Lets in only clients that send this token. Without a token or an authenticator, none is asked.
    pub fn token(mut self, token: impl Into<Secret>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// Asks `authenticate` before `ready`, after [`token`](Self::token) where that is set too; both
    /// must let a client in. It returns a [`Verdict`], or a `Result` whose error denies; see there for
    /// what the client is told. For what is to decide on resumptions too, there is
    /// [`authenticator`](Self::authenticator).
    pub fn authenticate<F, Fut>(self, authenticate: F) -> Self
    where
        F: Fn(Registration) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: Into<Verdict>> + Send + 'static,
    {
        self.authenticator(Closure(authenticate))
    }

    /// Asks `authenticator` before a client is let in, and before it goes on with its session over
    /// another socket; after [`token`](Self::token) where that is set too.
    pub fn authenticator(mut self, authenticator: impl Authenticator) -> Self {
        self.authenticator = match self.authenticator {
            Ok(None) => Ok(Some(Arc::new(authenticator))),
            // To leave one of two questions out would let in who was to stay outside.
            _ => Err(ConfigError::Twice(".authenticate(…)")),
        };
        self
    }

    /// Is told of every client that joins or leaves, in that order for each, and exactly once.
    /// Called one at a time, on whatever task brings the change about: it must not block. To wait
    /// for something, send it to a task of your own. A link's messages are handled after its
    /// `Joined` has returned.
    pub fn on_change(
        mut self,
        on_change: impl Fn(MembershipEvent) + Send + Sync + 'static,
    ) -> Self {
        self.on_change = Some(Box::new(on_change));
        self
    }

    /// The master, which does not listen yet.
    ///
    /// # Errors
    ///
    /// What was given to the builder and cannot work.
    pub fn build(self) -> Result<Master, ConfigError> {
        self.config.check()?;
        let authenticator = self.authenticator?;
        Ok(Master::new(Inner {
            routes: self.routes.unwrap_or_else(|| Ok(Arc::default()))?,
            config: self.config,
            versions: self.versions,
            authenticator: match self.token {
                Some(token) => Some(Arc::new(SharedToken { token, next: authenticator })),
                None => authenticator,
            },
            dialect: self.dialect,
            admission: self.admission?,
            #[cfg(feature = "tls")]
            tls: self.tls.as_ref().map(Acceptor::new).transpose()?,
            sessions: Mutex::default(),
            refused: RefusedConnections::default(),
            accepted: AtomicU64::new(0),
            connections: Connections::new(&self.limits),
            detached: Detached::new(self.limits.detached_sessions),
            memory: Memory::new(self.limits.bytes),
            memory_guard: OnceLock::new(),
            members: Members::new(self.limits, self.on_change),
            stop: CancellationToken::new(),
            doors: TaskTracker::new(),
            links: TaskTracker::new(),
        }))
    }
}

impl fmt::Debug for MasterBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MasterBuilder").field("config", &self.config).finish_non_exhaustive()
    }
}
