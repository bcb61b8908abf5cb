//! Clusterio's own programs, frame by frame: given what one of them said, this library says what
//! the other one did, with the same keys and the same numbers. Where it does not, that is meant,
//! and the reason stands here.

mod common;

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use common::raw::Raw;
use common::recorded::{Line, Said, What, part};
use common::scripted::Scripted;
use common::*;
use seqlink::transport::Incoming;
use seqlink::transport::memory::{self, Memory};
use seqlink::{Client, Ctx, Dialect, Empty, Link, Master, Request, RequestError, Role, Router};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};

/// What reached a handler.
struct Heard {
    name: &'static str,
    data: Value,
    /// For a request's answer.
    answer: Option<oneshot::Sender<Result<Value, String>>>,
}

type Desk = mpsc::UnboundedSender<Heard>;

/// Handlers that hand what they get to the script, for the messages of the record.
macro_rules! handlers {
    ($desk:expr, requests: $($request:literal)*; events: $($event:literal)*) => {{
        let router = Router::new($desk);
        $(let router = {
            #[derive(serde::Serialize, serde::Deserialize)]
            #[serde(transparent)]
            struct Any(Value);
            impl seqlink::Request for Any {
                const NAME: &'static str = $request;
                type Response = Value;
            }
            router.request(|any: Any, ctx: Ctx<Desk>| async move {
                let (answer, answered) = oneshot::channel();
                let heard = Heard { name: $request, data: any.0, answer: Some(answer) };
                ctx.state().send(heard).unwrap();
                answered.await.unwrap()
            })
        };)*
        $(let router = {
            #[derive(serde::Serialize, serde::Deserialize)]
            #[serde(transparent)]
            struct Any(Value);
            impl seqlink::Event for Any {
                const NAME: &'static str = $event;
            }
            router.event(|any: Any, ctx: Ctx<Desk>| async move {
                ctx.state().send(Heard { name: $event, data: any.0, answer: None }).unwrap();
            })
        };)*
        router
    }};
}

fn master_handlers(desk: Desk) -> Router<Desk> {
    handlers!(desk,
        requests: "update_instances" "list_slaves" "get_instance" "send_rcon"
            "set_instance_subscriptions" "start_instance";
        events: "log_message" "instance_status_changed" "save_list_update")
}

fn client_handlers(desk: Desk) -> Router<Desk> {
    handlers!(desk,
        requests: "assign_instance" "send_rcon" "start_instance" "list_saves";
        events: "sync_user_lists" "instance_update")
}

/// Sends the event of that name.
macro_rules! send_event {
    ($link:expr, $name:expr, $data:expr, $($event:literal)*) => {
        match $name {
            $($event => {
                #[derive(serde::Serialize, serde::Deserialize)]
                #[serde(transparent)]
                struct Any(Value);
                impl seqlink::Event for Any {
                    const NAME: &'static str = $event;
                }
                $link.event(&Any($data)).await.unwrap();
            })*
            other => panic!("{other}"),
        }
    };
}

async fn send_event(link: &Link, name: &str, data: Value) {
    send_event!(link, name, data,
        "log_message" "instance_status_changed" "save_list_update" "sync_user_lists"
        "instance_update");
}

/// Which side is this library; the other side is played from the record.
enum Ours {
    Master(Master),
    Client { client: JoinHandle<Client>, sockets: mpsc::UnboundedSender<Option<Memory>> },
}

type Answer = Result<Box<RawValue>, RequestError>;

struct Play {
    ours: Ours,
    lines: Vec<Line>,
    desk: mpsc::UnboundedReceiver<Heard>,
    peers: HashMap<u64, Scripted>,
    links: HashMap<u64, Link>,
    attaching: HashMap<u64, JoinHandle<Result<Link, seqlink::HandshakeError>>>,
    /// The peer's requests that were not answered yet, by connection and number.
    asked: HashMap<(u64, u64), oneshot::Sender<Result<Value, String>>>,
    /// Our own.
    asking: HashMap<(u64, u64), JoinHandle<Answer>>,
    /// Our tokens for the recorded ones.
    tokens: HashMap<String, String>,
    closing: Vec<JoinHandle<()>>,
    spoken: usize,
}

