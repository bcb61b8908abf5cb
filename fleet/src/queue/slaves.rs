//! The links of the slaves, numbered: a later link has a higher number.

use std::collections::BTreeMap;

use seqlink::Link;

/// The present link of each slave that has one, by id.
#[derive(Debug, Default)]
pub(crate) struct Slaves {
    links: BTreeMap<i64, (u64, Link)>,
    joined: u64,
}

impl Slaves {
    /// A slave has joined.
    pub(crate) fn join(&mut self, link: Link) {
        if let Some(id) = link.peer().id {
            self.joined += 1;
            self.links.insert(id, (self.joined, link));
        }
    }

    /// A slave has left: the number of its link, if that was the present one.
    pub(crate) fn leave(&mut self, link: &Link) -> Option<u64> {
        let number = self.number(link)?;
        self.links.remove(&link.peer().id?);
        Some(number)
    }

    /// The number of `link`, if it is its slave's present one.
    pub(crate) fn number(&self, link: &Link) -> Option<u64> {
        let (number, present) = self.links.get(&link.peer().id?)?;
        // Clones of a link share their peer, and two links never do.
        present.is(link).then_some(*number)
    }

    /// The present link of slave `id`, if it has this number.
    pub(crate) fn numbered(&self, id: i64, number: u64) -> Option<Link> {
        let (present, link) = self.links.get(&id)?;
        (*present == number).then(|| link.clone())
    }

    /// The present link of slave `id`.
    pub(crate) fn get(&self, id: i64) -> Option<Link> {
        self.links.get(&id).map(|(_, link)| link.clone())
    }

    /// All links, by slave id.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Link> {
        self.links.values().map(|(_, link)| link)
    }
}
