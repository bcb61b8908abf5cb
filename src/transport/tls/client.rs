use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls_platform_verifier::Verifier;
use sha2::{Digest as _, Sha256};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::client::{Resumption, WebPkiServerVerifier, verify_server_name};
use tokio_rustls::rustls::crypto::{
    CryptoProvider, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, SignatureScheme,
};

use super::counted::{CountedStream, Counts};
use super::fault::{OtherFingerprint, of_handshake};
use super::{pem, provider};
use crate::error::{TlsError, TlsFault};

/// How a client knows its master, and what it shows of itself: for
/// [`ClientBuilder::tls`](crate::ClientBuilder::tls).
///
/// The name, or the address, in the client's URL must be one of the master's certificate whichever way
/// that is trusted.
#[derive(Clone)]
#[must_use = "it does nothing until a client has it"]
pub struct ClientTls {
    verifier: Arc<dyn ServerCertVerifier>,
    identity: Option<Arc<CertifiedKey>>,
}

impl ClientTls {
    /// Trusts whom this machine trusts: on macOS and Windows the system judges, elsewhere its CA
    /// certificates are read, which takes some milliseconds. The environment variables `SSL_CERT_FILE` and
    /// `SSL_CERT_DIR` name others there.
    ///
    /// # Errors
    ///
    /// This machine has no CA certificates.
    pub fn platform() -> Result<Self, TlsError> {
        let verifier = Verifier::new(provider());
        let verifier = verifier.map_err(|error| TlsError::NoRoots(error.to_string().into()))?;
        Ok(Self::new(Arc::new(verifier)))
    }

    /// Trusts what these CAs have signed, and nothing else; or the certificates themselves, if they
    /// are those of masters.
    ///
    /// # Errors
    ///
    /// This is no PEM with certificates.
    pub fn ca_pem(pem: impl AsRef<[u8]>) -> Result<Self, TlsError> {
        let roots = pem::roots(pem.as_ref())?;
        let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider()).build();
        let verifier = verifier.map_err(|error| {
            let fault = error.to_string().into();
            TlsError::Certificate { what: "CA", fault }
        })?;
        Ok(Self::new(verifier))
    }

    /// Trusts the one certificate that has this SHA-256 fingerprint, whoever has signed it: 64
    /// hexadecimal digits, with colons between the bytes or without, behind `sha256:` or not. That of a
    /// file: `openssl x509 -in FILE -noout -fingerprint -sha256`.
    ///
    /// The certificate must still have the name, and the master its key. Its dates are not looked at: a
    /// pin is for one certificate until it is replaced, and no fleet stops at a date that nobody watches.
    ///
    /// # Errors
    ///
    /// This is no such fingerprint.
    pub fn pinned(fingerprint: impl AsRef<str>) -> Result<Self, TlsError> {
        let text = fingerprint.as_ref();
        let fingerprint = parse(text).ok_or_else(|| TlsError::Fingerprint(text.into()))?;
        Ok(Self::new(Arc::new(Pin { fingerprint, provider: provider() })))
    }

    fn new(verifier: Arc<dyn ServerCertVerifier>) -> Self {
        Self { verifier, identity: None }
    }

    /// Shows this certificate to masters that ask for one: the certificate, then those of the CAs between
    /// it and the one that the master knows; and its key. Both are PEM.
    ///
    /// # Errors
    ///
    /// What of it cannot be used.
    pub fn identity(
        mut self,
        chain: impl AsRef<[u8]>,
        key: impl AsRef<[u8]>,
    ) -> Result<Self, TlsError> {
        self.identity = Some(pem::identity(chain.as_ref(), key.as_ref())?);
        Ok(self)
    }

    fn config(&self) -> Result<ClientConfig, TlsError> {
        let versions = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError::Provider(error.to_string().into()))?;
        // The only way in for a verifier; all three of ours check the name and the signature.
        let config =
            versions.dangerous().with_custom_certificate_verifier(Arc::clone(&self.verifier));
        let mut config = match &self.identity {
            None => config.with_no_client_auth(),
            Some(identity) => {
                let identity = SingleCertAndKey::from(Arc::clone(identity));
                config.with_client_cert_resolver(Arc::new(identity))
            }
        };
        // A resumed TLS session does not show the certificate again: one that was revoked would stay.
        config.resumption = Resumption::disabled();
        Ok(config)
    }
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let has_identity = self.identity.is_some();
        f.debug_struct("ClientTls").field("has_identity", &has_identity).finish_non_exhaustive()
    }
}

