//! Catalogs: lists of message types, each with who may send it to whom.
//!
//! A catalog is data beside types. The types are registered with a router and sent over a link like
//! any message of your own; the list, `MESSAGES`, is for those who need to look at all of them: a
//! gateway, a document, a test.
//!
//! | catalog | what it carries |
//! |---|---|
//! | [`link`] | what the two ends of any link ask each other |
//! | [`clusterio`] | the core messages of Clusterio's plain generation |
//! | [`game_node`] | game nodes that prepare, play and stop games for waiting players |

pub mod clusterio;
pub mod game_node;
pub mod link;

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error};
use serde_json::value::RawValue;

/// Reads an object and leaves it unparsed.
fn raw_object<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Box<RawValue>, D::Error> {
    let value = Box::<RawValue>::deserialize(deserializer)?;
    if value.get().starts_with('{') {
        Ok(value)
    } else {
        Err(D::Error::custom("invalid type: expected an object"))
    }
}

/// Shows the length of a raw value in `Debug`. Configurations carry passwords and tokens, and
/// nobody can tell where in them.
struct Unshown<'a>(&'a RawValue);

impl fmt::Debug for Unshown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes of JSON", self.0.get().len())
    }
}
