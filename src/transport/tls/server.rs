use std::fmt;
use std::io;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::client::verify_server_name;
use tokio_rustls::rustls::pki_types::{
    CertificateDer, CertificateRevocationListDer, DnsName, ServerName,
};
use tokio_rustls::rustls::server::{
    NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier,
};
use tokio_rustls::rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio_rustls::rustls::{CertificateError, Error, RootCertStore, ServerConfig};
use tokio_rustls::server::TlsStream;

use super::client::{fingerprint, show};
use super::counted::{CountedStream, Counts};
use super::fault::{names, of_handshake};
use super::{pem, provider};
use crate::error::{TlsError, TlsFault};
use crate::message::Role;
use crate::transport::websocket::{say_goodbye, tell_plain_client};

/// What a master shows of itself, and what it asks of its clients: for
/// [`MasterBuilder::tls`](crate::MasterBuilder::tls), and, while the master runs, for
/// [`Master::reload_tls`](crate::Master::reload_tls).
#[derive(Clone)]
#[must_use = "it does nothing until a master has it"]
pub struct ServerTls {
    identity: Arc<CertifiedKey>,
    client_ca: Option<Arc<RootCertStore>>,
    is_optional: bool,
    crls: Vec<CertificateRevocationListDer<'static>>,
}

impl ServerTls {
    /// Shows this certificate: the certificate, then those of the CAs between it and the one that clients
    /// know; and its key. Both are PEM.
    ///
    /// # Errors
    ///
    /// What of it cannot be used.
    pub fn from_pem(chain: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Result<Self, TlsError> {
        let identity = pem::identity(chain.as_ref(), key.as_ref())?;
        Ok(Self { identity, client_ca: None, is_optional: false, crls: Vec::new() })
    }

    /// Asks each client for a certificate that these CAs have signed, and that is its own: see the
    /// [module](crate::tls).
    ///
    /// # Errors
    ///
    /// This is no PEM with certificates.
    pub fn client_ca(mut self, pem: impl AsRef<[u8]>) -> Result<Self, TlsError> {
        self.client_ca = Some(pem::roots(pem.as_ref())?);
        Ok(self)
    }

    /// Lets clients in that show no certificate too, by their tokens alone. Who shows one is held to it.
    pub fn client_certificate_optional(mut self) -> Self {
        self.is_optional = true;
        self
    }

    /// Refuses the client certificates on these revocation lists, PEM, in addition to those of earlier
    /// calls. Once there is a list, each CA in a client's chain needs one. A list is good until it
    /// is replaced ([`Master::reload_tls`](crate::Master::reload_tls)), also when the time of its next update
    /// has passed.
    ///
    /// # Errors
    ///
    /// This is no PEM with revocation lists.
    pub fn crl(mut self, pem: impl AsRef<[u8]>) -> Result<Self, TlsError> {
        self.crls.extend(pem::crls(pem.as_ref())?);
        Ok(self)
    }

    /// The SHA-256 fingerprint of the certificate, as [`ClientTls::pinned`](super::ClientTls::pinned) takes it.
    pub fn fingerprint(&self) -> String {
        show(&fingerprint(&self.identity.cert[0]))
    }

    fn config(&self) -> Result<ServerConfig, TlsError> {
        let versions = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError::Provider(error.to_string().into()))?;
        let verifier = match &self.client_ca {
            None if !self.crls.is_empty() => return Err(TlsError::CrlWithoutCa),
            None => WebPkiClientVerifier::no_client_auth(),
            Some(roots) => {
                let roots = Arc::clone(roots);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider())
                    .with_crls(self.crls.iter().cloned());
                let verifier = match self.is_optional {
                    true => verifier.allow_unauthenticated(),
                    false => verifier,
                };
                verifier.build().map_err(|error| TlsError::Crl(error.to_string().into()))?
            }
        };
        let identity = SingleCertAndKey::from(Arc::clone(&self.identity));
        let config = versions.with_client_cert_verifier(verifier);
        let mut config = config.with_cert_resolver(Arc::new(identity));
        // A resumed TLS session is not looked at again: whose certificate was revoked would stay.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls")
            .field("fingerprint", &self.fingerprint())
            .field("asks_clients", &self.client_ca.is_some())
            .finish_non_exhaustive()
    }
}

/// Makes TLS of accepted sockets.
pub(crate) struct Acceptor {
    current: RwLock<Arc<ServerConfig>>,
}

pub(crate) type ServerStream = TlsStream<CountedStream<TcpStream>>;

