//! A fleet on [`seqlink`]: a master that gives waiting players to nodes, slaves that run their games, and
//! a control. The program `seqlink` is all of it; who embeds a part takes its room.
//!
//! | room | what is in it | may use |
//! |---|---|---|
//! | [`settings`] | what all programs have: flags, the file under them, tokens, log, exit codes | |
//! | [`terminal`] | what people see of lists, tables and what becomes of a player | `settings` |
//! | [`queue`] | the master's service: the waiting queue, driven over the links | `settings` |
//! | [`node`] | the slave's: the one game of its node, as a process | `settings`, `terminal` |
//! | [`clusterio`] | for Clusterio's programs: instances, on a master and on a slave | `queue`, `node` |
//! | `commands` | the subcommands of `seqlink` | all of them |
//!
//! For the library alone see the examples `master` and `slave`.

pub mod clusterio;
mod commands;
pub mod node;
pub mod queue;
pub mod settings;
pub mod terminal;

pub use commands::{main, main_of};