/// What it takes to speak TLS with one master.
pub(crate) struct Connector {
    tls: TlsConnector,
    name: ServerName<'static>,
}

pub(crate) type ClientStream = TlsStream<CountedStream<TcpStream>>;

impl Connector {
    /// `None`: there is no certificate for such a host.
    pub(crate) fn new(tls: &ClientTls, host: &str) -> Result<Option<Self>, TlsError> {
        let tls = TlsConnector::from(Arc::new(tls.config()?));
        Ok(ServerName::try_from(host.to_owned()).ok().map(|name| Self { tls, name }))
    }

    pub(crate) async fn connect(
        &self,
        stream: TcpStream,
        after: Duration,
    ) -> Result<(ClientStream, Arc<Counts>), TlsFault> {
        let stream = CountedStream::new(stream);
        let counts = stream.counts();
        match timeout(after, self.tls.connect(self.name.clone(), stream)).await {
            Ok(Ok(stream)) => Ok((stream, counts)),
            Ok(Err(error)) => {
                Err(of_handshake(&error)
                    .unwrap_or_else(|| TlsFault::Other(error.to_string().into())))
            }
            Err(_) => Err(TlsFault::Timeout { after }),
        }
    }
}

type Fingerprint = [u8; 32];

pub(super) fn fingerprint(certificate: &CertificateDer<'_>) -> Fingerprint {
    Sha256::digest(certificate).into()
}

/// As it can be given to [`ClientTls::pinned`].
pub(super) fn show(fingerprint: &Fingerprint) -> String {
    let digits = fingerprint.iter().map(|byte| format!("{byte:02x}"));
    format!("sha256:{}", digits.collect::<String>())
}

fn parse(text: &str) -> Option<Fingerprint> {
    let text = text.trim().to_ascii_lowercase();
    let text = text.strip_prefix("sha256:").unwrap_or(&text);
    let mut fingerprint = [0; 32];
    let digits: Vec<&str> = match text.contains(':') {
        true => text.split(':').collect(),
        false => (0..text.len()).step_by(2).map_while(|at| text.get(at..at + 2)).collect(),
    };
    if digits.len() != 32 || (!text.contains(':') && text.len() != 64) {
        return None;
    }
    for (byte, digits) in fingerprint.iter_mut().zip(digits) {
        // `from_str_radix` would take a sign too.
        let are_two = digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        *byte = u8::from_str_radix(digits, 16).ok().filter(|_| are_two)?;
    }
    Some(fingerprint)
}

/// Takes one certificate.
#[derive(Debug)]
struct Pin {
    fingerprint: Fingerprint,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pin {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let presented = fingerprint(end_entity);
        if presented != self.fingerprint {
            let (presented, pinned) = (show(&presented), show(&self.fingerprint));
            let other = OtherError(Arc::new(OtherFingerprint { presented, pinned }));
            return Err(CertificateError::Other(other).into());
        }
        // A certificate for another name may be on another machine of the same fleet.
        verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        // The certificate is public: only this shows that the other side has its key.
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_read_in_the_ways_that_tools_write_it() {
        let bare = "00ff".repeat(16);
        let colons: Vec<String> = std::iter::repeat_n("00:FF".to_owned(), 16).collect();
        let colons = colons.join(":");
        let read = parse(&bare).unwrap();
        assert_eq!((read[0], read[1], read[31]), (0, 255, 255));
        for same in [&colons, &format!("sha256:{bare}"), &format!("SHA256:{colons}"), &show(&read)]
        {
            assert_eq!(parse(same), Some(read), "{same}");
        }
    }

    #[test]
    fn what_is_no_fingerprint_is_refused() {
        let bare = "00ff".repeat(16);
        let (short, long) = (&bare[1..], format!("{bare}0"));
        let wrong = bare.replacen('f', "g", 1);
        let (sign, wide) = (bare.replacen("00", "+0", 1), bare.replacen("00", "é", 1));
        let shifted = format!("000:0:{}", ["00"; 30].join(":"));
        for text in ["", "sha256:", short, &long, &wrong, &sign, &wide, &shifted, &"é".repeat(32)]
        {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
