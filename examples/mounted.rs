//! A master on an application's own axum server, beside `/healthz`.
//!
//! ```sh
//! cargo run --example mounted --features hyper
//! ```

use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::get;
use seqlink::{Master, Slave};

/// The upgrade to a WebSocket; pages of other origins are refused here too.
async fn link(State(master): State<Master>, mut request: Request) -> Response<String> {
    master.upgrade(&mut request)
}

async fn healthz(State(master): State<Master>) -> String {
    format!("{} slaves\n", master.slaves().len())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Whoever comes is let in, and finds nothing to ask for: one that has handlers has a `.token(…)` too.
    let master = Master::builder().build()?;
    let app = axum::Router::new()
        .route("/healthz", get(healthz))
        .route("/fleet/api/socket", get(link))
        .with_state(master.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    println!("http://{address}/healthz");
    let interrupted = async { drop(tokio::signal::ctrl_c().await) };
    let server = axum::serve(listener, app).with_graceful_shutdown(interrupted);
    let server = tokio::spawn(server.into_future());

    let slave = Slave::builder().url(format!("ws://{address}/fleet/")).id(7);
    let slave = slave.connect().await?;
    println!("slave 7 is here; Ctrl-C ends");
    server.await??;
    slave.close("done").await;
    Ok(())
}
