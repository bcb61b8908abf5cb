//! The handshake: two scripts over a transport, one for the master and one for its clients.
//!
//! ```text
//! master  hello ──────────────►  client
//!         ◄── register_slave or register_control
//!         ready ──────────────►
//! ```
//!
//! A client that has a session to go on with says `resume` instead of registering. The master
//! answers `continue`, which the link's own task sends, or `invalidate`, and then the client
//! registers.

mod client;
mod server;

use std::time::{Duration, SystemTime};

use semver::Version;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::close::{CloseCode, Closed, Reason};
use crate::error::{HandshakeError, HandshakeFault, TransportError};
use crate::message::{Peer, Role};
use crate::secret::Secret;
use crate::session::Session;

use crate::transport::{self, Incoming, Outgoing, Transport};
use crate::trust::Claims;
use crate::version::{VersionError, Versions};
use crate::wire::{Close, Dialect, EncodeError, EncodedMessage, Frame, Text};

pub(crate) use client::{Registered, client};
pub(crate) use server::{Arrival, HeldSessions, SessionConfig, cont, invalidate, server};

/// Longest frame in bytes before `ready`.
pub(crate) const MAX_FRAME: usize = 16 * 1024;

/// Longest name, agent and version of a peer in bytes: they are kept for as long as its link.
pub(crate) const MAX_TEXT: usize = 256;

/// Received bytes that are acknowledged ahead of the next heartbeat, whatever the limits.
const EARLY_BYTES: usize = 16 * 1024;

/// What a client says of itself to register.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) peer: Peer,
    pub(crate) token: Option<Secret>,
}

/// What both scripts need to know.
pub(crate) struct HandshakeConfig {
    pub(crate) versions: Versions,
    /// For the whole handshake, from the accepted socket on.
    pub(crate) deadline: Instant,
    pub(crate) timeout: Duration,
    /// How long a refused peer gets to hang up.
    pub(crate) close_timeout: Duration,
    /// Ends the handshake because this side shuts down.
    pub(crate) stop: CancellationToken,
    /// What this side holds for its peer before the peer has to acknowledge.
    pub(crate) outbox: usize,
}

/// A handshake that came to `ready`.
#[derive(Debug)]
pub(crate) struct Negotiated {
    /// What is still to be said before everything else: a master's `ready`. Its client finds the
    /// link in the registry as soon as it knows of it.
    pub(crate) first: Option<Text>,
    pub(crate) session: Session,
    pub(crate) peer: Peer,
    /// The lower of the two versions.
    pub(crate) version: Version,
    /// How the link outlives its socket; `None` where it does not.
    pub(crate) resume_info: Option<ResumeInfo>,
    /// What a master has admitted its client with.
    pub(crate) admission: Admitted,
}

/// What an authenticator has said of a client that it lets in.
#[derive(Clone, Debug, Default)]
pub(crate) struct Admitted {
    pub(crate) claims: Claims,
    pub(crate) until: Option<SystemTime>,
}

/// What it takes to go on with a session over another socket.
#[derive(Clone, Debug)]
pub(crate) struct ResumeInfo {
    pub(crate) token: Secret,
    /// How long the master holds the session after a cut.
    pub(crate) timeout: Duration,
    pub(crate) heartbeat_interval: Duration,
}

impl HandshakeConfig {
    /// The peer's outbox holds what is not acknowledged: it learns at a quarter of its room, which
    /// is taken to be as much as this side's, and soon enough for its memory to stay small.
    fn session(&self, dialect: Dialect) -> Session {
        Session::new(dialect, (self.outbox / 4).min(EARLY_BYTES))
    }
}

struct Script<'a, T> {
    transport: &'a mut T,
    config: &'a HandshakeConfig,
    session: Session,
}

impl<'a, T: Transport> Script<'a, T> {
    fn new(transport: &'a mut T, config: &'a HandshakeConfig, dialect: Dialect) -> Self {
        transport.set_limit(MAX_FRAME);
        let session = config.session(dialect);
        Self { transport, config, session }
    }

    fn finish(
        self,
        first: Option<Text>,
        peer: Peer,
        version: Version,
        resume_info: Option<ResumeInfo>,
        admission: Admitted,
    ) -> Negotiated {
        self.transport.set_limit(usize::MAX);
        Negotiated { first, session: self.session, peer, version, resume_info, admission }
    }

