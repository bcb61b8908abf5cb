use std::time::{Duration, SystemTime, UNIX_EPOCH};

use thiserror::Error;

use crate::printable::Printable;

/// What TLS was given that cannot work.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsError {
    /// What should be PEM is broken.
    #[error("the {what} is no PEM: {fault}")]
    Pem {
        /// What was read.
        what: &'static str,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// The PEM holds nothing of the kind.
    #[error("the {what} holds no `{expected}`")]
    Missing {
        /// What was read.
        what: &'static str,
        /// The label that should stand in it.
        expected: &'static str,
    },
    /// A certificate that cannot be read.
    #[error("a certificate of the {what} cannot be used: {fault}")]
    Certificate {
        /// What was read.
        what: &'static str,
        /// What is wrong with it.
        fault: Box<str>,
    },
    /// A key of a kind that is not known, or broken.
    #[error("the private key cannot be used: it must be an RSA, P-256, P-384 or Ed25519 key")]
    Key,
    /// The key is that of another certificate.
    #[error(
        "the private key is not that of the certificate; in a chain, the certificate itself comes first"
    )]
    KeyMismatch,
    /// A revocation list that cannot be used.
    #[error("the revocation list cannot be used: {0}")]
    Crl(Box<str>),
    /// Revocation lists without the CA of client certificates.
    #[error("a revocation list without the CA of client certificates: call `.client_ca(…)` too")]
    CrlWithoutCa,
    /// What is no SHA-256 fingerprint.
    #[error("{0:?} is no fingerprint: 64 hexadecimal digits of SHA-256, with colons or without")]
    Fingerprint(Box<str>),
    /// This machine trusts nobody.
    #[error("no CA of this machine's can be used ({0}); give one with `ClientTls::ca_pem`")]
    NoRoots(Box<str>),
    /// The provider of cryptography does not work.
    #[error("the provider of cryptography cannot be used: {0}")]
    Provider(Box<str>),
    /// A master that was built without TLS cannot be given other certificates.
    #[error("this master has no TLS: give it some with `MasterBuilder::tls`")]
    Absent,
}

/// Why there is no TLS with the other side. "Its certificate" is the other side's.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsFault {
    /// The certificate is that of somebody else.
    #[error("its certificate is for {presented}, and not for {expected}")]
    Name {
        /// The name that the address calls it by.
        expected: Box<str>,
        /// The names in the certificate.
        presented: Box<str>,
    },
    /// The certificate has expired, and when, where that is known.
    #[error("its certificate has expired{}", on(.0))]
    Expired(Option<SystemTime>),
    /// The certificate is for later, and from when on, where that is known; or a clock is wrong.
    #[error("its certificate is not valid yet{}", on(.0))]
    NotYetValid(Option<SystemTime>),
    /// No CA that is trusted here has signed the certificate.
    #[error("its certificate comes from a CA that is not trusted here")]
    UnknownCa,
    /// The certificate stands on a revocation list.
    #[error("its certificate has been revoked")]
    Revoked,
    /// There are revocation lists, and none is that of the certificate's CA.
    #[error("no revocation list here is that of its certificate's CA")]
    UnknownRevocation,
    /// The certificate is not the pinned one.
    #[error("its certificate has the fingerprint {presented}, and the pinned one is {pinned}")]
    Fingerprint {
        /// That of the certificate.
        presented: Box<str>,
        /// What was expected.
        pinned: Box<str>,
    },
    /// The other side has shown no certificate.
    #[error("it has shown no certificate")]
    NoCertificate,
    /// The other side does not speak TLS: `ws://` on a port for `wss://`, or the reverse.
    #[error("it does not speak TLS; ws:// is for that")]
    Plain,
    /// The other side refuses, and says why.
    #[error("{0}")]
    Refused(Box<str>),
    /// The other side hung up, most often because it does not speak TLS.
    #[error("it ended the connection before the TLS handshake was over")]
    Ended,
    /// The handshake took too long: the other side waits for something else than TLS, or is busy.
    #[error("no TLS handshake within {after:?}")]
    Timeout {
        /// The time limit.
        after: Duration,
    },
    /// Something else, in the words of the TLS library.
    #[error("{0}")]
    Other(Box<str>),
}

impl TlsFault {
    /// What most often helps a client: what to call here, or the flag of the fleet's programs.
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::Name { .. } => " (call the master by a name of its certificate)",
            Self::Expired(_) => " (the master needs a new one, or this machine's clock is wrong)",
            Self::NotYetValid(_) => " (this machine's clock is wrong, or the master's)",
            Self::UnknownCa => {
                " (name its CA with ca_pem, --tls-ca, or the certificate itself with pinned, --tls-pin)"
            }
            Self::Fingerprint { .. } => {
                " (if the master has a new certificate, pin that with pinned, --tls-pin)"
            }
            _ => "",
        }
    }

    /// Words that may quote the other side.
    pub(crate) fn other(text: &str) -> Self {
        Self::Other(Printable::new(text).to_string().into())
    }
}

/// A day and a time for people.
fn on(time: &Option<SystemTime>) -> String {
    let since = time.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let Some(since) = since else { return String::new() };
    let (days, minutes) = (since.as_secs() / 86_400, since.as_secs() % 86_400 / 60);
    let (year, month, day) = date(days);
    format!(": {year}-{month:02}-{day:02} {:02}:{:02} UTC", minutes / 60, minutes % 60)
}

/// The date of a day since 1970, by the calendar's 400 years of 146,097 days.
fn date(days: u64) -> (u64, u64, u64) {
    // Years that begin in March, so that the leap day is the last.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_told_as_dates() {
        let told = |seconds| on(&Some(UNIX_EPOCH + Duration::from_secs(seconds)));
        assert_eq!(told(0), ": 1970-01-01 00:00 UTC");
        assert_eq!(told(951_782_399), ": 2000-02-28 23:59 UTC");
        assert_eq!(told(951_782_400), ": 2000-02-29 00:00 UTC");
        assert_eq!(told(1_735_689_540), ": 2024-12-31 23:59 UTC");
        assert_eq!(told(4_107_542_400), ": 2100-03-01 00:00 UTC");
        assert_eq!(on(&None), "");
    }
}
