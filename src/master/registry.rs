use std::collections::HashMap;

use crate::close::Reason;
use crate::link::Link;
use crate::message::Role;

/// Who is registered with a master.
#[derive(Debug)]
pub(super) enum Registry {
    Open {
        slaves: HashMap<i64, Link>,
        /// Two controls have nothing by which they could be told apart.
        controls: Vec<Link>,
    },
    /// Nobody is let in any more.
    ShutDown(Reason),
}

/// What became of a link that wants to join.
pub(super) enum Membership {
    New,
    /// Another link had the same slave id.
    Replaces(Link),
    /// The master has shut down meanwhile.
    ShutDown(Reason),
}

impl Registry {
    pub(super) fn new() -> Self {
        Self::Open { slaves: HashMap::new(), controls: Vec::new() }
    }

    pub(super) fn join(&mut self, link: &Link) -> Membership {
        let (slaves, controls) = match self {
            Self::Open { slaves, controls } => (slaves, controls),
            Self::ShutDown(reason) => return Membership::ShutDown(reason.clone()),
        };
        match (link.peer().role, link.peer().id) {
            (Role::Slave, Some(id)) => match slaves.insert(id, link.clone()) {
                Some(old) => Membership::Replaces(old),
                None => Membership::New,
            },
            _ => {
                controls.push(link.clone());
                Membership::New
            }
        }
    }

    /// Takes the link out; says whether it was still in.
    pub(super) fn leave(&mut self, link: &Link) -> bool {
        let Self::Open { slaves, controls } = self else { return false };
        if let Some(id) = link.peer().id
            && slaves.get(&id).is_some_and(|known| known.is(link))
        {
            return slaves.remove(&id).is_some();
        }
        match controls.iter().position(|known| known.is(link)) {
            Some(at) => {
                controls.swap_remove(at);
                true
            }
            None => false,
        }
    }

    pub(super) fn slave(&self, id: i64) -> Option<Link> {
        match self {
            Self::Open { slaves, .. } => slaves.get(&id).cloned(),
            Self::ShutDown(_) => None,
        }
    }

    pub(super) fn slaves(&self) -> Vec<Link> {
        match self {
            Self::Open { slaves, .. } => slaves.values().cloned().collect(),
            Self::ShutDown(_) => Vec::new(),
        }
    }

    pub(super) fn controls(&self) -> Vec<Link> {
        match self {
            Self::Open { controls, .. } => controls.clone(),
            Self::ShutDown(_) => Vec::new(),
        }
    }

    /// Lets nobody in any more; says who was in.
    pub(super) fn shut_down(&mut self, reason: Reason) -> Vec<Link> {
        match std::mem::replace(self, Self::ShutDown(reason)) {
            Self::Open { slaves, controls } => slaves.into_values().chain(controls).collect(),
            Self::ShutDown(first) => {
                *self = Self::ShutDown(first);
                Vec::new()
            }
        }
    }
}