impl Play {
    fn new(ours: Ours, lines: Vec<Line>, desk: mpsc::UnboundedReceiver<Heard>) -> Self {
        Self {
            ours,
            lines,
            desk,
            peers: HashMap::new(),
            links: HashMap::new(),
            attaching: HashMap::new(),
            asked: HashMap::new(),
            asking: HashMap::new(),
            tokens: HashMap::new(),
            closing: Vec::new(),
            spoken: 0,
        }
    }

    /// Plays the record at its own pace, in made-up time. Returns how many frames of ours were as
    /// recorded.
    async fn run(mut self) -> usize {
        let (started, first) = (Instant::now(), self.lines[0].at);
        for at in 0..self.lines.len() {
            let line = self.lines[at].clone();
            sleep_until(started + (line.at - first)).await;
            let master = matches!(self.ours, Ours::Master(_));
            match line.what {
                What::Note(note) if note.starts_with('7') && master => {
                    // Killed: another one takes its place, and knows no session.
                    self.ours = Ours::Master(clusterio_master(self.successor()));
                }
                What::Note(_) => {}
                What::Open => self.open(line.conn),
                What::Refused => self.refuse(),
                What::Master(said) if master => self.ours_says(at, line.conn, said).await,
                What::Client(said) if !master => self.ours_says(at, line.conn, said).await,
                What::Master(said) | What::Client(said) => self.peer_says(line.conn, said).await,
            }
        }
        for closing in self.closing {
            soon(closing).await.unwrap();
        }
        self.spoken
    }

    /// A desk for another master.
    fn successor(&mut self) -> Desk {
        let (desk, heard) = mpsc::unbounded_channel();
        self.desk = heard;
        desk
    }

    fn open(&mut self, conn: u64) {
        let (ours, theirs) = memory::pair();
        self.peers.insert(conn, Scripted(theirs));
        match &self.ours {
            Ours::Master(master) => {
                let master = master.clone();
                let attaching = tokio::spawn(async move { master.attach(ours).await });
                self.attaching.insert(conn, attaching);
            }
            Ours::Client { sockets, .. } => sockets.send(Some(ours)).unwrap(),
        }
    }

    fn refuse(&mut self) {
        // In the record a connection that is refused opens at the recorder first: the socket that
        // the client was given ends at once.
        let last = *self.peers.keys().max().unwrap();
        self.peers.remove(&last);
    }

    async fn peer_says(&mut self, conn: u64, said: Said) {
        match said {
            Said::Close(1006, _) => drop(self.peers.remove(&conn)),
            Said::Close(code, reason) => {
                if let Some(peer) = self.peers.get_mut(&conn) {
                    peer.close(code, &reason).await;
                }
            }
            Said::Text(text) => {
                let text = self.tokens.iter().fold(text, |text, (recorded, ours)| {
                    text.replace(&format!("\"{recorded}\""), &format!("\"{ours}\""))
                });
                self.peers.get_mut(&conn).unwrap().say(&text).await;
                self.arrives(conn, &text).await;
            }
        }
        // Everybody takes note.
        sleep(Duration::from_micros(10)).await;
    }

    /// What the peer said reaches its handler, or whoever waits for it.
    async fn arrives(&mut self, conn: u64, text: &str) {
        let Ok(frame) = serde_json::from_str::<Value>(text) else { return };
        let kind = frame["type"].as_str().unwrap();
        let seq = frame["seq"].as_u64().unwrap_or(0);
        if kind.starts_with("prepare_disconnect") {
            return;
        }
        if let Some(name) = kind.strip_suffix("_event") {
            let heard = soon(self.desk.recv()).await.unwrap();
            assert_eq!((heard.name, &heard.data), (name, &frame["data"]));
        } else if let Some(name) = kind.strip_suffix("_request") {
            let heard = soon(self.desk.recv()).await.unwrap();
            assert_eq!((heard.name, &heard.data), (name, &frame["data"]));
            self.asked.insert((conn_of_session(conn), seq), heard.answer.unwrap());
        } else if kind.ends_with("_response") {
            let to = frame["data"]["seq"].as_u64().unwrap();
            let asking = self.asking.remove(&(conn_of_session(conn), to)).unwrap();
            let mut expected = frame["data"].clone();
            expected.as_object_mut().unwrap().remove("seq");
            match soon(asking).await.unwrap() {
                Ok(data) => {
                    assert_eq!(serde_json::from_str::<Value>(data.get()).unwrap(), expected)
                }
                Err(RequestError::Remote(error)) => assert_eq!(error.message(), expected["error"]),
                Err(error) => panic!("{error}"),
            }
        }
    }

