use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt as _;
use semver::Version;
use tokio::time::timeout_at;

use super::{
    Admitted, HandshakeConfig, HandshakeError, HandshakeFault, Negotiated, ResumeInfo, Script,
    data, invalid, read, short,
};
use crate::close::Reason;
use crate::message::{Empty, Peer, Role};
use crate::secret::Secret;
use crate::transport::{Below, Transport};
use crate::trust::{Claims, Connection, DynAuthenticator, Registration, Resumption, Verdict};
use crate::wire::{
    Account, Continue, Dialect, Hello, Invalidate, Ready, RegisterControl, RegisterSlave, Resume,
    Seconds, Text,
};

/// What a master expects after its `hello`, for a client that does not resume.
const REGISTRATION: &str = "register_slave or register_control";

/// What a client wants of a master.
#[derive(Debug)]
pub(crate) enum Arrival<S> {
    /// A session of its own; it waits for `ready`.
    Fresh(Box<Negotiated>),
    /// To go on with the session at `found`, of which it has all frames up to `last_seq`. It waits
    /// for `continue`.
    Resume { found: S, last_seq: Option<u64> },
}

/// How a master holds sessions.
pub(crate) struct SessionConfig<'a> {
    pub(crate) dialect: Dialect,
    pub(crate) timeout: Duration,
    pub(crate) heartbeat_interval: Duration,
    /// A new session token.
    pub(crate) token: fn() -> Secret,
    /// Why no client may register any more.
    pub(crate) shut: &'a (dyn Fn() -> Option<Reason> + Sync),
    /// Which limit leaves no room for a client.
    pub(crate) full: &'a (dyn Fn(&Peer) -> Option<(&'static str, usize)> + Sync),
    /// Decides who may come in; `None` lets in everyone.
    pub(crate) authenticator: Option<&'a dyn DynAuthenticator>,
    /// What the client comes over.
    pub(crate) connection: &'a Connection,
    /// What the socket is known to belong to.
    pub(crate) below: &'a Below,
}

/// The sessions that a master holds, as the handshake sees them.
pub(crate) trait HeldSessions: Send + Sync {
    /// A session that can be gone on with.
    type Session: Send;

    /// The session that `token` proves and that may go on over a socket on `below`, its client, and what
    /// that was admitted with.
    fn find(&self, token: &Secret, below: &Below) -> Option<(Self::Session, Peer, Claims)>;

    /// Ends a session whose client may not come back.
    fn deny(&self, found: &Self::Session, why: &str);
}

/// The master's script. `held` are the sessions. On an error the peer has been told.
pub(crate) async fn server<H: HeldSessions>(
    transport: &mut impl Transport,
    config: &HandshakeConfig,
    session: &SessionConfig<'_>,
    held: &H,
) -> Result<Arrival<H::Session>, HandshakeError> {
    let mut script = Script::new(transport, config, session.dialect);
    match script.serve(session, held).await {
        Ok(Served::Resume(found, last_seq)) => Ok(Arrival::Resume { found, last_seq }),
        Ok(Served::Ready(welcome)) => Ok(Arrival::Fresh(script.welcome(*welcome))),
        Err(error) => Err(script.refuse(error, Role::Master).await),
    }
}

/// The same from where a client waits for `continue`, when its session has ended after all.
pub(crate) async fn invalidate(
    transport: &mut impl Transport,
    config: &HandshakeConfig,
    session: &SessionConfig<'_>,
) -> Result<Box<Negotiated>, HandshakeError> {
    let mut script = Script::new(transport, config, session.dialect);
    match script.begin_anew(session).await {
        Ok(welcome) => Ok(script.welcome(welcome)),
        Err(error) => Err(script.refuse(error, Role::Master).await),
    }
}

/// The master's answer to a `resume`.
pub(crate) fn cont(
    last_seq: Option<u64>,
    resume_info: &ResumeInfo,
    dialect: &Dialect,
    peer: &Peer,
) -> Continue {
    // The account is `ready`'s alone: Clusterio's controls refuse it here (measured).
    let Offer { timeout, interval, .. } = Offer::to(peer, resume_info);
    let session_token = dialect.renews_token.then(|| resume_info.token.clone());
    Continue { last_seq, session_timeout: timeout, heartbeat_interval: interval, session_token }
}

enum Served<S> {
    Ready(Box<Welcome>),
    Resume(S, Option<u64>),
}

/// A client that is let in.
struct Welcome {
    ready: Text,
    peer: Peer,
    version: Version,
    resume_info: Option<ResumeInfo>,
    admission: Admitted,
}

