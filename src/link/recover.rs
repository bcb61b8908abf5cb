//! Where a link's next socket comes from.

use std::future::Future;

use crate::close::Closed;
use crate::handshake::Hold;
use crate::transport::Transport;

/// Where a link gets its next socket from.
pub(crate) trait Recover: Send {
    /// A socket that takes the session over while the present one still works. Cancel safe.
    fn takeover(&mut self) -> impl Future<Output = Resumption> + Send;

    /// A socket after the last one was cut, or how the session ends. `last_seq` is the last number
    /// that this side has received.
    fn recover(
        &mut self,
        cut: &Closed,
        hold: &Hold,
        last_seq: Option<u64>,
    ) -> impl Future<Output = Result<Resumption, Closed>> + Send;
}

/// A link that ends with its socket.
#[derive(Debug)]
pub(crate) struct Unrecoverable;

impl Recover for Unrecoverable {
    async fn takeover(&mut self) -> Resumption {
        std::future::pending().await
    }

    async fn recover(
        &mut self,
        cut: &Closed,
        _: &Hold,
        _: Option<u64>,
    ) -> Result<Resumption, Closed> {
        Err(cut.clone())
    }
}

/// A socket to go on with.
pub(crate) struct Resumption {
    pub(crate) transport: Box<dyn Transport>,
    /// The last number that the peer has received.
    pub(crate) last_seq: Option<u64>,
    pub(crate) hold: Hold,
}

/// Why a socket is no longer served.
pub(super) enum Break {
    /// The link has ended.
    Ended(Closed),
    /// The socket is lost, and the session is held.
    Cut(Closed),
    /// Another socket takes over.
    TakenOver(Resumption),
}
