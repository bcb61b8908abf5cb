//! What a master shows of itself, and whom it asks for a certificate.

use std::path::PathBuf;

use clap::Args;
#[cfg(feature = "tls")]
use seqlink::tls::ServerTls;
use seqlink::{Master, MasterBuilder};

use super::super::Failure;
use super::super::setup::Hangups;
use super::{both, usage};

/// Returns what there is to listen with.
#[derive(Debug, Default, Args)]
pub(crate) struct MasterTlsArguments {
    /// Listen with TLS, and with nothing else: a PEM file with the certificate, and those of the CAs between
    /// it and the one that clients know. SIGHUP makes the master read this file and the other three anew;
    /// links stay as they are.
    #[arg(long, value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// A PEM file with the key of --tls-cert.
    #[arg(long, value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// Ask each client for a certificate that a CA in this PEM file has signed: the slave 7 for one with the
    /// DNS name slave-7.seqlink.internal, a control for control.seqlink.internal.
    #[arg(long, value_name = "FILE")]
    tls_client_ca: Option<PathBuf>,
    /// A PEM file with the revocation lists of --tls-client-ca: one for each CA in a client's chain.
    #[arg(long, value_name = "FILE")]
    tls_crl: Option<PathBuf>,
    /// Listen with TLS and a certificate that the master makes itself, for localhost and this host's name.
    /// It is kept in a folder of this user's; the log says which --tls-ca clients need.
    #[arg(long, conflicts_with_all = ["tls_cert", "tls_key"])]
    tls_dev: bool,
}

/// Where a master's certificates are.
#[derive(Clone, Debug)]
#[cfg_attr(not(feature = "tls"), expect(dead_code, reason = "a build without TLS refuses them"))]
pub(crate) struct Certificates {
    identity: Identity,
    client_ca: Option<PathBuf>,
    crl: Option<PathBuf>,
}

#[derive(Clone, Debug)]
#[cfg_attr(not(feature = "tls"), expect(dead_code, reason = "a build without TLS refuses them"))]
enum Identity {
    Files { cert: PathBuf, key: PathBuf },
    Development,
}

impl MasterTlsArguments {
    /// `None`: no TLS. No file is read yet.
    pub(crate) fn certificates(self) -> Result<Option<Certificates>, Failure> {
        let Self { tls_cert, tls_key, tls_client_ca: client_ca, tls_crl: crl, tls_dev } = self;
        both(tls_cert.as_deref(), tls_key.as_deref())?;
        if crl.is_some() && client_ca.is_none() {
            return Err(usage(
                "--tls-crl needs the CA of the clients: name it with --tls-client-ca",
            ));
        }
        let identity = match (tls_cert, tls_key) {
            (Some(cert), Some(key)) => Identity::Files { cert, key },
            _ if tls_dev => Identity::Development,
            _ if client_ca.is_some() => {
                return Err(usage(
                    "--tls-client-ca needs a certificate of the master's own: name it with --tls-cert and \
                     --tls-key, or have one made with --tls-dev",
                ));
            }
            _ => return Ok(None),
        };
        Ok(Some(Certificates { identity, client_ca, crl }))
    }
}

impl Certificates {
    /// Whether whoever has no certificate stays out.
    pub(crate) fn are_asked_for(&self) -> bool {
        self.client_ca.is_some()
    }
}

#[cfg(feature = "tls")]
impl Certificates {
    /// Has `master` listen with them.
    pub(crate) fn secure(&self, master: MasterBuilder) -> Result<MasterBuilder, Failure> {
        let tls = self.load()?;
        let fingerprint = tls.fingerprint();
        tracing::info!(fingerprint, "clients may pin this certificate with --tls-pin");
        Ok(master.tls(tls))
    }

    /// Reads them anew each time that a hangup is heard. What cannot be used changes nothing.
    pub(crate) async fn reload(self, mut hangups: Hangups, master: Master) {
        loop {
            hangups.next().await;
            let loaded = self.load().and_then(|tls| {
                master.reload_tls(&tls).map_err(Failure::failed)?;
                Ok(tls.fingerprint())
            });
            match loaded {
                Ok(fingerprint) => {
                    tracing::info!(
                        fingerprint,
                        "SIGHUP: new links are let in by the certificates as they are now"
                    );
                }
                Err(error) => {
                    tracing::error!(%error, "SIGHUP: the certificates stay as they were; mend this and send it again");
                }
            }
        }
    }

    fn load(&self) -> Result<ServerTls, Failure> {
        use super::{development, fault, identity_fault, read};

        let mut tls = match &self.identity {
            Identity::Files { cert, key } => ServerTls::from_pem(read(cert)?, read(key)?)
                .map_err(|error| identity_fault(cert, key, error))?,
            Identity::Development => {
                let (tls, ca) = development::load().map_err(|error| {
                    Failure::failed(format_args!("no certificate for --tls-dev: {error}"))
                })?;
                let ca = ca.display().to_string();
                tracing::info!("a certificate for development: clients need --tls-ca {ca}");
                tls
            }
        };
        if let Some(file) = &self.client_ca {
            tls = tls.client_ca(read(file)?).map_err(|error| fault(file, error))?;
        }
        if let Some(file) = &self.crl {
            tls = tls.crl(read(file)?).map_err(|error| fault(file, error))?;
        }
        Ok(tls)
    }
}

#[cfg(not(feature = "tls"))]
#[expect(clippy::unused_self, reason = "as with the feature")]
impl Certificates {
    pub(crate) fn secure(&self, _: MasterBuilder) -> Result<MasterBuilder, Failure> {
        Err(super::no_tls())
    }

    #[expect(clippy::unused_async, reason = "as with the feature")]
    pub(crate) async fn reload(self, _: Hangups, _: Master) {}
}