impl<T: Transport> Script<'_, T> {
    async fn serve<H: HeldSessions>(
        &mut self,
        session: &SessionConfig<'_>,
        held: &H,
    ) -> Result<Served<H::Session>, HandshakeError> {
        let version = self.config.versions.ours().to_string();
        let plugins = session.dialect.plugins.then_some(Empty {});
        self.say(Hello::TYPE, &Hello { version, plugins }).await?;

        let text = self.hear(REGISTRATION).await?;
        let welcome = if session.dialect.resumes()
            && read(&text, REGISTRATION)?.kind == Resume::TYPE
        {
            let resume: Resume = data(&read(&text, REGISTRATION)?, Resume::TYPE)?;
            if let Some((found, peer, claims)) = held.find(&resume.session_token, session.below) {
                let admitted = self.admit_again(session, peer, claims).await;
                if let Err(HandshakeError::Authentication(reason)) = &admitted {
                    held.deny(&found, reason.as_str());
                }
                return admitted.map(|()| Served::Resume(found, resume.last_seq));
            }
            self.begin_anew(session).await?
        } else {
            self.let_in(&text, session).await?
        };
        Ok(Served::Ready(Box::new(welcome)))
    }

    /// The session of a `resume` is gone: its client registers on the same socket.
    async fn begin_anew(&mut self, session: &SessionConfig<'_>) -> Result<Welcome, HandshakeError> {
        self.say(Invalidate::TYPE, &Invalidate {}).await?;
        let text = self.hear(REGISTRATION).await?;
        self.let_in(&text, session).await
    }

    /// Lets a client in that has registered.
    async fn let_in(
        &mut self,
        text: &Text,
        session: &SessionConfig<'_>,
    ) -> Result<Welcome, HandshakeError> {
        if let Some(reason) = (session.shut)() {
            return Err(HandshakeError::Shutdown(reason));
        }
        let frame = read(text, REGISTRATION)?;
        let (role, id, name, register) = match &*frame.kind {
            RegisterSlave::TYPE => {
                let slave: RegisterSlave = data(&frame, RegisterSlave::TYPE)?;
                let RegisterSlave { token, agent, version, id, name, .. } = slave;
                (Role::Slave, Some(id), Some(name), RegisterControl { token, agent, version })
            }
            RegisterControl::TYPE => {
                (Role::Control, None, None, data(&frame, RegisterControl::TYPE)?)
            }
            _ => return Err(invalid(REGISTRATION, HandshakeFault::Type)),
        };
        let RegisterControl { token, agent, version } = register;
        short(REGISTRATION, "name", name.as_deref().unwrap_or_default())?;
        short(REGISTRATION, "agent", &agent)?;
        short(REGISTRATION, "version", &version)?;
        let (theirs, negotiated) = self.negotiate(&version)?;
        let peer = Peer { role, id, name, agent, version: theirs };
        let is_theirs = session.below.check(role, id);
        is_theirs.map_err(|why| HandshakeError::Authentication(Reason::denied(&why)))?;
        let admission = match session.authenticator {
            Some(authenticator) => {
                let connection = session.connection.clone();
                let registration = Registration { peer: peer.clone(), token, connection };
                self.ask(authenticator.register(registration)).await?
            }
            None => Admitted::default(),
        };
        if let Some((limit, most)) = (session.full)(&peer) {
            return Err(HandshakeError::Limit { limit, most });
        }
        let resume_info = session.dialect.resumes().then(|| session.resume_info());
        let ready = self.frame(Ready::TYPE, &ready(resume_info.as_ref(), &peer))?;
        Ok(Welcome { ready, peer, version: negotiated, resume_info, admission })
    }

    fn welcome(self, welcome: Welcome) -> Box<Negotiated> {
        let Welcome { ready, peer, version, resume_info, admission } = welcome;
        Box::new(self.finish(Some(ready), peer, version, resume_info, admission))
    }

    /// Asks whether a client may go on with its session.
    async fn admit_again(
        &mut self,
        session: &SessionConfig<'_>,
        peer: Peer,
        claims: Claims,
    ) -> Result<(), HandshakeError> {
        let Some(authenticator) = session.authenticator else { return Ok(()) };
        let connection = session.connection.clone();
        self.ask(authenticator.resume(Resumption { peer, claims, connection })).await.map(drop)
    }

    /// Waits for the authenticator, which is the application's own code: one that panics or does not
    /// answer in time has not denied anything, and clients must not take it for that.
    async fn ask(
        &mut self,
        verdict: impl Future<Output = Verdict>,
    ) -> Result<Admitted, HandshakeError> {
        let asked = AssertUnwindSafe(verdict).catch_unwind();
        let verdict = tokio::select! {
            biased;
            () = self.config.stop.cancelled() => {
                return Err(HandshakeError::Shutdown(Reason::new("shutdown")));
            }
            verdict = timeout_at(self.config.deadline, asked) => verdict,
        };
        let verdict = match verdict {
            Ok(Ok(verdict)) => verdict,
            Ok(Err(_)) => {
                tracing::error!("the authenticator panicked");
                Verdict::Unavailable("it failed".to_owned())
            }
            Err(_) => {
                let limit = self.config.timeout;
                tracing::error!(?limit, "the authenticator did not answer in time");
                Verdict::Unavailable("it did not answer in time".to_owned())
            }
        };
        match verdict {
            Verdict::Admit { claims, until } => Ok(Admitted { claims, until }),
            Verdict::Deny(why) => Err(HandshakeError::Authentication(Reason::denied(&why))),
            Verdict::Unavailable(why) => Err(HandshakeError::Unavailable(
                format!("Authentication is not available: {why}").into(),
            )),
        }
    }
}