    async fn ours_says(&mut self, at: usize, conn: u64, said: Said) {
        match said {
            Said::Text(text) => {
                let Ok(recorded) = serde_json::from_str::<Value>(&text) else { return };
                self.act(at, conn, &recorded).await;
                let heard = soon(self.peers.get_mut(&conn).unwrap().hear()).await;
                let heard: Value = serde_json::from_str(&heard).unwrap();
                self.compare(at, heard, recorded);
            }
            Said::Close(1006, _) => drop(self.peers.remove(&conn)),
            Said::Close(code, reason) => {
                if !self.begins_close(at, conn) {
                    return; // The answer to the peer's close frame is the WebSocket's own.
                }
                let peer = self.peers.get_mut(&conn).unwrap();
                let closed = loop {
                    match soon(peer.any()).await {
                        Some(Incoming::Ping) => {}
                        other => break other,
                    }
                };
                let Some(Incoming::Close(ours, why)) = closed else { panic!("{closed:?}") };
                assert_eq!((ours.0, why.as_str()), (code, reason.as_str()), "line {at}");
                self.spoken += 1;
            }
        }
    }

    /// Whether nobody has sent a close frame on this connection before line `at`.
    fn begins_close(&self, at: usize, conn: u64) -> bool {
        let closes = |line: &&Line| {
            let (What::Client(said) | What::Master(said)) = &line.what else { return false };
            line.conn == conn && matches!(said, Said::Close(..))
        };
        self.lines[..at].iter().filter(closes).count() == 0
    }

    /// What the program does that leads to the recorded frame.
    async fn act(&mut self, at: usize, conn: u64, recorded: &Value) {
        let kind = recorded["type"].as_str().unwrap();
        let seq = recorded["seq"].as_u64().unwrap_or(0);
        if kind == "prepare_disconnect_request" {
            self.close(at, conn);
        } else if kind == "prepare_disconnect_response" {
            // The link's own answer.
        } else if let Some(name) = kind.strip_suffix("_event") {
            let link = self.link(conn).await;
            send_event(&link, name, recorded["data"].clone()).await;
        } else if let Some(name) = kind.strip_suffix("_request") {
            let link = self.link(conn).await.with_timeout(Duration::from_secs(60));
            let data = serde_json::value::to_raw_value(&recorded["data"]).unwrap();
            let asking = tokio::spawn(link.request_raw(name, &data));
            self.asking.insert((conn_of_session(conn), seq), asking);
        } else if kind.ends_with("_response") {
            let mut data = recorded["data"].clone();
            let to = data.as_object_mut().unwrap().remove("seq").unwrap().as_u64().unwrap();
            let answer = self.asked.remove(&(conn_of_session(conn), to)).unwrap();
            answer
                .send(match data["error"].as_str() {
                    Some(error) => Err(error.to_owned()),
                    None => Ok(data),
                })
                .unwrap();
        }
    }

    /// Closes as the program does whose reason is recorded.
    fn close(&mut self, at: usize, conn: u64) {
        let reason = self.lines[at..].iter().find_map(|line| match &line.what {
            What::Client(Said::Close(_, reason)) | What::Master(Said::Close(_, reason))
                if line.conn == conn =>
            {
                Some(reason.clone())
            }
            _ => None,
        });
        let reason = reason.unwrap();
        let closing = match &mut self.ours {
            Ours::Master(master) => {
                let master = master.clone();
                // Its place is taken by another one, as the record has it.
                tokio::spawn(async move { master.shutdown(reason, Duration::from_secs(10)).await })
            }
            Ours::Client { client, .. } => {
                let client = std::mem::replace(client, tokio::spawn(std::future::pending()));
                tokio::spawn(async move { client.await.unwrap().close(reason).await })
            }
        };
        self.closing.push(closing);
        if let Ours::Master(_) = self.ours {
            self.ours = Ours::Master(clusterio_master(self.successor()));
        }
    }

