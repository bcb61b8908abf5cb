//! The TLS library's errors in this library's words.

use std::fmt;
use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio_rustls::rustls::pki_types::UnixTime;
use tokio_rustls::rustls::{AlertDescription, CertificateError, Error, InvalidMessage};

use crate::error::TlsFault;
use crate::printable::Printable;

/// What TLS has to say of a stream's error; `None` where it is the socket's.
pub(crate) fn fault(error: &io::Error) -> Option<TlsFault> {
    let error = error.get_ref()?.downcast_ref::<Error>()?;
    Some(match error {
        Error::InvalidCertificate(error) => certificate(error),
        Error::NoCertificatesPresented => TlsFault::NoCertificate,
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => TlsFault::Plain,
        Error::AlertReceived(alert) => TlsFault::Refused(refused(*alert).into()),
        other => TlsFault::other(&other.to_string()),
    })
}

/// The same for an error before the handshake is over.
pub(super) fn of_handshake(error: &io::Error) -> Option<TlsFault> {
    // A server that refuses a client may close before its alert is read.
    let is_end = matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
    );
    fault(error).or_else(|| is_end.then_some(TlsFault::Ended))
}

fn certificate(error: &CertificateError) -> TlsFault {
    match error {
        CertificateError::NotValidForNameContext { expected, presented } => TlsFault::Name {
            expected: expected.to_str().into_owned().into(),
            presented: names(presented),
        },
        CertificateError::ExpiredContext { not_after, .. } => TlsFault::Expired(time(*not_after)),
        CertificateError::Expired => TlsFault::Expired(None),
        CertificateError::NotValidYetContext { not_before, .. } => {
            TlsFault::NotYetValid(time(*not_before))
        }
        CertificateError::NotValidYet => TlsFault::NotYetValid(None),
        CertificateError::UnknownIssuer => TlsFault::UnknownCa,
        CertificateError::Revoked => TlsFault::Revoked,
        CertificateError::UnknownRevocationStatus => TlsFault::UnknownRevocation,
        CertificateError::Other(other) => match other.0.downcast_ref::<OtherFingerprint>() {
            Some(OtherFingerprint { presented, pinned }) => TlsFault::Fingerprint {
                presented: presented.as_str().into(),
                pinned: pinned.as_str().into(),
            },
            None => TlsFault::other(&format!("its certificate cannot be used: {other}")),
        },
        other => TlsFault::other(&format!("its certificate cannot be used: {other}")),
    }
}

/// Why a pinned certificate was not taken.
#[derive(Debug)]
pub(super) struct OtherFingerprint {
    pub(super) presented: String,
    pub(super) pinned: String,
}

impl fmt::Display for OtherFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the fingerprint {} is not {}", self.presented, self.pinned)
    }
}

impl std::error::Error for OtherFingerprint {}

/// Most names of a certificate that are shown.
const MOST_NAMES: usize = 8;

/// The names of a certificate for people; the library tells them as `DnsName("…")`.
pub(super) fn names(presented: &[String]) -> Box<str> {
    let bare = |name: &String| {
        let name = name.strip_prefix("DnsName(").unwrap_or(name);
        let name = name.strip_prefix("IpAddress(").unwrap_or(name);
        name.strip_suffix(')').unwrap_or(name).trim_matches('"').to_owned()
    };
    let mut names: Vec<String> = presented.iter().take(MOST_NAMES).map(bare).collect();
    match presented.len() {
        0 => names.push("no name".to_owned()),
        all if all > MOST_NAMES => names.push(format!("{} more", all - MOST_NAMES)),
        _ => {}
    }
    Printable::new(&names.join(", ")).to_string().into()
}

fn time(time: UnixTime) -> Option<SystemTime> {
    UNIX_EPOCH.checked_add(Duration::from_secs(time.as_secs()))
}

/// What the other side means by an alert.
fn refused(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::CertificateRequired => {
            "it asks for a certificate, and this side has shown none (identity, --tls-cert)"
                .to_owned()
        }
        AlertDescription::UnknownCA => {
            "it does not trust the CA of this side's certificate".to_owned()
        }
        AlertDescription::CertificateExpired => {
            "it says that this side's certificate has expired, or is not valid yet".to_owned()
        }
        AlertDescription::CertificateRevoked => {
            "it says that this side's certificate has been revoked".to_owned()
        }
        AlertDescription::UnsupportedCertificate => {
            "it says that this side's certificate is for another purpose".to_owned()
        }
        AlertDescription::BadCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::AccessDenied => "it refuses this side's certificate".to_owned(),
        AlertDescription::ProtocolVersion => "it speaks neither TLS 1.2 nor 1.3".to_owned(),
        other => format!("it ended the TLS handshake with the alert {other:?}"),
    }
}
