use std::collections::BTreeMap;

use crate::close::Reason;
use crate::link::Link;
use crate::message::Role;

/// Who is registered with a master.
#[derive(Debug, Default)]
pub(super) struct Registry {
    slaves: BTreeMap<i64, Link>,
    /// Two controls have nothing by which they could be told apart.
    controls: Vec<Link>,
    door: Door,
}

/// Whether links are let in.
#[derive(Debug, Default)]
enum Door {
    #[default]
    Open,
    /// Not any more; those that are in are on their way out.
    Shut(Reason),
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
    pub(super) fn join(&mut self, link: &Link) -> Membership {
        if let Some(reason) = self.shut() {
            return Membership::ShutDown(reason);
        }
        match (link.peer().role, link.peer().id) {
            (Role::Slave, Some(id)) => match self.slaves.insert(id, link.clone()) {
                Some(old) => Membership::Replaces(old),
                None => Membership::New,
            },
            _ => {
                self.controls.push(link.clone());
                Membership::New
            }
        }
    }

    /// Takes the link out; says whether it was still in.
    pub(super) fn leave(&mut self, link: &Link) -> bool {
        if let Some(id) = link.peer().id
            && self.slaves.get(&id).is_some_and(|known| known.same_link(link))
        {
            return self.slaves.remove(&id).is_some();
        }
        match self.controls.iter().position(|known| known.same_link(link)) {
            Some(at) => {
                self.controls.swap_remove(at);
                true
            }
            None => false,
        }
    }

    pub(super) fn slave(&self, id: i64) -> Option<Link> {
        self.slaves.get(&id).cloned()
    }

    pub(super) fn slaves(&self) -> Vec<Link> {
        self.slaves.values().cloned().collect()
    }

    pub(super) fn controls(&self) -> Vec<Link> {
        self.controls.clone()
    }

    /// Why nobody is let in any more.
    pub(super) fn shut(&self) -> Option<Reason> {
        match &self.door {
            Door::Open => None,
            Door::Shut(reason) => Some(reason.clone()),
        }
    }

    /// Lets nobody in any more; says why, which is the first reason that was given, and who is in.
    pub(super) fn shut_down(&mut self, reason: Reason) -> (Reason, Vec<Link>) {
        let reason = self.shut().unwrap_or(reason);
        self.door = Door::Shut(reason.clone());
        (reason, self.slaves().into_iter().chain(self.controls()).collect())
    }
}
