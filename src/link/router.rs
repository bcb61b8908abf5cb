use std::any::Any;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, OnceLock};

use futures::FutureExt as _;
use tokio::time::Instant;

use super::forward::{hand_on_to_all, relay};
use super::inbound::{Call, EventRoute, Handled, RequestRoute, Routes};
use super::link::Link;
use super::outbound::Handle;
use super::refusal::error_response;
use crate::error::{ConfigError, DecodeError, Denied, NotASlave};
use crate::message::{Empty, Entry, Event, Kind, Peer, Request, Role};
use crate::printable::Printable;
use crate::trust::Permissions;
use crate::wire::{EncodedMessage, decode};

/// The handlers of one side, by message type, and the state that they share.
///
/// A handler of a request is an `async fn(Message, Ctx<State>) -> Result<Message::Response, E>`,
/// where `E` is anything that can be displayed; a handler of an event is an
/// `async fn(Message, Ctx<State>)`. All handlers of a router share the `State` that
/// [`new`](Self::new) was given.
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
/// A closure has to name its types: `|add: Add, ctx: Ctx<State>| async move { … }`. That of a
/// request ends in something like `Ok::<_, String>(…)`.
///
/// # Behaviour
///
/// - Requests of one link are handled concurrently, up to [`Config::handlers`](super::Config).
///   Events of one link are handled one at a time, in the order in which they were sent.
/// - Handlers run on the link's own task: between two `.await`s they must not block, or the link
///   neither reads nor writes meanwhile. Long computations belong in
///   [`tokio::task::spawn_blocking`].
/// - A handler may make requests on its own link, and so may their handlers. Each level takes one
///   of the asking side's [`requests_in_flight`](super::Config) and one of the other's
///   [`handlers`](super::Config).
/// - A panic in a request's handler becomes an error response, one in an event's handler is
///   logged; the link stays.
/// - What was received is handled even when the link ends meanwhile; the answers are dropped.
pub struct Router<S = ()> {
    state: Arc<S>,
    routes: Result<Routes, ConfigError>,
    checks: Vec<Check<S>>,
    /// The same for the handlers, which were added before and after them.
    installed: Arc<OnceLock<Vec<Check<S>>>>,
}

/// Decides whether a message may reach its handler.
type Check<S> = Box<dyn Fn(&Received<'_>, &Ctx<S>) -> Result<(), Denied> + Send + Sync>;

/// A message in front of its handler.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct Received<'a> {
    /// The name of its type, without its ending.
    pub name: &'static str,
    /// Whether it is answered.
    pub kind: Kind,
    data: &'a str,
}

impl<'a> Received<'a> {
    /// Reads the message as a `T`, such as its own type or a part of that.
    ///
    /// # Errors
    ///
    /// The data is no `T`. That the message is of its own type is not known yet.
    pub fn decode<T: serde::Deserialize<'a>>(&self) -> Result<T, DecodeError> {
        decode(self.data)
    }
}

/// What a handler is given besides its message.
pub struct Ctx<S = ()> {
    state: Arc<S>,
    link: Link,
    deadline: Option<Instant>,
}

impl<S> Ctx<S> {
    /// Returns the application's state.
    pub fn state(&self) -> &S {
        &self.state
    }

    /// Returns a shared pointer to the application's state.
    pub fn shared_state(&self) -> Arc<S> {
        Arc::clone(&self.state)
    }

    /// Returns the link that the message came over.
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// Returns the sender of the message.
    pub fn peer(&self) -> &Peer {
        self.link.peer()
    }

    /// What the sender was admitted with, if that is of type `C`: see [`Link::claims`].
    pub fn claims<C: Any>(&self) -> Option<&C> {
        self.link.claims()
    }

    /// The id of the slave that sent the message.
    ///
    /// # Errors
    ///
    /// The peer is no slave. That cannot happen with a message whose direction is
    /// [`SLAVE_TO_MASTER`](crate::Direction::SLAVE_TO_MASTER) alone.
    pub fn slave_id(&self) -> Result<i64, NotASlave> {
        self.peer().id.ok_or(NotASlave)
    }

    /// Returns when the asker is expected to give up, by the request type's own timeout or else
    /// this side's `request_timeout`; `None` for an event. The wire does not carry it.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }
}

