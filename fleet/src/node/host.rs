//! What a slave can say about the machine it runs on.
//!
//! The card is looked for by hand, because the libraries for it take the first that has an address, which on a
//! machine with containers is a bridge; and the address towards a master is the standard library's.

use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::path::Path;

/// The host's name, `slave` when it has none.
pub(crate) fn host_name() -> String {
    let name = gethostname::gethostname().to_string_lossy().into_owned();
    if name.is_empty() { "slave".to_owned() } else { name }
}

/// The MAC address of the first real network card that is up, `00-00-00-00-00-00` without one.
pub(crate) fn mac_address() -> String {
    let folder = Path::new("/sys/class/net");
    let mut cards: Vec<_> = std::fs::read_dir(folder)
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default();
    // A card with a device behind it before bridges and tunnels, one that is up before one that
    // is down, then by name, so that the answer stays the same from start to start.
    cards.sort_by_key(|card| {
        let up = read(&card.join("operstate")) == "up";
        (!card.join("device").exists(), !up, card.clone())
    });
    cards
        .iter()
        .map(|card| read(&card.join("address")))
        .find(|address| address.chars().any(|c| c.is_ascii_hexdigit() && c != '0'))
        .unwrap_or_else(|| "00:00:00:00:00:00".to_owned())
        .replace(':', "-")
}

/// The address of this machine as the master at `url` sees it without a router in between.
///
/// Connecting a UDP socket sends nothing: it asks the system which of its addresses it would use.
/// May wait for a name server.
pub(crate) fn local_address(url: &str) -> String {
    let towards = |target: SocketAddr| {
        let socket = UdpSocket::bind(if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
        socket.connect(target)?;
        socket.local_addr()
    };
    host_and_port(url)
        .to_socket_addrs()
        .ok()
        .and_then(|mut targets| targets.find_map(|target| towards(target).ok()))
        .map_or(Ipv4Addr::LOCALHOST.to_string(), |address| address.ip().to_string())
}

/// What `ToSocketAddrs` understands of `ws://host:port/prefix/`; the port may be missing.
fn host_and_port(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    // The colons of an IPv6 address stand between brackets.
    let port = authority.rsplit_once(']').map_or(authority, |(_, port)| port);
    if port.contains(':') { authority.to_owned() } else { format!("{authority}:80") }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_towards_a_master() {
        assert_eq!(host_and_port("ws://[::1]/prefix/"), "[::1]:80");
        assert_eq!(host_and_port("host:8750"), "host:8750");
        assert_eq!(host_and_port("http://host?x"), "host:80");
        assert_eq!(local_address("ws://127.0.0.1:8750/"), "127.0.0.1");
    }
}
