//! The server: accepts links, knows its slaves by id and its controls, and ends them all.

mod accept;
mod builder;
mod connections;
mod detached;
mod members;
mod refused;
mod registry;
mod sessions;
#[cfg(feature = "hyper")]
mod upgrade;

use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use futures::stream::Stream;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

pub use builder::MasterBuilder;
use connections::{Connections, network};
use detached::Detached;
use members::Members;
pub use members::MembershipEvent;
use refused::RefusedConnections;
use registry::Registry;
use sessions::{Found, Sessions};

use crate::close::{CloseCode, Closed, Reason};
use crate::error::{HandshakeError, TransportError};
use crate::handshake::{
    self, Arrival, HandshakeConfig, HeldSessions, Negotiated, SessionConfig, full,
};
use crate::link::{Config, Link, Memory, Resumption, Routes, Unrecoverable};
use crate::message::{Peer, Role};
use crate::secret::Secret;
#[cfg(feature = "tls")]
use crate::transport::tls::Acceptor;
use crate::transport::websocket::{Admission, IoStream, WebSocket};
use crate::transport::{Below, Transport};
use crate::trust::{Claims, Connection, DynAuthenticator};
use crate::version::Versions;
use crate::wire::Dialect;

/// A master. Cheap to clone; all clones are the same master.
///
/// # Behaviour
///
/// - A master without a listener works too: hand it byte streams with [`accept`](Self::accept) or,
///   with the feature `hyper`, requests of your own HTTP server with `upgrade`; and what is a
///   WebSocket already with [`attach`](Self::attach) or [`attach_upgraded`](Self::attach_upgraded).
/// - Pages in browsers are refused on all of these ways where there is a request to look at, unless
///   [`allow_origin`](MasterBuilder::allow_origin) lets them in; so is a request that calls it by a foreign
///   name, where [`allow_host`](MasterBuilder::allow_host) or a loopback listener says which are its own.
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
    authenticator: Option<Arc<dyn DynAuthenticator>>,
    admission: Admission,
    /// Where it listens with TLS.
    #[cfg(feature = "tls")]
    tls: Option<Acceptor>,
    /// What is spoken where neither path nor header ask for another.
    dialect: Dialect,
    members: Members,
    sessions: Mutex<Sessions>,
    refused: RefusedConnections,
    connections: Arc<Connections>,
    detached: Arc<Detached>,
    memory: Arc<Memory>,
    /// The task that looks after it, from the first link on.
    memory_guard: OnceLock<AbortOnDropHandle<()>>,
    /// Numbers connections in the order in which they came: an authenticator may be slow with one.
    accepted: AtomicU64,
    stop: CancellationToken,
    /// The listeners, and the connections that are no links yet.
    doors: TaskTracker,
    /// The links, until they have ended.
    links: TaskTracker,
}

impl Master {
    /// A master to be set up.
    pub fn builder() -> MasterBuilder {
        MasterBuilder::new()
    }

    fn new(inner: Inner) -> Self {
        Self { inner: Arc::new(inner) }
    }

