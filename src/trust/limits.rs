use crate::setters::setters;

/// How much a master takes on, over all its links. What one link may take is in
/// [`Config`](crate::Config).
///
/// A socket takes a file descriptor: keep `connections`, `slaves` and `controls` together below what
/// the process may have.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Most sockets of listeners that are no links yet: 8,192. Further ones are closed at once.
    pub connections: usize,
    /// The same of one address, which for IPv6 is its first 64 bits: 4,096. Lower it where clients do not
    /// come through one proxy and do not share an address otherwise.
    pub connections_per_address: usize,
    /// Most slaves: 65,536. A further one is told to come back (close code 1013); one that takes the
    /// place of its own older link is none.
    pub slaves: usize,
    /// Most controls: 16,384. Counted apart, so that controls cannot keep slaves out.
    pub controls: usize,
    /// Most links of one address, which for IPv6 is its first 64 bits, sessions without a socket
    /// included: 81,920, all that there may be. Lower it as `connections_per_address`. Links whose address
    /// is not known here are not counted.
    pub links_per_address: usize,
    /// Most bytes of messages that all links hold together, which wait to be sent, to be
    /// acknowledged or to be handled: 256 MiB. Above it links end until it is enough, told to come back
    /// (close code 1013): first sessions without a socket, and of these and of the others the largest
    /// first. A link is up to 8 KiB behind with telling of its bytes.
    pub bytes: usize,
    /// Most sessions that are held without a socket: 16,384. For a further one the session that has
    /// been without for the longest ends, as if its time were over.
    pub detached_sessions: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 8_192,
            connections_per_address: 4_096,
            slaves: 65_536,
            controls: 16_384,
            links_per_address: 81_920,
            bytes: 256 << 20,
            detached_sessions: 16_384,
        }
    }
}

setters!(Limits {
    with_connections: connections, usize;
    with_connections_per_address: connections_per_address, usize;
    with_slaves: slaves, usize;
    with_controls: controls, usize;
    with_links_per_address: links_per_address, usize;
    with_bytes: bytes, usize;
    with_detached_sessions: detached_sessions, usize;
});
