//! What is read from PEM. No error quotes any of it: it may be a key.

use std::sync::Arc;

use tokio_rustls::rustls::pki_types::pem::{Error as PemError, PemObject};
use tokio_rustls::rustls::pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer,
};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{Error, RootCertStore};

use super::provider;
use crate::error::TlsError;

/// A certificate with those of the CAs between it and one that is trusted, and its key.
pub(super) fn identity(chain: &[u8], key: &[u8]) -> Result<Arc<CertifiedKey>, TlsError> {
    let what = "certificate chain";
    let chain: Vec<CertificateDer<'static>> = all(chain, what, "CERTIFICATE")?;
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|error| broken(&error, "private key", "PRIVATE KEY"))?;
    let identity = CertifiedKey::from_der(chain, key, &provider());
    Ok(Arc::new(identity.map_err(|error| match error {
        Error::InconsistentKeys(_) => TlsError::KeyMismatch,
        Error::InvalidCertificate(fault) => {
            TlsError::Certificate { what, fault: fault.to_string().into() }
        }
        _ => TlsError::Key,
    })?))
}

/// The certificates of CAs.
pub(super) fn roots(pem: &[u8]) -> Result<Arc<RootCertStore>, TlsError> {
    let what = "CA";
    let mut roots = RootCertStore::empty();
    for certificate in all::<CertificateDer<'static>>(pem, what, "CERTIFICATE")? {
        roots.add(certificate).map_err(|error| {
            let fault = error.to_string().into();
            TlsError::Certificate { what, fault }
        })?;
    }
    Ok(Arc::new(roots))
}

pub(super) fn crls(pem: &[u8]) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
    all(pem, "revocation list", "X509 CRL")
}

/// All of one kind, of which there must be one.
fn all<T: PemObject>(
    pem: &[u8],
    what: &'static str,
    expected: &'static str,
) -> Result<Vec<T>, TlsError> {
    let all: Result<Vec<T>, _> = T::pem_slice_iter(pem).collect();
    let all = all.map_err(|error| broken(&error, what, expected))?;
    if all.is_empty() { Err(TlsError::Missing { what, expected }) } else { Ok(all) }
}

fn broken(error: &PemError, what: &'static str, expected: &'static str) -> TlsError {
    let fault = match error {
        PemError::NoItemsFound => return TlsError::Missing { what, expected },
        PemError::MissingSectionEnd { .. } => "a section has no end",
        PemError::IllegalSectionStart { .. } => "a section does not begin as it must",
        PemError::Base64Decode(_) => "it is not base64",
        _ => "it cannot be read",
    };
    TlsError::Pem { what, fault }
}
