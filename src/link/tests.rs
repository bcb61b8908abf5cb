use std::sync::Arc;

use semver::Version;

use super::*;
use crate::close::{CloseCode, ClosedBy};
use crate::error::RequestError;
use crate::handshake::{Negotiated, Peer};
use crate::message::{Empty, Event, Request, Role};
use crate::session::Session;
use crate::transport::memory;
use crate::wire::{Dialect, MAX_SEQ};

#[derive(serde::Serialize, serde::Deserialize)]
struct Tick {}

impl Event for Tick {
    const NAME: &'static str = "tick";
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Ask {}

impl Request for Ask {
    const NAME: &'static str = "ask";
    type Response = Empty;
}

/// Both ends of a link whose first frame is numbered `last_sent` and one.
fn pair(last_sent: u64) -> [Link; 2] {
    let (one, other) = memory::pair();
    let end = |transport, us, role| {
        let agent = String::new();
        let version = Version::new(2, 0, 0);
        let peer = Peer { role, id: None, name: None, agent, version: version.clone() };
        let session = Session::continuing(Dialect::PLAIN, last_sent);
        let negotiated = Negotiated { first: None, session, peer, version, resume_info: None };
        let (routes, config) = (Arc::default(), Config::default());
        let (link, driver) = Link::start(Box::new(transport), negotiated, us, config, routes);
        tokio::spawn(async move { driver.run(&mut Unrecoverable).await });
        link
    };
    [end(one, Role::Master, Role::Control), end(other, Role::Control, Role::Master)]
}

/// The numbers end before they lose precision in a peer's JSON reader, and both sides learn it.
#[tokio::test(start_paused = true)]
async fn a_link_whose_numbers_are_used_up_closes_with_a_reason() {
    let [link, peer] = pair(MAX_SEQ - 2);
    link.event(&Tick {}).await.unwrap();
    link.event(&Tick {}).await.unwrap();
    assert!(link.event(&Tick {}).await.is_err(), "there is no number left");
    let error = link.request(&Ask {}).await.unwrap_err();
    assert!(matches!(error, RequestError::Closed { .. }), "{error}");
    let closed = link.closed().await;
    assert_eq!((closed.by, closed.code), (ClosedBy::Local, CloseCode::INTERNAL));
    assert_eq!(closed.reason.as_str(), "Sequence numbers exhausted");
    assert_eq!(peer.closed().await.reason.as_str(), "Sequence numbers exhausted");
    assert_eq!(peer.ignored().events, 2, "what had a number arrived");
}