/// A client's socket behind its TLS handshake.
pub(crate) struct Secured {
    pub(crate) stream: ServerStream,
    pub(crate) counts: Arc<Counts>,
    pub(crate) certificate: Option<Certificate>,
}

impl Acceptor {
    pub(crate) fn new(tls: &ServerTls) -> Result<Self, TlsError> {
        Ok(Self { current: RwLock::new(Arc::new(tls.config()?)) })
    }

    /// For the handshakes that begin from now on.
    pub(crate) fn reload(&self, tls: &ServerTls) -> Result<(), TlsError> {
        let config = Arc::new(tls.config()?);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = config;
        Ok(())
    }

    /// A client that does not speak TLS is told so in HTTP, and why others are refused, in TLS.
    pub(crate) async fn accept(
        &self,
        stream: TcpStream,
        after: Duration,
    ) -> Result<Secured, TlsFault> {
        let handshake = timeout(after, self.handshake(stream));
        match handshake.await.unwrap_or(Err(Failed::Told(TlsFault::Timeout { after }))) {
            Ok(secured) => Ok(secured),
            Err(Failed::Told(fault)) => Err(fault),
            Err(Failed::Untold(fault, mut stream)) => {
                // Without this, what the client has sent meanwhile would reset the socket, and it
                // would lose the alert.
                if stream.shutdown().await.is_ok() {
                    say_goodbye(&mut stream).await;
                }
                Err(fault)
            }
            Err(Failed::Plain(mut stream)) => {
                let _ = tell_plain_client(&mut stream).await;
                Err(TlsFault::Plain)
            }
        }
    }

    async fn handshake(&self, stream: TcpStream) -> Result<Secured, Failed> {
        let mut first = [0];
        // An HTTP method begins with a capital letter, a TLS record with a number below 32.
        // Nothing is made for a client that says nothing.
        match stream.peek(&mut first).await {
            Ok(0) => return Err(Failed::Told(TlsFault::Ended)),
            Ok(_) if first[0].is_ascii_uppercase() => return Err(Failed::Plain(stream)),
            Ok(_) => {}
            Err(error) => return Err(Failed::Told(io_fault(&error))),
        }
        let config = Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner));
        let stream = CountedStream::new(stream);
        let counts = stream.counts();
        // Fallible, because it gives the stream back: the alert still has to be read at the other end.
        match TlsAcceptor::from(config).accept(stream).into_fallible().await {
            Ok(stream) => {
                let certificates = stream.get_ref().1.peer_certificates();
                let certificate = certificates.and_then(<[_]>::first);
                let certificate = certificate.map(|leaf| Certificate(leaf.clone().into_owned()));
                Ok(Secured { stream, counts, certificate })
            }
            Err((error, stream)) => Err(Failed::Untold(io_fault(&error), stream)),
        }
    }
}

fn io_fault(error: &io::Error) -> TlsFault {
    of_handshake(error).unwrap_or_else(|| TlsFault::Other(error.to_string().into()))
}

/// A handshake that came to nothing, and what is left to be done.
enum Failed {
    Told(TlsFault),
    /// An alert is on its way.
    Untold(TlsFault, CountedStream<TcpStream>),
    /// It asks in HTTP.
    Plain(TcpStream),
}

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acceptor").finish_non_exhaustive()
    }
}

/// A client's certificate, which one of the master's CAs has signed.
#[derive(Clone, Debug)]
pub(crate) struct Certificate(CertificateDer<'static>);

impl Certificate {
    /// Whether it is that of this peer. The error is whose it is instead.
    pub(crate) fn check(&self, role: Role, id: Option<i64>) -> Result<(), String> {
        let name = match (role, id) {
            (Role::Slave, Some(id)) => format!("slave-{id}.seqlink.internal"),
            _ => format!("{role}.seqlink.internal"),
        };
        // By the TLS library's own check of names, so that no certificate is taken apart here.
        let is_for = |name: &str| {
            let name =
                DnsName::try_from(name.to_owned()).map_err(|_| Error::UnsupportedNameType)?;
            let certificate = ParsedCertificate::try_from(&self.0)?;
            verify_server_name(&certificate, &ServerName::DnsName(name))
        };
        is_for(&name).map_err(|error| match error {
            Error::InvalidCertificate(CertificateError::NotValidForNameContext {
                presented,
                ..
            }) => format!("the certificate is for {}, and not for {name}", names(&presented)),
            other => format!("the certificate is not for {name}: {other}"),
        })
    }
}
