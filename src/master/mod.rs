//! The server: accepts links, knows its slaves by id and its controls, and ends them all.

mod builder;
mod refused;
mod registry;
mod sessions;
#[cfg(feature = "hyper")]
mod upgrade;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, ToSocketAddrs};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use builder::MasterBuilder;
use refused::Refused;
use registry::{Membership, Registry};
use sessions::{Found, Sessions};

use crate::close::{CloseCode, Closed, Reason};
use crate::error::{HandshakeError, TransportError};
use crate::handshake::{self, Agreement, Arrival, Authenticate, SessionTerms, Terms};
use crate::link::{Config, Driver, Link, Resumption, Routes, Unrecoverable};
use crate::message::Role;
use crate::secret::Secret;
use crate::transport::Transport;
use crate::transport::websocket::{self, Stream, WebSocket};
use crate::version::Versions;
use crate::wire::Dialect;

/// How long a listener that cannot accept waits before it tries again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A master. Cheap to clone; all clones are the same master.
///
/// # Behaviour
///
/// - A master without a listener works too: hand it connections with
///   [`attach`](Self::attach), [`attach_upgraded`](Self::attach_upgraded) or, with the feature
///   `hyper`, `upgrade`.
/// - Two slaves with one id: the newer link wins. The older is closed with
///   `Registered from another connection`, and the newer does not wait for its answer.
/// - The master lives until [`shutdown`](Self::shutdown), also when every clone is dropped.
#[derive(Clone)]
pub struct Master {
    inner: Arc<Inner>,
}

struct Inner {
    routes: Arc<Routes>,
    config: Config,
    versions: Versions,
    authenticate: Option<Authenticate>,
    /// What is spoken where neither path nor header ask for another.
    dialect: Dialect,
    registry: Mutex<Registry>,
    sessions: Mutex<Sessions>,
    refused: Refused,
    /// Held while a change is made and told, so that changes are told in their order.
    announcing: Mutex<()>,
    on_change: Option<OnChange>,
    stop: CancellationToken,
    /// The listeners, and the connections that are no links yet.
    doors: TaskTracker,
    /// The links, until they have ended.
    links: TaskTracker,
}

type OnChange = Box<dyn Fn(Change) + Send + Sync>;

/// A link came or went.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Change {
    /// A client has registered.
    Joined(Link),
    /// A client is gone. For a slave that is replaced, this comes before its successor's
    /// [`Joined`](Self::Joined), and while the old link is still closing.
    Left(Link, Closed),
}

impl Master {
    /// A master to be set up.
    pub fn builder() -> MasterBuilder {
        MasterBuilder::new()
    }

    fn new(inner: Inner) -> Self {
        Self { inner: Arc::new(inner) }
    }

    /// Listens on `address` and accepts links from now on; port 0 picks a free one. Says the
    /// address that it listens on. May be called for several addresses.
    ///
    /// The endpoint is `/api/socket`; other paths get an HTTP error that says so. Each connection
    /// has [`Config::handshake_timeout`] to come to `ready`.
    ///
    /// # Errors
    ///
    /// The operating system's, when it does not let us listen there; and one after
    /// [`shutdown`](Self::shutdown).
    pub async fn listen(&self, address: impl ToSocketAddrs) -> io::Result<SocketAddr> {
        if self.inner.stop.is_cancelled() {
            return Err(io::Error::other("this master has shut down"));
        }
        let listener = websocket::listen(address).await?;
        let local = listener.local_addr()?;
        let master = self.clone();
        self.inner.doors.spawn(async move {
            let stop = master.inner.stop.clone();
            stop.run_until_cancelled(master.accept(listener)).await;
        });
        Ok(local)
    }

