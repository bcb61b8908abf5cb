use std::collections::{HashMap, HashSet};
use std::fmt;
use std::future::Future;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::time::Instant;

use super::Link;
use super::forward::{hand_on, relay};
use crate::error::{ConfigError, DecodeError};
use crate::handshake::Peer;
use crate::message::{Direction, Event, Request};
use crate::printable::Printable;
use crate::wire::{Draft, check_name, decode};

/// The handlers of one side, by message type, and the state that they share.
///
/// A handler of a request is an `async fn(Message, Ctx<State>) -> Result<Message::Response, E>`,
/// where `E` is anything that can be displayed; a handler of an event is an
/// `async fn(Message, Ctx<State>)`. The `State` is what [`new`](Self::new) was given, for all
/// handlers of a router alike.
///
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering};
///
/// use seqlink::{Ctx, Event, Request, Router};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Serialize, Deserialize)] struct Count {}
/// # impl Request for Count { const NAME: &'static str = "count"; type Response = Total; }
/// # #[derive(Serialize, Deserialize)] struct Total { total: u64 }
/// # #[derive(Serialize, Deserialize)] struct Add { n: u64 }
/// # impl Event for Add { const NAME: &'static str = "add"; }
///
/// struct State { total: AtomicU64 }
///
/// async fn count(_: Count, ctx: Ctx<State>) -> Result<Total, String> {
///     Ok(Total { total: ctx.state().total.load(Ordering::Relaxed) })
/// }
///
/// async fn add(add: Add, ctx: Ctx<State>) {
///     ctx.state().total.fetch_add(add.n, Ordering::Relaxed);
/// }
///
/// let router = Router::new(State { total: AtomicU64::new(0) }).request(count).event(add);
/// # let _ = router;
/// ```
///
/// A closure names its types: `|add: Add, ctx: Ctx<State>| async move { … }`, and ends in
/// something like `Ok::<_, String>(…)` when it is a request's.
///
/// # Behaviour
///
/// - Requests of one link are handled concurrently, up to [`Config::handlers`](super::Config).
///   Events of one link are handled one at a time, in the order in which they were sent.
/// - Handlers run on the link's own task: between two `.await`s they must not block, or the link
///   neither reads nor writes meanwhile. Long computations belong into
///   [`tokio::task::spawn_blocking`].
/// - A handler may make requests on its own link, and so may the handler of these. Each level
///   takes one of the asking side's [`requests_in_flight`](super::Config) and one of the other's
///   [`handlers`](super::Config).
/// - A panic in a request's handler becomes an error response, one in an event's handler is
///   logged; the link stays.
/// - What was received is handled even when the link ends meanwhile; the answers are dropped.
pub struct Router<S = ()> {
    state: Arc<S>,
    routes: Routes,
}

/// What a handler knows besides its message.
pub struct Ctx<S = ()> {
    state: Arc<S>,
    link: Link,
    deadline: Option<Instant>,
}

impl<S> Ctx<S> {
    /// The application's state.
    pub fn state(&self) -> &S {
        &self.state
    }

    /// The application's state, to keep.
    pub fn shared_state(&self) -> Arc<S> {
        Arc::clone(&self.state)
    }

    /// The link that the message came over.
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// Who sent the message.
    pub fn peer(&self) -> &Peer {
        self.link.peer()
    }

    /// When the asker is expected to give up, by the request type's own timeout or else this
    /// side's `request_timeout`; `None` for an event. The wire does not carry it.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }
}