    async fn link(&mut self, conn: u64) -> Link {
        if let Some(attaching) = self.attaching.remove(&conn) {
            self.links.insert(conn, soon(attaching).await.unwrap().unwrap());
        }
        match &mut self.ours {
            Ours::Master(_) => self.links[&conn].clone(),
            Ours::Client { client, .. } => {
                let connected = soon(&mut *client).await.unwrap();
                let link = connected.link().await.unwrap();
                *client = tokio::spawn(async { connected });
                link
            }
        }
    }

    /// The same keys and the same numbers.
    fn compare(&mut self, at: usize, mut heard: Value, mut recorded: Value) {
        if let Some(recorded) = recorded["data"]["session_token"].as_str()
            && let Some(ours) = heard["data"]["session_token"].as_str()
        {
            self.tokens.insert(recorded.to_owned(), ours.to_owned());
        }
        let kind = recorded["type"].as_str().unwrap().to_owned();
        let data =
            |frame: &mut Value, key: &str| frame["data"].as_object_mut().unwrap().remove(key);
        if kind == "ready" || (kind == "resume" && matches!(self.ours, Ours::Master(_))) {
            data(&mut heard, "session_token").unwrap();
            data(&mut recorded, "session_token").unwrap();
        }
        if kind == "ready" && recorded["data"].get("account").is_some() {
            // Our masters have no accounts: a control is called what it calls itself, without
            // roles. The keys are the same.
            let ours = data(&mut heard, "account").unwrap();
            let theirs = data(&mut recorded, "account").unwrap();
            let keys =
                |account: &Value| account.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
            assert_eq!(keys(&ours), keys(&theirs));
        }
        if kind == "register_slave" {
            // Optional, and masters before alpha.11 refuse it: we never say it.
            data(&mut recorded, "public_address").unwrap();
        }
        assert_eq!(heard, recorded, "line {at}");
        self.spoken += 1;
    }
}

/// The connection that began the session which `conn` goes on with: in the record only the
/// slave's.
fn conn_of_session(conn: u64) -> u64 {
    if conn == 6 { 1 } else { conn }
}

fn alpha12() -> semver::Version {
    "2.0.0-alpha.12".parse().unwrap()
}

fn clusterio_master(desk: Desk) -> Master {
    let config = config(|config| {
        config.heartbeat_interval = Duration::from_secs(2);
        config.session_timeout = Duration::from_secs(10);
    });
    let master = Master::builder().dialect(Dialect::SESSION).version(alpha12()).config(config);
    let master = master.router(master_handlers(desk)).authenticate(async |registration| {
        let token = registration.token.as_ref().map_or("", |token| token.expose());
        let known = ["token-of-slave-7", "token-of-alice"].contains(&token);
        if known { Ok(()) } else { Err("jwt malformed") }
    });
    master.build().unwrap()
}

async fn as_master(lines: Vec<Line>) -> usize {
    let (desk, heard) = mpsc::unbounded_channel();
    Play::new(Ours::Master(clusterio_master(desk)), lines, heard).run().await
}

async fn as_client(client: seqlink::ClientBuilder, lines: Vec<Line>) -> usize {
    let (desk, heard) = mpsc::unbounded_channel();
    let (sockets, dialled) = mpsc::unbounded_channel::<Option<Memory>>();
    let dialled = Arc::new(Mutex::new(dialled));
    let dial = move || {
        let dialled = Arc::clone(&dialled);
        async move {
            let socket = dialled.lock().await.recv().await.flatten();
            socket.ok_or_else(|| io::ErrorKind::ConnectionRefused.into())
        }
    };
    let mut reconnect = seqlink::Reconnect::default();
    reconnect.most = Duration::from_millis(1);
    let client = client.config(config(|config| config.handshake_timeout = Duration::from_secs(60)));
    let client = client.version(alpha12()).reconnect(reconnect).router(client_handlers(desk));
    let client = tokio::spawn(async move { client.connect_by(dial).await.unwrap() });
    Play::new(Ours::Client { client, sockets }, lines, heard).run().await
}

