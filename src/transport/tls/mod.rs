//! TLS, for masters that listen with it and clients that dial `wss://` (feature `tls`).
//!
//! [`ServerTls`] and [`ClientTls`] are made from PEM. Both ends speak TLS 1.2 and 1.3, with rustls
//! over ring, whatever other providers of cryptography a program has.
//!
//! # Example
//!
//! ```
//! use seqlink::tls::{ClientTls, ServerTls};
//! use seqlink::{Control, Master};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let signed = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
//! # let (certificate, key) = (signed.cert.pem(), signed.signing_key.serialize_pem());
//! let tls = ServerTls::from_pem(&certificate, key)?;
//! let master = Master::builder().tls(tls).build()?;
//! let port = master.listen("127.0.0.1:0").await?.port();
//!
//! let tls = ClientTls::ca_pem(&certificate)?;
//! let control = Control::builder().url(format!("wss://localhost:{port}/")).tls(tls);
//! let control = control.connect().await?;
//! assert_eq!(master.controls().len(), 1);
//! control.close("done").await;
//! # Ok(()) }
//! ```
//!
//! # Who the master is
//!
//! A client checks the master's certificate against the name in its URL, always, and against one of
//! three: what this machine trusts ([`ClientTls::platform`], which is also what a `wss://` client
//! without any [`tls`](crate::ClientBuilder::tls) does), a CA of your own ([`ClientTls::ca_pem`]), or the
//! fingerprint of the one certificate ([`ClientTls::pinned`]).
//!
//! What fails is tried again as the client's [`Reconnect`](crate::Reconnect) says: certificates are
//! renewed, revocation lists replaced and clocks set while the client waits.
//!
//! # Who the client is
//!
//! With [`ServerTls::client_ca`] a master asks its clients for certificates, and holds them to the name
//! in there: the slave 7 must show a certificate for the DNS name `slave-7.seqlink.internal`, a control one
//! for `control.seqlink.internal`, as a subject alternative name. One certificate may have several. What
//! does not fit is refused as a wrong token is, and no other certificate can go on with the session
//! of a link that was let in by one. Tokens are asked for as without.
//!
//! # Nothing is remembered
//!
//! TLS sessions are not resumed, on neither end: each handshake looks at the certificates anew, and what
//! was revoked is out with the next.

mod client;
mod counted;
mod fault;
mod pem;
mod server;

use std::sync::Arc;

use tokio_rustls::rustls::crypto::{CryptoProvider, ring};

pub use client::ClientTls;
pub use server::ServerTls;

pub use crate::error::{TlsError, TlsFault};

pub(crate) use client::Connector;
pub(crate) use counted::Counts;
pub(crate) use fault::fault;
pub(crate) use server::{Acceptor, Certificate, Secured};

/// The one provider, named at every use: nothing depends on a default of the process.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}
