//! The wire as text: frames and handshake messages in, frames and handshake messages out.
//!
//! Nothing here knows a socket. What differs between the generations of the protocol stands as
//! data in [`Dialect`].

mod dialect;
mod encoded;
#[cfg(test)]
mod fast_parse;
mod frame;
mod handshake;
mod text;

pub use dialect::Dialect;
pub(crate) use dialect::HandshakeSeq;
pub(crate) use encoded::check_name;
pub use encoded::{EncodeError, EncodedMessage, MAX_DEPTH, NameError, NumberError, is_name};
pub(crate) use frame::{Answer, Parse, Unread};
pub use frame::{
    DecodeError, Frame, FrameError, MAX_SEQ, MessageClass, Response, decode, describe, without_seq,
};
pub use handshake::{
    Account, Close, Continue, HeartbeatMessage, Hello, Invalidate, Ready, RegisterControl,
    RegisterSlave, Resume, Seconds,
};
pub use text::Text;

/// The request with which a peer of the session generation begins a graceful end, without its
/// ending.
pub const PREPARE_DISCONNECT: &str = "prepare_disconnect";
