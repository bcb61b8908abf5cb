//! The present link of each slave, under the queue's own lock: a link that is lost can register
//! nothing afterwards.

use std::collections::BTreeMap;

use seqlink::Link;

/// The links, by the slaves' ids.
#[derive(Debug, Default)]
pub(crate) struct Slaves(BTreeMap<i64, Link>);

impl Slaves {
    /// A slave has joined.
    pub(crate) fn join(&mut self, link: Link) {
        if let Some(id) = link.peer().id {
            self.0.insert(id, link);
        }
    }

    /// A slave has left: the number of its link, if that was the present one.
    pub(crate) fn leave(&mut self, link: &Link) -> Option<u64> {
        let number = self.number(link)?;
        self.0.remove(&link.peer().id?);
        Some(number)
    }

    /// The number of `link`, if it is its slave's present one.
    pub(crate) fn number(&self, link: &Link) -> Option<u64> {
        let present = self.0.get(&link.peer().id?)?;
        (present == link).then(|| link.number())
    }

    /// The present link of slave `id`, if it has this number.
    pub(crate) fn numbered(&self, id: i64, number: u64) -> Option<Link> {
        self.get(id).filter(|link| link.number() == number)
    }

    /// The present link of slave `id`.
    pub(crate) fn get(&self, id: i64) -> Option<Link> {
        self.0.get(&id).cloned()
    }

    /// All links, by slave id.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Link> {
        self.0.values()
    }
}
