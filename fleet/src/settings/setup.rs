//! What every program does first: logs to stderr, and an ear for Ctrl-C and SIGTERM.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt;
use std::io::{self, IsTerminal};
use std::panic;

use seqlink::printable::Printable;
use tracing::{Level, Metadata, error};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::FilterFn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::log::{Log, lossy};

/// Logs to stderr what `RUST_LOG` asks for, `default` when it is not set, which is a level or more;
/// never what would show tokens and passwords. Nobody waits for stderr; what is logged last is
/// written when the log is dropped.
pub(crate) fn logging(default: impl fmt::Display) -> Log {
    let wished = std::env::var("RUST_LOG").ok().filter(|wished| !wished.is_empty());
    let filter = EnvFilter::new(wished.unwrap_or_else(|| default.to_string()));
    let (writer, log) = lossy(io::stderr());
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(writer)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false);
    // A filter of its own: a directive would lose against a more precise one in `RUST_LOG`.
    tracing_subscriber::registry()
        .with(filter)
        .with(FilterFn::new(may_be_logged))
        .with(lines)
        .init();
    // By itself a panic is written to stderr past the log, and waits.
    panic::set_hook(Box::new(|panic| {
        error!("{}", Printable::new(&panic.to_string()));
        let trace = Backtrace::capture();
        if trace.status() == BacktraceStatus::Captured {
            error!("{trace}");
        }
    }));
    log
}

/// At trace level other crates log what they carry: the WebSocket library whole frames, with tokens
/// and passwords in them. What judges by the platform's CAs logs as an error what the error says as well, in
/// words that may be a peer's.
fn may_be_logged(metadata: &Metadata<'_>) -> bool {
    match metadata.target().split("::").next() {
        Some("seqlink" | "seqlink_fleet") => true,
        Some("rustls_platform_verifier") => false,
        _ => *metadata.level() != Level::TRACE,
    }
}

/// SIGHUP, heard from the moment this exists, by which it no longer ends the program.
#[derive(Debug)]
pub(crate) struct Hangups {
    #[cfg(unix)]
    hangup: tokio::signal::unix::Signal,
}

impl Hangups {
    /// Listens from now on; needs a running tokio runtime.
    pub(crate) fn install() -> io::Result<Self> {
        Ok(Self {
            #[cfg(unix)]
            hangup: tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup())?,
        })
    }

    /// Waits for the next; for ever where there is no such thing.
    #[cfg_attr(not(feature = "tls"), expect(dead_code, reason = "only certificates are read anew"))]
    pub(crate) async fn next(&mut self) {
        #[cfg(unix)]
        if self.hangup.recv().await.is_some() {
            return;
        }
        std::future::pending().await
    }
}

/// Ctrl-C and SIGTERM, heard from the moment this exists.
#[derive(Debug)]
pub(crate) struct Interrupt {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

impl Interrupt {
    /// Listens from now on; needs a running tokio runtime.
    #[cfg(unix)]
    pub(crate) fn install() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Waits for the next of the two. Returns which one, in words fit for a close reason.
    #[cfg(unix)]
    pub(crate) async fn wait(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "interrupted",
            _ = self.terminate.recv() => "terminated",
        }
    }

    /// Listens from the first [`wait`](Self::wait) on.
    #[cfg(not(unix))]
    pub(crate) fn install() -> io::Result<Self> {
        Ok(Self {})
    }

    /// Waits for Ctrl-C.
    #[cfg(not(unix))]
    pub(crate) async fn wait(&mut self) -> &'static str {
        if tokio::signal::ctrl_c().await.is_err() {
            // Without a handler the system itself ends the program.
            std::future::pending::<()>().await;
        }
        "interrupted"
    }
}
