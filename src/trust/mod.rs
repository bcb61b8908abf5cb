//! Who may connect, and what it may ask for: what an application is asked, and what it answers.

mod connection;
mod limits;
mod permissions;

use std::any::Any;
use std::fmt;
use std::future::{Future, ready};
use std::sync::Arc;
use std::time::SystemTime;

use futures::FutureExt as _;
use futures::future::BoxFuture;

pub use connection::{Connection, Headers};
pub use limits::Limits;
pub use permissions::Permissions;

use crate::message::Peer;
use crate::secret::Secret;

/// A client that wants to register.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Registration {
    /// What the client says of itself.
    pub peer: Peer,
    /// Its token, if it sent one.
    pub token: Option<Secret>,
    /// What it came over.
    pub connection: Connection,
}

/// A client that wants to go on with its session over a new socket. It has shown the session's own
/// token, and sends no other.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Resumption {
    /// The client, as it registered.
    pub peer: Peer,
    /// What it was admitted with.
    pub claims: Claims,
    /// What it comes over now.
    pub connection: Connection,
}

/// Decides who may connect, for
/// [`MasterBuilder::authenticator`](crate::MasterBuilder::authenticator). A closure does for what asks
/// nothing of resumptions: [`MasterBuilder::authenticate`](crate::MasterBuilder::authenticate).
///
/// Both methods are called on the task of the connection, concurrently for many of them, with what is
/// left of [`Config::handshake_timeout`](crate::Config::handshake_timeout). One that panics or takes
/// longer counts as [`Verdict::Unavailable`].
pub trait Authenticator: Send + Sync + 'static {
    /// A client registers.
    fn register(&self, registration: Registration) -> impl Future<Output = Verdict> + Send;

    /// A client goes on with its session. Admitted unless this is implemented; the claims and the end
    /// of its first admission stay as they are.
    fn resume(&self, resumption: Resumption) -> impl Future<Output = Verdict> + Send {
        let _ = resumption;
        ready(Verdict::admit(Claims::default()))
    }
}

/// What becomes of a client.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Verdict {
    /// It is let in.
    #[non_exhaustive]
    Admit {
        /// What handlers know of it.
        claims: Claims,
        /// When its credential ends. The link and its session end then too, with
        /// `Authentication failed: expired`.
        until: Option<SystemTime>,
    },
    /// It may not come in. Final: a client does not try again. The text goes to the client behind
    /// `Authentication failed: `; keep secrets out of it. A session that was to be resumed ends.
    Deny(String),
    /// That cannot be decided now, because a database is away for example. The client is told to come
    /// back (close code 1013), and a session that was to be resumed is held as before.
    Unavailable(String),
}

impl Verdict {
    /// Lets the client in, with `claims` for handlers.
    pub fn admit(claims: Claims) -> Self {
        Self::Admit { claims, until: None }
    }

    /// Lets the client in for as long as its credential holds.
    pub fn admit_until(claims: Claims, end: SystemTime) -> Self {
        Self::Admit { claims, until: Some(end) }
    }
}

/// `Ok` admits without claims, and the text of an error denies.
impl<E: fmt::Display> From<Result<(), E>> for Verdict {
    fn from(result: Result<(), E>) -> Self {
        result.map(|()| Claims::default()).into()
    }
}

/// `Ok` admits, and the text of an error denies.
impl<E: fmt::Display> From<Result<Claims, E>> for Verdict {
    fn from(result: Result<Claims, E>) -> Self {
        result.map_or_else(|error| Self::Deny(error.to_string()), Self::admit)
    }
}

/// What an application knows of a client that it has admitted, as a type of its own: an account, a list
/// of permissions. Cheap to clone. Handlers find it in [`Ctx::claims`](crate::Ctx::claims).
#[derive(Clone, Default)]
pub struct Claims(Option<Arc<dyn Any + Send + Sync>>);

impl Claims {
    /// Takes `claims` of any type.
    pub fn new<C: Any + Send + Sync>(claims: C) -> Self {
        Self(Some(Arc::new(claims)))
    }

    /// The claims, if they are of type `C`.
    pub fn get<C: Any>(&self) -> Option<&C> {
        self.0.as_ref()?.downcast_ref()
    }
}

impl fmt::Debug for Claims {
    /// Whether there are any: they may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Claims(…)" } else { "Claims(none)" })
    }
}

/// An [`Authenticator`] without its type.
pub(crate) trait DynAuthenticator: Send + Sync {
    fn register(&self, registration: Registration) -> BoxFuture<'_, Verdict>;
    fn resume(&self, resumption: Resumption) -> BoxFuture<'_, Verdict>;
}

impl<A: Authenticator> DynAuthenticator for A {
    fn register(&self, registration: Registration) -> BoxFuture<'_, Verdict> {
        // Called when it is polled: a panic is caught there.
        async move { Authenticator::register(self, registration).await }.boxed()
    }

    fn resume(&self, resumption: Resumption) -> BoxFuture<'_, Verdict> {
        async move { Authenticator::resume(self, resumption).await }.boxed()
    }
}

/// A closure that decides on registrations alone.
pub(crate) struct Closure<F>(pub(crate) F);

impl<F, Fut> Authenticator for Closure<F>
where
    F: Fn(Registration) -> Fut + Send + Sync + 'static,
    Fut: Future<Output: Into<Verdict>> + Send,
{
    async fn register(&self, registration: Registration) -> Verdict {
        (self.0)(registration).await.into()
    }
}

/// The shared token first, then whatever else decides.
pub(crate) struct SharedToken {
    pub(crate) token: Secret,
    pub(crate) next: Option<Arc<dyn DynAuthenticator>>,
}

impl Authenticator for SharedToken {
    async fn register(&self, registration: Registration) -> Verdict {
        if registration.token.as_ref() != Some(&self.token) {
            return Verdict::Deny(String::new());
        }
        match &self.next {
            Some(next) => next.register(registration).await,
            None => Verdict::admit(Claims::default()),
        }
    }

    async fn resume(&self, resumption: Resumption) -> Verdict {
        match &self.next {
            Some(next) => next.resume(resumption).await,
            None => Verdict::admit(Claims::default()),
        }
    }
}
