//! The `--token` and `--token-file` of all programs.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use clap::Args;
use seqlink::Secret;

use super::unquoted::Unquoted;
use super::{Failure, USAGE};

/// Where the token may stand instead of an argument.
pub(super) const VARIABLE: &str = "SEQLINK_TOKEN";
/// Longest token file, in bytes: more than fits a handshake.
const LONGEST: u64 = 16 * 1024;

/// Returns which token it is.
#[derive(Debug, Args)]
pub(crate) struct TokenArguments {
    /// The token that lets slaves and controls in. Whoever lists the processes of this machine sees
    /// it: better use --token-file, or else the environment variable SEQLINK_TOKEN.
    #[arg(long, value_name = "TOKEN", value_parser = Unquoted(parse), global = true)]
    token: Option<Secret>,
    /// A file that holds the token and nothing else.
    ///
    /// Where no token is named at all, a master makes one that only programs of its own user can
    /// read. Slaves and controls find it by themselves when --master names a loopback address in
    /// digits, such as ws://127.0.0.1:8750. A slave whose token was refused looks once more.
    #[arg(long, value_name = "FILE", conflicts_with = "token", global = true)]
    token_file: Option<PathBuf>,
}

impl TokenArguments {
    /// The token that was named, by an argument or else in the environment.
    pub(crate) fn named(&self) -> Result<Option<Secret>, Failure> {
        if let Some(token) = &self.token {
            return Ok(Some(token.clone()));
        }
        if let Some(file) = &self.token_file {
            let fault = |error| Failure::failed(format_args!("{}: {error}", file.display()));
            return read(file).map(Some).map_err(fault);
        }
        match std::env::var_os(VARIABLE) {
            Some(text) => match text.to_str() {
                Some("") => Err(Failure::new(USAGE, EMPTY)),
                Some(text) => Ok(Some(text.into())),
                None => Err(Failure::new(USAGE, format_args!("{VARIABLE} is no UTF-8"))),
            },
            None => Ok(None),
        }
    }
}

/// Whether the environment names a token.
pub(super) fn is_in_environment() -> bool {
    std::env::var_os(VARIABLE).is_some()
}

/// What is said of a token that is empty: a forgotten variable more often than a wish.
const EMPTY: &str = "the token is empty: fill --token or SEQLINK_TOKEN, or leave out both";

fn read(path: &Path) -> io::Result<Secret> {
    let mut text = String::new();
    File::open(path)?.take(LONGEST + 1).read_to_string(&mut text)?;
    let token = text.trim_end_matches(['\r', '\n']);
    if text.len() as u64 > LONGEST {
        Err(io::Error::other(format!("it is longer than {LONGEST} bytes")))
    } else if token.is_empty() {
        Err(io::Error::other("it is empty"))
    } else if token.contains('\n') {
        Err(io::Error::other("it has more than one line"))
    } else {
        Ok(token.into())
    }
}

/// Any text but the empty one.
fn parse(text: &str) -> Result<Secret, String> {
    if text.is_empty() { Err(EMPTY.to_owned()) } else { Ok(text.into()) }
}
