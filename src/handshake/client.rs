use std::time::Duration;

use semver::Version;

use super::{
    HandshakeConfig, HandshakeError, HandshakeFault, Negotiated, Peer, Registration, ResumeInfo,
    Script, data, expect, invalid, read, short,
};
use crate::close::{CloseCode, Closed, Reason};
use crate::message::{Empty, Role};
use crate::session::{HEARTBEAT_INTERVALS, SESSION_TIMEOUTS, clamped};
use crate::transport::Transport;
use crate::version::VersionError;
use crate::wire::{
    Continue, Dialect, Hello, Invalidate, Ready, RegisterControl, RegisterSlave, Resume, Seconds,
};

/// What a client has after its handshake.
#[derive(Debug)]
pub(crate) enum Registered {
    /// A session of its own.
    Fresh(Box<Negotiated>),
    /// The session that it had: the master has all of its frames up to `last_seq`.
    Resumed { last_seq: Option<u64>, resume_info: ResumeInfo },
}

/// A client's script. `held` is the session to go on with, and the last number that was received
/// in it. On an error the peer has been told.
pub(crate) async fn client(
    transport: &mut impl Transport,
    config: &HandshakeConfig,
    registration: &Registration,
    held: Option<(&ResumeInfo, Option<u64>)>,
) -> Result<Registered, HandshakeError> {
    let mut script = Script::new(transport, config, Dialect::PLAIN);
    match script.enter(registration, held).await {
        Ok(Entered::Resumed(last_seq, resume_info)) => {
            script.transport.set_limit(usize::MAX);
            Ok(Registered::Resumed { last_seq, resume_info })
        }
        Ok(Entered::Fresh(peer, version, resume_info)) => {
            Ok(Registered::Fresh(Box::new(script.finish(None, peer, version, resume_info))))
        }
        Err(error) => Err(match script.refuse(error, registration.peer.role).await {
            HandshakeError::Closed(closed) => refused(closed),
            other => other,
        }),
    }
}

enum Entered {
    Fresh(Peer, Version, Option<ResumeInfo>),
    Resumed(Option<u64>, ResumeInfo),
}

impl<T: Transport> Script<'_, T> {
    async fn enter(
        &mut self,
        us: &Registration,
        held: Option<(&ResumeInfo, Option<u64>)>,
    ) -> Result<Entered, HandshakeError> {
        let text = self.hear(Hello::TYPE).await?;
        let frame = expect(&text, Hello::TYPE)?;
        let hello: Hello = data(&frame, Hello::TYPE)?;
        short(Hello::TYPE, "version", &hello.version)?;
        let (theirs, negotiated) = self.negotiate(&hello.version)?;
        let dialect = match (self.transport.is_extended(), hello.plugins) {
            (true, _) => Dialect::SEQLINK,
            (false, Some(_)) => Dialect::SESSION,
            (false, None) => Dialect::PLAIN,
        };
        self.session = self.config.session(dialect);
        if let Some((resume_info, last_seq)) = held.filter(|_| dialect.resumes())
            && let Some(resumed) = self.resume(resume_info, last_seq).await?
        {
            return Ok(resumed);
        }
        let resume_info = self.register(us, dialect).await?;
        let agent = String::new();
        let peer = Peer { role: Role::Master, id: None, name: None, agent, version: theirs };
        Ok(Entered::Fresh(peer, negotiated, resume_info))
    }

    /// `None` when the master does not know the session any more.
    async fn resume(
        &mut self,
        resume_info: &ResumeInfo,
        last_seq: Option<u64>,
    ) -> Result<Option<Entered>, HandshakeError> {
        let session_token = resume_info.token.clone();
        self.say(Resume::TYPE, &Resume { session_token, last_seq }).await?;
        let expected = "continue or invalidate";
        let text = self.hear(expected).await?;
        let frame = read(&text, expected)?;
        match &*frame.kind {
            Continue::TYPE => {
                let cont: Continue = data(&frame, Continue::TYPE)?;
                let known = (cont.session_timeout, cont.heartbeat_interval);
                let token = cont.session_token.unwrap_or_else(|| resume_info.token.clone());
                let new = ResumeInfo {
                    token,
                    ..terms_of(known, resume_info.timeout, resume_info.heartbeat_interval)
                };
                Ok(Some(Entered::Resumed(cont.last_seq, new)))
            }
            Invalidate::TYPE => Ok(None),
            _ => Err(invalid(expected, HandshakeFault::Type)),
        }
    }

    async fn register(
        &mut self,
        us: &Registration,
        dialect: Dialect,
    ) -> Result<Option<ResumeInfo>, HandshakeError> {
        let (token, agent) = (us.token.clone(), us.peer.agent.clone());
        let version = self.config.versions.ours().to_string();
        match (us.peer.id, us.peer.name.clone()) {
            (Some(id), Some(name)) => {
                let plugins = dialect.plugins.then_some(Empty {});
                let slave = RegisterSlave { token, agent, version, id, name, plugins };
                self.say(RegisterSlave::TYPE, &slave).await?;
            }
            _ => {
                let control = RegisterControl { token, agent, version };
                self.say(RegisterControl::TYPE, &control).await?;
            }
        }
        let text = self.hear(Ready::TYPE).await?;
        let frame = expect(&text, Ready::TYPE)?;
        let ready: Ready = data(&frame, Ready::TYPE)?;
        let known = (ready.session_timeout, ready.heartbeat_interval);
        // What Clusterio's programs take where nothing is said.
        let (timeout, interval) = (Duration::from_secs(60), Duration::from_secs(15));
        let held = ready.session_token.filter(|_| dialect.resumes());
        Ok(held.map(|token| ResumeInfo { token, ..terms_of(known, timeout, interval) }))
    }
}

fn terms_of(
    (timeout, interval): (Option<Seconds>, Option<Seconds>),
    timeout_else: Duration,
    interval_else: Duration,
) -> ResumeInfo {
    let time = |said: Option<Seconds>, usual, range| said.map_or(usual, |it| clamped(it.0, range));
    ResumeInfo {
        token: "".into(),
        timeout: time(timeout, timeout_else, &SESSION_TIMEOUTS),
        heartbeat_interval: time(interval, interval_else, &HEARTBEAT_INTERVALS),
    }
}

/// A master that closes in the handshake has refused us; its reason says in which way.
fn refused(closed: Closed) -> HandshakeError {
    let reason = closed.reason.as_str();
    if reason.starts_with(Reason::AUTHENTICATION_FAILED) || closed.code == CloseCode::AUTHENTICATION
    {
        HandshakeError::Authentication(closed.reason)
    } else if reason.starts_with(Reason::VERSION) {
        HandshakeError::Version(VersionError::Refused(closed.reason))
    } else {
        HandshakeError::Closed(closed)
    }
}
