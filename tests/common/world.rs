//! A master and clients in memory, over cables that can be cut.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use seqlink::transport::memory::{self, Cable};
use seqlink::{Client, ClientBuilder, Ctx, Master, Router};
use tokio::time::sleep;

use super::{Echo, Sleep, Tick};

/// A master, and clients that dial it in memory over cables that can be cut.
pub struct World {
    pub master: Master,
    pub cables: Arc<Mutex<Vec<Cable>>>,
}

impl World {
    pub fn new(master: Master) -> Self {
        Self { master, cables: Arc::default() }
    }

    pub async fn connect(&self, client: ClientBuilder) -> Client {
        let (master, cables) = (self.master.clone(), Arc::clone(&self.cables));
        let dial = move || {
            let (ours, theirs) = memory::session_pair();
            cables.lock().unwrap().push(ours.cable());
            let master = master.clone();
            tokio::spawn(async move { master.attach(theirs).await });
            async move { Ok(ours) }
        };
        client.connect_by(dial).await.unwrap()
    }

    pub fn cable(&self) -> Cable {
        self.cables.lock().unwrap().last().unwrap().clone()
    }

    pub fn dials(&self) -> usize {
        self.cables.lock().unwrap().len()
    }
}

/// The numbers of the events that arrived.
pub type Ticks = Arc<Mutex<Vec<u64>>>;

/// Remembers events, and answers requests.
pub fn counting(seen: &Ticks) -> Router<Mutex<Vec<u64>>> {
    async fn on_tick(tick: Tick, ctx: Ctx<Mutex<Vec<u64>>>) {
        ctx.state().lock().unwrap().push(tick.n);
    }
    async fn on_echo(echo: Echo, _: Ctx<Mutex<Vec<u64>>>) -> Result<Echo, String> {
        Ok(echo)
    }
    async fn on_sleep(wait: Sleep, _: Ctx<Mutex<Vec<u64>>>) -> Result<seqlink::Empty, String> {
        sleep(Duration::from_millis(wait.ms)).await;
        Ok(seqlink::Empty {})
    }
    Router::with_state(Arc::clone(seen)).event(on_tick).request(on_echo).request(on_sleep)
}
