/// What differs between the generations of the protocol, as data: one value per generation.
///
/// Code asks a dialect for a property, never which dialect it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Dialect {
    /// The name, for logs.
    pub name: &'static str,
    /// What the `seq` of a handshake frame is.
    pub handshake_seq: HandshakeSeq,
    /// Whether a `close` message with the reason goes before the close frame.
    pub close_message: bool,
}

/// What the `seq` of a handshake frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeSeq {
    /// An integer from the counter that numbers messages too, starting with 1.
    Counted,
}

impl Dialect {
    /// The protocol document, exactly: numbered from the handshake on, no sessions, a `close`
    /// message before the socket goes.
    pub const PLAIN: Self =
        Self { name: "plain", handshake_seq: HandshakeSeq::Counted, close_message: true };
}
