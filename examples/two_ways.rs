//! Both sides ask, over the one connection that the slave has opened.
//!
//! ```sh
//! cargo run --example two_ways
//! ```

use seqlink::{Ctx, Master, Request, Router, Slave};
use serde::{Deserialize, Serialize};

/// How much is there of something?
#[derive(Serialize, Deserialize)]
struct Count {
    what: String,
}

#[derive(Serialize, Deserialize)]
struct Counted {
    number: usize,
}

impl Request for Count {
    const NAME: &'static str = "count";
    type Response = Counted;
}

/// Answers, and asks back on the same link while the asker still waits.
async fn count(request: Count, ctx: Ctx<&'static str>) -> Result<Counted, String> {
    println!("{} is asked for {}", ctx.state(), request.what);
    if request.what == "all" {
        let theirs = Count { what: "yours".to_owned() };
        let theirs = ctx.link().request(&theirs).await.map_err(|error| error.to_string())?;
        return Ok(Counted { number: 1 + theirs.number });
    }
    Ok(Counted { number: 41 })
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let master = Master::builder().router(Router::new("the master").request(count)).build()?;
    let address = master.listen("127.0.0.1:0").await?;
    let slave = Slave::builder().url(format!("ws://{address}/")).id(7);
    let slave = slave.router(Router::new("the slave").request(count)).connect().await?;

    let to_slave = master.slave(7).ok_or("it has registered")?;
    let all = to_slave.request(&Count { what: "all".to_owned() }).await?;
    println!("the slave says {}", all.number);
    let to_master = slave.link().await?;
    let all = to_master.request(&Count { what: "all".to_owned() }).await?;
    println!("the master says {}", all.number);
    slave.close("done").await;
    Ok(())
}
