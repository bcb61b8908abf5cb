//! Tells a web application that a player's game runs: one small POST per game.
//!
//! The queue never waits for it: [`Notifier::send`] puts the text into a bounded queue that a task
//! of its own empties, one request at a time and each with a time limit. What does not fit is
//! dropped and logged, and so is what the application does not take; nothing is sent twice.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, USER_AGENT};
use hyper::{Request, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tracing::{debug, warn};

/// How many texts wait for an application that is slow.
const WAITING: usize = 256;
/// How long one request may take, from connecting to the head of the answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// `http://host[:port][/path]`. `Debug` and `Display` leave out the path, which may hold a key.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct NotifyUrl(Uri);

impl NotifyUrl {
    /// For the command line: the URL may hold a key, and is not quoted.
    pub(crate) fn parse(url: &str) -> Result<Self, String> {
        url.parse().map_err(|error| format!("the URL of --notify-url: {error}"))
    }
}

impl FromStr for NotifyUrl {
    type Err = String;

    fn from_str(url: &str) -> Result<Self, Self::Err> {
        let only = "only http://host[:port][/path] is spoken";
        let uri: Uri = url.parse().map_err(|error| format!("{error}; {only}"))?;
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        let host = uri.host().unwrap_or_default();
        if uri.scheme_str() != Some("http") || host.is_empty() {
            return Err(only.to_owned());
        }
        if authority.contains('@') {
            return Err("a user or password in the URL is not supported".to_owned());
        }
        if authority != host && uri.port_u16().is_none() {
            return Err("the port is not a number from 0 to 65535".to_owned());
        }
        Ok(Self(uri))
    }
}

impl fmt::Display for NotifyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}/…", self.0.authority().map_or("", |authority| authority.as_str()))
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
        // A connection that is kept may turn out dead, and what was sent over it would be sent again.
        let client = Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(0)
            .retry_canceled_requests(false)
            .build_http();
        tokio::spawn(async move {
            while let Some(text) = texts.recv().await {
                match timeout(PATIENCE, post(&client, &url, text)).await {
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

/// The error is a text without the URL, which may hold a key.
async fn post(
    client: &Client<HttpConnector, Full<Bytes>>,
    url: &NotifyUrl,
    json: String,
) -> Result<(), String> {
    let request = Request::post(&url.0)
        .header(CONTENT_TYPE, "application/json")
        .header(USER_AGENT, concat!("seqlink-master/", env!("CARGO_PKG_VERSION")))
        .body(Full::from(json))
        .map_err(|error| error.to_string())?;
    match client.request(request).await {
        Ok(answer) if answer.status().is_success() => Ok(()),
        Ok(answer) => Err(format!("it answered {}", answer.status())),
        Err(error) => {
            // The first text says only that there is an error.
            let source = std::error::Error::source(&error).map(|source| format!(": {source}"));
            Err(format!("{error}{}", source.unwrap_or_default()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let url = |text: &str| text.parse::<NotifyUrl>();
        for good in ["http://web", "http://web:81/a?key=1#x", "http://[::1]?a", "http://[::1]:9/"] {
            assert!(url(good).is_ok(), "{good}");
        }
        for bad in [
            "https://web/",
            "web",
            "http://",
            "http://:80/",
            "http://a:b@web/",
            "http://w:x/",
            "http://w:/",
            "http://w:65536/",
            "http://web/a b",
            "/only/a/path",
        ] {
            assert!(url(bad).is_err(), "{bad}");
        }
        assert_eq!(format!("{:?}", url("http://web/secret")), "Ok(http://web/…)");
    }
}
