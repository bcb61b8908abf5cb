//! Sockets of listeners that are no links yet: all may be had by anyone who can connect.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::AcceptError;
use crate::trust::Limits;

/// Counts them, in total and by address.
#[derive(Debug)]
pub(super) struct Connections {
    most: usize,
    most_per_address: usize,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// One of them, until it is dropped.
#[derive(Debug)]
pub(super) struct Permit {
    connections: Arc<Connections>,
    address: IpAddr,
}

impl Connections {
    pub(super) fn new(limits: &Limits) -> Arc<Self> {
        Arc::new(Self {
            most: limits.connections,
            most_per_address: limits.connections_per_address,
            open: Mutex::default(),
        })
    }

    /// One more from `address`.
    pub(super) fn enter(self: &Arc<Self>, address: IpAddr) -> Result<Permit, AcceptError> {
        let address = network(address);
        let mut open = self.open();
        if open.total >= self.most {
            return Err(AcceptError::Limit { limit: "connections", most: self.most });
        }
        let here = open.by_address.entry(address).or_default();
        if *here >= self.most_per_address {
            let (limit, most) = ("connections_per_address", self.most_per_address);
            return Err(AcceptError::Limit { limit, most });
        }
        *here += 1;
        open.total += 1;
        Ok(Permit { connections: Arc::clone(self), address })
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut open = self.connections.open();
        open.total -= 1;
        if let Some(here) = open.by_address.get_mut(&self.address) {
            *here -= 1;
            if *here == 0 {
                open.by_address.remove(&self.address);
            }
        }
    }
}

/// What one machine has of its own: of IPv6 it commonly has 64 bits to choose from.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            Ipv6Addr::from_bits(address.to_bits() & (u128::from(u64::MAX) << 64)).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(result: &Result<Permit, AcceptError>) -> Option<(&'static str, usize)> {
        match result {
            Err(AcceptError::Limit { limit, most }) => Some((*limit, *most)),
            _ => None,
        }
    }

    #[test]
    fn connections_are_counted_in_total_and_by_address() {
        let limits = Limits::default().with_connections(4).with_connections_per_address(2);
        let connections = Connections::new(&limits);
        let from = |text: &str| connections.enter(text.parse().unwrap());
        let (one, two) = (from("10.0.0.1").unwrap(), from("::ffff:10.0.0.1").unwrap());
        assert_eq!(limit(&from("10.0.0.1")), Some(("connections_per_address", 2)));
        let (_three, _four) = (from("2001:db8::1").unwrap(), from("2001:db8::2:0:0:0").unwrap());
        assert_eq!(limit(&from("10.0.0.2")), Some(("connections", 4)));
        drop(one);
        assert_eq!(limit(&from("2001:db8:0:0:ffff::")), Some(("connections_per_address", 2)));
        assert_eq!(connections.open().total, 3, "one that is refused takes nothing");
        drop(two);
        assert_eq!(connections.open().by_address.len(), 1, "an address that is gone takes nothing");
        assert!(from("10.0.0.1").is_ok());
    }
}
