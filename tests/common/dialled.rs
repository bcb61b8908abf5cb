//! A master, and clients that dial it in memory: over cables that can be cut, as often as it takes.

use std::io;
use std::sync::{Arc, Mutex};

use seqlink::transport::memory::{self, Cable};
use seqlink::{Client, ClientBuilder, Master};
use tokio::time::Instant;

/// Where clients find their master.
#[derive(Clone)]
pub struct Place {
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    /// `None`: nobody is there, and dialling is refused.
    master: Option<Master>,
    cables: Vec<Cable>,
    dials: Vec<Instant>,
}

impl Place {
    pub fn new(master: Master) -> Self {
        let inner = Inner { master: Some(master), cables: Vec::new(), dials: Vec::new() };
        Self { inner: Arc::new(Mutex::new(inner)) }
    }

    /// Connects a client that asks for sessions.
    pub async fn connect(&self, client: ClientBuilder) -> Client {
        let inner = Arc::clone(&self.inner);
        let dial = move || {
            let socket = inner.lock().unwrap().dial();
            async move { socket }
        };
        client.connect_by(dial).await.unwrap()
    }

    pub fn master(&self) -> Master {
        self.inner.lock().unwrap().master.clone().unwrap()
    }

    /// The cable of the last dial.
    pub fn cable(&self) -> Cable {
        self.inner.lock().unwrap().cables.last().unwrap().clone()
    }

    /// When it was dialled, also in vain.
    pub fn dials(&self) -> Vec<Instant> {
        self.inner.lock().unwrap().dials.clone()
    }

    /// The master is killed: every cable is cut, and nobody is there any more.
    pub fn kill(&self) {
        let mut inner = self.inner.lock().unwrap();
        inner.master = None;
        inner.cables.drain(..).for_each(|cable| cable.cut());
    }

    /// Another one is there.
    pub fn settle(&self, master: Master) {
        self.inner.lock().unwrap().master = Some(master);
    }
}

impl Inner {
    fn dial(&mut self) -> io::Result<memory::Memory> {
        self.dials.push(Instant::now());
        let Some(master) = self.master.clone() else {
            return Err(io::ErrorKind::ConnectionRefused.into());
        };
        let (ours, theirs) = memory::session_pair();
        self.cables.push(ours.cable());
        tokio::spawn(async move { master.attach(theirs).await });
        Ok(ours)
    }
}