    /// Takes a transport as a master's end of a new link: makes the handshake, then runs the link
    /// on a task of its own.
    ///
    /// There is no request to look at any more: the code that made a WebSocket of one must have refused
    /// foreign pages, as [`WebSocket::accept`] does.
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
        let deadline = self.inner.config.handshake_deadline();
        let (connection, below) = (Connection::default(), Below::default());
        self.attach_until(Box::new(transport), dialect, connection, deadline, &below).await
    }

    /// The same for a byte stream on which an application's own HTTP server has already made the
    /// upgrade to a WebSocket. A stream on which nothing has been read yet, such as a fresh TLS
    /// stream, is for [`accept`](Self::accept).
    ///
    /// As for `attach`, refusing foreign pages was up to that server: any page can send it such a
    /// request, and says its own `Origin` in it.
    ///
    /// # Errors and cancel safety
    ///
    /// As [`attach`](Self::attach).
    pub async fn attach_upgraded(&self, stream: impl IoStream) -> Result<Link, HandshakeError> {
        self.attach_socket(stream, self.inner.dialect, Connection::default()).await
    }

    pub(crate) async fn attach_socket(
        &self,
        stream: impl IoStream,
        dialect: Dialect,
        connection: Connection,
    ) -> Result<Link, HandshakeError> {
        let deadline = self.inner.config.handshake_deadline();
        let socket = WebSocket::upgraded(stream, self.inner.config.max_frame);
        let below = Below::default();
        self.attach_until(Box::new(socket), dialect, connection, deadline, &below).await
    }

    async fn attach_until(
        &self,
        mut transport: Box<dyn Transport>,
        dialect: Dialect,
        connection: Connection,
        deadline: Instant,
        below: &Below,
    ) -> Result<Link, HandshakeError> {
        let from = connection.remote.map(|remote| network(remote.ip()));
        let connection_number = self.inner.accepted.fetch_add(1, Ordering::Relaxed);
        let Inner { config, versions, authenticator, stop, .. } = &*self.inner;
        let handshake_config = HandshakeConfig {
            versions: versions.clone(),
            deadline,
            timeout: config.handshake_timeout,
            close_timeout: config.close_timeout,
            stop: stop.clone(),
            outbox: config.outbox,
        };
        let session = SessionConfig {
            dialect,
            timeout: config.session_timeout,
            heartbeat_interval: config.heartbeat_interval,
            token: sessions::fresh_token,
            shut: &|| self.registry(|registry| registry.shut()),
            full: &|peer| self.registry(|registry| registry.full(peer, from)),
            authenticator: authenticator.as_deref(),
            connection: &connection,
            below,
        };
        let door = Door { master: self, connection: connection_number };
        let arrival = handshake::server(&mut transport, &handshake_config, &session, &door);
        match arrival.await? {
            Arrival::Fresh(negotiated) => {
                Ok(self.start(transport, *negotiated, below, connection_number, from))
            }
            Arrival::Resume { found, last_seq } => {
                if !self.sessions(|sessions| sessions.claim(&found, connection_number)) {
                    // Its client has gone on over a newer one while the authenticator was asked.
                    return Err(TransportError::Ended.into());
                }
                let mut transport = match self.hand_over(transport, found, last_seq).await {
                    Ok(link) => return Ok(link),
                    Err(transport) => transport,
                };
                let anew = handshake::invalidate(&mut transport, &handshake_config, &session);
                let negotiated = anew.await?;
                Ok(self.start(transport, *negotiated, below, connection_number, from))
            }
        }
    }

    /// A link over a finished handshake, on a task of its own.
    fn start(
        &self,
        transport: Box<dyn Transport>,
        negotiated: Negotiated,
        below: &Below,
        connection: u64,
        from: Option<IpAddr>,
    ) -> Link {
        let inner = &self.inner;
        let resume_info = negotiated.resume_info.clone();
        let until = negotiated.admission.until;
        let (config, routes) = (inner.config.clone(), Arc::clone(&inner.routes));
        let (link, driver) = Link::start(transport, negotiated, Role::Master, config, routes);
        link.count_in(inner.memory.share());
        let is_certified = below.is_certified();
        let sockets = resume_info.map(|resume_info| {
            let (link, detached) = (link.clone(), &inner.detached);
            self.sessions(|sessions| {
                sessions.open(&resume_info, link, is_certified, connection, detached)
            })
        });
        let member = Member { master: self.clone(), link: link.clone() };
        inner.members.join(&link, connection, from);
        self.guard_memory();
        if let Some(until) = until {
            inner.links.spawn(expire(link.clone(), until));
        }
        inner.links.spawn(async move {
            let (_, rest) = match sockets {
                Some(mut sockets) => driver.run(&mut sockets).await,
                None => driver.run(&mut Unrecoverable).await,
            };
            drop(member);
            // The link has ended; nothing waits for handlers that still run.
            tokio::spawn(rest.finish());
        });
        link
    }

    /// Ends links whenever all of them together hold too much, from the first link on.
    fn guard_memory(&self) {
        // Not in `new`, which may be called outside of a runtime.
        self.inner.memory_guard.get_or_init(|| {
            let (memory, inner) = (Arc::clone(&self.inner.memory), Arc::downgrade(&self.inner));
            AbortOnDropHandle::new(tokio::spawn(async move {
                loop {
                    memory.exceeded().await;
                    let Some(inner) = inner.upgrade() else { return };
                    Self { inner }.free_memory();
                }
            }))
        });
    }

    /// Ends as many links as it takes to be within the limit: those that lose least.
    fn free_memory(&self) {
        let memory = &self.inner.memory;
        let mut links = self.registry(|registry| registry.members());
        // Of a link that is on its way out the bytes count as freed already.
        let ending = links.extract_if(.., |link| link.is_closing());
        let mut freed: usize = ending.map(|link| link.bytes()).sum();
        links.sort_by_cached_key(|link| (!link.is_resuming(), std::cmp::Reverse(link.bytes())));
        for link in links {
            if freed >= memory.excess() {
                return;
            }
            let bytes = link.bytes();
            freed += bytes;
            tracing::warn!(peer = %link.peer(), bytes, "ended, the links hold too much");
            // At once: what it holds until its peer has read it is what there is too much of.
            link.abort(CloseCode::TRY_AGAIN, full("bytes", memory.most()).as_str());
        }
    }

    /// Brings a socket to the link whose session it goes on with. It comes back when that session
    /// has ended meanwhile.
    async fn hand_over(
        &self,
        transport: Box<dyn Transport>,
        found: Found,
        last_seq: Option<u64>,
    ) -> Result<Link, Box<dyn Transport>> {
        let mut resume_info = found.resume_info.clone();
        if found.link.renews_token() {
            resume_info.token = self.sessions(|sessions| sessions.renew(&found));
        }
        let resumption = Resumption { transport, last_seq, resume_info };
        match found.sockets.put(resumption).await {
            Ok(()) => Ok(found.link),
            Err(resumption) => Err(resumption.transport),
        }
    }

    /// The links that are registered now, each as [`MembershipEvent::Joined`], and then every change in
    /// order, with no gap and nothing twice between the two.
    ///
    /// A reader that falls 1,024 events behind has missed some: its stream ends, with a warning in the
    /// log, and another call begins anew with what is registered then. The stream does not end with
    /// [`shutdown`](Self::shutdown), but no event comes after the last link has left.
    pub fn membership(&self) -> impl Stream<Item = MembershipEvent> + Send + Unpin + use<> {
        self.inner.members.events()
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
    /// No client registers from here on; one that resumes a session may, to end it gracefully. What is not
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
            // Links that came in through the door that shut just now.
            links.wait().await;
            refused.tell();
        });
        // It does not panic, and only the runtime's end aborts it.
        let _ = ended.await;
    }

    fn registry<T>(&self, act: impl FnOnce(&mut Registry) -> T) -> T {
        self.inner.members.registry(act)
    }

    fn sessions<T>(&self, act: impl FnOnce(&mut Sessions) -> T) -> T {
        act(&mut self.inner.sessions.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Ends `link` at `until`, if it has not ended by then. A clock that is set does not matter after this
/// begins.
async fn expire(link: Link, until: SystemTime) {
    let left = until.duration_since(SystemTime::now()).unwrap_or_default();
    if tokio::time::timeout(left, link.closed()).await.is_err() {
        link.deny("expired");
    }
}

/// The sessions of a master as one connection finds them.
struct Door<'a> {
    master: &'a Master,
    connection: u64,
}

impl HeldSessions for Door<'_> {
    type Session = Found;

    fn find(&self, token: &Secret, below: &Below) -> Option<(Found, Peer, Claims)> {
        let found = self.master.sessions(|sessions| sessions.find(token, below))?;
        let (peer, claims) = (found.link.peer().clone(), found.link.all_claims().clone());
        Some((found, peer, claims))
    }

    fn deny(&self, found: &Found, why: &str) {
        // What is said late of an older connection does not concern the one that works.
        if self.master.sessions(|sessions| sessions.claim(found, self.connection)) {
            // As it was said to the client, whose reason begins so already.
            found.link.close_with(CloseCode::AUTHENTICATION, why);
        }
    }
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
        self.master.sessions(|sessions| sessions.close(&self.link));
        self.master.inner.members.leave(&self.link, closed);
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
