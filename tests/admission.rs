//! Who may open a WebSocket: a browser lets pages of any site ask for one, and says so.

mod common;

use std::net::SocketAddr;

use common::raw::{Raw, upgrade};
use common::*;
use seqlink::Master;
use seqlink::transport::websocket::WebSocket;
use tokio::net::TcpListener;

const PATHS: [&str; 3] = ["/api/socket", "/plain/api/socket", "/session/api/socket"];

/// The request for a WebSocket with these lines instead of its own `Host`.
fn request(path: &str, lines: &[&str]) -> String {
    let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    upgrade(path).replace("Host: localhost\r\n", &lines)
}

/// The status, and what came behind the head.
async fn answer(address: SocketAddr, request: &str) -> (u16, String) {
    let mut raw = Raw::tcp(address).await;
    let head = raw.http(request).await;
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let rest = if status == 101 { raw.json().await.to_string() } else { raw.rest().await };
    (status, rest)
}

/// Asks for a WebSocket with these lines of its head; says whether it was let in, as far as the
/// first message of the master. Who is not must be told in one line, by `rule`.
async fn is_let_in(address: SocketAddr, path: &str, lines: &[&str], rule: &str) -> bool {
    match answer(address, &request(path, lines)).await {
        (101, message) => {
            assert!(message.contains("hello"), "{message}");
            true
        }
        (status, text) => {
            assert_eq!(status, 403, "{lines:?}: {text}");
            assert!(text.contains(rule) && text.ends_with('\n'), "{lines:?}: {text}");
            assert_eq!(text.lines().count(), 1, "{lines:?}: {text}");
            false
        }
    }
}

/// A page of any site may ask a master for a WebSocket, and sees who answers.
#[tokio::test]
async fn a_listener_lets_no_page_in() {
    let master = Master::builder().router(router()).build().unwrap();
    let address = master.listen("127.0.0.1:0").await.unwrap();
    let same = format!("Origin: http://{address}");
    for path in PATHS {
        assert!(is_let_in(address, path, &["Host: localhost"], "").await);
        for origin in ["Origin: https://evil.test", "Origin: null", "Origin:", "oRiGiN: a", &same] {
            let let_in =
                is_let_in(address, path, &["Host: localhost", origin], "allow_origin").await;
            assert!(!let_in, "{path}, {origin}");
        }
    }
    // Nor does it learn which paths there are.
    let (status, _) = answer(address, &request("/other", &["Host: localhost", "Origin: a"])).await;
    assert_eq!(status, 403);
}

/// A page whose name was made to stand for this machine asks by that name.
#[tokio::test]
async fn a_loopback_listener_goes_by_its_own_names_only() {
    let master = Master::builder().router(router()).build().unwrap();
    let address = master.listen("127.0.0.1:0").await.unwrap();
    let whole = format!("Host: {address}");
    for path in PATHS {
        for host in ["Host: localhost", "host: LOCALHOST.:1", &whole, "Host: [::1]:8750"] {
            assert!(is_let_in(address, path, &[host], "").await, "{path}, {host}");
        }
        for hosts in [
            &["Host: evil.test"][..],
            &["Host: localhost.evil.test"],
            &["Host: 127.0.0.1.evil.test:80"],
            &["Host: 192.0.2.7"],
            &["Host:"],
            &[],
            &["Host: localhost", "Host: localhost"],
            &["Host: localhost", "Host: evil.test"],
        ] {
            assert!(!is_let_in(address, path, hosts, "allow_host").await, "{path}, {hosts:?}");
        }
    }
}

/// Others know a listener that they can reach by names that nobody has told us.
#[tokio::test]
async fn a_listener_for_other_machines_goes_by_any_name() {
    let master = Master::builder().router(router()).build().unwrap();
    let port = master.listen("0.0.0.0:0").await.unwrap().port();
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    for hosts in [&["Host: fleet.test"][..], &[]] {
        assert!(is_let_in(address, "/api/socket", hosts, "").await, "{hosts:?}");
    }
    let lines = ["Host: fleet.test", "Origin: http://fleet.test"];
    assert!(!is_let_in(address, "/api/socket", &lines, "allow_origin").await);
}

/// An application that accepts byte streams itself, as it does for TLS.
#[tokio::test]
async fn a_websocket_over_a_stream_of_the_applications_lets_no_page_in() {
    let master = Master::builder().router(router()).build().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            match WebSocket::accept(stream, 1 << 20).await {
                Ok(socket) => drop(master.attach(socket).await),
                Err(error) => assert!(error.to_string().contains("evil.test"), "{error}"),
            }
        }
    });
    assert!(is_let_in(address, "/api/socket", &["Host: fleet.test"], "").await);
    let lines = ["Host: fleet.test", "Origin: https://evil.test"];
    assert!(!is_let_in(address, "/api/socket", &lines, "allow_origin").await);
    assert!(is_let_in(address, "/api/socket", &["Host: fleet.test"], "").await);
}
