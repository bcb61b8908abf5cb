//! A thousand clients of each kind that mean no good, from other addresses, at a master in a process of its
//! own: its memory stays bounded, good links hardly notice, good slaves get in, and all the others are
//! gone when their clocks say so.
//!
//! Without `SEQLINK_LONG=1` they are fifty of each, and no rates are compared.

#[allow(dead_code, reason = "a part of it")]
#[path = "common/certificates.rs"]
mod certificates;
mod common;

use std::io::{self, BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use certificates::Ca;
use common::raw::{self, TEXT};
use common::*;
use futures::FutureExt as _;
use futures::future::join_all;
use seqlink::tls::ServerTls;
use seqlink::trust::Limits;
use seqlink::{Client, Ctx, Master, Reconnect, Request, Router};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, sleep, timeout};

const HANDSHAKE: Duration = Duration::from_secs(10);
const BEAT: Duration = Duration::from_secs(3);
const FRAME: Duration = Duration::from_secs(15);

fn is_long() -> bool {
    std::env::var_os("SEQLINK_LONG").is_some()
}

/// Asks the master about its process.
#[derive(Serialize, Deserialize)]
struct Process {}

#[derive(Debug, Serialize, Deserialize)]
struct ProcessResponse {
    /// The most memory that it has had, in KiB.
    peak: u64,
    descriptors: usize,
}

impl Request for Process {
    const NAME: &'static str = "process";
    type Response = ProcessResponse;
}

async fn process(_: Process, _: Ctx) -> Result<ProcessResponse, String> {
    let status = std::fs::read_to_string("/proc/self/status").map_err(|error| error.to_string())?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak =
        peak.and_then(|line| line.trim().strip_suffix(" kB")).and_then(|kib| kib.parse().ok());
    let descriptors =
        std::fs::read_dir("/proc/self/fd").map_err(|error| error.to_string())?.count();
    Ok(ProcessResponse { peak: peak.ok_or("no peak")?, descriptors })
}

/// Not a test: the master's process, which the others start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it is started by the other tests of this file"]
async fn the_master() {
    let Ok(few) = std::env::var("SEQLINK_HOSTILE") else { return };
    let limits = match &*few {
        // For 64 descriptors.
        "few" => Limits::default()
            .with_connections(20)
            .with_connections_per_address(6)
            .with_slaves(16)
            .with_controls(8),
        // What the buffers and tasks of a link take comes on top: with the default of 256 MiB it was 600.
        _ => Limits::default().with_bytes(128 << 20),
    };
    let own = config(|config| {
        config.handshake_timeout = HANDSHAKE;
        config.tls_timeout = HANDSHAKE;
        config.heartbeat_interval = BEAT;
        config.frame_timeout = FRAME;
    });
    let handlers: Router<()> = router().request(process);
    let builder = Master::builder().router(handlers).config(own.clone()).limits(limits.clone());
    let master = builder.build().unwrap();
    let plain = master.listen("127.0.0.1:0").await.unwrap();
    let identity = Ca::new("test").issue(&["localhost"]);
    let tls = ServerTls::from_pem(&identity.chain, &identity.key).unwrap();
    let secure = Master::builder().config(own).limits(limits).tls(tls).build().unwrap();
    let encrypted = secure.listen("127.0.0.1:0").await.unwrap();
    println!("\nlistens {plain} {encrypted}");
    // Until the parent has gone.
    let end = tokio::task::spawn_blocking(|| io::stdin().read_line(&mut String::new()));
    let _ = end.await;
}

struct Server {
    child: Child,
    _stdin: ChildStdin,
    plain: SocketAddr,
    encrypted: SocketAddr,
}

