use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::close::Closed;
use crate::handshake::Hold;
use crate::link::{Link, Lost, Recover, Resumption};
use crate::secret::Secret;

/// The sessions that a master holds, by number.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    seats: HashMap<u64, Seat>,
}

/// One session: how it is proved, and where its next socket goes.
#[derive(Debug)]
struct Seat {
    tokens: Tokens,
    link: Link,
    sockets: mpsc::Sender<Resumption>,
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
        self.given.iter().fold(self.shown.is(token), |known, given| known | given.is(token))
    }

    /// `token` was shown, and `new` is given for it.
    fn renew(&mut self, token: &Secret, new: Secret) {
        if !self.shown.is(token) {
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
    pub(super) fn open(&mut self, hold: &Hold, link: Link) -> SocketQueue {
        let (sockets, queue) = mpsc::channel(1);
        if let Some(number) = number(&hold.token) {
            let tokens = Tokens { shown: hold.token.clone(), given: VecDeque::new() };
            self.seats.insert(number, Seat { tokens, link, sockets });
        }
        SocketQueue { queue, timeout: hold.timeout }
    }

    /// The session that `token` proves, and where its next socket goes.
    pub(super) fn find(&self, token: &Secret) -> Option<Found> {
        let number = number(token)?;
        let seat = self.seats.get(&number).filter(|seat| seat.tokens.has(token))?;
        let hold = seat.link.hold()?;
        let (link, sockets) = (seat.link.clone(), seat.sockets.clone());
        Some(Found { number, link, sockets, hold, shown: token.clone() })
    }

    /// A new token for the session, beside the one that was shown.
    pub(super) fn renew(&mut self, found: &Found) -> Secret {
        let new = token(found.number);
        if let Some(seat) = self.seats.get_mut(&found.number) {
            seat.tokens.renew(&found.shown, new.clone());
        }
        new
    }

    /// Lets go of the session of `link`.
    pub(super) fn close(&mut self, link: &Link) {
        if let Some(hold) = link.hold()
            && let Some(number) = number(&hold.token)
        {
            self.seats.remove(&number);
        }
    }
}

/// A session that a client wants to go on with.
#[derive(Debug)]
pub(super) struct Found {
    number: u64,
    pub(super) link: Link,
    pub(super) sockets: mpsc::Sender<Resumption>,
    pub(super) hold: Hold,
    shown: Secret,
}

/// The sockets of a link at the master: clients bring them.
#[derive(Debug)]
pub(super) struct SocketQueue {
    queue: mpsc::Receiver<Resumption>,
    timeout: Duration,
}

impl Recover for SocketQueue {
    async fn takeover(&mut self) -> Resumption {
        match self.queue.recv().await {
            Some(resumption) => resumption,
            // The session is closed, or there is none.
            None => std::future::pending().await,
        }
    }

    async fn recover(&mut self, lost: &Lost) -> Result<Resumption, Closed> {
        let ended =
            || Closed::lost(format!("Not resumed within {:?}: {}", self.timeout, lost.cut.reason));
        match timeout(self.timeout, self.queue.recv()).await {
            Ok(Some(resumption)) => Ok(resumption),
            Ok(None) | Err(_) => Err(ended()),
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
