//! A master on an application's own axum server, next to its other routes.

mod common;

use axum::Router;
use axum::extract::{Request, State};
use axum::routing::get;
use common::raw::{self, Raw};
use common::*;
use seqlink::{Control, Master, Slave};

async fn link(
    State(master): State<Master>,
    mut request: Request,
) -> axum::response::Response<String> {
    master.upgrade(&mut request)
}

#[tokio::test]
async fn a_master_is_one_route_of_an_axum_server() {
    let master = Master::builder().router(router()).build().unwrap();
    let app = Router::new()
        .route("/", get(|| async { "a page" }))
        .route("/fleet/api/socket", get(link))
        .with_state(master.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });

    let url = format!("ws://{address}/fleet/");
    let slave = Slave::builder().url(&url).id(7).router(router()).connect().await.unwrap();
    let control = Control::builder().url(&url).connect().await.unwrap();
    for link in
        [slave.link().await.unwrap(), control.link().await.unwrap(), master.slave(7).unwrap()]
    {
        let text = "x".repeat(100_000);
        assert_eq!(link.request(&echo(&text)).await.unwrap().text.len(), 100_000);
    }

    let mut page = Raw::tcp(address).await;
    let get = |path| format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    assert!(page.http(&get("/")).await.starts_with("HTTP/1.1 200 "));
    let mut page = Raw::tcp(address).await;
    assert!(page.http(&get("/fleet/api/socket")).await.starts_with("HTTP/1.1 426 "));
    assert!(page.rest().await.contains("WebSocket"));
    let mut page = Raw::tcp(address).await;
    assert!(page.http(&raw::upgrade("/api/socket")).await.starts_with("HTTP/1.1 404 "));

    let link = slave.link().await.unwrap();
    master.shutdown("maintenance", std::time::Duration::from_secs(2)).await;
    assert_eq!(link.closed().await.to_string(), "closed by the peer: maintenance");
    let mut late = Raw::tcp(address).await;
    let head = late.http(&raw::upgrade("/fleet/api/socket")).await;
    assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
}

/// What an application's own server hands on may come from any site's page too.
#[tokio::test]
async fn a_mounted_master_lets_no_page_in() {
    let master = Master::builder().router(router()).build().unwrap();
    let app = Router::new().route("/fleet/api/socket", get(link)).with_state(master);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });

    let upgrade = raw::upgrade("/fleet/api/socket");
    let mut page = Raw::tcp(address).await;
    let foreign = upgrade.replace("\r\n\r\n", "\r\nOrigin: https://evil.test\r\n\r\n");
    let head = page.http(&foreign).await;
    assert!(head.starts_with("HTTP/1.1 403 "), "{head}");
    let mut program = Raw::tcp(address).await;
    assert!(program.http(&upgrade).await.starts_with("HTTP/1.1 101 "));
}
