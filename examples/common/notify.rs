//! Tells a web application that a player's game runs: one small HTTP/1.1 POST per game.
//!
//! The queue never waits for it: [`Notifier::send`] puts the text into a bounded queue that a task
//! of its own empties, one request at a time and each with a time limit. What does not fit is
//! dropped and logged, and so is what the application does not take; nothing is sent twice.

use std::fmt;
use std::io;
use std::str::FromStr;
use std::time::Duration;

use seqlink::printable::Printable;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tracing::{debug, warn};

/// How many texts wait for an application that is slow.
const WAITING: usize = 256;
/// How long one request may take, from connecting to the status line.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest status line that is read.
const STATUS_LINE: u64 = 1024;

/// `http://host[:port][/path]`. `Debug` and `Display` leave out the path, which may hold a key.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct NotifyUrl {
    authority: String,
    path: String,
}

impl FromStr for NotifyUrl {
    type Err = &'static str;

    fn from_str(url: &str) -> Result<Self, Self::Err> {
        if url.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err("a URL has no spaces and no control characters");
        }
        let rest = url.strip_prefix("http://").ok_or("only http://host[:port][/path] is spoken")?;
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err("a user or password in the URL is not supported");
        }
        let port = authority.rsplit_once(':').filter(|(_, port)| !port.ends_with(']'));
        if let Some((_, port)) = port
            && port.parse::<u16>().is_err()
        {
            return Err("the port is not a number from 0 to 65535");
        }
        if authority.is_empty() || authority.starts_with(':') {
            return Err("the URL names no host");
        }
        let path = path.split('#').next().unwrap_or_default();
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok(Self { authority: authority.to_owned(), path })
    }
}

impl NotifyUrl {
    /// `host:port` to connect to.
    fn target(&self) -> String {
        let has_port = match self.authority.rfind(']') {
            Some(bracket) => self.authority[bracket..].contains(':'),
            None => self.authority.contains(':'),
        };
        if has_port { self.authority.clone() } else { format!("{}:80", self.authority) }
    }
}

impl fmt::Display for NotifyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}/…", self.authority)
    }
}

impl fmt::Debug for NotifyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Sends JSON texts to a URL, in order, from a task of its own.
#[derive(Clone, Debug)]
pub(crate) struct Notifier(mpsc::Sender<String>);

impl Notifier {
    /// Starts the task; it ends with the last clone of the handle.
    pub(crate) fn start(url: NotifyUrl) -> Self {
        let (sender, mut texts) = mpsc::channel::<String>(WAITING);
        tokio::spawn(async move {
            while let Some(text) = texts.recv().await {
                match timeout(PATIENCE, post(&url, &text)).await {
                    Ok(Ok(())) => debug!(%url, "the application knows"),
                    Ok(Err(error)) => warn!(%url, %error, "the application was not told"),
                    Err(_) => warn!(%url, "the application did not answer in time"),
                }
            }
        });
        Self(sender)
    }

    /// Queues `json`; returns at once.
    pub(crate) fn send(&self, json: String) {
        if self.0.try_send(json).is_err() {
            warn!("the application is too slow: a notification is dropped");
        }
    }
}

async fn post(url: &NotifyUrl, json: &str) -> io::Result<()> {
    let mut socket = TcpStream::connect(url.target()).await?;
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: seqlink-master/{}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        url.path,
        url.authority,
        env!("CARGO_PKG_VERSION"),
        json.len(),
    );
    socket.write_all((head + json).as_bytes()).await?;
    let mut status = Vec::new();
    BufReader::new(socket.take(STATUS_LINE)).read_until(b'\n', &mut status).await?;
    let status = String::from_utf8_lossy(&status);
    // HTTP/1.1 204 No Content
    match status.split(' ').nth(1) {
        Some(code) if code.len() == 3 && code.starts_with('2') => Ok(()),
        Some(_) => {
            Err(io::Error::other(format!("it answered {:?}", Printable::new(status.trim_end()))))
        }
        None => Err(io::Error::other("it did not answer in HTTP")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let url = |text: &str| text.parse::<NotifyUrl>();
        let parts = |text: &str| url(text).map(|url| (url.target(), url.path));
        assert_eq!(parts("http://web"), Ok(("web:80".into(), "/".into())));
        assert_eq!(parts("http://web:81/a?key=1#x"), Ok(("web:81".into(), "/a?key=1".into())));
        assert_eq!(parts("http://[::1]?a"), Ok(("[::1]:80".into(), "/?a".into())));
        assert_eq!(parts("http://[::1]:9/"), Ok(("[::1]:9".into(), "/".into())));
        for bad in
            ["https://web/", "web", "http://", "http://:80/", "http://a:b@web/", "http://w:x/"]
        {
            assert!(url(bad).is_err(), "{bad}");
        }
        assert!(url("http://web/a b").is_err());
        assert_eq!(format!("{:?}", url("http://web/secret")), "Ok(http://web/…)");
    }
}