impl Server {
    fn start(kind: &str, descriptors: Option<usize>) -> Self {
        let limit = descriptors.map_or(String::new(), |most| format!("ulimit -n {most} && "));
        let mut child = Command::new("sh")
            .arg("-c")
            .arg(format!("{limit}exec \"$0\" --exact the_master --ignored --nocapture"))
            .arg(std::env::current_exe().unwrap())
            .env("SEQLINK_HOSTILE", kind)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let addresses = lines
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("listens ").map(str::to_owned))
            .expect("it listens");
        let (plain, encrypted) = addresses.split_once(' ').unwrap();
        let (plain, encrypted) = (plain.parse().unwrap(), encrypted.parse().unwrap());
        Self { child, _stdin: stdin, plain, encrypted }
    }

    async fn good(&self, id: i64) -> Client {
        let slave = slave().id(id).url(format!("ws://{}/", self.plain));
        timeout(Duration::from_secs(30), slave.connect()).await.expect("it gets in").unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a bad client does, and then no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bad {
    /// It connects.
    Tcp,
    /// It begins a TLS handshake.
    Tls,
    /// It begins a request for a WebSocket.
    Upgrade,
    /// It has a WebSocket.
    Register,
    /// It asks for more than it ever reads.
    NeverReads,
    /// It has registered.
    HalfOpen,
    /// It has registered and begins a long message, of which a byte comes now and then.
    UnfinishedFrame,
}

const KINDS: [Bad; 7] = [
    Bad::Tcp,
    Bad::Tls,
    Bad::Upgrade,
    Bad::Register,
    Bad::NeverReads,
    Bad::HalfOpen,
    Bad::UnfinishedFrame,
];

impl Bad {
    fn longest(self) -> Duration {
        match self {
            Self::Tcp | Self::Tls | Self::Upgrade | Self::Register => HANDSHAKE,
            Self::NeverReads | Self::HalfOpen => 3 * BEAT,
            Self::UnfinishedFrame => FRAME + BEAT,
        }
    }

    /// From an address of its kind.
    async fn connect(self, master: &Server) -> io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        let own = Ipv4Addr::new(127, 0, 1, 1 + self as u8);
        socket.bind(SocketAddr::new(own.into(), 0))?;
        if self == Self::NeverReads {
            socket.set_recv_buffer_size(4 * 1024)?;
        }
        let to = if self == Self::Tls { master.encrypted } else { master.plain };
        let mut stream = socket.connect(to).await?;
        stream.set_nodelay(true)?;
        match self {
            Self::Tcp => return Ok(stream),
            Self::Tls => stream.write_all(&[0x16, 0x03, 0x01]).await?,
            Self::Upgrade => {
                stream.write_all(&raw::upgrade("/api/socket").as_bytes()[..40]).await?
            }
            _ => {
                stream.write_all(raw::upgrade("/api/socket").as_bytes()).await?;
                // The answer and `hello`.
                let mut read = Vec::new();
                while !read.ends_with(b"}}") {
                    if stream.read_buf(&mut read).await? == 0 {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
            }
        }
        let text =
            |text: String| [raw::head(0x80 | TEXT, text.len() as u64), text.into_bytes()].concat();
        if !matches!(self, Self::NeverReads | Self::HalfOpen | Self::UnfinishedFrame) {
            return Ok(stream);
        }
        let register =
            r#"{"seq":1,"type":"register_control","data":{"agent":"bad","version":"2.0.0"}}"#;
        stream.write_all(&text(register.to_owned())).await?;
        match self {
            Self::NeverReads => {
                let long = "x".repeat(4 * 1024);
                for seq in 2..202 {
                    let ask = format!(
                        r#"{{"seq":{seq},"type":"echo_request","data":{{"text":"{long}"}}}}"#
                    );
                    // The master stops to read when it can hold no more.
                    if timeout(Duration::from_secs(1), stream.write_all(&text(ask))).await.is_err()
                    {
                        break;
                    }
                }
            }
            Self::UnfinishedFrame => {
                stream.write_all(&raw::head(0x80 | TEXT, 900_000)).await?;
                stream.write_all(&vec![b'x'; 100_000]).await?;
            }
            _ => {}
        }
        Ok(stream)
    }
}

/// All of a kind, and when the first of them began.
async fn attack(master: &Arc<Server>, bad: Bad, many: usize) -> (Bad, Vec<TcpStream>) {
    let mut streams = Vec::with_capacity(many);
    while streams.len() < many {
        let some = (0..50.min(many - streams.len())).map(|_| bad.connect(master));
        streams.extend(join_all(some).await.into_iter().flatten());
    }
    (bad, streams)
}

async fn requests_in(count: &AtomicU64, window: Duration) -> u64 {
    let before = count.load(Ordering::Relaxed);
    sleep(window).await;
    count.load(Ordering::Relaxed) - before
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn good_links_go_on_among_thousands_of_bad_ones() {
    let (many, rounds) = if is_long() { (1000, 2) } else { (50, 1) };
    let master = Arc::new(Server::start("many", None));
    let count = Arc::new(AtomicU64::new(0));
    let good = join_all((0..100).map(|id| master.good(id))).await;
    let mut links = Vec::new();
    for client in &good {
        let (link, count) = (client.link().await.unwrap(), Arc::clone(&count));
        links.push(link.clone());
        tokio::spawn(async move {
            while link.request(&echo("good")).await.is_ok() {
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    let watcher = master.good(1000).await.link().await.unwrap();
    let before = watcher.request(&Process {}).await.unwrap();
    let (mut quiet, mut attacked) = (0, 0);
    for round in 0..rounds {
        quiet += requests_in(&count, Duration::from_secs(3)).await;
        let begin = Instant::now();
        let mut bad = join_all(KINDS.map(|bad| attack(&master, bad, many))).await;
        let ramp = begin.elapsed();
        attacked += requests_in(&count, Duration::from_secs(3)).await;
        // While they are all there.
        let came = Instant::now();
        let late = master.good(2000 + round).await;
        let took = came.elapsed();
        late.close("done").await;
        assert!(took < Duration::from_secs(1), "a good slave waited for {took:?}");
        let during = watcher.request(&Process {}).await.unwrap();
        println!(
            "{many} of each came within {ramp:?}; then {during:?}, a good slave took {took:?}"
        );
        assert!(during.peak <= 512 * 1024, "{during:?}");
        // A byte now and then.
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            for (_, streams) in bad.iter_mut().filter(|(bad, _)| *bad == Bad::UnfinishedFrame) {
                for stream in streams {
                    let _ = stream.try_write(b"x");
                }
            }
            let now = watcher.request(&Process {}).await.unwrap();
            if now.descriptors <= before.descriptors + 2 {
                break;
            }
            assert!(Instant::now() < deadline, "{} are still there", now.descriptors);
            sleep(Duration::from_secs(1)).await;
        }
        let gone = begin.elapsed();
        let longest = KINDS.map(Bad::longest).into_iter().max().unwrap();
        println!("all were gone after {gone:?}");
        let close = Duration::from_secs(2 + 3);
        assert!(gone <= ramp + longest + BEAT + close + Duration::from_secs(5), "{gone:?}");
    }
    println!("good requests: {quiet} alone, {attacked} among them");
    if is_long() {
        assert!(attacked * 10 >= quiet * 9, "{quiet} alone, {attacked} among them");
    }
    for client in &good {
        let link = client.link().await.unwrap();
        assert_eq!(link.request(&echo("here")).await.unwrap().text, "here");
    }
    // None has come anew.
    assert!(good.iter().zip(&links).all(|(client, link)| {
        client.link().now_or_never().is_some_and(|now| now.is_ok_and(|now| now == *link))
    }));
}

/// What one address can take leaves descriptors for others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_64_descriptors_a_good_slave_gets_in() {
    let master = Arc::new(Server::start("few", Some(64)));
    let besieged = {
        let master = Arc::clone(&master);
        tokio::spawn(async move {
            loop {
                // Those that have registered, then those that have not; and again as soon as they are out.
                let mut all = Vec::new();
                for bad in [Bad::HalfOpen, Bad::Tcp, Bad::Upgrade] {
                    let some =
                        (0..40).map(|_| timeout(Duration::from_secs(2), bad.connect(&master)));
                    all.extend(join_all(some).await);
                }
                sleep(Duration::from_secs(2)).await;
            }
        })
    };
    sleep(Duration::from_secs(1)).await;
    for id in 0..8 {
        let client = slave()
            .id(id)
            .url(format!("ws://{}/", master.plain))
            .reconnect(Reconnect::default())
            .connect();
        let client = timeout(Duration::from_secs(20), client).await.expect("it gets in").unwrap();
        let link = client.link().await.unwrap();
        assert_eq!(link.request(&echo("in")).await.unwrap().text, "in");
        std::mem::forget(client);
    }
    besieged.abort();
}
