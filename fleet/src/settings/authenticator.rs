//! Who is let in by a master: whoever has its token, or a token of Clusterio's, or everybody; and
//! which pages in browsers.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::Args;
use seqlink::close::MAX_REASON;
use seqlink::{MasterBuilder, Reason, Registration};
use tokio::sync::watch;
use tracing::info;

use super::Failure;
use super::own_token::{OwnToken, Published};
use super::token::TokenArguments;

/// Returns how a master is guarded.
#[derive(Debug, Args)]
pub(crate) struct OwnAuthenticator {
    #[command(flatten)]
    token: TokenArguments,
    /// Ask for Clusterio's tokens instead, which are signed with this secret: the file holds what
    /// `clusteriomaster config show master.auth_secret` prints last. Needs a build with the
    /// feature `clusterio-tokens`, which is there unless it was left out.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["token", "token_file"])]
    auth_secret_file: Option<PathBuf>,
    /// Ask for no token: whoever reaches the master can run commands on its slaves, unless it asks for
    /// certificates.
    #[arg(long, conflicts_with_all = ["token", "token_file", "auth_secret_file"])]
    open: bool,
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

/// What is left to do when the master listens.
#[derive(Debug)]
pub(crate) enum Guard {
    /// Nothing: it was told whom to let in.
    Named,
    /// To put its token where clients look, and to tell those that it refuses.
    Own(OwnToken, watch::Sender<Option<PathBuf>>),
}

impl OwnAuthenticator {
    /// Whether no token is asked for.
    pub(crate) fn is_open(&self) -> bool {
        self.open
    }

    /// Sets `master` up to ask for what the arguments say. What they say goes before
    /// `SEQLINK_TOKEN`.
    pub(crate) fn guard(self, master: MasterBuilder) -> Result<(MasterBuilder, Guard), Failure> {
        let master = self.allow_origin.iter().fold(master, MasterBuilder::allow_origin);
        let master = self.allow_host.iter().fold(master, MasterBuilder::allow_host);
        if let Some(file) = self.auth_secret_file {
            return Ok((ask_for_clusterio_tokens(master, &file)?, Guard::Named));
        }
        if self.open {
            return Ok((master, Guard::Named));
        }
        if let Some(token) = self.token.named()? {
            return Ok((master.token(token), Guard::Named));
        }
        let own = OwnToken::make().map_err(|error| no_token(&error))?;
        let (file, known) = watch::channel(None);
        Ok((ask_for(&own, known, master), Guard::Own(own, file)))
    }
}

impl Guard {
    /// The master listens on `address`. What is returned is to be kept as long as it does.
    pub(crate) fn listens(self, address: SocketAddr) -> Result<Option<Published>, Failure> {
        match self {
            Self::Named => Ok(None),
            Self::Own(own, tell) => {
                let published = own.publish(address).map_err(|error| no_token(&error))?;
                let file = published.file.display().to_string();
                if address.ip().is_loopback() {
                    info!(file, "slaves and controls of this user find the token by themselves");
                } else {
                    // A client looks for the address that it dials, which is never this one.
                    info!(
                        file,
                        "slaves and controls need the token: name the file with --token-file"
                    );
                }
                tell.send_replace(Some(published.file.clone()));
                Ok(Some(published))
            }
        }
    }
}

fn no_token(error: &std::io::Error) -> Failure {
    Failure::failed(format_args!(
        "no token of its own for this master: {error}; name one with --token-file, or ask for none \
         with --open"
    ))
}

/// Lets in who has the token. Whoever has not is told only when the token is in its file: so a
/// client that was refused with the token of the master before this one finds the new one there.
fn ask_for(
    own: &OwnToken,
    file: watch::Receiver<Option<PathBuf>>,
    master: MasterBuilder,
) -> MasterBuilder {
    let token = own.token.clone();
    master.authenticate(move |registration: Registration| {
        let (token, mut file) = (token.clone(), file.clone());
        async move {
            let what = match registration.token {
                Some(theirs) if theirs == token => return Ok(()),
                Some(_) => "the token is wrong",
                None => "a token is required",
            };
            let file = file.wait_for(Option::is_some).await.ok().and_then(|file| file.clone());
            Err(refusal(what, &file.unwrap_or_default()))
        }
    })
}

/// Why a client is refused, and what to do: all of it fits a close reason, with what the library
/// puts in front of it.
fn refusal(what: &str, file: &Path) -> String {
    let said = |place: &str| format!("{what} ({place}, or start the master with --open)");
    let whole = said(&file.display().to_string());
    let room = MAX_REASON - Reason::AUTHENTICATION_FAILED.len() - ": ".len();
    if whole.len() <= room { whole } else { said("its file is in the master's log") }
}

#[cfg(feature = "clusterio-tokens")]
fn ask_for_clusterio_tokens(master: MasterBuilder, file: &Path) -> Result<MasterBuilder, Failure> {
    let fault = |error: &dyn std::fmt::Display| {
        Failure::failed(format_args!("{}: {error}", file.display()))
    };
    let secret = std::fs::read_to_string(file).map_err(|error| fault(&error))?;
    let tokens = seqlink::tokens::ClusterioTokens::from_secret(secret);
    Ok(master.authenticate(tokens.map_err(|error| fault(&error))?.authenticator()))
}

#[cfg(not(feature = "clusterio-tokens"))]
fn ask_for_clusterio_tokens(_: MasterBuilder, _: &Path) -> Result<MasterBuilder, Failure> {
    let help = "this build knows no Clusterio tokens: build it with `--features clusterio-tokens`";
    Err(Failure::new(super::USAGE, help))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_fits_a_close_reason() {
        for what in ["a token is required", "the token is wrong"] {
            for length in 1..200 {
                let file = format!("/{}", "x".repeat(length));
                let said = refusal(what, Path::new(&file));
                let whole = format!("{}: {said}", Reason::AUTHENTICATION_FAILED);
                assert_eq!(Reason::new(&whole).as_str(), whole);
                // As long as those in a user's runtime folder are, with room for more digits.
                assert!(said.contains(&file) || length > 44, "{said}");
                assert!(said.ends_with("or start the master with --open)"), "{said}");
            }
        }
    }
}
