//! A tour in eleven seconds: a master, two slaves and a control on real sockets, five players for two nodes,
//! and a cable that is cut and then pulled in the middle of a game.
//!
//! ```sh
//! cargo run --example tour
//! ```
//!
//! The same as `seqlink tour`; its story is in `fleet/src/commands/tour`.

use std::process::ExitCode;

fn main() -> ExitCode {
    seqlink_fleet::main_of("tour")
}
