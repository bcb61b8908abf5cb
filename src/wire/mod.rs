//! The wire as text: frames and handshake messages in, frames and handshake messages out.
//!
//! Nothing here knows a socket. What differs between the generations of the protocol stands as
//! data in [`Dialect`].

mod answer;
mod decode;
mod depth;
mod dialect;
mod encoded;
#[cfg(test)]
mod fast_parse;
mod frame;
mod handshake;
mod limits;
mod text;

pub(crate) use answer::{Answer, Parse, Unread};
pub use decode::{DecodeError, decode};
pub use depth::MAX_DEPTH;
pub use dialect::Dialect;
pub(crate) use dialect::HandshakeSeq;
pub use encoded::{EncodeError, EncodedMessage, NumberError};
pub use frame::{Frame, FrameError, MessageClass, Response, without_seq};
pub use handshake::{
    Account, Close, Continue, HeartbeatMessage, Hello, Invalidate, Ready, RegisterControl,
    RegisterSlave, Resume, Seconds,
};
pub(crate) use limits::check_name;
pub use limits::{MAX_SEQ, NameError, describe, is_name};
pub use text::Text;

/// The request with which a peer of the session generation begins a graceful end, without its
/// ending.
pub const PREPARE_DISCONNECT: &str = "prepare_disconnect";
