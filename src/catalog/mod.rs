//! Catalogs: lists of message types, each with who may send it to whom.
//!
//! A catalog is data beside types. The types are registered with a router and sent over a link like
//! any message of your own; the list, `MESSAGES`, is for those who need to look at all of them: a
//! gateway, a document, a test.
//!
//! | catalog | what it carries |
//! |---|---|
//! | [`link`] | what the two ends of any link ask each other |
//! | [`clusterio`] | the core messages of Clusterio, of its plain and of its session generation |
//! | [`game_node`] | game nodes that prepare, play and stop games for waiting players |

pub mod clusterio;
mod fields;
pub mod game_node;
pub mod link;
