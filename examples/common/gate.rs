//! Who is let in by a master: whoever has the shared token, or a token of Clusterio's; and which
//! pages in browsers.

use std::path::PathBuf;

use clap::Args;
use seqlink::{MasterBuilder, Secret};

use crate::exit::Failure;
use crate::token;

/// Says how a master is guarded.
#[derive(Debug, Args)]
pub(crate) struct Gate {
    /// The token that slaves and controls have to send; without one, none is asked for.
    #[arg(long, env = "SEQLINK_TOKEN", hide_env_values = true)]
    #[arg(value_parser = token::TokenParser)]
    token: Option<Secret>,
    /// Ask for Clusterio's tokens instead, which are signed with this secret: the file holds what
    /// `clusteriomaster config show master.auth_secret` prints last. Needs a build with
    /// `--features clusterio-tokens`.
    #[arg(long, value_name = "FILE", conflicts_with = "token")]
    auth_secret_file: Option<PathBuf>,
    /// Let pages of this origin in, as browsers write it: https://panel.example.org. May be given
    /// several times; every other page is refused, whatever its token.
    #[arg(long, value_name = "ORIGIN")]
    allow_origin: Vec<String>,
    /// A name or address by which clients may call this master in their `Host` header, besides
    /// localhost and loopback addresses. May be given several times; then, and on a loopback address
    /// anyway, others are refused.
    #[arg(long, value_name = "NAME")]
    allow_host: Vec<String>,
}

impl Gate {
    /// Whether anything is asked for.
    pub(crate) fn is_guarded(&self) -> bool {
        self.token.is_some() || self.auth_secret_file.is_some()
    }

    /// Sets `master` up to ask for it.
    pub(crate) fn guard(self, master: MasterBuilder) -> Result<MasterBuilder, Failure> {
        let master = self.allow_origin.iter().fold(master, MasterBuilder::allow_origin);
        let master = self.allow_host.iter().fold(master, MasterBuilder::allow_host);
        if let Some(file) = self.auth_secret_file {
            return ask_for_clusterio_tokens(master, &file);
        }
        Ok(match self.token {
            Some(token) => master.token(token),
            None => master,
        })
    }
}

#[cfg(feature = "clusterio-tokens")]
fn ask_for_clusterio_tokens(
    master: MasterBuilder,
    file: &std::path::Path,
) -> Result<MasterBuilder, Failure> {
    let fault = |error: &dyn std::fmt::Display| {
        Failure::failed(format_args!("{}: {error}", file.display()))
    };
    let secret = std::fs::read_to_string(file).map_err(|error| fault(&error))?;
    let tokens = seqlink::tokens::ClusterioTokens::from_secret(secret);
    Ok(master.authenticate(tokens.map_err(|error| fault(&error))?.authenticator()))
}

#[cfg(not(feature = "clusterio-tokens"))]
fn ask_for_clusterio_tokens(
    _: MasterBuilder,
    _: &std::path::Path,
) -> Result<MasterBuilder, Failure> {
    /// As for any argument that does not fit.
    const USAGE: u8 = 2;
    let help = "this build knows no Clusterio tokens: run it with \
                `cargo run --example master --features clusterio-tokens -- …`";
    Err(Failure::new(USAGE, help))
}
