//! A peer in memory that shares no code with the library.

use std::future::poll_fn;

use futures::FutureExt as _;
use seqlink::transport::memory::{self, Memory};
use seqlink::transport::{Incoming, Outgoing, Transport};
use seqlink::{CloseCode, Link, Master, Reason};

/// A client that shares no code with the library: text in, text out.
pub struct Scripted(pub Memory);

impl Scripted {
    /// Registers as a control with `master`.
    pub async fn control(master: &Master) -> (Self, Link) {
        let (ours, theirs) = memory::pair();
        let mut peer = Self(ours);
        let register = async {
            assert!(peer.hear().await.starts_with(r#"{"seq":1,"type":"hello","#));
            let data = r#"{"agent":"scripted","version":"2.0.0"}"#;
            peer.say(&format!(r#"{{"seq":1,"type":"register_control","data":{data}}}"#)).await;
            assert_eq!(peer.hear().await, r#"{"seq":2,"type":"ready","data":{}}"#);
        };
        let (link, ()) = tokio::join!(master.attach(theirs), register);
        (peer, link.unwrap())
    }

    pub async fn say(&mut self, text: &str) {
        poll_fn(|cx| self.0.poll_ready(cx)).await.unwrap();
        self.0.send(Outgoing::Text(text.into())).unwrap();
    }

    /// Sends a close frame.
    pub async fn close(&mut self, code: u16, reason: &str) {
        poll_fn(|cx| self.0.poll_ready(cx)).await.unwrap();
        self.0.send(Outgoing::Close(CloseCode(code), Reason::new(reason))).unwrap();
    }

    pub async fn any(&mut self) -> Option<Incoming> {
        poll_fn(|cx| self.0.poll_receive(cx)).await.ok()
    }

    /// Reads what has come, acknowledges it, and says how many responses there were.
    pub fn answers(&mut self) -> usize {
        let (mut answers, mut last) = (0, None);
        while let Some(Some(incoming)) = self.any().now_or_never() {
            let Incoming::Text(text) = incoming else { continue };
            let frame: serde_json::Value = serde_json::from_str(text.as_str()).unwrap();
            last = frame["seq"].as_u64().or(last);
            answers += usize::from(frame["type"].as_str().unwrap().ends_with("_response"));
        }
        if let Some(last) = last {
            let heartbeat = format!(r#"{{"seq":null,"type":"heartbeat","data":{{"seq":{last}}}}}"#);
            self.say(&heartbeat).now_or_never();
        }
        answers
    }

    /// The next text; `None` at the end of the socket, or when it is closed.
    pub async fn text(&mut self) -> Option<String> {
        loop {
            match self.any().await? {
                Incoming::Text(text) => return Some(text.as_str().to_owned()),
                Incoming::Ping => {}
                _ => return None,
            }
        }
    }

    pub async fn hear(&mut self) -> String {
        loop {
            match self.any().await {
                Some(Incoming::Text(text)) => return text.as_str().to_owned(),
                Some(Incoming::Ping) => {}
                other => panic!("no text but {other:?}"),
            }
        }
    }
}

/// A session of a scripted control.
pub struct Session {
    token: String,
}

impl Session {
    /// Registers as a control that speaks sessions with `master`.
    pub async fn control(master: &Master) -> (Scripted, Link, Self) {
        let (ours, theirs) = memory::session_pair();
        let mut peer = Scripted(ours);
        let register = async {
            assert!(peer.hear().await.starts_with(r#"{"seq":null,"type":"hello","#));
            let data = r#"{"agent":"scripted","version":"2.0.0"}"#;
            peer.say(&format!(r#"{{"seq":null,"type":"register_control","data":{data}}}"#)).await;
            data_of(&peer.hear().await, "ready")
        };
        let (link, ready) = tokio::join!(master.attach(theirs), register);
        let token = ready["session_token"].as_str().unwrap().to_owned();
        (peer, link.unwrap(), Self { token })
    }

    /// Goes on with the session over another socket. Returns the last number that the master has.
    pub async fn resume(&self, master: &Master) -> (Scripted, u64) {
        let (ours, theirs) = memory::session_pair();
        let mut peer = Scripted(ours);
        let resume = async {
            peer.hear().await;
            peer.say(&self.frame(None)).await;
            data_of(&peer.hear().await, "continue")
        };
        let (link, cont) = tokio::join!(master.attach(theirs), resume);
        link.unwrap();
        (peer, cont["last_seq"].as_u64().unwrap_or(0))
    }

    /// The `resume` of a peer that has received all up to `last_seq`.
    pub fn frame(&self, last_seq: Option<u64>) -> String {
        let data = serde_json::json!({ "session_token": self.token, "last_seq": last_seq });
        format!(r#"{{"seq":null,"type":"resume","data":{data}}}"#)
    }
}

/// The data of a frame that must be of this type.
pub fn data_of(text: &str, kind: &str) -> serde_json::Value {
    let mut frame: serde_json::Value = serde_json::from_str(text).unwrap();
    assert_eq!(frame["type"], kind, "{text}");
    frame["data"].take()
}
