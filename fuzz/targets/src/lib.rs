//! What the fuzzer runs, as functions of an input: it must not panic, hang, or break what each says.
//!
//! `fuzz/` makes programs of them, and `tests/corpus.rs` replays what is in `fuzz/corpus`. All
//! expect a runtime whose clock is made up (tokio's `start_paused`).
#![allow(missing_docs, clippy::missing_panics_doc, reason = "a panic is what a finding looks like")]

mod acknowledgement;
mod client;
mod envelope;
mod master;
mod messages;
mod session;
mod tokens;
mod wire;

use std::time::Duration;

/// The targets, each with a corpus of its name.
pub const TARGETS: [&str; 10] = [
    "envelope",
    "master_upgrade",
    "client_upgrade",
    "master_handshake",
    "client_handshake",
    "master_socket",
    "client_socket",
    "acknowledgement",
    "session",
    "tokens",
];

/// Runs one target on one input.
pub async fn run(target: &str, input: &[u8]) {
    match target {
        "envelope" => envelope::envelope(input),
        "master_upgrade" => master::upgrade(input).await,
        "client_upgrade" => client::upgrade(input).await,
        "master_handshake" => master::handshake(input).await,
        "client_handshake" => client::handshake(input).await,
        "master_socket" => master::socket(input).await,
        "client_socket" => client::socket(input).await,
        "acknowledgement" => acknowledgement::acknowledgement(input),
        "session" => session::session(input).await,
        "tokens" => tokens::tokens(input).await,
        other => panic!("there is no target {other}"),
    }
}

/// Waits for `future`, which must end whatever the other side has sent: longer than all of this
/// library's own clocks together, in made-up time.
async fn in_time<F: Future>(what: &str, future: F) -> F::Output {
    let ended = tokio::time::timeout(Duration::from_secs(600), future).await;
    ended.unwrap_or_else(|_| panic!("it hangs: {what}"))
}