    fn negotiate(&self, theirs: &str) -> Result<(Version, Version), HandshakeError> {
        let negotiated = self.config.versions.negotiate(theirs)?;
        let theirs = Version::parse(theirs).unwrap_or_else(|_| negotiated.clone());
        Ok((theirs, negotiated))
    }

    /// Numbers a handshake frame.
    fn frame(&mut self, kind: &'static str, data: &impl Serialize) -> Result<Text, HandshakeError> {
        let unsaid = |error| HandshakeError::Encode { kind, error };
        let message = EncodedMessage::protocol(kind, data).map_err(unsaid)?;
        if message.bytes() > MAX_FRAME {
            let limit = "a handshake frame";
            let (bytes, most) = (message.bytes(), MAX_FRAME);
            return Err(unsaid(EncodeError::TooLong { bytes, limit, most }));
        }
        let text = self.session.sending.handshake(&message);
        text.map_err(|error| unsaid(error.into()))
    }

    async fn say(
        &mut self,
        kind: &'static str,
        data: &impl Serialize,
    ) -> Result<(), HandshakeError> {
        let text = self.frame(kind, data)?;
        let sending = transport::send(self.transport, Outgoing::Text(text));
        let sending = self.config.stop.run_until_cancelled(sending);
        let late =
            HandshakeError::Timeout { waiting_for: "room to write", after: self.config.timeout };
        let sent = timeout_at(self.config.deadline, sending).await.map_err(|_| late)?;
        Ok(sent.unwrap_or(Err(TransportError::Ended))?)
    }

    async fn hear(&mut self, expected: &'static str) -> Result<Text, HandshakeError> {
        loop {
            let incoming = tokio::select! {
                biased;
                () = self.config.stop.cancelled() => {
                    return Err(HandshakeError::Shutdown(Reason::new("shutdown")));
                }
                incoming = timeout_at(self.config.deadline, transport::receive(self.transport)) => incoming,
            };
            let after = self.config.timeout;
            match incoming
                .map_err(|_| HandshakeError::Timeout { waiting_for: expected, after })??
            {
                Incoming::Text(text) => return Ok(text),
                Incoming::Binary => return Err(invalid(expected, HandshakeFault::Binary)),
                Incoming::Close(code, reason) => {
                    return Err(HandshakeError::Closed(Closed::remote(code, reason.as_str())));
                }
                Incoming::Ping => {}
            }
        }
    }

    /// Tells the peer why there is no link, and gives it time to read that.
    async fn refuse(mut self, error: HandshakeError, us: Role) -> HandshakeError {
        if let Some((code, reason)) = close_frame(&error, us) {
            // A peer that has said `close` itself is only answered with the close frame.
            let answer = matches!(error, HandshakeError::Closed(_));
            let close = async {
                if self.session.sending.dialect().close_message && !answer {
                    let close = Close { reason: reason.as_str().to_owned() };
                    if let Ok(message) = EncodedMessage::protocol(Close::TYPE, &close)
                        && let Ok(text) = self.session.sending.handshake(&message)
                    {
                        transport::send(self.transport, Outgoing::Text(text)).await?;
                    }
                }
                let sent = transport::send(self.transport, Outgoing::Close(code, reason)).await;
                if !answer {
                    sent?;
                }
                // An answer to a close frame is the WebSocket's own, and goes out as we read.
                loop {
                    transport::receive(self.transport).await?;
                }
            };
            let _: Result<Result<(), TransportError>, _> =
                timeout(self.config.close_timeout, close).await;
        }
        error
    }
}

/// Code and reason for the peer; nothing where it is gone.
fn close_frame(error: &HandshakeError, us: Role) -> Option<(CloseCode, Reason)> {
    let invalid = |text: &str| Reason::new(format!("{}: {text}", Reason::INVALID_HANDSHAKE));
    Some(match error {
        HandshakeError::Transport(TransportError::TooLong { limit }) => {
            (CloseCode::TOO_BIG, invalid(&format!("a frame longer than {limit} bytes")))
        }
        HandshakeError::Transport(TransportError::WebSocket(fault)) => {
            (CloseCode::PROTOCOL, invalid(&fault.to_string()))
        }
        HandshakeError::Timeout { waiting_for, after } => {
            let reason = format!("Handshake timed out: no {waiting_for} within {after:?}");
            (CloseCode::POLICY, reason.into())
        }
        HandshakeError::Invalid { expected, fault } => {
            (CloseCode::PROTOCOL, invalid(&format!("expected {expected}, got {fault}")))
        }
        HandshakeError::Version(error) => (CloseCode::PROTOCOL, version_reason(error, us)?),
        HandshakeError::Authentication(reason) => (CloseCode::AUTHENTICATION, reason.clone()),
        HandshakeError::Limit { limit, most } => (CloseCode::TRY_AGAIN, full(limit, *most)),
        HandshakeError::Unavailable(reason) => (CloseCode::TRY_AGAIN, reason.clone()),
        HandshakeError::Shutdown(reason) => (CloseCode::GOING_AWAY, reason.clone()),
        HandshakeError::Encode { kind, error } => {
            (CloseCode::INTERNAL, format!("`{kind}` cannot be written: {error}").into())
        }
        HandshakeError::Closed(closed) => (CloseCode::NORMAL, closed.reason.clone()),
        HandshakeError::Transport(_) => return None,
    })
}

