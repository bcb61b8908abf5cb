//! The `--token` of all programs.

use std::ffi::OsStr;

use clap::builder::{StringValueParser, TypedValueParser};
use clap::error::ErrorKind;
use seqlink::Secret;

/// Parses a token: any text but the empty one, which is a forgotten variable more often than a
/// wish. Unlike clap's own parsers it never quotes what it was given.
#[derive(Clone, Debug)]
pub(crate) struct TokenParser;

impl TypedValueParser for TokenParser {
    type Value = Secret;

    fn parse_ref(
        &self,
        command: &clap::Command,
        argument: Option<&clap::Arg>,
        value: &OsStr,
    ) -> Result<Secret, clap::Error> {
        let text = StringValueParser::new().parse_ref(command, argument, value)?;
        if text.is_empty() {
            let help = "the token is empty: fill --token or SEQLINK_TOKEN, or leave out both\n";
            return Err(clap::Error::raw(ErrorKind::InvalidValue, help).with_cmd(command));
        }
        Ok(Secret::from(text))
    }
}
