//! A control of the fleet: looks at a master's nodes and queue, and lets players play.
//!
//! ```sh
//! cargo run --example control -- play --user 42 --game 1 --follow
//! ```
//!
//! The same as `seqlink control`.

use std::process::ExitCode;

fn main() -> ExitCode {
    seqlink_fleet::main_of("control")
}