/// Why there is no room for a client.
pub(crate) fn full(limit: &str, most: usize) -> Reason {
    format!("The master is full: `{limit}` is {most}").into()
}

fn version_reason(error: &VersionError, us: Role) -> Option<Reason> {
    let (us, them) = match us {
        Role::Master => ("master", "client"),
        _ => ("client", "master"),
    };
    let start = Reason::VERSION;
    Some(match error {
        VersionError::Incompatible { ours, theirs } => {
            format!("{start}: {us} speaks {ours}, {them} speaks {theirs}").into()
        }
        VersionError::Unreadable { ours, theirs } => {
            format!("{start}: {us} speaks {ours}, {them} sent {theirs:?}, no version like 2.0.0")
                .into()
        }
        VersionError::Refused(_) => return None,
    })
}

fn invalid(expected: &'static str, fault: HandshakeFault) -> HandshakeError {
    HandshakeError::Invalid { expected, fault }
}

/// A frame of the handshake; `close` is one in every turn.
fn read<'a>(text: &'a Text, expected: &'static str) -> Result<Frame<'a>, HandshakeError> {
    let frame = Frame::parse(text.as_str()).map_err(|fault| invalid(expected, fault.into()))?;
    if frame.kind == Close::TYPE {
        let close: Close = data(&frame, Close::TYPE)?;
        let closed = Closed::remote(CloseCode::NO_STATUS, close.reason);
        return Err(HandshakeError::Closed(closed));
    }
    Ok(frame)
}

/// Whether the peer's `field` may be kept.
fn short(expected: &'static str, field: &'static str, text: &str) -> Result<(), HandshakeError> {
    match text.len() {
        0..=MAX_TEXT => Ok(()),
        _ => Err(invalid(expected, HandshakeFault::Long { field, limit: MAX_TEXT })),
    }
}

fn expect<'a>(text: &'a Text, kind: &'static str) -> Result<Frame<'a>, HandshakeError> {
    let frame = read(text, kind)?;
    if frame.kind == kind { Ok(frame) } else { Err(invalid(kind, HandshakeFault::Type)) }
}

fn data<D: DeserializeOwned>(frame: &Frame<'_>, kind: &'static str) -> Result<D, HandshakeError> {
    crate::wire::decode(frame.data).map_err(|error| invalid(kind, HandshakeFault::Data(error)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::memory;

    /// Refuses to be written.
    struct Broken;

    impl Serialize for Broken {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("it is broken"))
        }
    }

    /// What cannot be written is told as what it is, and not all of it as too long.
    #[tokio::test]
    async fn what_cannot_be_said_is_told_as_it_is() {
        let (mut ours, _theirs) = memory::pair();
        let config = HandshakeConfig {
            versions: Versions::default(),
            deadline: Instant::now() + Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            close_timeout: Duration::from_secs(1),
            stop: CancellationToken::new(),
            outbox: 1 << 20,
        };
        let mut script = Script::new(&mut ours, &config, Dialect::PLAIN);
        let text = script.frame("hello", &Broken).unwrap_err().to_string();
        assert!(text.contains("hello") && text.contains("it is broken"), "{text}");
        let text = script.frame("hello", &[0; 3]).unwrap_err().to_string();
        assert!(text.contains("no JSON object"), "{text}");
        let long = std::collections::BTreeMap::from([("a", "x".repeat(MAX_FRAME))]);
        let text = script.frame("hello", &long).unwrap_err().to_string();
        assert!(text.contains("16384"), "{text}");
    }
}