impl<S: Send + Sync + 'static> Router<S> {
    /// Creates a router without handlers.
    pub fn new(state: S) -> Self {
        Self::with_state(Arc::new(state))
    }

    /// Creates a router without handlers, for a state that the application shares.
    pub fn with_state(state: Arc<S>) -> Self {
        Self { state, routes: Ok(Routes::default()), checks: Vec::new(), installed: Arc::default() }
    }

    /// Has `check` decide on each message that a handler of this router would get, before it is
    /// decoded for that, and whenever the handler was added. A request that is denied is answered
    /// `Permission denied: NAME needs PERMISSION`; an event is dropped and counted in
    /// [`Link::ignored`]. Further checks are asked in the order in which they were added.
    ///
    /// A check runs on the link's task and must not block. [`Ctx::claims`] has what the sender was
    /// admitted with.
    #[must_use]
    pub fn authorize(
        mut self,
        check: impl Fn(&Received<'_>, &Ctx<S>) -> Result<(), Denied> + Send + Sync + 'static,
    ) -> Self {
        self.checks.push(Box::new(check));
        self
    }

    /// Has `may` decide whether a control has a permission, for all that the catalogs' `messages`
    /// [need](Entry::permission) and the messages that they carry: see
    /// [`Permissions::needed`]. What slaves and a master send needs none.
    ///
    /// ```
    /// use seqlink::Router;
    /// use seqlink::catalog::{clusterio, game_node};
    ///
    /// struct Account { permissions: Vec<String> }
    ///
    /// let messages = clusterio::session::MESSAGES.iter().chain(game_node::MESSAGES);
    /// let router = Router::new(()).permissions(messages, |permission, ctx| {
    ///     let account = ctx.claims::<Account>();
    ///     account.is_some_and(|account| account.permissions.iter().any(|it| it == permission))
    /// });
    /// # let _ = router;
    /// ```
    #[must_use]
    pub fn permissions<'e>(
        self,
        messages: impl IntoIterator<Item = &'e Entry>,
        may: impl Fn(&str, &Ctx<S>) -> bool + Send + Sync + 'static,
    ) -> Self {
        let permissions = Permissions::of(messages);
        self.authorize(move |message, ctx| {
            if ctx.peer().role != Role::Control {
                return Ok(());
            }
            let mut needed = permissions.needed(message.name, message.data);
            let missing = needed.find(|permission| !may(permission, ctx));
            missing.map_or(Ok(()), |permission| Err(Denied::needs(permission)))
        })
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
        self.add_request::<R>(move |ctx, call| {
            let (handle, seq) = (ctx.link.handle().clone(), call.seq);
            // Decoded before the future exists: when it fails, the frame is read again as a whole.
            let answer = handler(decode(call.data)?, ctx);
            Ok(async move {
                // As text at once: `E` need not be `Send`, and the answer may have to wait.
                let outcome = answer.await.map_err(|error| error.to_string());
                finish(&handle, R::NAME, seq, outcome).await;
            }
            .boxed())
        })
    }

    /// Hands the request `R` on to the link that `resolve` returns, under a new number, and its
    /// answer or error back to the asker, without decoding it. If that link ends first, the asker
    /// gets one error response, which tells whether the request was delivered.
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
        self.add_request::<R>(move |ctx, call| {
            let target = resolve(&decode(call.data)?, &ctx).map_err(|error| error.to_string());
            // `decode` has just shown that the data is JSON: its text is copied behind a new head.
            let request = EncodedMessage::request_read(R::NAME, call.data);
            let (asker, seq) = (ctx.link.handle().clone(), call.seq);
            Ok(async move {
                let answer = match target {
                    Ok(link) => relay::<R>(link.handle().clone(), request, link.time_limit()).await,
                    Err(error) => Err(error),
                };
                finish(&asker, R::NAME, seq, answer).await;
            }
            .boxed())
        })
    }

    /// Handles the event `E`. The handler returns nothing, because an event has no answer.
    #[must_use]
    pub fn event<E, F, Fut>(self, handler: F) -> Self
    where
        E: Event,
        F: Fn(E, Ctx<S>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.add_event::<E>(move |ctx, call| Ok(handler(decode(call.data)?, ctx).boxed()))
    }

    /// Hands the event `E` on to all links that `resolve` returns, to each under a new number,
    /// without decoding it for them. `resolve` is called when all earlier events have been handled.
    ///
    /// Every target gets the events of one link in the order in which that link sent them. No link
    /// waits for a target: an event without room in its outbox waits in front of it, in as many
    /// bytes again as [`Config::outbox`](super::Config::outbox). A target for which more waits is
    /// closed with `The outbox is full: …`, because to leave out an event silently would be worse;
    /// the other targets and the link that the events come from are not affected. What waits for a
    /// target is lost when its link ends, like everything that was queued.
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
        self.add_event::<E>(move |ctx, call| {
            let targets = resolve(&decode(call.data)?, &ctx);
            let targets = targets.into_iter().map(|link| link.handle().clone());
            hand_on_to_all::<E>(targets, EncodedMessage::event_read(E::NAME, call.data));
            Ok(std::future::ready(()).boxed())
        })
    }

    fn add_event<E: Event>(
        mut self,
        handle: impl Fn(Ctx<S>, Call<'_>) -> Handled + Send + Sync + 'static,
    ) -> Self {
        let handler = Box::new(self.with_ctx(E::NAME, Kind::Event, handle));
        let route = EventRoute { direction: E::DIRECTION, handler };
        // The first error is kept for `build`, so that calls can be chained without `?`.
        self.routes = self.routes.and_then(|mut routes| {
            routes.add_event(E::NAME, route)?;
            Ok(routes)
        });
        self
    }

    fn add_request<R: Request>(
        mut self,
        handle: impl Fn(Ctx<S>, Call<'_>) -> Handled + Send + Sync + 'static,
    ) -> Self {
        let handler = Box::new(self.with_ctx(R::NAME, Kind::Request, handle));
        let (name, direction, timeout) = (R::NAME, R::DIRECTION, R::TIMEOUT);
        let route = RequestRoute { name, direction, timeout, handler };
        self.routes = self.routes.and_then(|mut routes| {
            routes.add_request(route)?;
            Ok(routes)
        });
        self
    }

    /// Wraps `handle` so that each call that may be made gets its context.
    fn with_ctx(
        &self,
        name: &'static str,
        kind: Kind,
        handle: impl Fn(Ctx<S>, Call<'_>) -> Handled + Send + Sync + 'static,
    ) -> impl Fn(Handle, Call<'_>) -> Handled + Send + Sync + 'static {
        let (state, checks) = (Arc::clone(&self.state), Arc::clone(&self.installed));
        move |link, call| {
            let link = Link::new(link);
            let ctx = Ctx { state: Arc::clone(&state), link, deadline: call.deadline };
            if let Some(checks) = checks.get() {
                let message = Received { name, kind, data: call.data };
                if let Err(denied) = checks.iter().try_for_each(|check| check(&message, &ctx)) {
                    return refuse(&message, &ctx, call.seq, &denied);
                }
            }
            handle(ctx, call)
        }
    }
}

impl<S> Router<S> {
    pub(crate) fn into_routes(self) -> Result<Arc<Routes>, ConfigError> {
        if !self.checks.is_empty() {
            // Not set before: this takes the router.
            let _ = self.installed.set(self.checks);
        }
        self.routes.map(Arc::new)
    }
}

/// Queues the response for what a handler returned.
async fn finish<T: serde::Serialize>(
    handle: &Handle,
    name: &'static str,
    seq: u64,
    outcome: Result<T, String>,
) {
    // Called again if there is no room now: what waits is the value, and not its JSON.
    let write = move || match &outcome {
        Ok(response) => EncodedMessage::response(name, seq, response),
        Err(error) => error_response(name, seq, error),
    };
    handle.answer(name, seq, write).await;
}

/// Answers a request that is denied, and counts an event.
fn refuse<S>(message: &Received<'_>, ctx: &Ctx<S>, seq: u64, denied: &Denied) -> Handled {
    let (name, handle) = (message.name, ctx.link.handle().clone());
    // Read at least as JSON: a frame that is none ends the link, whoever sent it.
    message.decode::<Empty>()?;
    let peer = ctx.peer();
    tracing::debug!(name, %peer, permission = ?Printable::new(&denied.permission), "denied");
    if message.kind == Kind::Event {
        handle.ignore_event();
        return Ok(std::future::ready(()).boxed());
    }
    let error = format!("Permission denied: {name} {denied}");
    Ok(async move { finish::<Empty>(&handle, name, seq, Err(error)).await }.boxed())
}

impl fmt::Debug for Received<'_> {
    /// Only the length of the data: it may hold a token or a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Received")
            .field("name", &self.name)
            .field("kind", &self.kind)
            .field("data", &self.data.len())
            .finish()
    }
}

impl<S> fmt::Debug for Router<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.routes, f)
    }
}

impl<S> fmt::Debug for Ctx<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ctx").field("link", &self.link).finish_non_exhaustive()
    }
}
