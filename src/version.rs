//! Protocol version negotiation: which versions talk to each other, and what a link then speaks.

use semver::{BuildMetadata, Prerelease, Version, VersionReq};
use thiserror::Error;

use crate::close::cut;
use crate::printable::Printable;

/// The protocol version that this library speaks.
pub const PROTOCOL: Version = Version::new(2, 0, 0);

/// One side's version and what it accepts from the other.
///
/// Without a range of its own, a side accepts the same major version, or the same minor version
/// while the major is 0. A pre-release tag does not count: `2.0.0-alpha.12` is a 2.0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versions {
    ours: Version,
    accepts: Option<VersionReq>,
}

/// Why two versions do not talk to each other. Final: the same peers will never agree.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum VersionError {
    /// Both are versions, and one is out of the other's range.
    #[error("this side speaks {ours}, the peer {theirs}; update the older one")]
    Incompatible {
        /// What this side speaks.
        ours: Version,
        /// What the peer said.
        theirs: Version,
    },
    /// What the peer sent is no semantic version.
    #[error(
        "this side speaks {ours}, the peer sent {:?}, which is no version like 2.0.0",
        Printable::new(theirs)
    )]
    Unreadable {
        /// What this side speaks.
        ours: Version,
        /// What the peer sent, its first 32 bytes.
        theirs: Box<str>,
    },
    /// The peer refused, with its own words.
    #[error("the peer refused: {0}")]
    Refused(crate::close::Reason),
}

impl Versions {
    /// Speaks `ours`, accepts what is compatible with it.
    pub fn new(ours: Version) -> Self {
        Self { ours, accepts: None }
    }

    /// Accepts what `range` matches instead.
    #[must_use]
    pub fn accepting(mut self, range: VersionReq) -> Self {
        self.accepts = Some(range);
        self
    }

    /// What this side speaks.
    pub fn ours(&self) -> &Version {
        &self.ours
    }

    /// Speaks `ours` instead, and accepts what it did; without a range of its own, what is
    /// compatible with `ours`.
    #[must_use]
    pub fn speaking(self, ours: Version) -> Self {
        Self { ours, ..self }
    }

    /// The version of a link to a peer that says it speaks `theirs`: the lower of the two, without
    /// its pre-release tag.
    pub fn negotiate(&self, theirs: &str) -> Result<Version, VersionError> {
        let theirs = Version::parse(theirs).map_err(|_| VersionError::Unreadable {
            ours: self.ours.clone(),
            theirs: cut(theirs, 32).into(),
        })?;
        let (a, b) = (release(&self.ours), release(&theirs));
        let accepted = match &self.accepts {
            Some(range) => range.matches(&b),
            None => a.major == b.major && (a.major != 0 || a.minor == b.minor),
        };
        if accepted {
            Ok(a.min(b))
        } else {
            Err(VersionError::Incompatible { ours: self.ours.clone(), theirs })
        }
    }
}

impl Default for Versions {
    fn default() -> Self {
        Self::new(PROTOCOL)
    }
}

fn release(version: &Version) -> Version {
    Version { pre: Prerelease::EMPTY, build: BuildMetadata::EMPTY, ..version.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agree(ours: &str, theirs: &str) -> Option<String> {
        let ours = Versions::new(Version::parse(ours).unwrap());
        ours.negotiate(theirs).ok().map(|version| version.to_string())
    }

    #[test]
    fn the_same_major_talks_and_the_lower_is_spoken() {
        assert_eq!(agree("2.0.0", "2.0.0").as_deref(), Some("2.0.0"));
        assert_eq!(agree("2.0.0", "2.7.1").as_deref(), Some("2.0.0"));
        assert_eq!(agree("2.7.1", "2.0.0").as_deref(), Some("2.0.0"));
        assert_eq!(agree("2.0.0", "3.0.0"), None);
        assert_eq!(agree("2.0.0", "1.9.9"), None);
    }

    #[test]
    fn below_one_the_minor_counts() {
        assert_eq!(agree("0.3.1", "0.3.9").as_deref(), Some("0.3.1"));
        assert_eq!(agree("0.3.1", "0.4.0"), None);
    }

    #[test]
    fn a_pre_release_tag_does_not_count() {
        assert_eq!(agree("2.0.0", "2.0.0-alpha.12").as_deref(), Some("2.0.0"));
        assert_eq!(agree("2.0.0-alpha.12", "2.1.0-beta+x").as_deref(), Some("2.0.0"));
        assert_eq!(agree("2.0.0", "3.0.0-alpha"), None);
    }

    #[test]
    fn a_range_of_its_own_replaces_the_rule() {
        let wide = Versions::default().accepting(VersionReq::parse(">=1.4, <4").unwrap());
        assert!(wide.negotiate("1.4.0").is_ok());
        assert!(wide.negotiate("3.9.9-rc.1").is_ok());
        assert!(wide.negotiate("1.3.0").is_err());
        assert!(wide.negotiate("4.0.0").is_err());
    }

    #[test]
    fn what_is_no_version_is_refused_and_quoted_short() {
        for text in ["", "2", "2.0", "v2.0.0", "two", &"9".repeat(1000)] {
            let error = Versions::default().negotiate(text).unwrap_err();
            assert!(
                matches!(&error, VersionError::Unreadable { theirs, .. } if theirs.len() <= 32)
            );
        }
    }
}
