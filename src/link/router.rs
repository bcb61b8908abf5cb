use std::fmt;
use std::future::Future;
use std::sync::Arc;

use futures::FutureExt as _;
use tokio::time::Instant;

use super::forward::{hand_on_to_all, relay};
use super::inbound::{Call, EventRoute, Handled, RequestRoute, Routes};
use super::link::Link;
use super::outbound::Handle;
use super::refusal::error_response;
use crate::error::{ConfigError, NotASlave};
use crate::handshake::Peer;
use crate::message::{Event, Request};
use crate::wire::{EncodedMessage, decode};

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
    routes: Result<Routes, ConfigError>,
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

    /// The id of the slave that sent the message.
    ///
    /// # Errors
    ///
    /// The peer is no slave. That cannot happen with a message whose direction is
    /// [`SLAVE_TO_MASTER`](crate::Direction::SLAVE_TO_MASTER) alone.
    pub fn slave_id(&self) -> Result<i64, NotASlave> {
        self.peer().id.ok_or(NotASlave)
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
        Self::with_state(Arc::new(state))
    }

    /// No handlers yet, and a state that others hold too.
    pub fn with_state(state: Arc<S>) -> Self {
        Self { state, routes: Ok(Routes::default()) }
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
            let answer = handler(decode(call.data)?, ctx);
            Ok(async move {
                let outcome = answer.await.map_err(|error| error.to_string());
                finish::<R, _>(&handle, seq, outcome).await;
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
        self.add_request::<R>(move |ctx, call| {
            let target = resolve(&decode(call.data)?, &ctx).map_err(|error| error.to_string());
            let request = EncodedMessage::request_read(R::NAME, call.data);
            let (asker, seq) = (ctx.link.handle().clone(), call.seq);
            Ok(async move {
                let answer = match target {
                    Ok(link) => relay::<R>(link.handle().clone(), request, link.time_limit()).await,
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
        self.add_event::<E>(move |ctx, call| Ok(handler(decode(call.data)?, ctx).boxed()))
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
        let handler = Box::new(self.with_ctx(handle));
        let route = EventRoute { direction: E::DIRECTION, handler };
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
        let handler = Box::new(self.with_ctx(handle));
        let (name, direction, timeout) = (R::NAME, R::DIRECTION, R::TIMEOUT);
        let route = RequestRoute { name, direction, timeout, handler };
        self.routes = self.routes.and_then(|mut routes| {
            routes.add_request(route)?;
            Ok(routes)
        });
        self
    }

    /// Gives each call what its handler knows besides the message.
    fn with_ctx(
        &self,
        handle: impl Fn(Ctx<S>, Call<'_>) -> Handled + Send + Sync + 'static,
    ) -> impl Fn(Handle, Call<'_>) -> Handled + Send + Sync + 'static {
        let state = Arc::clone(&self.state);
        move |link, call| {
            let link = Link::new(link);
            let ctx = Ctx { state: Arc::clone(&state), link, deadline: call.deadline };
            handle(ctx, call)
        }
    }
}

impl<S> Router<S> {
    pub(crate) fn into_routes(self) -> Result<Arc<Routes>, ConfigError> {
        self.routes.map(Arc::new)
    }
}

/// Queues the response for what a handler returned.
async fn finish<R: Request, T: serde::Serialize>(
    handle: &Handle,
    seq: u64,
    outcome: Result<T, String>,
) {
    let write = move || match &outcome {
        Ok(response) => EncodedMessage::response(R::NAME, seq, response),
        Err(error) => error_response(R::NAME, seq, error),
    };
    handle.answer(R::NAME, seq, write).await;
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
