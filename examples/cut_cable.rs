//! A cable is cut while a request is under way: the session goes on over the next one, and nothing is lost.
//!
//! ```sh
//! cargo run --example cut_cable
//! ```
//!
//! In memory, as in a test: no socket and no port. On a WebSocket a client dials anew by itself.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use seqlink::catalog::game_node::Heartbeat;
use seqlink::transport::memory::{self, Cable};
use seqlink::{Ctx, Empty, LinkState, Master, Router, Slave};

/// So slow that the cable is cut before the answer.
async fn heartbeat(_: Heartbeat, _: Ctx) -> Result<Empty, String> {
    tokio::time::sleep(Duration::from_millis(200)).await;
    Ok(Empty {})
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let master = Master::builder().router(Router::new(()).request(heartbeat)).build()?;
    let cable: Arc<Mutex<Option<Cable>>> = Arc::default();
    let laid = Arc::clone(&cable);
    let dial = move || {
        let (ours, theirs) = memory::session_pair();
        *laid.lock().unwrap() = Some(ours.cable());
        let master = master.clone();
        tokio::spawn(async move { master.attach(theirs).await });
        async { Ok(ours) }
    };
    let slave = Slave::builder().id(7).connect_by(dial).await?;
    let link = slave.link().await?;
    let mut states = link.states();
    let asked = tokio::spawn(async move { link.request(&Heartbeat {}).await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    if let Some(cable) = cable.lock().unwrap().take() {
        cable.cut();
    }
    while let Some(state) = states.next().await {
        println!("{state:?}");
        if let LinkState::Resumed { again } = state {
            println!("resumed, {again} sent again");
            break;
        }
    }
    println!("the request is answered: {:?}", asked.await??);
    slave.close("done").await;
    Ok(())
}
