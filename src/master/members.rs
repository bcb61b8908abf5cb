//! The links that are registered, and who is told of them.

use std::collections::HashSet;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, OnceLock, PoisonError};

use futures::stream::{self, Stream, StreamExt as _};
use tokio::sync::broadcast::{self, error::RecvError};

use super::registry::{Membership, Registry};
use crate::close::{CloseCode, Closed, Reason};
use crate::link::Link;
use crate::trust::Limits;

/// How many events a stream of them may be behind.
const EVENTS: usize = 1024;

pub(super) type OnChange = Box<dyn Fn(MembershipEvent) + Send + Sync>;

/// A link came or went.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum MembershipEvent {
    /// A client has registered.
    Joined(Link),
    /// A client is gone. For a slave that is replaced, this comes before its successor's
    /// [`Joined`](Self::Joined), and while the old link is still closing.
    Left(Link, Closed),
}

/// The registry of a master, which tells of each change.
pub(super) struct Members {
    registry: Mutex<Registry>,
    /// Held while a change is made and told, so that changes are told in their order.
    announcing: Mutex<()>,
    on_change: Option<OnChange>,
    /// Made for the first that follows it.
    events: OnceLock<broadcast::Sender<MembershipEvent>>,
}

impl Members {
    pub(super) fn new(limits: Limits, on_change: Option<OnChange>) -> Self {
        let (registry, announcing) = (Mutex::new(Registry::new(limits)), Mutex::new(()));
        Self { registry, announcing, on_change, events: OnceLock::new() }
    }

    pub(super) fn registry<T>(&self, act: impl FnOnce(&mut Registry) -> T) -> T {
        act(&mut self.registry.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes a link in, or closes it if it may not join.
    pub(super) fn join(&self, link: &Link, connection: u64, from: Option<IpAddr>) {
        let _order = self.announcing.lock().unwrap_or_else(PoisonError::into_inner);
        match self.registry(|registry| registry.join(link, connection, from)) {
            Membership::New => {}
            Membership::Replaces(old) => {
                old.close_with(CloseCode::POLICY, Reason::REPLACED);
                let closed = Closed::local(CloseCode::POLICY, Reason::REPLACED);
                self.announce(MembershipEvent::Left(old, closed));
            }
            Membership::Refused(code, reason) => return link.close_with(code, reason.as_str()),
        }
        self.announce(MembershipEvent::Joined(link.clone()));
    }

    /// Takes a link out, if it was in.
    pub(super) fn leave(&self, link: &Link, closed: Closed) {
        let _order = self.announcing.lock().unwrap_or_else(PoisonError::into_inner);
        if self.registry(|registry| registry.leave(link)) {
            self.announce(MembershipEvent::Left(link.clone(), closed));
        }
    }

    fn announce(&self, change: MembershipEvent) {
        match &change {
            MembershipEvent::Joined(link) => {
                tracing::info!(peer = %link.peer(), version = %link.version(), "joined");
            }
            MembershipEvent::Left(link, closed) => {
                tracing::info!(peer = %link.peer(), %closed, "left");
            }
        }
        if let Some(followers) = self.events.get() {
            // An error means that nothing follows it any more.
            let _ = followers.send(change.clone());
        }
        if let Some(on_change) = &self.on_change
            && catch_unwind(AssertUnwindSafe(|| on_change(change))).is_err()
        {
            tracing::error!("`on_change` panicked");
        }
    }

    /// Returns the present members as events, and each further event.
    pub(super) fn events(&self) -> impl Stream<Item = MembershipEvent> + Send + Unpin + use<> {
        let sender = self.events.get_or_init(|| broadcast::channel(EVENTS).0);
        // Under the lock by which links join and leave: what is told later of those that are there is
        // told once, below.
        let (events, present) = self.registry(|registry| (sender.subscribe(), registry.members()));
        let known: HashSet<u64> = present.iter().map(Link::number).collect();
        let changes = stream::unfold((events, known), |(mut events, mut known)| async move {
            loop {
                let event = match events.recv().await {
                    Ok(event) => event,
                    Err(RecvError::Lagged(missed)) => {
                        tracing::warn!(
                            missed,
                            "a stream of membership events is too slow, and ends"
                        );
                        return None;
                    }
                    Err(RecvError::Closed) => return None,
                };
                let is_new = match &event {
                    MembershipEvent::Joined(link) => known.insert(link.number()),
                    MembershipEvent::Left(link, _) => known.remove(&link.number()),
                };
                if is_new {
                    return Some((event, (events, known)));
                }
            }
        });
        stream::iter(present.into_iter().map(MembershipEvent::Joined)).chain(changes).boxed()
    }
}
