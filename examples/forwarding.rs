//! A control asks a slave through their master, which hands on and reads nothing but where to.
//!
//! ```sh
//! cargo run --example forwarding
//! ```

use std::sync::{Arc, OnceLock};

use seqlink::catalog::clusterio::{ForInstance, StartInstance};
use seqlink::{Control, Ctx, Empty, Link, Master, Router, Slave};

/// The master, for its own handlers; instance 44 is on slave 7.
type Fleet = OnceLock<Master>;

fn slave_of(start: &StartInstance, ctx: &Ctx<Fleet>) -> Result<Link, String> {
    let slave = if start.instance_id() == 44 { Some(7) } else { None };
    let slave = slave.ok_or_else(|| format!("there is no instance {}", start.instance_id()))?;
    let link = ctx.state().get().and_then(|master| master.slave(slave));
    link.ok_or_else(|| "its slave is not connected".to_owned())
}

async fn start(start: StartInstance, _: Ctx) -> Result<Empty, String> {
    println!("slave 7 starts instance {}", start.instance_id());
    Ok(Empty {})
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let fleet = Arc::new(Fleet::new());
    let master = Master::builder().router(Router::with_state(Arc::clone(&fleet)).forward(slave_of));
    let master = master.build()?;
    let url = format!("ws://{}/", master.listen("127.0.0.1:0").await?);
    fleet.set(master).expect("it is the only one");

    let slave = Slave::builder().url(&url).id(7).router(Router::new(()).request(start));
    let slave = slave.connect().await?;
    let control = Control::builder().url(&url).connect().await?;
    let link = control.link().await?;
    for instance_id in [44, 45] {
        match link.request(&StartInstance { instance_id }).await {
            Ok(Empty {}) => println!("instance {instance_id} has started"),
            Err(error) => println!("instance {instance_id}: {error}"),
        }
    }
    control.close("done").await;
    slave.close("done").await;
    Ok(())
}
