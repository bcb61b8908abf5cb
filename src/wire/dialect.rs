/// What differs between the generations of the protocol, as data: one value per generation.
///
/// Code asks a dialect for a property, never which dialect it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Dialect {
    /// The name, for logs.
    pub name: &'static str,
    /// What the `seq` of a handshake frame is.
    pub(crate) handshake_seq: HandshakeSeq,
    /// Whether `hello` and `register_slave` carry `plugins`, and `ready` the session's times.
    pub(crate) plugins: bool,
    /// What becomes of a link whose socket is lost.
    pub(crate) lost_socket: LostSocket,
    /// Whether a `close` message with the reason goes before the close frame. Where it does not,
    /// a close frame alone does not say that the end is meant to be final.
    pub(crate) close_message: bool,
    /// Whether `continue` brings a new session token.
    pub(crate) renews_token: bool,
}

/// What the `seq` of a handshake frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HandshakeSeq {
    /// An integer from the counter that numbers messages too, starting with 1.
    Counted,
    /// `null`; messages are numbered from 1.
    Null,
}

/// What becomes of a link whose socket is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LostSocket {
    /// It ends. WebSocket pings tell whether the peer lives.
    EndsTheLink,
    /// It is held until the client resumes the session on another socket. Heartbeats tell whether
    /// the peer lives, and which frames it has.
    IsResumed,
}

impl Dialect {
    /// The protocol document, exactly: numbered from the handshake on, no sessions, a `close`
    /// message before the socket goes.
    pub const PLAIN: Self = Self {
        name: "plain",
        handshake_seq: HandshakeSeq::Counted,
        plugins: false,
        lost_socket: LostSocket::EndsTheLink,
        close_message: true,
        renews_token: false,
    };

    /// Clusterio's session generation (2.0.0-alpha.0 to alpha.13).
    pub const SESSION: Self = Self {
        name: "session",
        handshake_seq: HandshakeSeq::Null,
        plugins: true,
        lost_socket: LostSocket::IsResumed,
        close_message: false,
        renews_token: false,
    };

    /// The session generation with this library's own extensions, which a peer asks for with the
    /// header `Seqlink-Session: 1` of its upgrade.
    pub const SEQLINK: Self =
        Self { name: "seqlink", close_message: true, renews_token: true, ..Self::SESSION };

    /// Whether the link outlives its socket.
    pub fn resumes(&self) -> bool {
        self.lost_socket == LostSocket::IsResumed
    }
}
