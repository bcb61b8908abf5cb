//! One WebSocket between a master and its slaves and controls: typed requests and events in both directions,
//! negotiated protocol versions, a reason for every close, and clients that come back.
//!
//! `seqlink` speaks Clusterio's link protocol (`docs/protocol.md` has the whole wire): the master
//! says `hello`, the client registers as a slave or a control, the master says `ready`, and from
//! then on both sides send `{seq, type, data}` messages. It is for programs that run fleets of
//! servers and must know what became of each thing that they asked for.
//!
//! It is no framework for browsers, no broker, and no RPC between strangers: both ends know the
//! same Rust types, or the same document.
//!
//! # Example
//!
//! ```
//! use seqlink::{Ctx, Empty, Event, Master, Request, Router, Slave};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Start { game: u32 }
//! impl Request for Start { const NAME: &'static str = "start"; type Response = Empty; }
//!
//! #[derive(Serialize, Deserialize)]
//! struct Output { line: String }
//! impl Event for Output { const NAME: &'static str = "output"; }
//!
//! async fn start(start: Start, ctx: Ctx) -> Result<Empty, String> {
//!     let line = format!("game {} starts", start.game);
//!     ctx.link().event(&Output { line }).await.map_err(|error| error.to_string())?;
//!     Ok(Empty {})
//! }
//!
//! async fn output(output: Output, ctx: Ctx) {
//!     println!("slave {:?}: {}", ctx.peer().id, output.line);
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let master = Master::builder().router(Router::new(()).event(output)).build()?;
//! let address = master.listen("127.0.0.1:0").await?;
//!
//! let slave = Slave::builder().url(format!("ws://{address}/")).id(7);
//! let slave = slave.router(Router::new(()).request(start)).connect().await?;
//!
//! let link = master.slave(7).ok_or("not here")?;
//! link.request(&Start { game: 4 }).await?;
//! slave.close("done").await;
//! # Ok(()) }
//! ```
//!
//! # What it promises
//!
//! Within a session every message arrives exactly once and in the order sent, across any number of
//! sockets; one that its handler cannot take is answered, counted or ends the link. Every request ends exactly once: with a response, the peer's error, a
//! timeout, or the end of the link, which says whether the request was *not delivered* or whether
//! that is *unknown*. Nothing is sent again behind the caller's back once the session is lost. The
//! memory of a link is bounded by its [`Config`].
//!
//! Clients ask for a session by default ([`ClientBuilder::sessions`]). With a peer that has none
//! a link ends with its socket, and every message reaches its handler at most once. A
//! [graceful end](Link::disconnect) lets both sides finish what they have begun. When a link is
//! [closed](Link::close) without that, what it had queued goes out in front of the reason, as far as
//! the peer reads it within [`Config::close_timeout`], and a request that crosses the other side's
//! close is not handled.
//!
//! # Map
//!
//! | module | what is in it |
//! |---|---|
//! | crate root | the names that nearly every program needs |
//! | [`message`] | the traits of messages, and who may send what to whom |
//! | [`catalog`] | messages that are already defined: Clusterio's, and those of game nodes |
//! | [`master`], [`client`] | the two ends |
//! | [`transport`] | WebSocket and memory; [`transport::memory`] is for your tests |
//! | `tls` | certificates for both ends (feature `tls`) |
//! | [`error`], [`close`] | why something failed, and why a link ended |
//! | [`secret`] | strings that never show |
//! | [`printable`] | what a peer said, made fit for a log or a terminal |
//! | `tokens` | Clusterio's own tokens, checked and issued (feature `clusterio-tokens`) |
//! | [`trust`] | who may connect, and what it may ask for |
//! | [`version`] | which versions talk to each other |

pub mod catalog;
pub mod client;
pub mod close;
pub mod error;
mod handshake;
mod link;
pub mod master;
pub mod message;
pub mod printable;
pub mod secret;
#[doc(hidden)]
pub mod session;
mod setters;
#[cfg(feature = "clusterio-tokens")]
pub mod tokens;
pub mod transport;
pub mod trust;
pub mod version;
#[doc(hidden)]
pub mod wire;

pub use client::{Client, ClientBuilder, Control, Reconnect, Slave, Stopped};
pub use close::{CloseCode, Closed, ClosedBy, Reason};
pub use error::{
    AcceptError, ConfigError, ConnectError, Delivery, Denied, EventError, HandshakeError,
    RemoteError, RequestError, SendError,
};
pub use link::{Config, Ctx, Ignored, Link, LinkState, Received, Router, States};
pub use master::{Master, MasterBuilder, MembershipEvent};
pub use message::{Direction, Empty, Event, Peer, Request, Role};
pub use secret::Secret;
#[cfg(feature = "tls")]
pub use transport::tls;
pub use trust::{Authenticator, Claims, Registration, Verdict};
pub use wire::Dialect;

// What stands in signatures of this library, in the versions that it is built with.
#[doc(no_inline)]
pub use futures::{Sink, Stream};
#[cfg(feature = "hyper")]
#[doc(no_inline)]
pub use hyper;
#[doc(no_inline)]
pub use {semver, serde, serde_json, tokio};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
