use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use crate::close::{CloseCode, Reason};
use crate::handshake::full;
use crate::link::Link;
use crate::message::{Peer, Role};
use crate::trust::Limits;

/// The links that are registered with a master.
#[derive(Debug)]
pub(super) struct Registry {
    limits: Limits,
    slaves: BTreeMap<i64, Slave>,
    /// Two controls have nothing by which they could be told apart.
    controls: Vec<Link>,
    /// Where each link comes from, by its number, and how many come from there.
    addresses: HashMap<u64, IpAddr>,
    by_address: HashMap<IpAddr, usize>,
    door: Door,
}

/// A slave's link, and the number of the connection that brought it.
#[derive(Debug)]
struct Slave {
    link: Link,
    connection: u64,
}

/// Whether links are let in.
#[derive(Debug)]
enum Door {
    Open,
    /// Not any more; those that are in are on their way out.
    Shut(Reason),
}

/// What became of a link that wants to join.
pub(super) enum Membership {
    New,
    /// Another link had the same slave id.
    Replaces(Link),
    /// It may not, and is told why.
    Refused(CloseCode, Reason),
}

impl Registry {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            slaves: BTreeMap::new(),
            controls: Vec::new(),
            addresses: HashMap::new(),
            by_address: HashMap::new(),
            door: Door::Open,
        }
    }

    /// `from` is the network that the link comes from, as far as that is known.
    pub(super) fn join(
        &mut self,
        link: &Link,
        connection: u64,
        from: Option<IpAddr>,
    ) -> Membership {
        if let Some(reason) = self.shut() {
            return Membership::Refused(CloseCode::GOING_AWAY, reason);
        }
        // It was asked before `ready`, but others may have taken the last room meanwhile.
        if let Some((limit, most)) = self.full(link.peer(), from) {
            return Membership::Refused(CloseCode::TRY_AGAIN, full(limit, most));
        }
        let membership = match (link.peer().role, link.peer().id) {
            (Role::Slave, Some(id)) => {
                // This one was admitted late, and its client has given it up.
                if self.slaves.get(&id).is_some_and(|known| known.connection > connection) {
                    return Membership::Refused(CloseCode::POLICY, Reason::REPLACED.into());
                }
                match self.slaves.insert(id, Slave { link: link.clone(), connection }) {
                    Some(old) => {
                        self.forget_address(&old.link);
                        Membership::Replaces(old.link)
                    }
                    None => Membership::New,
                }
            }
            _ => {
                self.controls.push(link.clone());
                Membership::New
            }
        };
        if let Some(from) = from {
            self.addresses.insert(link.number(), from);
            *self.by_address.entry(from).or_default() += 1;
        }
        membership
    }

    fn forget_address(&mut self, link: &Link) {
        let Some(from) = self.addresses.remove(&link.number()) else { return };
        if let Some(links) = self.by_address.get_mut(&from) {
            *links -= 1;
            if *links == 0 {
                self.by_address.remove(&from);
            }
        }
    }

    /// Returns which limit leaves no room for `peer`.
    pub(super) fn full(&self, peer: &Peer, from: Option<IpAddr>) -> Option<(&'static str, usize)> {
        let limits = &self.limits;
        // It takes its older link's place.
        let replaced = peer.id.and_then(|id| self.slaves.get(&id));
        let (there, name, most) = match peer.id {
            Some(_) => (self.slaves.len(), "slaves", limits.slaves),
            None => (self.controls.len(), "controls", limits.controls),
        };
        if replaced.is_none() && there >= most {
            return Some((name, most));
        }
        let stays_there = replaced.and_then(|slave| self.addresses.get(&slave.link.number()));
        let there = from.and_then(|from| self.by_address.get(&from)).copied().unwrap_or_default();
        let most = limits.links_per_address;
        (stays_there != from.as_ref() && there >= most).then_some(("links_per_address", most))
    }

    /// Takes the link out. Returns whether it was still in.
    pub(super) fn leave(&mut self, link: &Link) -> bool {
        self.forget_address(link);
        if let Some(id) = link.peer().id
            && self.slaves.get(&id).is_some_and(|known| known.link.same_link(link))
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
        self.slaves.get(&id).map(|slave| slave.link.clone())
    }

    pub(super) fn slaves(&self) -> Vec<Link> {
        self.slaves.values().map(|slave| slave.link.clone()).collect()
    }

    pub(super) fn controls(&self) -> Vec<Link> {
        self.controls.clone()
    }

    /// Returns the links of all slaves, then those of all controls.
    pub(super) fn members(&self) -> Vec<Link> {
        self.slaves().into_iter().chain(self.controls()).collect()
    }

    /// Why no link is let in any more.
    pub(super) fn shut(&self) -> Option<Reason> {
        match &self.door {
            Door::Open => None,
            Door::Shut(reason) => Some(reason.clone()),
        }
    }

    /// Lets no link in any more. Returns why, which is the first reason that was given, and the members.
    pub(super) fn shut_down(&mut self, reason: Reason) -> (Reason, Vec<Link>) {
        let reason = self.shut().unwrap_or(reason);
        self.door = Door::Shut(reason.clone());
        (reason, self.members())
    }
}
