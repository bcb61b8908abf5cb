//! What all programs have in common: flags and the file under them, tokens, the log, the end.

pub(crate) mod authenticator;
pub(crate) mod client;
pub(crate) mod connect;
mod exit;
pub(crate) mod file;
pub(crate) mod listen;
mod log;
mod own_token;
mod private_folder;
pub(crate) mod private_process;
pub(crate) mod random;
pub(crate) mod setup;
pub(crate) mod tls;
pub(crate) mod token;
pub(crate) mod unquoted;

pub use exit::Failure;
pub(crate) use exit::{USAGE, finish};
