use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;

use super::detached::Detached;
use crate::close::Closed;
use crate::handshake::ResumeInfo;
use crate::link::{CutSession, Link, Recover, Resumption};
use crate::secret::Secret;
use crate::transport::Below;

/// The sessions that a master holds, by number.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    sessions: HashMap<u64, HeldSession>,
}

/// One session: how it is proved, and where its next socket goes.
#[derive(Debug)]
struct HeldSession {
    /// The number of the newest connection that has brought a socket.
    connection: u64,
    tokens: Tokens,
    link: Link,
    sockets: Arc<Slot>,
    /// A certificate has let it in, and no socket without one goes on with it.
    is_certified: bool,
}

/// Where a link's next socket is put. Half a word of a channel: many links never need it.
#[derive(Debug)]
pub(super) struct Slot {
    next: Mutex<NextSocket>,
    filled: Notify,
}

enum NextSocket {
    None,
    /// And where it goes back to when the session ends before it is taken.
    Socket(Resumption, oneshot::Sender<Resumption>),
    /// The session has ended.
    Closed,
}

impl Slot {
    fn new() -> Self {
        Self { next: Mutex::new(NextSocket::None), filled: Notify::new() }
    }

    /// Puts a socket in, in the place of one that was not taken yet: its client has brought a newer
    /// one. It comes back when the session has ended, or ends before it is taken.
    pub(super) async fn put(&self, resumption: Resumption) -> Result<(), Resumption> {
        let (back, unclaimed) = oneshot::channel();
        {
            let mut next = self.lock();
            if let NextSocket::Closed = *next {
                return Err(resumption);
            }
            *next = NextSocket::Socket(resumption, back);
        }
        self.filled.notify_one();
        // Without a word it was taken, or replaced by a newer one.
        unclaimed.await.map_or(Ok(()), Err)
    }

    async fn take(&self) -> Resumption {
        loop {
            if let Some(resumption) = self.taken() {
                return resumption;
            }
            self.filled.notified().await;
        }
    }

    fn taken(&self) -> Option<Resumption> {
        let mut next = self.lock();
        match mem::replace(&mut *next, NextSocket::None) {
            NextSocket::Socket(resumption, _) => Some(resumption),
            other => {
                *next = other;
                None
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, NextSocket> {
        // Nothing panics while the lock is held.
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for NextSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Socket(..) => "Socket",
            Self::Closed => "Closed",
        })
    }
}

/// What proves a session.
///
/// A renewed token reaches the client with `continue`, which may be lost with its socket; and a
/// `resume` may arrive late, when its client has long gone on over another socket. So the token
/// that was shown last stays good, and so does each that was given for it, until one of those is
/// shown.
#[derive(Debug)]
struct Tokens {
    shown: Secret,
    given: VecDeque<Secret>,
}

/// Most tokens that are given for one that was shown; the oldest are let go.
const MOST_GIVEN: usize = 16;

impl Tokens {
    fn has(&self, token: &Secret) -> bool {
        // All are looked at, so that the time does not tell which it was.
        self.given.iter().fold(self.shown == *token, |known, given| known | (given == token))
    }

    /// `token` was shown, and `new` is given for it.
    fn renew(&mut self, token: &Secret, new: Secret) {
        if self.shown != *token {
            self.shown = token.clone();
            self.given.clear();
        }
        if self.given.len() == MOST_GIVEN {
            self.given.pop_front();
        }
        self.given.push_back(new);
    }
}

impl Sessions {
    /// Holds the session of `link` from now on.
    pub(super) fn open(
        &mut self,
        resume_info: &ResumeInfo,
        link: Link,
        is_certified: bool,
        connection: u64,
        detached: &Arc<Detached>,
    ) -> SocketQueue {
        let slot = Arc::new(Slot::new());
        if let Some(number) = number(&resume_info.token) {
            let tokens = Tokens { shown: resume_info.token.clone(), given: VecDeque::new() };
            let sockets = Arc::clone(&slot);
            let session = HeldSession { tokens, link, sockets, is_certified, connection };
            self.sessions.insert(number, session);
        }
        SocketQueue { slot, timeout: resume_info.timeout, detached: Arc::clone(detached) }
    }

    /// The session that `token` proves, and where its next socket goes, if it may go on over one
    /// that runs on `below`.
    pub(super) fn find(&self, token: &Secret, below: &Below) -> Option<Found> {
        let number = number(token)?;
        let session = self.sessions.get(&number).filter(|session| session.tokens.has(token))?;
        let peer = session.link.peer();
        let is_theirs = below.check(peer.role, peer.id).is_ok();
        if !is_theirs || (session.is_certified && !below.is_certified()) {
            return None;
        }
        let resume_info = session.link.resume_info()?;
        let (link, sockets) = (session.link.clone(), Arc::clone(&session.sockets));
        Some(Found { number, link, sockets, resume_info, shown: token.clone() })
    }

    /// Returns whether no newer connection than this one has gone on with the session, or was denied it.
    pub(super) fn claim(&mut self, found: &Found, connection: u64) -> bool {
        let Some(session) = self.sessions.get_mut(&found.number) else { return true };
        let is_newest = session.connection <= connection;
        session.connection = session.connection.max(connection);
        is_newest
    }