impl<S: Send + Sync + 'static> Router<S> {
    /// No handlers yet.
    pub fn new(state: S) -> Self {
        Self::shared(Arc::new(state))
    }

    /// No handlers yet, and a state that others hold too.
    pub fn shared(state: Arc<S>) -> Self {
        Self { state, routes: Routes::default() }
    }

    /// Handles the request `R`. An `Err` becomes the text of an error response.
    #[must_use]
    pub fn request<R, F, Fut, E>(self, handler: F) -> Self
    where
        R: Request,
        F: Fn(R, Ctx<S>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R::Response, E>> + Send + 'static,
        E: fmt::Display,
    {
        self.add_request::<R>(move |ctx, seq, data| {
            let link = ctx.link.clone();
            let answer = handler(decode(data)?, ctx);
            Ok(async move {
                let outcome = answer.await.map_err(|error| error.to_string());
                finish::<R, _>(&link, seq, outcome).await;
            }
            .boxed())
        })
    }

    /// Hands the request `R` on to the link that `resolve` names, under a number of its own, and
    /// its answer or error back to the asker, unread. When that link ends first, the asker is told
    /// so, once, in an error response that says whether the request was delivered.
    ///
    /// ```
    /// use seqlink::catalog::clusterio::{ForInstance, StartInstance};
    /// use seqlink::{Ctx, Master, Router};
    /// # use std::collections::HashMap;
    /// # use std::sync::OnceLock;
    ///
    /// struct Fleet { master: OnceLock<Master>, slave_of: HashMap<i64, i64> }
    ///
    /// let router = Router::new(Fleet { master: OnceLock::new(), slave_of: HashMap::new() })
    ///     .forward(|start: &StartInstance, ctx: &Ctx<Fleet>| {
    ///         let slave = ctx.state().slave_of.get(&start.instance_id());
    ///         let slave = slave.ok_or("This instance is not assigned to a slave")?;
    ///         let master = ctx.state().master.get();
    ///         master.and_then(|master| master.slave(*slave)).ok_or("The slave is not connected")
    ///     });
    /// # let _ = router;
    /// ```
    #[must_use]
    pub fn forward<R, F, E>(self, resolve: F) -> Self
    where
        R: Request,
        F: Fn(&R, &Ctx<S>) -> Result<Link, E> + Send + Sync + 'static,
        E: fmt::Display,
    {
        self.add_request::<R>(move |ctx, seq, data| {
            let target = resolve(&decode(data)?, &ctx).map_err(|error| error.to_string());
            let request = Draft::request_read(R::NAME, data);
            let asker = ctx.link;
            Ok(async move {
                let answer = match target {
                    Ok(link) => relay::<R>(&link, request).await,
                    Err(error) => Err(error),
                };
                finish::<R, _>(&asker, seq, answer).await;
            }
            .boxed())
        })
    }

    /// Handles the event `E`. There is nobody to tell of an error: the handler returns nothing.
    #[must_use]
    pub fn event<E, F, Fut>(self, handler: F) -> Self
    where
        E: Event,
        F: Fn(E, Ctx<S>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.add_event::<E>(move |ctx, data| Ok(handler(decode(data)?, ctx).boxed()))
    }

    /// Hands the event `E` on, unread, to all links that `resolve` names, to each under a number
    /// of its own. `resolve` is asked when the event's turn has come.
    ///
    /// Every target gets the events of one link in the order in which that link sent them. No link
    /// waits for a target: what has no room in its outbox waits in front of it, in as many bytes
    /// again as [`Config::outbox`](super::Config::outbox) says. A target for which more comes is
    /// closed with `The outbox is full: …`, because leaving one event out in silence would be worse;
    /// the others and the link that the events come from notice nothing. What waits for a target
    /// is lost when its link ends, like all that was queued.
    ///
    /// ```
    /// use seqlink::catalog::clusterio::session::SaveListUpdate;
    /// use seqlink::{Ctx, Master, Router};
    /// # use std::sync::OnceLock;
    ///
    /// let router = Router::new(OnceLock::<Master>::new())
    ///     .forward_event(|_: &SaveListUpdate, ctx: &Ctx<OnceLock<Master>>| {
    ///         ctx.state().get().map(Master::controls).unwrap_or_default()
    ///     });
    /// # let _ = router;
    /// ```
    #[must_use]
    pub fn forward_event<E, F, T>(self, resolve: F) -> Self
    where
        E: Event,
        F: Fn(&E, &Ctx<S>) -> T + Send + Sync + 'static,
        T: IntoIterator<Item = Link>,
    {
        self.add_event::<E>(move |ctx, data| {
            let targets = resolve(&decode(data)?, &ctx);
            hand_on::<E>(targets, Draft::event_read(E::NAME, data));
            Ok(std::future::ready(()).boxed())
        })
    }

    fn add_event<E: Event>(
        mut self,
        handle: impl Fn(Ctx<S>, &str) -> Handled + Send + Sync + 'static,
    ) -> Self {
        let state = Arc::clone(&self.state);
        let call: EventCall = Box::new(move |link, data| {
            handle(Ctx { state: Arc::clone(&state), link, deadline: None }, data)
        });
        let route = EventRoute { direction: E::DIRECTION, call };
        let known = self.routes.events.insert(E::NAME, route).is_some();
        self.routes.note(E::NAME, known);
        self
    }

    fn add_request<R: Request>(
        mut self,
        handle: impl Fn(Ctx<S>, u64, &str) -> Handled + Send + Sync + 'static,
    ) -> Self {
        let state = Arc::clone(&self.state);
        let call: RequestCall = Box::new(move |link, deadline, seq, data| {
            handle(Ctx { state: Arc::clone(&state), link, deadline }, seq, data)
        });
        let route =
            RequestRoute { name: R::NAME, direction: R::DIRECTION, timeout: R::TIMEOUT, call };
        let known = self.routes.requests.insert(R::NAME, route).is_some();
        self.routes.note(R::NAME, known);
        self
    }
}