impl SessionConfig<'_> {
    fn resume_info(&self) -> ResumeInfo {
        let (timeout, heartbeat_interval) = (self.timeout, self.heartbeat_interval);
        ResumeInfo { token: (self.token)(), timeout, heartbeat_interval }
    }
}

fn ready(resume_info: Option<&ResumeInfo>, peer: &Peer) -> Ready {
    let Some(resume_info) = resume_info else { return Ready::default() };
    let Offer { timeout, interval, account } = Offer::to(peer, resume_info);
    let session_token = Some(resume_info.token.clone());
    Ready { session_token, session_timeout: timeout, heartbeat_interval: interval, account }
}

/// The terms of a session as the client's own version knows them.
struct Offer {
    timeout: Option<Seconds>,
    interval: Option<Seconds>,
    account: Option<Account>,
}

impl Offer {
    /// Clusterio's clients refuse keys of a later version than theirs (measured).
    fn to(peer: &Peer, resume_info: &ResumeInfo) -> Self {
        let alpha = alpha(&peer.version);
        let roles = alpha.is_none_or(|alpha| alpha >= 10).then(Vec::new);
        let account = (peer.role == Role::Control && alpha.is_none_or(|alpha| alpha >= 5))
            .then(|| Account { name: peer.agent.clone(), roles });
        Self {
            timeout: alpha.is_none_or(|alpha| alpha >= 9).then_some(Seconds(resume_info.timeout)),
            interval: Some(Seconds(resume_info.heartbeat_interval)),
            account,
        }
    }
}

/// Which alpha of 2.0.0 a version is; `None` for everything else.
fn alpha(version: &Version) -> Option<u64> {
    let is_two = (version.major, version.minor, version.patch) == (2, 0, 0);
    let tag = version.pre.as_str().strip_prefix("alpha").filter(|_| is_two)?;
    match tag.strip_prefix('.') {
        Some(number) => number.parse().ok(),
        None => tag.is_empty().then_some(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_fits_the_clients_alpha() {
        let text = |role, version: &str| {
            let version = Version::parse(version).unwrap();
            let peer = Peer { role, id: None, name: None, agent: "a".into(), version };
            let (timeout, interval) = (Duration::from_secs(60), Duration::from_secs(15));
            let resume_info =
                ResumeInfo { token: "t".into(), timeout, heartbeat_interval: interval };
            serde_json::to_string(&ready(Some(&resume_info), &peer)).unwrap()
        };
        let old = r#"{"session_token":"t","heartbeat_interval":15"#;
        let new = r#"{"session_token":"t","session_timeout":60,"heartbeat_interval":15"#;
        for version in ["2.0.0-alpha", "2.0.0-alpha.0", "2.0.0-alpha.4"] {
            assert_eq!(text(Role::Control, version), format!("{old}}}"), "{version}");
        }
        let named = r#","account":{"name":"a"}}"#;
        assert_eq!(text(Role::Control, "2.0.0-alpha.8"), format!("{old}{named}"));
        assert_eq!(text(Role::Control, "2.0.0-alpha.9"), format!("{new}{named}"));
        let with_roles = r#","account":{"name":"a","roles":[]}}"#;
        assert_eq!(text(Role::Control, "2.0.0-alpha.12"), format!("{new}{with_roles}"));
        assert_eq!(text(Role::Slave, "2.0.0-alpha.12"), format!("{new}}}"));
        assert_eq!(text(Role::Slave, "2.0.0-alpha.8"), format!("{old}}}"));
        assert_eq!(text(Role::Slave, "2.0.0"), format!("{new}}}"));
    }

    #[test]
    fn continue_carries_no_account() {
        let version = Version::parse("2.0.0-alpha.12").unwrap();
        let peer = Peer { role: Role::Control, id: None, name: None, agent: "a".into(), version };
        let (timeout, heartbeat_interval) = (Duration::from_secs(60), Duration::from_secs(15));
        let resume_info = ResumeInfo { token: "t".into(), timeout, heartbeat_interval };
        let text =
            serde_json::to_string(&cont(None, &resume_info, &Dialect::SESSION, &peer)).unwrap();
        assert_eq!(text, r#"{"last_seq":null,"session_timeout":60,"heartbeat_interval":15}"#);
    }
}
