//! TLS of the programs: their flags, and the files that these name. Without the feature `tls` the flags are
//! there, and say that.

pub(crate) mod client;
#[cfg(feature = "tls")]
mod development;
pub(crate) mod master;

use std::path::Path;
#[cfg(feature = "tls")]
use std::{fmt, fs};

#[cfg(not(feature = "tls"))]
use super::USAGE;
use super::{Failure, exit};

/// Which of two that need each other is missing, as the end of the program.
fn both(cert: Option<&Path>, key: Option<&Path>) -> Result<(), Failure> {
    match (cert, key) {
        (Some(_), None) => {
            Err(usage("--tls-cert needs the certificate's key: name it with --tls-key"))
        }
        (None, Some(_)) => Err(usage("--tls-key needs its certificate: name it with --tls-cert")),
        _ => Ok(()),
    }
}

fn usage(help: &str) -> Failure {
    Failure::new(exit::USAGE, help)
}

#[cfg(feature = "tls")]
fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(file).map_err(|error| fault(file, error))
}

/// What is wrong with a file.
#[cfg(feature = "tls")]
fn fault(file: &Path, error: impl fmt::Display) -> Failure {
    Failure::failed(format_args!("{}: {error}", file.display()))
}

/// What is wrong with a certificate or its key: which of the two, the error says.
#[cfg(feature = "tls")]
fn identity_fault(cert: &Path, key: &Path, error: impl fmt::Display) -> Failure {
    Failure::failed(format_args!("{}, {}: {error}", cert.display(), key.display()))
}

#[cfg(not(feature = "tls"))]
fn no_tls() -> Failure {
    Failure::new(USAGE, "this build knows no TLS: build it with `--features tls`")
}
