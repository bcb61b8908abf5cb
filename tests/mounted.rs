//! A master on an application's own axum server, next to its other routes.

mod common;

use std::net::SocketAddr;

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

/// A server with a master below `/fleet/`.
async fn mounted(master: Master) -> SocketAddr {
    let app = Router::new().route("/fleet/api/socket", get(link)).with_state(master);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

/// The status of the answer to a request with these lines for `Host` and `Origin`; a 403 must say
/// which `rule` it is for.
async fn status(address: SocketAddr, lines: &str, rule: &str) -> u16 {
    let request = raw::upgrade("/fleet/api/socket").replace("Host: localhost\r\n", lines);
    let mut raw = Raw::tcp(address).await;
    let head =
        raw.http(&request.replace("Connection: Upgrade", "Connection: close, Upgrade")).await;
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    if status == 403 {
        let text = raw.rest().await;
        assert!(text.contains(rule) && text.ends_with('\n'), "{lines}: {text}");
        assert!(head.contains("content-type: text/plain"), "{head}");
    }
    status
}

/// What an application's own server hands on may come from any site's page too.
#[tokio::test]
async fn a_mounted_master_lets_no_page_in() {
    let address = mounted(Master::builder().router(router()).build().unwrap()).await;
    assert_eq!(status(address, "Host: any.test\r\n", "").await, 101);
    let foreign = "Host: any.test\r\nOrigin: https://any.test\r\n";
    assert_eq!(status(address, foreign, "allow_origin").await, 403);
}

#[tokio::test]
async fn a_mounted_master_lets_in_whom_it_allows() {
    let master = Master::builder().allow_origin("https://panel.test").allow_host("fleet.test");
    let address = mounted(master.build().unwrap()).await;
    for lines in [
        "Host: Fleet.test.:80\r\n",
        "Host: localhost\r\n",
        "Host: fleet.test\r\nOrigin: https://panel.test\r\n",
    ] {
        assert_eq!(status(address, lines, "").await, 101, "{lines}");
    }
    for (lines, rule) in [
        ("Host: evil.test\r\n", "allow_host"),
        ("", "allow_host"),
        ("Host: fleet.test\r\nHost: fleet.test\r\n", "allow_host"),
        ("Host: evil.test\r\nOrigin: https://panel.test\r\n", "allow_host"),
        ("Host: fleet.test\r\nOrigin: http://panel.test\r\n", "allow_origin"),
        ("Host: fleet.test\r\nOrigin: null\r\n", "allow_origin"),
    ] {
        assert_eq!(status(address, lines, rule).await, 403, "{lines}");
    }
}
