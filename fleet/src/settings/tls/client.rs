//! How a slave or a control knows its master, and what it shows of itself.

use std::path::PathBuf;

use clap::Args;
use seqlink::ClientBuilder;

use super::super::Failure;
use super::{both, usage};

/// For a --master that begins with wss:// or https://.
#[derive(Debug, Args)]
pub(crate) struct ClientTlsArguments {
    /// A PEM file with the CA of the master's certificate; then no other is trusted. Without it, those
    /// that this machine trusts are. For --master wss://HOST:PORT.
    #[arg(long, value_name = "FILE", global = true)]
    tls_ca: Option<PathBuf>,
    /// The SHA-256 fingerprint of the master's certificate, which is trusted then, and no other, whoever
    /// has signed it. A master logs its own.
    #[arg(long, value_name = "FINGERPRINT", value_parser = fingerprint, conflicts_with = "tls_ca")]
    #[arg(global = true)]
    tls_pin: Option<String>,
    /// A PEM file with the certificate to show to a master that asks for one, and those of the CAs
    /// between it and the one that the master knows.
    #[arg(long, value_name = "FILE", global = true)]
    tls_cert: Option<PathBuf>,
    /// A PEM file with the key of --tls-cert.
    #[arg(long, value_name = "FILE", global = true)]
    tls_key: Option<PathBuf>,
}

impl ClientTlsArguments {
    /// Gives `client` what it needs for the master at `url`. The files are read each time.
    pub(crate) fn secure(
        &self,
        client: ClientBuilder,
        url: &str,
    ) -> Result<ClientBuilder, Failure> {
        both(self.tls_cert.as_deref(), self.tls_key.as_deref())?;
        let named = [
            ("--tls-ca", self.tls_ca.is_some()),
            ("--tls-pin", self.tls_pin.is_some()),
            ("--tls-cert", self.tls_cert.is_some()),
        ];
        let named = named.iter().find(|(_, is_named)| *is_named).map(|(flag, _)| flag);
        if is_secure(url) {
            return self.with_tls(client, named.is_some());
        }
        match named {
            // The address may hold a key, and is not quoted.
            Some(flag) => Err(usage(&format!(
                "{flag} is for a master with TLS, whose address begins with wss:// or https://, and that in \
                 --master does not"
            ))),
            None => Ok(client),
        }
    }

    #[cfg(feature = "tls")]
    fn with_tls(&self, client: ClientBuilder, _: bool) -> Result<ClientBuilder, Failure> {
        use seqlink::tls::{ClientTls, TlsError};

        use super::{fault, identity_fault, read};

        let tls = match (&self.tls_ca, &self.tls_pin) {
            (Some(file), _) => {
                ClientTls::ca_pem(read(file)?).map_err(|error| fault(file, error))?
            }
            (None, Some(pin)) => ClientTls::pinned(pin).map_err(Failure::failed)?,
            (None, None) => ClientTls::platform().map_err(|error| match error {
                TlsError::NoRoots(why) => Failure::failed(format_args!(
                    "this machine trusts no CA ({why}); name the master's with --tls-ca"
                )),
                other => Failure::failed(other),
            })?,
        };
        let tls = match (&self.tls_cert, &self.tls_key) {
            (Some(cert), Some(key)) => tls
                .identity(read(cert)?, read(key)?)
                .map_err(|error| identity_fault(cert, key, error))?,
            _ => tls,
        };
        Ok(client.tls(tls))
    }

    #[cfg(not(feature = "tls"))]
    #[expect(clippy::unused_self, reason = "as with the feature")]
    fn with_tls(&self, client: ClientBuilder, is_named: bool) -> Result<ClientBuilder, Failure> {
        // Without flags the library says of the address that it takes the feature.
        if is_named { Err(super::no_tls()) } else { Ok(client) }
    }
}

fn is_secure(url: &str) -> bool {
    let scheme = url.split_once("://").map(|(scheme, _)| scheme);
    scheme.is_some_and(|it| ["wss", "https"].iter().any(|known| known.eq_ignore_ascii_case(it)))
}

fn fingerprint(text: &str) -> Result<String, String> {
    #[cfg(feature = "tls")]
    let _ = seqlink::tls::ClientTls::pinned(text).map_err(|error| error.to_string())?;
    Ok(text.to_owned())
}
