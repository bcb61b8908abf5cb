//! What the arguments of all clients have in common.

use seqlink::Secret;

use super::Failure;
use super::own_token;
use super::token::TokenArguments;

/// Where a master listens unless it is told otherwise.
pub(crate) const MASTER: &str = "ws://127.0.0.1:8750";

/// What the help texts of the clients say about the end of the program.
pub(crate) const EXIT_CODES: &str = "\
Exit codes: 0 success, 1 failure, 2 wrong arguments, 69 master not reachable,
76 protocol versions do not fit, 77 token refused, 78 no TLS with the master.
RUST_LOG=debug says more on stderr.";

/// The token for the master at `url`: the one that was named, or else that of a master of this
/// user's on this machine.
pub(crate) fn token(named: &TokenArguments, url: &str) -> Result<Option<Secret>, Failure> {
    Ok(named.named()?.or_else(|| own_token::find(url)))
}