impl<S> Router<S> {
    pub(crate) fn into_routes(self) -> Result<Arc<Routes>, ConfigError> {
        match self.routes.fault {
            Some(fault) => Err(fault),
            None => Ok(Arc::new(self.routes)),
        }
    }
}

/// A message that is being handled, to the end: a request's response is queued.
pub(crate) type Handled = Result<BoxFuture<'static, ()>, DecodeError>;
type RequestCall = Box<dyn Fn(Link, Option<Instant>, u64, &str) -> Handled + Send + Sync>;
type EventCall = Box<dyn Fn(Link, &str) -> Handled + Send + Sync>;

pub(crate) struct RequestRoute {
    pub(crate) name: &'static str,
    pub(crate) direction: Direction,
    pub(crate) timeout: Option<Duration>,
    pub(crate) call: RequestCall,
}

pub(crate) struct EventRoute {
    pub(crate) direction: Direction,
    pub(crate) call: EventCall,
}

/// Spreads the names of messages. The tables are made by the program that runs them: a peer only
/// looks things up, so it has nothing to gain from names that collide.
#[derive(Default)]
struct NameHasher(u64);

impl Hasher for NameHasher {
    fn write(&mut self, bytes: &[u8]) {
        for block in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..block.len()].copy_from_slice(block);
            // 2⁶⁴ divided by the golden ratio.
            self.0 = (self.0.rotate_left(29) ^ u64::from_le_bytes(word))
                .wrapping_mul(0x9E37_79B9_7F4A_7C15);
        }
    }

    fn finish(&self) -> u64 {
        // The table takes its place from both ends of the number.
        self.0 ^ (self.0 >> 32)
    }
}

/// The handlers without their types.
#[derive(Default)]
pub(crate) struct Routes {
    requests: HashMap<&'static str, RequestRoute, BuildHasherDefault<NameHasher>>,
    events: HashMap<&'static str, EventRoute, BuildHasherDefault<NameHasher>>,
    fault: Option<ConfigError>,
    /// The events without a handler that were warned of; no more than [`MOST_WARNED`].
    warned: Mutex<HashSet<Box<str>>>,
}

/// Names of events that are warned of: a peer may make up any number.
const MOST_WARNED: usize = 32;

impl Routes {
    pub(crate) fn request(&self, name: &str) -> Option<&RequestRoute> {
        self.requests.get(name)
    }

    pub(crate) fn event(&self, name: &str) -> Option<&EventRoute> {
        self.events.get(name)
    }

    /// An event came that nobody handles: warns of it, once for each name.
    pub(super) fn warn_of_event(&self, name: &str, from: &Peer) {
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        if warned.len() >= MOST_WARNED || !warned.insert(name.into()) {
            tracing::debug!(name = ?Printable::new(name), from = %from.role, "ignored an event");
            return;
        }
        let last = warned.len() == MOST_WARNED;
        drop(warned);
        let from = from.role;
        tracing::warn!(name = ?Printable::new(name), %from, "ignored an event: no handler takes it from this side");
        if last {
            tracing::warn!("further names of ignored events are not warned of");
        }
    }

    fn note(&mut self, name: &'static str, known: bool) {
        if known {
            self.fault.get_or_insert(ConfigError::DuplicateHandler(name));
        } else if let Err(error) = check_name(name) {
            self.fault.get_or_insert(ConfigError::Name(error));
        }
    }
}

/// Queues the response for what a handler returned.
async fn finish<R: Request, T: serde::Serialize>(
    link: &Link,
    seq: u64,
    outcome: Result<T, String>,
) {
    let write = move || match &outcome {
        Ok(response) => Draft::response(R::NAME, seq, response),
        Err(error) => super::error_response(R::NAME, seq, error),
    };
    link.shared().answer(R::NAME, seq, write).await;
}

impl<S> fmt::Debug for Router<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.routes, f)
    }
}

impl fmt::Debug for Routes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Router")
            .field("requests", &self.requests.keys())
            .field("events", &self.events.keys())
            .finish_non_exhaustive()
    }
}

impl<S> fmt::Debug for Ctx<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ctx").field("link", &self.link).finish_non_exhaustive()
    }
}