/// The lines of these connections.
fn conns(lines: &[Line], conns: &[u64]) -> Vec<Line> {
    lines.iter().filter(|line| conns.contains(&line.conn)).cloned().collect()
}

/// The real slave's frames, and the real controls': our master says what the real one said.
#[tokio::test(start_paused = true)]
async fn our_master_says_what_clusterios_said() {
    // The last connection is a probe: see `DIFFERENCES`.
    let mut lines = part("scenario");
    lines.retain(|line| line.conn < 19);
    let spoken = as_master(lines).await;
    assert_eq!(spoken, 55);
}

/// The real master's frames: our slave says what the real one said.
#[tokio::test(start_paused = true)]
async fn our_slave_says_what_clusterios_said() {
    let lines = conns(&part("scenario"), &[1, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);
    let slave = slave().agent("Clusterio Slave").token("token-of-slave-7");
    let spoken = as_client(slave, lines).await;
    assert_eq!(spoken, 46);
}

/// And so do our controls.
#[tokio::test(start_paused = true)]
async fn our_controls_say_what_clusterios_said() {
    for (conn, frames) in [(2, 4), (3, 4), (4, 4), (5, 5), (18, 2)] {
        let control = control().agent("clusterioctl").token("token-of-alice");
        let lines = conns(&part("scenario"), &[conn]);
        assert_eq!(as_client(control, lines).await, frames, "{conn}");
    }
}

/// What our master says instead of the recorded frame. After `Close` and `Lost` the conversation
/// is over.
#[derive(Clone, Copy, Debug)]
enum Instead {
    /// Another text in the error response: it starts so.
    Error(&'static str),
    /// Another frame.
    Says(&'static str),
    /// Nothing.
    Nothing,
    /// It ends the link: code, and how the reason starts.
    Close(u16, &'static str),
}

/// Where our master differs from Clusterio's, and why: the probe, how many of the master's frames
/// were the same before, what it does instead.
type Difference = (&'static str, usize, Instead, &'static str);

use Instead::*;

const DIFFERENCES: &[Difference] = &[
    ("invalid-json-handshake", 1, Close(1002, "Invalid handshake: "), "a reason with more detail"),
    ("binary-handshake", 1, Close(1002, "Invalid handshake: "), "a link carries text"),
    ("bad-handshake-type", 1, Close(1002, "Invalid handshake: "), "a reason with more detail"),
    (
        "bad-handshake-extra-key",
        1,
        Says("ready"),
        "reading is liberal: unknown keys are ignored, so that later versions can add some",
    ),
    (
        "gen-a-register_control-to-b-master",
        1,
        Says("ready"),
        "a client of 2.0.0-alpha.0 refuses the key `session_timeout`, and is not told of it",
    ),
    (
        "odd-version-accepted",
        1,
        Close(1002, "Incompatible version: master speaks 2.0.0-alpha.12, client sent \"banana\""),
        "the version is compared",
    ),
    ("unknown-request", 2, Error("No handler for nonsense_request on this master"), "in our words"),
    (
        "invalid-request-data",
        2,
        Error("Validation failed for get_instance_request: "),
        "what is wrong",
    ),
    (
        "invalid-request-data",
        3,
        Says(r#"{"seq":2,"type":"list_slaves_response","data":{"list":[],"seq":2}}"#),
        "reading is liberal",
    ),
    (
        "unknown-event-and-type",
        2,
        Close(1002, "Invalid message: Malformed: unexpected type \"bare\""),
        "a malformed envelope ends the link: nobody can tell what the sender wanted",
    ),
    (
        "malformed-message",
        2,
        Close(1002, "Invalid message: Malformed: "),
        "a malformed envelope ends the link",
    ),
    (
        "seq-jumps-and-dups",
        2,
        Close(1002, "Invalid message: Malformed: seq 50 after 0"),
        "a gap means that messages were lost: the session ends instead of hiding it",
    ),
    ("invalid-heartbeat", 2, Close(1002, "Invalid heartbeat: "), "a reason with more detail"),
    (
        "handshake-type-after-ready",
        2,
        Close(1002, "Invalid message: Malformed: "),
        "a frame that is out of place ends the link",
    ),
    ("resume-live", 7, Nothing, "a request that comes again is a replay: it is not handled twice"),
    (
        "resume-live",
        10,
        Close(1002, "Impossible acknowledgement: seq 99 is acknowledged, and 1 was the last"),
        "an acknowledgement of what was never sent is a fault",
    ),
    (
        "handshake-timeout",
        1,
        Close(1008, "Handshake timed out: no register_slave or register_control within "),
        "a reason, where Clusterio's says nothing; and 5 s instead of 30",
    ),
];

/// The probes of one part, each with its lines.
fn probes(lines: Vec<Line>) -> Vec<(String, Vec<Line>)> {
    let mut probes: Vec<(String, Vec<Line>)> = Vec::new();
    let mut probe_of: HashMap<u64, usize> = HashMap::new();
    for line in lines {
        match &line.what {
            What::Note(note) => {
                let name = note.strip_prefix("probe:").unwrap_or(note);
                probes.push((name.to_owned(), Vec::new()));
            }
            What::Open => {
                probe_of.insert(line.conn, probes.len() - 1);
                probes.last_mut().unwrap().1.push(line);
            }
            _ => probes[probe_of[&line.conn]].1.push(line),
        }
    }
    probes
}

/// Plays a probe to our master over real sockets.
struct Probe<'a> {
    name: &'a str,
    address: std::net::SocketAddr,
    sockets: HashMap<u64, Raw>,
    tokens: HashMap<String, String>,
    /// How many frames of the master's were recorded so far, handshakes included.
    said: usize,
    differences: usize,
}

impl Probe<'_> {
    /// Returns how many differences there were.
    async fn run(mut self, lines: &[Line]) -> usize {
        for line in lines {
            match &line.what {
                What::Open => {
                    let mut raw = Raw::tcp(self.address).await;
                    raw.http(&common::raw::upgrade("/session/api/socket")).await;
                    self.sockets.insert(line.conn, raw);
                }
                What::Client(said) => self.client(line.conn, said).await,
                What::Master(said) => {
                    if self.sockets.contains_key(&line.conn) {
                        self.master(line.conn, said).await;
                    }
                    self.said += 1;
                }
                other => panic!("{other:?}"),
            }
        }
        self.differences
    }

    async fn client(&mut self, conn: u64, said: &Said) {
        let Some(raw) = self.sockets.get_mut(&conn) else { return };
        match said {
            Said::Text(text) => {
                let text = self.tokens.iter().fold(text.clone(), |text, (recorded, ours)| {
                    text.replace(&format!("\"{recorded}\""), &format!("\"{ours}\""))
                });
                let binary = self.name == "binary-handshake";
                let opcode = if binary { common::raw::BINARY } else { common::raw::TEXT };
                raw.frame(opcode, text.as_bytes()).await;
            }
            // The end of a connection that the recorder cut, or that the master let go.
            Said::Close(1006, _) => {}
            Said::Close(code, reason) => {
                let mut payload = code.to_be_bytes().to_vec();
                payload.extend_from_slice(reason.as_bytes());
                raw.frame(common::raw::CLOSE, &payload).await;
            }
        }
    }

    async fn master(&mut self, conn: u64, said: &Said) {
        let difference = DIFFERENCES.iter().find(|d| d.0 == self.name && d.1 == self.said);
        let Some((_, _, instead, why)) = difference else {
            return self.same(conn, said).await;
        };
        self.differences += 1;
        let raw = self.sockets.get_mut(&conn).unwrap();
        let at = format!("{}: {why}", self.name);
        match instead {
            Nothing => {}
            Says("ready") => assert_eq!(raw.json().await["type"], "ready", "{at}"),
            Says(text) => {
                assert_eq!(raw.json().await, serde_json::from_str::<Value>(text).unwrap(), "{at}");
            }
            Error(start) => {
                let mut heard = raw.json().await;
                let Said::Text(recorded) = said else { panic!("{said:?}") };
                let mut recorded: Value = serde_json::from_str(recorded).unwrap();
                let error = heard["data"]["error"].take();
                assert!(error.as_str().unwrap().starts_with(start), "{at}: {error}");
                assert!(recorded["data"]["error"].take().is_string());
                assert_eq!(heard, recorded, "{at}");
            }
            Close(code, start) => {
                let frame = raw.ended().await.frame;
                let (ours, reason) = frame.unwrap_or_else(|| panic!("{at}: no close frame"));
                assert!(ours == *code && reason.starts_with(start), "{at}: {ours} {reason}");
                self.sockets.remove(&conn);
            }
        }
    }

    async fn same(&mut self, conn: u64, said: &Said) {
        let raw = self.sockets.get_mut(&conn).unwrap();
        let at = format!("{}, frame {}", self.name, self.said);
        match said {
            Said::Close(1006, _) => {
                assert_eq!(raw.ended().await.frame, None, "{at}");
                self.sockets.remove(&conn);
            }
            Said::Close(code, reason) => {
                let frame = raw.ended().await.frame;
                assert_eq!(frame, Some((*code, reason.clone())), "{at}");
                self.sockets.remove(&conn);
            }
            Said::Text(recorded) => {
                let mut recorded: Value = serde_json::from_str(recorded).unwrap();
                let mut heard = raw.json().await;
                if let Some(token) = recorded["data"]["session_token"].as_str() {
                    let ours = heard["data"]["session_token"].as_str().unwrap();
                    self.tokens.insert(token.to_owned(), ours.to_owned());
                    for frame in [&mut recorded, &mut heard] {
                        let data = frame["data"].as_object_mut().unwrap();
                        data.remove("session_token");
                        data.remove("account");
                    }
                }
                assert_eq!(heard, recorded, "{at}");
            }
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Ping {}

impl Request for Ping {
    const NAME: &'static str = "ping";
    type Response = Empty;
}

#[derive(Serialize, Deserialize)]
struct GetInstance {
    id: i64,
}

impl Request for GetInstance {
    const NAME: &'static str = "get_instance";
    type Response = Empty;
}

#[derive(Serialize, Deserialize)]
struct Rcon {
    instance_id: i64,
}

impl Request for Rcon {
    const NAME: &'static str = "send_rcon";
    type Response = Empty;
}

#[derive(Serialize, Deserialize)]
struct List {}

impl Request for List {
    const NAME: &'static str = "list_slaves";
    type Response = Value;
}

/// What Clusterio's master was probed with; with another handshake timeout where that is probed.
async fn probed(name: &str) -> std::net::SocketAddr {
    let unknown = |id: i64| Err::<Empty, _>(format!("Instance with ID {id} does not exist"));
    let router = Router::new(())
        .request(|_: Ping, _: Ctx| async { Ok::<_, String>(Empty {}) })
        .request(move |get: GetInstance, _: Ctx| async move { unknown(get.id) })
        .request(move |rcon: Rcon, _: Ctx| async move { unknown(rcon.instance_id) })
        .request(|_: List, _: Ctx| async { Ok::<_, String>(serde_json::json!({"list": []})) });
    let config = config(|config| {
        config.heartbeat_interval = Duration::from_secs(2);
        config.session_timeout = Duration::from_secs(10);
        if name == "handshake-timeout" {
            config.handshake_timeout = Duration::from_millis(200);
        }
    });
    let master = Master::builder().version(alpha12()).config(config).router(router);
    let master = master.authenticate(async |who| {
        let token = who.token.as_ref().map_or("", |token| token.expose());
        match (token, who.peer.role, who.peer.id) {
            ("token-of-slave-7", Role::Slave, Some(7)) | ("token-of-alice", Role::Control, _) => {
                Ok(())
            }
            ("token-of-slave-7", Role::Slave, _) => Err("missmatched slave id"),
            ("token-of-slave-7", ..) => Err("jwt audience invalid. expected: user"),
            _ => Err("jwt malformed"),
        }
    });
    master.build().unwrap().listen("127.0.0.1:0").await.unwrap()
}

/// The probes of Clusterio's master, sent to ours: the same answers, but for the differences that
/// are stated above. Each of those is met.
#[tokio::test]
async fn our_master_answers_probes_as_clusterios_but_for_stated_differences() {
    // With nobody speaking this one takes two to three heartbeat intervals: see below.
    let of_time = ["no-heartbeats-sent"];
    let mut met = 0;
    let mut probes = probes(part("probes"));
    probes.retain(|(name, lines)| !of_time.contains(&name.as_str()) && !lines.is_empty());
    assert!(probes.len() > 18, "{}", probes.len());
    for (name, lines) in &probes {
        let (address, name) = (probed(name).await, name.as_str());
        let (sockets, tokens) = Default::default();
        let probe = Probe { name, address, sockets, tokens, said: 0, differences: 0 };
        met += probe.run(lines).await;
    }
    assert_eq!(met, DIFFERENCES.len());
}

/// Registers as `who` did in the record, over real sockets.
async fn registered(address: std::net::SocketAddr, part_name: &str, conn: u64) -> Raw {
    let mut raw = Raw::tcp(address).await;
    raw.http(&common::raw::upgrade("/session/api/socket")).await;
    assert_eq!(raw.json().await["type"], "hello");
    let register = part(part_name).into_iter().find_map(|line| match line.what {
        What::Client(Said::Text(text)) if line.conn == conn => Some(text),
        _ => None,
    });
    raw.text(&register.unwrap().replace("\"x\"", "\"2.0.0-alpha.12\"")).await;
    raw
}

/// Invalid JSON after `ready` kills Clusterio's master. Ours ends that link, and nothing else.
#[tokio::test]
async fn invalid_json_after_ready_ends_one_link() {
    let address = probed("scenario").await;
    let mut other = registered(address, "scenario", 2).await;
    assert_eq!(other.json().await["type"], "ready");
    let mut raw = registered(address, "scenario", 19).await;
    assert_eq!(raw.json().await["type"], "ready");
    raw.text("{nope").await;
    let (code, reason) = raw.ended().await.frame.unwrap();
    assert!(code == 1002 && reason.starts_with("Invalid message: Malformed"), "{code} {reason}");
    other.text(r#"{"seq":1,"type":"ping_request","data":{}}"#).await;
    assert_eq!(other.json().await["type"], "ping_response");
}

/// An old link that lives and does not answer `prepare_disconnect` keeps its successor out of
/// Clusterio's master for ever. At ours the successor is in at once, and the old one is closed.
#[tokio::test]
async fn an_old_link_keeps_no_successor_out() {
    let address = probed("duplicates").await;
    let mut old = registered(address, "probes2", 1).await;
    assert_eq!(old.json().await["type"], "ready");
    let mut new = registered(address, "probes2", 2).await;
    assert_eq!(new.json().await["type"], "ready");
    let frame = old.ended().await.frame;
    assert_eq!(frame, Some((1008, "Registered from another connection".to_owned())));
    new.text(r#"{"seq":1,"type":"ping_request","data":{}}"#).await;
    assert_eq!(new.json().await["type"], "ping_response");
}

/// A client that sends no heartbeat: Clusterio's master counts heartbeats and ends the socket after
/// two intervals. Ours counts bytes and ends it after two to three, with as many heartbeats before.
#[tokio::test(start_paused = true)]
async fn a_client_that_falls_silent_is_given_up() {
    let (_, lines) =
        probes(part("probes")).into_iter().find(|p| p.0 == "no-heartbeats-sent").unwrap();
    let (desk, _heard) = mpsc::unbounded_channel();
    let master = clusterio_master(desk);
    let (ours, theirs) = memory::pair();
    let attached = tokio::spawn(async move { master.attach(ours).await });
    let mut peer = Scripted(theirs);
    let mut heartbeats = Vec::new();
    for line in &lines {
        match &line.what {
            What::Client(Said::Text(text)) => peer.say(text).await,
            What::Master(Said::Text(text)) if text.contains("heartbeat\"") => {
                heartbeats.push(text.clone());
            }
            What::Master(Said::Text(_)) => drop(peer.hear().await),
            _ => {}
        }
    }
    let ready = Instant::now();
    assert_eq!(heartbeats, [r#"{"seq":null,"type":"heartbeat","data":{"seq":null}}"#]);
    for _ in 0..2 {
        assert_eq!(soon(peer.hear()).await, heartbeats[0]);
    }
    assert!(soon(peer.any()).await.is_none(), "the end, without a close frame");
    let after = ready.elapsed().as_secs();
    assert!((4..=6).contains(&after), "{after} s");
    assert!(!attached.await.unwrap().unwrap().is_closed(), "the session is held");
}
