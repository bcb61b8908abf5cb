//! A peer in memory that shares no code with the library.

use std::future::poll_fn;

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

    pub async fn hear(&mut self) -> String {
        loop {
            match self.any().await {
                Some(Incoming::Text(text)) => return text.as_str().to_owned(),
                Some(Incoming::Control) => {}
                other => panic!("no text but {other:?}"),
            }
        }
    }
}