    async fn accept(&self, listener: TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, from)) => {
                    let master = self.clone();
                    self.inner.doors.spawn(async move {
                        if let Err(error) = master.open(stream).await {
                            master.inner.refused.add(Some(from), &error);
                        }
                    });
                }
                Err(error) => {
                    // Most often there are no file descriptors left: let some go.
                    tracing::error!(%error, "cannot accept, trying again");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// The upgrade and the handshake of a connection, in one time limit.
    async fn open(&self, stream: TcpStream) -> Result<(), OpenError> {
        let deadline = self.inner.config.handshake_deadline();
        stream.set_nodelay(true).map_err(OpenError::Io)?;
        let Inner { config, dialect, stop, .. } = &*self.inner;
        let upgrade = websocket::accept(stream, config.max_frame, *dialect);
        let upgrade = stop.run_until_cancelled(timeout_at(deadline, upgrade));
        let upgraded = upgrade.await.ok_or(OpenError::Shutdown)?;
        let (socket, dialect) = upgraded.map_err(|_| OpenError::Slow)??;
        self.attach_until(Box::new(socket), dialect, deadline).await?;
        Ok(())
    }

    /// Takes a transport as a master's end of a new link: makes the handshake, then runs the link
    /// on a task of its own.
    ///
    /// # Errors
    ///
    /// Why there is no link; the peer has been told.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is ready, the transport is dropped too.
    pub async fn attach(&self, transport: impl Transport) -> Result<Link, HandshakeError> {
        let dialect = if transport.is_extended() { Dialect::SEQLINK } else { self.inner.dialect };
        self.attach_until(Box::new(transport), dialect, self.inner.config.handshake_deadline())
            .await
    }

    /// The same for a byte stream on which an application's own HTTP server has already made the
    /// upgrade to a WebSocket.
    ///
    /// # Errors and cancel safety
    ///
    /// As [`attach`](Self::attach).
    pub async fn attach_upgraded(&self, stream: impl Stream) -> Result<Link, HandshakeError> {
        self.attach_socket(stream, self.inner.dialect).await
    }

    pub(crate) async fn attach_socket(
        &self,
        stream: impl Stream,
        dialect: Dialect,
    ) -> Result<Link, HandshakeError> {
        let deadline = self.inner.config.handshake_deadline();
        let socket = WebSocket::upgraded(stream, self.inner.config.max_frame);
        self.attach_until(Box::new(socket), dialect, deadline).await
    }

    async fn attach_until(
        &self,
        mut transport: Box<dyn Transport>,
        dialect: Dialect,
        deadline: Instant,
    ) -> Result<Link, HandshakeError> {
        let Inner { config, versions, authenticate, stop, .. } = &*self.inner;
        let terms = Terms {
            versions: versions.clone(),
            deadline,
            timeout: config.handshake_timeout,
            close_timeout: config.close_timeout,
            stop: stop.clone(),
            outbox: config.outbox,
        };
        let session = SessionTerms {
            dialect,
            timeout: config.session_timeout,
            heartbeat_interval: config.heartbeat_interval,
            token: sessions::fresh_token,
            shut: &|| self.registry(|registry| registry.shut()),
        };
        let find = |token: &Secret| self.sessions(|sessions| sessions.find(token));
        let arrival =
            handshake::server(&mut transport, &terms, &session, authenticate.as_ref(), find);
        match arrival.await? {
            Arrival::Fresh(agreement) => Ok(self.start(transport, *agreement)),
            Arrival::Resume { seat, last_seq } => self.hand_over(transport, seat, last_seq),
        }
    }

    /// A link over a finished handshake, on a task of its own.
    fn start(&self, transport: Box<dyn Transport>, agreement: Agreement) -> Link {
        let inner = &self.inner;
        let hold = agreement.hold.clone();
        let (config, routes) = (inner.config.clone(), Arc::clone(&inner.routes));
        let driver = Driver::new(transport, agreement, Role::Master, config, routes);
        let link = driver.link().clone();
        let sockets = hold.map(|hold| self.sessions(|s| s.open(&hold, link.clone())));
        let member = self.join(&link);
        inner.links.spawn(async move {
            let (_, rest) = match sockets {
                Some(mut sockets) => driver.run(&mut sockets).await,
                None => driver.run(&mut Unrecoverable).await,
            };
            drop(member);
            // The link has ended; nobody waits for handlers that still run.
            tokio::spawn(rest.finish());
        });
        link
    }

    /// Brings a socket to the link whose session it goes on with.
    fn hand_over(
        &self,
        transport: Box<dyn Transport>,
        found: Found,
        last_seq: Option<u64>,
    ) -> Result<Link, HandshakeError> {
        let mut hold = found.hold.clone();
        if found.link.renews_token() {
            hold.token = self.sessions(|sessions| sessions.renew(&found));
        }
        let resumption = Resumption { transport, last_seq, hold };
        if found.sockets.put(resumption) {
            Ok(found.link)
        } else {
            // The session has ended in this moment: the client finds that out when it dials again.
            Err(HandshakeError::Transport(TransportError::Ended))
        }
    }

    fn join(&self, link: &Link) -> Member {
        let _order = self.inner.announcing.lock().unwrap_or_else(PoisonError::into_inner);
        let membership = self.registry(|registry| registry.join(link));
        match membership {
            Membership::New => {}
            Membership::Replaces(old) => {
                old.close_with(CloseCode::POLICY, Reason::REPLACED);
                let closed = Closed::local(CloseCode::POLICY, Reason::REPLACED);
                self.announce(Change::Left(old, closed));
            }
            Membership::ShutDown(reason) => {
                link.close_with(CloseCode::GOING_AWAY, reason.as_str());
                return Member { master: self.clone(), link: link.clone() };
            }
        }
        self.announce(Change::Joined(link.clone()));
        Member { master: self.clone(), link: link.clone() }
    }

    fn leave(&self, link: &Link, closed: Closed) {
        let _order = self.inner.announcing.lock().unwrap_or_else(PoisonError::into_inner);
        self.sessions(|sessions| sessions.close(link));
        if self.registry(|registry| registry.leave(link)) {
            self.announce(Change::Left(link.clone(), closed));
        }
    }

    fn announce(&self, change: Change) {
        match &change {
            Change::Joined(link) => {
                tracing::info!(peer = %link.describe_peer(), version = %link.version(), "joined");
            }
            Change::Left(link, closed) => {
                tracing::info!(peer = %link.describe_peer(), %closed, "left");
            }
        }
        let told = self.inner.on_change.as_ref().map(|on_change| {
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| on_change(change)))
        });
        if let Some(Err(_)) = told {
            tracing::error!("`on_change` panicked");
        }
    }

    /// The links of all registered slaves, in the order of their ids.
    pub fn slaves(&self) -> Vec<Link> {
        self.registry(|registry| registry.slaves())
    }

    /// The link of the slave with this id, when it is registered.
    pub fn slave(&self, id: i64) -> Option<Link> {
        self.registry(|registry| registry.slave(id))
    }

    /// The links of all controls, in no order.
    pub fn controls(&self) -> Vec<Link> {
        self.registry(|registry| registry.controls())
    }

    /// Ends every link gracefully and all of them at the same time, as
    /// [`Link::disconnect`](crate::Link::disconnect) does, with `reason`; then stops to listen, and
    /// returns when all links have ended and the ports are free.
    ///
    /// Nobody registers from here on; who resumes a session may, to end it gracefully. What is not
    /// finished within `deadline` is cut short, so all this takes at most `deadline` and
    /// [`Config::close_timeout`], whatever the peers do; with a deadline of zero nothing is waited
    /// for. Handlers that still run go on. Clients come back spread over the time that their
    /// [`Reconnect::spread`](crate::client::Reconnect) says.
    ///
    /// # Cancel safety
    ///
    /// Dropped half-way, the shutdown still happens; only the wait is given up. Called again, it
    /// waits as well; the first reason stays, and the shorter deadline counts.
    pub async fn shutdown(&self, reason: impl AsRef<str>, deadline: Duration) {
        let reason = Reason::new(reason);
        let (reason, members) = self.registry(|registry| registry.shut_down(reason));
        for link in members {
            let reason = reason.clone();
            self.inner.links.spawn(async move {
                let code = CloseCode::GOING_AWAY;
                link.disconnect_within(deadline, code, reason.as_str()).await;
            });
        }
        let inner = Arc::clone(&self.inner);
        let ended = tokio::spawn(async move {
            let Inner { stop, doors, links, refused, .. } = &*inner;
            links.close();
            links.wait().await;
            stop.cancel();
            doors.close();
            doors.wait().await;
            // Who came in through the door that shut just now.
            links.wait().await;
            refused.tell();
        });
        // It does not panic, and nobody aborts it but the runtime at its end.
        let _ = ended.await;
    }

    fn registry<T>(&self, act: impl FnOnce(&mut Registry) -> T) -> T {
        act(&mut self.inner.registry.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn sessions<T>(&self, act: impl FnOnce(&mut Sessions) -> T) -> T {
        act(&mut self.inner.sessions.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Why a connection came to no link, for the log.
#[derive(Debug, thiserror::Error)]
enum OpenError {
    #[error("{0}")]
    Io(io::Error),
    #[error("the upgrade to a WebSocket took too long")]
    Slow,
    #[error("the master shuts down")]
    Shutdown,
    #[error("{0}")]
    Upgrade(#[from] websocket::UpgradeError),
    #[error("{0}")]
    Handshake(#[from] HandshakeError),
}

/// A link's membership. It ends with the link's task, however that ends.
#[derive(Debug)]
struct Member {
    master: Master,
    link: Link,
}

impl Drop for Member {
    fn drop(&mut self) {
        let lost = || Closed::lost("The link's task was dropped");
        let closed = self.link.ended().unwrap_or_else(lost);
        self.master.leave(&self.link, closed);
    }
}

impl fmt::Debug for Master {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Master")
            .field("slaves", &self.slaves().len())
            .field("controls", &self.controls().len())
            .finish_non_exhaustive()
    }
}
