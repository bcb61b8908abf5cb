//! Who may open a WebSocket: a browser lets pages of any site ask for one, and says so.

mod common;

use std::net::SocketAddr;

use common::raw::{Raw, upgrade};
use common::*;
use seqlink::transport::websocket::WebSocket;
use seqlink::{AcceptError, ConfigError, Master};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

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

/// Asks for a WebSocket with these lines of its head. Returns whether it was let in, as far as the
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

/// What an application does with the connections that it accepts itself; its faults.
async fn accepted<F, E>(accept: impl Fn(TcpStream) -> F + Send + 'static) -> Accepted<E>
where
    F: Future<Output = Result<(), E>> + Send,
    E: Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, faults) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Err(error) = accept(stream).await {
                tell.send(error).ok();
            }
        }
    });
    Accepted { address, faults }
}

struct Accepted<E> {
    address: SocketAddr,
    faults: mpsc::UnboundedReceiver<E>,
}

/// An application that accepts byte streams itself, as it does for TLS, and makes a transport of
/// each.
#[tokio::test]
async fn a_websocket_over_a_stream_of_the_applications_lets_no_page_in() {
    let master = Master::builder().router(router()).build().unwrap();
    let mut application = accepted(move |stream| {
        let master = master.clone();
        async move {
            let socket = WebSocket::accept(stream, 1 << 20).await?;
            tokio::spawn(async move { master.attach(socket).await });
            Ok::<_, std::io::Error>(())
        }
    })
    .await;
    let address = application.address;
    assert!(is_let_in(address, "/api/socket", &["Host: fleet.test"], "").await);
    let lines = ["Host: fleet.test", "Origin: https://evil.test"];
    assert!(!is_let_in(address, "/api/socket", &lines, "allow_origin").await);
    let error = soon(application.faults.recv()).await.unwrap().to_string();
    assert!(error.contains(r#"pages of the origin "https://evil.test""#), "{error}");
    assert!(error.contains("--allow-origin"), "{error}");
    assert!(is_let_in(address, "/api/socket", &["Host: fleet.test"], "").await);
}

/// A master of which pages of two origins are a part, and that goes by two names.
fn panelled() -> Master {
    let master = Master::builder().router(router());
    let master = master.allow_origin("https://panel.test").allow_origin("http://[::1]:3000");
    master.allow_host("fleet.test").allow_host("192.0.2.7").build().unwrap()
}

/// Asks `address` in all the ways that a `panelled` master distinguishes.
async fn is_panelled(address: SocketAddr) {
    const NAMED: &str = "Host: Fleet.test:443";
    for lines in [
        &[NAMED][..],
        &["Host: 192.0.2.7"],
        &["Host: 127.0.0.1:8750"],
        &[NAMED, "Origin: https://panel.test"],
        &["Host: localhost", "Origin: http://[::1]:3000"],
    ] {
        assert!(is_let_in(address, "/api/socket", lines, "").await, "{lines:?}");
    }
    for lines in [
        &[NAMED, "Origin: http://panel.test"][..],
        &[NAMED, "Origin: https://panel.test:8443"],
        &[NAMED, "Origin: https://panel.test.evil.test"],
        &[NAMED, "Origin: https://fleet.test"],
        &[NAMED, "Origin: null"],
        &[NAMED, "Origin: https://panel.test", "Origin: https://panel.test"],
        &["Host: evil.test", "Origin: https://evil.test"],
    ] {
        assert!(!is_let_in(address, "/api/socket", lines, "allow_origin").await, "{lines:?}");
    }
    for lines in [
        &["Host: evil.test"][..],
        &["Host: evil.test", "Origin: https://panel.test"],
        &["Origin: https://panel.test"],
        &[NAMED, "Host: evil.test"],
    ] {
        assert!(!is_let_in(address, "/api/socket", lines, "allow_host").await, "{lines:?}");
    }
}

#[tokio::test]
async fn what_a_master_allows_holds_on_each_of_its_listeners() {
    let master = panelled();
    is_panelled(master.listen("127.0.0.1:0").await.unwrap()).await;
    let port = master.listen("0.0.0.0:0").await.unwrap().port();
    is_panelled(([127, 0, 0, 1], port).into()).await;
}

#[tokio::test]
async fn what_a_master_allows_holds_for_the_streams_that_it_is_handed() {
    let master = panelled();
    let handed = master.clone();
    let application = accepted(move |stream| {
        let master = handed.clone();
        async move { master.accept(stream).await.map(drop) }
    })
    .await;
    is_panelled(application.address).await;
    master.shutdown("done", DRAIN).await;
}

/// The paths of a listener, the time limit and the end of a master hold for a stream too.
#[tokio::test]
async fn a_stream_becomes_a_link_as_a_connection_to_a_listener_does() {
    let master = Master::builder().router(router());
    let master = master.config(config(|config| {
        config.handshake_timeout = std::time::Duration::from_millis(500);
    }));
    let master = master.dialect(seqlink::Dialect::SESSION).build().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stream = async || listener.accept().await.unwrap().0;

    let client = control().url(format!("ws://{address}/")).router(router());
    let (client, link) =
        tokio::join!(client.connect(), async { master.accept(stream().await).await });
    let (client, link) = (client.unwrap(), link.unwrap());
    assert_eq!(link.request(&echo("down")).await.unwrap(), echo("down"));
    client.close("done").await;

    for (path, seq) in PATHS.iter().zip(["null", "1", "null"]) {
        let (mut raw, stream) = tokio::join!(Raw::tcp(address), stream());
        let asking = async {
            assert!(raw.http(&upgrade(path)).await.starts_with("HTTP/1.1 101 "));
            assert_eq!(raw.json().await["seq"].to_string(), seq, "{path}");
            drop(raw);
        };
        let ((), ended) = tokio::join!(asking, master.accept(stream));
        assert!(matches!(ended, Err(AcceptError::Handshake(_))), "{ended:?}");
    }

    let asking = async {
        let (status, text) = answer(address, &upgrade("/other")).await;
        assert_eq!((status, text.contains("/api/socket")), (404, true), "{text}");
    };
    let asked = async { master.accept(stream().await).await };
    let ((), ended) = tokio::join!(asking, asked);
    assert_eq!(ended.unwrap_err().to_string(), "answered with HTTP 404");

    let (_silent, slow) = tokio::join!(Raw::tcp(address), stream());
    let ended = master.accept(slow).await;
    assert_eq!(ended.unwrap_err().to_string(), "no HTTP request within 500ms");

    master.shutdown("maintenance", std::time::Duration::ZERO).await;
    let (_raw, late) = tokio::join!(Raw::tcp(address), stream());
    let ended = master.accept(late).await;
    assert!(matches!(ended, Err(AcceptError::Shutdown)), "{ended:?}");
}

#[test]
fn what_no_browser_sends_cannot_be_allowed() {
    let origin = |origin: &str| Master::builder().allow_origin(origin).build().unwrap_err();
    for wrong in ["null", "*", "https://panel.test/", "panel.test"] {
        assert_eq!(origin(wrong), ConfigError::Origin(wrong.into()));
    }
    assert!(origin("null").to_string().contains("scheme://host[:port]"));
    let host = Master::builder().allow_host("http://fleet.test").allow_host("fleet.test").build();
    assert_eq!(host.unwrap_err(), ConfigError::Host("http://fleet.test".into()));
}