    /// A new token for the session, beside the one that was shown.
    pub(super) fn renew(&mut self, found: &Found) -> Secret {
        let new = token(found.number);
        if let Some(session) = self.sessions.get_mut(&found.number) {
            session.tokens.renew(&found.shown, new.clone());
        }
        new
    }

    /// Lets go of the session of `link`.
    pub(super) fn close(&mut self, link: &Link) {
        if let Some(resume_info) = link.resume_info()
            && let Some(number) = number(&resume_info.token)
        {
            self.sessions.remove(&number);
        }
    }
}

/// A session that a client wants to go on with.
#[derive(Debug)]
pub(crate) struct Found {
    number: u64,
    pub(super) link: Link,
    pub(super) sockets: Arc<Slot>,
    pub(super) resume_info: ResumeInfo,
    shown: Secret,
}

/// The sockets of a link at the master: clients bring them.
#[derive(Debug)]
pub(super) struct SocketQueue {
    slot: Arc<Slot>,
    timeout: Duration,
    detached: Arc<Detached>,
}

impl Recover for SocketQueue {
    async fn takeover(&mut self) -> Resumption {
        self.slot.take().await
    }

    async fn recover(&mut self, session: &CutSession) -> Result<Resumption, Closed> {
        let mut place = self.detached.enter();
        let resumed = timeout(self.timeout, self.slot.take());
        tokio::select! {
            biased;
            resumed = resumed => resumed.map_err(|_| {
                Closed::lost(format!("Not resumed within {:?}: {}", self.timeout, session.cut.reason))
            }),
            () = place.evicted() => {
                let most = self.detached.most();
                Err(Closed::lost(format!(
                    "Not resumed before `detached_sessions` of {most} others were cut: {}",
                    session.cut.reason
                )))
            }
        }
    }
}

impl Drop for SocketQueue {
    fn drop(&mut self) {
        let last = mem::replace(&mut *self.slot.lock(), NextSocket::Closed);
        if let NextSocket::Socket(resumption, back) = last {
            // The task that brought it may have gone.
            let _ = back.send(resumption);
        }
    }
}

/// Digits of the number at the start of a token.
const DIGITS: usize = 16;

/// A token for a session: its number, by which it is found, and 256 random bits that prove it.
pub(super) fn token(number: u64) -> Secret {
    let mut bits = [0; 32];
    if getrandom::fill(&mut bits).is_err() {
        // Without randomness nothing proves a session: this one cannot be resumed.
        return "".into();
    }
    let mut text = format!("{number:0DIGITS$x}");
    for byte in bits {
        text.push_str(&format!("{byte:02x}"));
    }
    text.into()
}

/// A token for a session that has no number yet.
pub(super) fn fresh_token() -> Secret {
    let mut number = [0; 8];
    match getrandom::fill(&mut number) {
        Ok(()) => token(u64::from_le_bytes(number)),
        Err(_) => "".into(),
    }
}

fn number(token: &Secret) -> Option<u64> {
    u64::from_str_radix(token.expose().get(..DIGITS)?, 16).ok()
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;
    use crate::client::Control;
    use crate::master::Master;
    use crate::transport::memory;

    fn socket(number: u64) -> Resumption {
        let seconds = Duration::from_secs(60);
        let resume_info =
            ResumeInfo { token: token(1), timeout: seconds, heartbeat_interval: seconds };
        let (transport, _) = memory::pair();
        Resumption { transport: Box::new(transport), last_seq: Some(number), resume_info }
    }

    /// The client has brought the newest last; and after the end no socket is taken.
    #[test]
    fn the_newest_socket_is_taken_and_none_after_the_end() {
        let slot = Arc::new(Slot::new());
        let queue = SocketQueue {
            slot: Arc::clone(&slot),
            timeout: Duration::ZERO,
            detached: Detached::new(1),
        };
        let taken = || slot.taken().and_then(|resumption| resumption.last_seq);
        let mut put = [1, 2, 3].map(|number| Some(Box::pin(slot.put(socket(number)))));
        let mut poll = |n: usize| put[n - 1].as_mut().unwrap().now_or_never();
        let back =
            |put: Option<Result<(), Resumption>>| put.unwrap().err().and_then(|it| it.last_seq);
        assert!(poll(1).is_none() && poll(2).is_none());
        assert_eq!(back(poll(1)), None, "replaced");
        assert_eq!((taken(), taken()), (Some(2), None));
        assert_eq!(back(poll(2)), None, "taken");
        assert!(poll(3).is_none());
        drop(queue);
        assert_eq!(back(poll(3)), Some(3));
        assert_eq!(back(slot.put(socket(4)).now_or_never()), Some(4));
        assert_eq!(taken(), None);
    }

    /// A master that runs for long holds nothing of the sessions that it had.
    #[tokio::test(start_paused = true)]
    async fn a_session_that_has_ended_is_let_go() {
        let master = Master::builder().build().unwrap();
        let held = || master.sessions(|sessions| sessions.sessions.len());
        for _ in 0..3 {
            let (one, other) = memory::session_pair();
            let (client, link) = (Control::builder().attach(one), master.attach(other));
            let (client, link) = tokio::join!(client, link);
            assert_eq!(held(), 1);
            client.unwrap().close("done");
            link.unwrap().closed().await;
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert_eq!(held(), 0);
        }
    }
}
