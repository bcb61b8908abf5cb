//! The WebSocket layer against the Autobahn|Testsuite: a master's endpoint as it is mounted on an
//! application's own server, and a client's.
//!
//! `SEQLINK_AUTOBAHN=$(tests/autobahn/install.sh) cargo test --features hyper --test autobahn -- --ignored`

use std::collections::BTreeMap;
use std::fs;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::routing::any;
use hyper_util::rt::TokioIo;
use seqlink::transport::websocket::WebSocket;
use seqlink::transport::{Incoming, Outgoing, Transport};
use seqlink::{CloseCode, Master, Reason};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

/// The longest message of the cases is 16 MiB.
const MAX_FRAME: usize = 20 << 20;

/// Longer than all cases take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(600);

const AGENT: &str = "seqlink";

/// Those with binary messages, which a link does not carry, and compression, which is not offered.
const EXCLUDED: [&str; 6] = ["9.2.*", "9.4.*", "9.6.*", "9.8.*", "12.*", "13.*"];

/// How many cases are left.
const CASES: usize = 301 - 8 - 6 - 9 - 6 - 6;

/// Sends every text back, as a link would read and write them.
async fn echo(mut socket: impl Transport) {
    while let Ok(incoming) = poll_fn(|cx| socket.poll_receive(cx)).await {
        let answer = match incoming {
            Incoming::Text(text) => Outgoing::Text(text),
            Incoming::Ping => {
                let _ = poll_fn(|cx| socket.poll_flush(cx)).await;
                continue;
            }
            Incoming::Close(code, reason) => Outgoing::Close(code, reason),
            _ => Outgoing::Close(CloseCode::UNSUPPORTED, Reason::new("")),
        };
        let Ok(()) = poll_fn(|cx| socket.poll_ready(cx)).await else { return };
        if socket.send(answer).is_err() || poll_fn(|cx| socket.poll_flush(cx)).await.is_err() {
            // What is still read is its fault, or its close frame.
            while poll_fn(|cx| socket.poll_receive(cx)).await.is_ok() {}
            return;
        }
    }
}

/// The master answers the request, and what it would make a link of is echoed.
async fn endpoint(
    State(master): State<Master>,
    mut request: Request,
) -> axum::response::Response<String> {
    let upgraded = hyper::upgrade::on(&mut request);
    let response = master.upgrade(&mut request);
    tokio::spawn(async move {
        if let Ok(stream) = upgraded.await {
            echo(WebSocket::upgraded(TokioIo::new(stream), MAX_FRAME)).await;
        }
    });
    response
}

/// A run of the testsuite in a folder of its own.
struct Suite {
    child: Child,
    folder: PathBuf,
}

impl Suite {
    fn start(mode: &str, spec: &Value) -> Self {
        let command = std::env::var_os("SEQLINK_AUTOBAHN");
        let command = command.expect("SEQLINK_AUTOBAHN is what tests/autobahn/install.sh prints");
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("autobahn-{mode}"));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("spec.json"), spec.to_string()).unwrap();
        let log = fs::File::create(folder.join("log")).unwrap();
        let child = Command::new(command)
            .args(["--mode", mode, "--spec", "spec.json"])
            .current_dir(&folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Self { child, folder }
    }

    /// No case may fail. Returns how many had which outcome.
    fn check(&self) -> BTreeMap<String, usize> {
        let index = fs::read_to_string(self.folder.join("reports/index.json"));
        let index: Value = serde_json::from_str(&index.expect("a report")).unwrap();
        let cases = index[AGENT].as_object().unwrap();
        let (mut outcomes, mut failed) = (BTreeMap::new(), Vec::new());
        for (case, result) in cases {
            let [how, close] = ["behavior", "behaviorClose"].map(|it| result[it].as_str().unwrap());
            *outcomes.entry(how.to_owned()).or_default() += 1;
            let good = ["OK", "NON-STRICT", "INFORMATIONAL"];
            if !good.contains(&how) || !good.contains(&close) {
                failed.push(format!("{case}: {how}, {close} at the close"));
            }
        }
        assert!(failed.is_empty(), "{failed:#?}, see {}", self.folder.display());
        assert_eq!(cases.len(), CASES, "{outcomes:?}");
        outcomes
    }
}

impl Drop for Suite {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the Autobahn|Testsuite"]
async fn a_mounted_endpoint_fails_no_case() {
    let master = Master::builder().build().unwrap();
    let app = Router::new().route("/fleet/api/socket", any(endpoint)).with_state(master);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });

    let url = format!("ws://{address}/fleet/api/socket");
    let server = json!({"agent": AGENT, "url": url});
    let mut suite = Suite::start(
        "fuzzingclient",
        &json!({
            "outdir": "reports", "servers": [server], "cases": ["*"], "exclude-cases": EXCLUDED,
            "exclude-agent-cases": {},
        }),
    );
    let ended = async {
        loop {
            if let Some(status) = suite.child.try_wait().unwrap() {
                return status;
            }
            sleep(Duration::from_millis(100)).await;
        }
    };
    assert!(timeout(PATIENCE, ended).await.expect("it takes too long").success());
    println!("the endpoint: {:?}", suite.check());
}

/// A connection to the suite whose request asks for `path`: this library's clients ask for a master's.
async fn connection(suite: SocketAddr, path: &str) -> std::io::Result<DuplexStream> {
    let mut server = TcpStream::connect(suite).await?;
    let (ours, mut client) = tokio::io::duplex(64 * 1024);
    let line = format!("GET {path} ");
    tokio::spawn(async move {
        let mut head = Vec::new();
        while !head.windows(4).any(|window| window == b"\r\n\r\n") {
            if client.read_buf(&mut head).await? == 0 {
                return Ok(());
            }
        }
        let head = String::from_utf8_lossy(&head).replace("GET /api/socket ", &line);
        server.write_all(head.as_bytes()).await?;
        tokio::io::copy_bidirectional(&mut client, &mut server).await.map(drop)
    });
    Ok(ours)
}

async fn connect(suite: SocketAddr, path: &str) -> std::io::Result<WebSocket<DuplexStream>> {
    let stream = connection(suite, path).await?;
    WebSocket::connect(stream, &format!("ws://{suite}/"), MAX_FRAME, true).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the Autobahn|Testsuite"]
async fn a_client_fails_no_case() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let mut suite = Suite::start(
        "fuzzingserver",
        &json!({
            "url": format!("ws://{address}"), "outdir": "reports", "cases": ["*"],
            "exclude-cases": EXCLUDED, "exclude-agent-cases": {}, "webport": 0,
        }),
    );
    let all = async {
        let mut first = loop {
            match connect(address, "/getCaseCount").await {
                Ok(socket) => break socket,
                // It has not begun to listen.
                Err(_) => {
                    assert_eq!(suite.child.try_wait().unwrap(), None, "it ends at once");
                    sleep(Duration::from_millis(100)).await;
                }
            }
        };
        let count = poll_fn(|cx| first.poll_receive(cx)).await.unwrap();
        let Incoming::Text(count) = count else { panic!("no number of cases but {count:?}") };
        for case in 1..=count.as_str().parse().unwrap() {
            let case: usize = case;
            let path = format!("/runCase?case={case}&agent={AGENT}");
            echo(connect(address, &path).await.unwrap()).await;
        }
        let path = format!("/updateReports?agent={AGENT}");
        let mut report = connect(address, &path).await.unwrap();
        while poll_fn(|cx| report.poll_receive(cx)).await.is_ok() {}
    };
    timeout(PATIENCE, all).await.expect("it takes too long");
    println!("the client: {:?}", suite.check());
}
