//! TLS on both ends: what is said when it fails, whose certificate lets whom in, and that nobody waits
//! for a client that takes its time.

#[path = "common/certificates.rs"]
mod certificates;
mod common;

use std::io;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use certificates::{Ca, Identity};
use common::line::Line;
use common::raw::Raw;
use common::*;
use futures::future::join_all;
use seqlink::tls::{ClientTls, ServerTls, TlsError};
use seqlink::transport::websocket::WebSocket;
use seqlink::{
    Client, ClientBuilder, Config, ConfigError, ConnectError, LinkState, Master, Reconnect, Slave,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};

fn server(identity: &Identity) -> ServerTls {
    ServerTls::from_pem(&identity.chain, &identity.key).unwrap()
}

fn trusting(ca: &Ca) -> ClientTls {
    ClientTls::ca_pem(&ca.pem).unwrap()
}

fn showing(tls: ClientTls, identity: &Identity) -> ClientTls {
    tls.identity(&identity.chain, &identity.key).unwrap()
}

/// A master with TLS, and its address.
async fn master(tls: ServerTls) -> (Master, SocketAddr) {
    let master = Master::builder().router(router()).tls(tls).build().unwrap();
    let address = master.listen("127.0.0.1:0").await.unwrap();
    (master, address)
}

fn localhost(port: u16) -> String {
    format!("wss://localhost:{port}/")
}

/// What one attempt comes to.
async fn dial(
    client: ClientBuilder,
    url: &str,
    tls: Option<ClientTls>,
) -> Result<Client, ConnectError> {
    let client = client.url(url).router(router()).reconnect(Reconnect::never());
    let client = if let Some(tls) = tls { client.tls(tls) } else { client };
    soon(client.connect()).await
}

async fn refusal(client: ClientBuilder, url: &str, tls: ClientTls) -> String {
    dial(client, url, Some(tls)).await.unwrap_err().to_string()
}

/// Why there is no TLS with the server at a port.
async fn no_tls(port: u16, tls: ClientTls) -> String {
    let text = refusal(control(), &localhost(port), tls).await;
    let start = format!("no TLS with {}api/socket: ", localhost(port));
    let text = text.strip_prefix(&start).expect(&text);
    // What helps stands behind what is wrong.
    text.split(" (").next().unwrap_or_default().to_owned()
}

/// What this thread logs while it is there.
struct Logs {
    lines: Arc<Mutex<Vec<u8>>>,
    _guard: tracing::subscriber::DefaultGuard,
}

impl Logs {
    fn new() -> Self {
        let lines = Arc::<Mutex<Vec<u8>>>::default();
        let writer = Arc::clone(&lines);
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(move || Writer(Arc::clone(&writer)))
            .finish();
        Self { lines, _guard: tracing::subscriber::set_default(subscriber) }
    }

    /// Waits until this is logged.
    async fn has(&self, text: &str) {
        let all = || String::from_utf8_lossy(&self.lines.lock().unwrap()).into_owned();
        let logged = async {
            while !all().contains(text) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let logged = tokio::time::timeout(Duration::from_secs(20), logged).await;
        assert!(logged.is_ok(), "no {text:?} in\n{}", all());
    }
}

struct Writer(Arc<Mutex<Vec<u8>>>);

impl io::Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_client_and_its_master_speak_tls() {
    let ca = Ca::new("ca");
    let (master, address) = master(server(&ca.issue(&["localhost", "127.0.0.1"]))).await;
    for url in [localhost(address.port()), format!("https://{address}/plain/")] {
        let client = dial(slave(), &url, Some(trusting(&ca))).await.unwrap();
        works(client, master.slave(7).unwrap()).await;
    }
}

/// A client of the TLS library's own, with one version of it.
async fn speak(
    address: SocketAddr,
    ca: &Ca,
    identity: Option<&Identity>,
    versions: &[&'static SupportedProtocolVersion],
) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.pem.as_bytes()).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots);
    let config = match identity {
        None => config.with_no_client_auth(),
        Some(Identity { chain, key, .. }) => {
            let chain = vec![CertificateDer::from_pem_slice(chain.as_bytes()).unwrap()];
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
            config.with_client_auth_cert(chain, key).unwrap()
        }
    };
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TcpStream::connect(address).await?;
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

#[tokio::test]
async fn a_master_speaks_both_versions_of_tls() {
    let ca = Ca::new("ca");
    let (master, address) = master(server(&ca.issue(&["localhost"]))).await;
    for version in [&TLS12, &TLS13] {
        let mut stream = speak(address, &ca, None, &[version]).await.unwrap();
        assert_eq!(stream.get_ref().1.protocol_version(), Some(version.version));
        stream.write_all(raw::upgrade("/api/socket").as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 101");
    }
    drop(master);
}

#[tokio::test]
async fn a_client_says_what_is_wrong_with_the_masters_certificate() {
    let (ca, other) = (Ca::new("ca"), Ca::new("other"));
    let port = async |identity: Identity| master(server(&identity)).await.1.port();
    let with = async |identity: Identity| no_tls(port(identity).await, trusting(&ca)).await;

    let named = ca.issue(&["fleet.test", "10.0.0.1"]);
    let wrong = "its certificate is for fleet.test, 10.0.0.1, and not for localhost";
    assert_eq!(with(named).await, wrong);
    let old = ca.issue_for_years(&["localhost"], 2019, 2021);
    assert_eq!(with(old).await, "its certificate has expired: 2021-01-01 00:00 UTC");
    let young = ca.issue_for_years(&["localhost"], 3000, 3001);
    assert_eq!(with(young).await, "its certificate is not valid yet: 3000-01-01 00:00 UTC");
    let unknown = "its certificate comes from a CA that is not trusted here";
    assert_eq!(with(other.issue(&["localhost"])).await, unknown);
    let nameless = ca.issue(&[]);
    let wrong = "its certificate is for no name, and not for localhost";
    assert_eq!(with(nameless).await, wrong);
    let many: Vec<String> = (0..10).map(|n| format!("{n}.test")).collect();
    let many = ca.issue(&many.iter().map(String::as_str).collect::<Vec<_>>());
    let text = with(many).await;
    assert!(text.contains("7.test, 2 more, and not"), "{text}");
}

/// The name and the key are still asked for; the dates are not.
#[tokio::test]
async fn a_pinned_certificate_needs_no_ca() {
    let ca = Ca::new("ca");
    let old = ca.issue_for_years(&["localhost"], 2019, 2021);
    let tls = server(&old);
    let pin = tls.fingerprint();
    let (master, address) = master(tls).await;
    let url = localhost(address.port());
    let bare = pin.strip_prefix("sha256:").unwrap();
    let bytes: Vec<&str> = (0..32).map(|n| &bare[2 * n..2 * n + 2]).collect();
    for pin in [pin.clone(), bytes.join(":").to_uppercase()] {
        let client = dial(slave(), &url, Some(ClientTls::pinned(pin).unwrap())).await.unwrap();
        works(client, master.slave(7).unwrap()).await;
    }
    let other = "00".repeat(32);
    let text = no_tls(address.port(), ClientTls::pinned(&other).unwrap()).await;
    let wrong =
        format!("its certificate has the fingerprint {pin}, and the pinned one is sha256:{other}");
    assert_eq!(text, wrong);
    let url = format!("wss://{address}/");
    let text = refusal(control(), &url, ClientTls::pinned(&pin).unwrap()).await;
    let wrong = "its certificate is for localhost, and not for 127.0.0.1 (call the master by a name of \
                 its certificate)";
    assert!(text.ends_with(wrong), "{text}");
}

/// With the certificate of another, and not its key.
#[tokio::test]
async fn a_pinned_certificate_needs_its_key() {
    use tokio_rustls::TlsAcceptor;
    use tokio_rustls::rustls::ServerConfig;
    use tokio_rustls::rustls::sign::{CertifiedKey, SingleCertAndKey};

    let ca = Ca::new("ca");
    let (theirs, ours) = (ca.issue(&["localhost"]), ca.issue(&["localhost"]));
    let pin = server(&theirs).fingerprint();
    let provider = Arc::new(ring::default_provider());
    let key = PrivateKeyDer::from_pem_slice(ours.key.as_bytes()).unwrap();
    let key = provider.key_provider.load_private_key(key).unwrap();
    let chain = vec![CertificateDer::from_pem_slice(theirs.chain.as_bytes()).unwrap()];
    let stolen = Arc::new(CertifiedKey::new(chain, key));
    for version in [&TLS12, &TLS13] {
        let config = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(&stolen))));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let serving = async {
            let (stream, _) = listener.accept().await.unwrap();
            TlsAcceptor::from(Arc::new(config)).accept(stream).await
        };
        let tls = ClientTls::pinned(&pin).unwrap();
        let (text, accepted) = tokio::join!(no_tls(port, tls), serving);
        assert!(text.contains("BadSignature"), "{text}");
        assert!(accepted.is_err());
    }
}

/// The client asks in TLS where the server answers without, does not answer, or hangs up.
#[tokio::test]
async fn a_client_says_that_the_server_speaks_no_tls() {
    let logs = Logs::new();
    let tls = trusting(&Ca::new("ca"));
    let plain = Master::builder().build().unwrap();
    let port = plain.listen("127.0.0.1:0").await.unwrap().port();
    let wrong = "it does not speak TLS; ws:// is for that";
    assert_eq!(no_tls(port, tls.clone()).await, wrong);
    logs.has("the client speaks TLS, and this master does not; use ws://").await;

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let config = Config::default().with_tls_timeout(Duration::from_millis(50));
    let url = localhost(port);
    let text = refusal(control().config(config), &url, tls.clone()).await;
    assert!(text.ends_with("api/socket: no TLS handshake within 50ms"), "{text}");
    listener.accept().await.unwrap();

    let hanging_up = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        // What is left unread would reset the connection.
        assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
    };
    let (text, ()) = tokio::join!(no_tls(port, tls), hanging_up);
    assert_eq!(text, "it ended the connection before the TLS handshake was over");
}

/// The reverse: no TLS where the master speaks it.
#[tokio::test]
async fn a_client_without_tls_is_told_so() {
    let logs = Logs::new();
    let ca = Ca::new("ca");
    let (master, address) = master(server(&ca.issue(&["localhost"]))).await;
    let text = dial(control(), &format!("ws://{address}/"), None).await.unwrap_err().to_string();
    assert!(text.contains("HTTP 400") && text.contains("begin with wss://"), "{text}");
    logs.has("no TLS with the client: it does not speak TLS").await;
    let mut browser = Raw::tcp(address).await;
    browser.bytes(b"GET / HTTP/1.1\r\n\r\n").await;
    let answer = browser.rest().await;
    assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
    assert!(
        answer.ends_with("This port speaks TLS: the address begins with wss://.\n"),
        "{answer}"
    );

    // A server that answers in TLS only.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let alerting = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
        stream.write_all(&[21, 3, 3, 0, 2, 2, 10]).await.unwrap();
    };
    let url = format!("ws://{address}/");
    let (dialled, ()) = tokio::join!(dial(control(), &url, None), alerting);
    let text = dialled.unwrap_err().to_string();
    assert!(text.ends_with("the server speaks TLS: its address begins with wss://"), "{text}");
    drop(master);
}

/// None of it makes a link, and the master goes on.
#[tokio::test]
async fn garbage_on_a_port_for_tls_is_refused() {
    let logs = Logs::new();
    let ca = Ca::new("ca");
    let (master, address) = master(server(&ca.issue(&["localhost"]))).await;
    let mut hello = vec![22, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3];
    hello.extend([0xff; 194]);
    let garbage: [&[u8]; 7] = [
        b"\0",
        b"garbage",
        b"\x16garbage",
        &[22, 3, 1, 0xff, 0xff],
        &[22, 3, 1, 0, 0],
        &hello,
        &[0x80, 46, 1, 3, 1],
    ];
    for bytes in garbage {
        let mut raw = Raw::tcp(address).await;
        raw.bytes(bytes).await;
        raw.end().await;
        let answer = raw.rest().await;
        assert!(answer.len() <= 7 && !answer.contains("HTTP"), "{bytes:?}: {answer:?}");
    }
    logs.has("no TLS with the client: ").await;
    let client = dial(slave(), &localhost(address.port()), Some(trusting(&ca))).await.unwrap();
    works(client, master.slave(7).unwrap()).await;
}

/// The names of the clients' certificates.
const SEVEN: &str = "slave-7.seqlink.internal";
const EIGHT: &str = "slave-8.seqlink.internal";
const CONTROL: &str = "control.seqlink.internal";

/// A master's CA, and that of its clients.
struct Fleet {
    ca: Ca,
    clients: Ca,
}

impl Fleet {
    fn new() -> Self {
        Self { ca: Ca::new("ca"), clients: Ca::new("clients") }
    }

    fn server(&self) -> ServerTls {
        server(&self.ca.issue(&["localhost"])).client_ca(&self.clients.pem).unwrap()
    }

    fn client(&self, names: &[&str]) -> ClientTls {
        showing(trusting(&self.ca), &self.clients.issue(names))
    }
}

#[tokio::test]
async fn a_clients_certificate_is_for_its_kind_and_id() {
    let fleet = Fleet::new();
    let (master, address) = master(fleet.server()).await;
    let url = localhost(address.port());

    for names in [&[SEVEN][..], &["x.test", "SLAVE-7.seqlink.internal", CONTROL]] {
        let client = dial(slave(), &url, Some(fleet.client(names))).await.unwrap();
        works(client, master.slave(7).unwrap()).await;
    }
    let client = dial(control(), &url, Some(fleet.client(&[CONTROL]))).await.unwrap();
    client.close("done").await;
    let negative = fleet.client(&["slave--1.seqlink.internal"]);
    dial(slave().id(-1), &url, Some(negative)).await.unwrap().close("done").await;

    let wrong = async |client: ClientBuilder, names: &[&str]| {
        let error = dial(client, &url, Some(fleet.client(names))).await.unwrap_err();
        assert!(matches!(error, ConnectError::Authentication(_)), "{error:?}");
        error.to_string()
    };
    let refused = |ours: &str, name: &str| {
        format!("Authentication failed: the certificate is for {ours}, and not for {name}")
    };
    assert_eq!(wrong(slave(), &[EIGHT]).await, refused(EIGHT, SEVEN));
    assert_eq!(wrong(slave(), &[CONTROL]).await, refused(CONTROL, SEVEN));
    assert_eq!(wrong(control(), &[SEVEN]).await, refused(SEVEN, CONTROL));
    let longer = "slave-77.seqlink.internal";
    assert_eq!(wrong(slave(), &[longer]).await, refused(longer, SEVEN));
    assert_eq!(wrong(slave(), &[]).await, refused("no name", SEVEN));
}

#[tokio::test]
async fn a_client_without_a_good_certificate_learns_why() {
    let logs = Logs::new();
    let fleet = Fleet::new();
    let revoked = fleet.clients.issue(&[SEVEN]);
    let tls = fleet.server().crl(fleet.clients.revoke(&[&revoked])).unwrap();
    let (_master, address) = master(tls).await;
    let port = address.port();
    // One whose line of the log comes first, in each time.
    let text = no_tls(port, trusting(&fleet.ca)).await;
    assert_eq!(text, "it asks for a certificate, and this side has shown none");
    logs.has("no TLS with the client: it has shown no certificate").await;
    let text = no_tls(port, showing(trusting(&fleet.ca), &revoked)).await;
    assert_eq!(text, "it says that this side's certificate has been revoked");
    logs.has("no TLS with the client: its certificate has been revoked").await;
    let stranger = Ca::new("stranger").issue(&[SEVEN]);
    let text = no_tls(port, showing(trusting(&fleet.ca), &stranger)).await;
    assert_eq!(text, "it does not trust the CA of this side's certificate");
    logs.has("no TLS with the client: its certificate comes from a CA that is not trusted").await;
    let old = fleet.clients.issue_for_years(&[SEVEN], 2019, 2021);
    let text = no_tls(port, showing(trusting(&fleet.ca), &old)).await;
    assert_eq!(text, "it says that this side's certificate has expired, or is not valid yet");
    logs.has("no TLS with the client: its certificate has expired: 2021-01-01 00:00 UTC").await;
    // The client's own refusal, as the master sees it.
    no_tls(port, trusting(&fleet.clients)).await;
    logs.has("no TLS with the client: it does not trust the CA of this side's certificate").await;

    let client = dial(slave(), &localhost(port), Some(fleet.client(&[SEVEN]))).await.unwrap();
    client.close("done").await;
}

/// A list of one CA says nothing of another's.
#[tokio::test]
async fn a_ca_without_a_revocation_list_is_refused_where_there_are_lists() {
    let fleet = Fleet::new();
    let other = Ca::new("other");
    let both = format!("{}{}", fleet.clients.pem, other.pem);
    let tls = server(&fleet.ca.issue(&["localhost"])).client_ca(both).unwrap();
    let (master, address) = master(tls.clone().crl(other.revoke(&[])).unwrap()).await;
    let logs = Logs::new();
    no_tls(address.port(), fleet.client(&[SEVEN])).await;
    logs.has("no revocation list here is that of its certificate's CA").await;
    let lists = format!("{}{}", other.revoke(&[]), fleet.clients.revoke(&[]));
    master.reload_tls(&tls.crl(lists).unwrap()).unwrap();
    let url = localhost(address.port());
    dial(slave(), &url, Some(fleet.client(&[SEVEN]))).await.unwrap().close("done").await;
}

#[tokio::test]
async fn an_optional_certificate_counts_where_it_is_shown() {
    let fleet = Fleet::new();
    let (_master, address) = master(fleet.server().client_certificate_optional()).await;
    let url = localhost(address.port());
    dial(slave(), &url, Some(trusting(&fleet.ca))).await.unwrap().close("done").await;
    dial(slave(), &url, Some(fleet.client(&[SEVEN]))).await.unwrap().close("done").await;
    let text = refusal(slave(), &url, fleet.client(&[EIGHT])).await;
    assert!(text.starts_with("Authentication failed: "), "{text}");
}

/// Dials with what is shown then, and can be cut.
#[derive(Clone)]
struct Impostor {
    shown: Arc<Mutex<Option<Identity>>>,
    socket: Arc<Mutex<Option<std::net::TcpStream>>>,
}

impl Impostor {
    /// A slave 7 that shows the certificate of the slave 7, as long as it is not told otherwise.
    async fn connect(fleet: Fleet, address: SocketAddr) -> (Self, Client) {
        let shown = Arc::new(Mutex::new(Some(fleet.clients.issue(&[SEVEN]))));
        let impostor = Self { shown, socket: Arc::default() };
        let dialler = impostor.clone();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(fleet.ca.pem.as_bytes()).unwrap()).unwrap();
        let client = slave().connect_by(move || {
            let (dialler, roots) = (dialler.clone(), roots.clone());
            async move {
                let stream = std::net::TcpStream::connect(address)?;
                stream.set_nonblocking(true)?;
                *dialler.socket.lock().unwrap() = Some(stream.try_clone()?);
                let config =
                    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
                        .with_safe_default_protocol_versions()
                        .unwrap()
                        .with_root_certificates(roots);
                let shown = dialler.shown.lock().unwrap().clone();
                let config = match shown {
                    None => config.with_no_client_auth(),
                    Some(Identity { chain, key, .. }) => {
                        let chain = vec![CertificateDer::from_pem_slice(chain.as_bytes()).unwrap()];
                        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
                        config.with_client_auth_cert(chain, key).unwrap()
                    }
                };
                let connector = TlsConnector::from(Arc::new(config));
                let name = ServerName::try_from("localhost").unwrap();
                let stream = connector.connect(name, TcpStream::from_std(stream)?).await?;
                WebSocket::connect(stream, "wss://localhost/", 1 << 20, true).await
            }
        });
        (impostor, soon(client).await.unwrap())
    }

    fn cut(&self) {
        let socket = self.socket.lock().unwrap();
        socket.as_ref().unwrap().shutdown(std::net::Shutdown::Both).unwrap();
    }
}

const UNKNOWN: &str = "The master does not know the session any more";

/// A session belongs to the certificate's peer too, whoever has its token.
#[tokio::test]
async fn a_session_goes_on_with_a_certificate_of_the_same_peer_only() {
    let fleet = Fleet::new();
    let another = fleet.clients.issue(&[SEVEN, EIGHT]);
    let eight = fleet.clients.issue(&[EIGHT]);
    let (_master, address) = master(fleet.server()).await;
    let (impostor, client) = Impostor::connect(fleet, address).await;
    let link = client.link().await.unwrap();
    *impostor.shown.lock().unwrap() = Some(another);
    impostor.cut();
    let mut states = link.states();
    while !matches!(soon(states.next()).await, Some(LinkState::Resumed { .. })) {}
    *impostor.shown.lock().unwrap() = Some(eight);
    impostor.cut();
    let stopped = soon(client.stopped()).await.to_string();
    let wrong =
        format!("Authentication failed: the certificate is for {EIGHT}, and not for {SEVEN}");
    assert_eq!(stopped, wrong);
}

/// Who was let in by a certificate does not go on without one.
#[tokio::test]
async fn a_session_of_a_certificate_does_not_go_on_without() {
    let fleet = Fleet::new();
    let (_master, address) = master(fleet.server().client_certificate_optional()).await;
    let (impostor, client) = Impostor::connect(fleet, address).await;
    let link = client.link().await.unwrap();
    *impostor.shown.lock().unwrap() = None;
    impostor.cut();
    assert_eq!(soon(link.closed()).await.reason.as_str(), UNKNOWN);
    // It may register anew, as anybody without one may here.
    soon(client.link()).await.unwrap();
}

/// The same session, after the line was cut.
#[tokio::test]
async fn a_session_goes_on_over_another_socket() {
    let fleet = Fleet::new();
    let interval = Duration::from_millis(100);
    let config = config(|config| config.heartbeat_interval = interval);
    let builder = Master::builder().router(router()).tls(fleet.server()).config(config);
    let master = builder.build().unwrap();
    let address = master.listen("127.0.0.1:0").await.unwrap();
    let line = Line::new(address, None).await;
    let client = slave().url(localhost(line.port())).tls(fleet.client(&[SEVEN])).router(router());
    let client = soon(client.connect()).await.unwrap();
    let link = client.link().await.unwrap();
    link.request(&echo("before")).await.unwrap();
    let mut states = link.states();
    line.silence();
    let meanwhile = tokio::spawn({
        let link = link.clone();
        async move { link.request(&echo("meanwhile")).await }
    });
    while !matches!(soon(states.next()).await, Some(LinkState::Resuming { .. })) {}
    line.mend();
    assert_eq!(soon(meanwhile).await.unwrap().unwrap().text, "meanwhile");
    assert!(soon(client.link()).await.unwrap() == link);
    assert_eq!(master.slaves().len(), 1);
    client.close("done").await;
}

/// A record of TLS may take longer than a peer may be silent: each of its bytes is a sign of life.
#[tokio::test]
async fn nobody_is_taken_for_dead_within_a_record() {
    let ca = Ca::new("ca");
    let config = config(|config| config.heartbeat_interval = Duration::from_millis(250));
    let builder = Master::builder().tls(server(&ca.issue(&["localhost"])));
    let master = builder.router(router()).config(config.clone()).build().unwrap();
    let address = master.listen("127.0.0.1:0").await.unwrap();
    // A record of 16 KiB takes three times as long as two intervals.
    let line = Line::new(address, Some(11_000)).await;
    let client = slave().url(localhost(line.port())).tls(trusting(&ca)).config(config);
    let client = soon(client.connect()).await.unwrap();
    let link = client.link().await.unwrap();
    let mut states = link.states();
    let text = "x".repeat(25_000);
    let asked = link.with_timeout(Duration::from_secs(50));
    assert_eq!(soon(asked.request(&echo(&text))).await.unwrap().text, text);
    assert!(matches!(states.now(), LinkState::Connected), "{:?}", states.now());
    use futures::FutureExt as _;
    assert!(states.next().now_or_never().is_none(), "it was never cut");
}

/// Links go on, new ones see the new certificate, and what cannot work changes nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_replaced_under_load() {
    const LINKS: i64 = 8;
    const RELOADS: u64 = 20;
    let cas = [Ca::new("even"), Ca::new("odd")];
    let tls = |n: u64| server(&cas[n as usize % 2].issue(&["localhost"]));
    let (master, address) = master(tls(0)).await;
    let url = localhost(address.port());
    let mut clients = Vec::new();
    for id in 0..LINKS {
        clients.push(dial(slave().id(id), &url, Some(trusting(&cas[0]))).await.unwrap());
    }
    let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut links = Vec::new();
    for client in &clients {
        links.push(client.link().await.unwrap());
    }
    let load = links.iter().flat_map(|link| std::iter::repeat_n(link, 4)).map(|link| {
        let (link, stop, answered) = (link.clone(), Arc::clone(&stop), Arc::clone(&answered));
        tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                link.request(&echo("under load")).await.unwrap();
                answered.fetch_add(1, Ordering::Relaxed);
            }
        })
    });
    let load: Vec<_> = load.collect();
    for n in 1..=RELOADS {
        master.reload_tls(&tls(n)).unwrap();
        let (new, old) = (&cas[n as usize % 2], &cas[(n as usize + 1) % 2]);
        dial(control(), &url, Some(trusting(new))).await.unwrap().close("done").await;
        let text = no_tls(address.port(), trusting(old)).await;
        assert_eq!(text, "its certificate comes from a CA that is not trusted here");
        let wrong = tls(n + 1).crl(old.revoke(&[])).unwrap();
        assert_eq!(master.reload_tls(&wrong), Err(TlsError::CrlWithoutCa));
    }
    let so_far = answered.load(Ordering::Relaxed);
    soon(async {
        while answered.load(Ordering::Relaxed) < so_far + 100 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    stop.store(true, Ordering::Relaxed);
    for asking in load {
        asking.await.unwrap();
    }
    for link in &links {
        assert!(matches!(link.states().now(), LinkState::Connected), "{:?}", link.states().now());
    }
    assert_eq!(master.slaves().len(), clients.len());
}

/// Whose certificate is revoked keeps its link, and makes no other.
#[tokio::test]
async fn a_revoked_client_stays_until_it_comes_again() {
    let fleet = Fleet::new();
    let seven = fleet.clients.issue(&[SEVEN]);
    let tls = fleet.server();
    let (master, address) = master(tls.clone()).await;
    let shown = showing(trusting(&fleet.ca), &seven);
    let client = dial(slave(), &localhost(address.port()), Some(shown.clone())).await.unwrap();
    master.reload_tls(&tls.crl(fleet.clients.revoke(&[&seven])).unwrap()).unwrap();
    let link = master.slave(7).unwrap();
    assert_eq!(link.request(&echo("still here")).await.unwrap().text, "still here");
    let text = no_tls(address.port(), shown).await;
    assert_eq!(text, "it says that this side's certificate has been revoked");
    works(client, link).await;
}

/// 1,000 clients that stop in the middle of their TLS handshake keep nobody waiting, and go.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stalled_handshakes_hold_up_nobody() {
    const STALLED: usize = 1000;
    let timeout = Duration::from_secs(5);
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let limit = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    }
    let ca = Ca::new("ca");
    let builder = Master::builder().tls(server(&ca.issue(&["localhost"])));
    let config = Config::default().with_tls_timeout(timeout);
    let master = builder.router(router()).config(config).build().unwrap();
    let address = master.listen("127.0.0.1:0").await.unwrap();
    let started = Instant::now();
    let stalled = (0..STALLED).map(|n| async move {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // Nothing at all, the head of a record, or the start of a greeting.
        let start: [&[u8]; 3] = [&[], &[22, 3, 1, 2, 0], &[22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]];
        stream.write_all(start[n % 3]).await.unwrap();
        stream
    });
    let stalled = join_all(stalled).await;
    let dialled = Instant::now();
    let client = dial(slave(), &localhost(address.port()), Some(trusting(&ca))).await.unwrap();
    let took = dialled.elapsed();
    println!("ready in {took:?} beside {STALLED} stalled handshakes");
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert!(started.elapsed() < timeout, "they have gone already: {:?}", started.elapsed());
    let gone = stalled.into_iter().map(|mut stream| async move {
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
        assert!(rest.is_empty(), "{rest:?}");
    });
    soon(join_all(gone)).await;
    assert!(started.elapsed() >= timeout, "gone after {:?}", started.elapsed());
    works(client, master.slave(7).unwrap()).await;
}

/// A master that shuts down waits for no handshake.
#[tokio::test]
async fn a_shutdown_ends_handshakes() {
    let ca = Ca::new("ca");
    let builder = Master::builder().tls(server(&ca.issue(&["localhost"])));
    let config = Config::default().with_tls_timeout(Duration::from_secs(3600));
    let master = builder.config(config).build().unwrap();
    let address = master.listen("127.0.0.1:0").await.unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(&[22, 3, 1, 2, 0]).await.unwrap();
    dial(slave(), &localhost(address.port()), Some(trusting(&ca))).await.unwrap();
    soon(master.shutdown("over", Duration::ZERO)).await;
    assert!(matches!(stream.read(&mut [0; 8]).await, Ok(0) | Err(_)));
}

#[tokio::test]
async fn what_cannot_work_is_said_before_anything_is_dialled() {
    let ca = Ca::new("ca");
    let url = |client: Result<Client, ConnectError>| match client.unwrap_err() {
        ConnectError::Config(ConfigError::Url { fault, .. }) => fault,
        other => panic!("{other:?}"),
    };
    let plain = dial(control(), "ws://localhost:1/", Some(trusting(&ca))).await;
    assert_eq!(url(plain), "where `.tls(…)` is called, it must start with wss://");
    let nameless = dial(control(), "wss://a..b/", Some(trusting(&ca))).await;
    assert_eq!(url(nameless), "no certificate can be for its host");

    let (one, other) = (ca.issue(&["localhost"]), ca.issue(&["localhost"]));
    let from = |chain: &str, key: &str| ServerTls::from_pem(chain, key).unwrap_err().to_string();
    assert_eq!(
        from(&one.chain, &other.key),
        "the private key is not that of the certificate; in a chain, the certificate itself comes first"
    );
    assert_eq!(from(&one.key, &one.chain), "the certificate chain holds no `CERTIFICATE`");
    assert_eq!(from(&one.chain, &one.chain), "the private key holds no `PRIVATE KEY`");
    assert_eq!(from("", ""), "the certificate chain holds no `CERTIFICATE`");
    let cut = &one.key[..one.key.len() - 40];
    assert_eq!(from(&one.chain, cut), "the private key is no PEM: a section has no end");
    let pem =
        |kind: &str, text: &str| format!("-----BEGIN {kind}-----\n{text}\n-----END {kind}-----\n");
    let broken = pem("PRIVATE KEY", "AAAA");
    let text = from(&one.chain, &broken);
    assert!(text.starts_with("the private key cannot be used: "), "{text}");
    let text = from(&one.chain, &pem("PRIVATE KEY", "?"));
    assert_eq!(text, "the private key is no PEM: it is not base64");
    let text = from(&pem("CERTIFICATE", "AAAA"), &one.key);
    assert!(text.starts_with("a certificate of the certificate chain cannot be used: "), "{text}");
    let ca_pem = |pem: &str| ClientTls::ca_pem(pem).unwrap_err().to_string();
    assert_eq!(ca_pem("nothing"), "the CA holds no `CERTIFICATE`");
    assert!(ca_pem(&pem("CERTIFICATE", "AAAA")).contains("a certificate of the CA"));
    let text = server(&one).crl(&ca.pem).unwrap_err().to_string();
    assert_eq!(text, "the revocation list holds no `X509 CRL`");
    let crl = server(&one).client_ca(&ca.pem).unwrap().crl(pem("X509 CRL", "AAAA")).unwrap();
    let text = Master::builder().tls(crl).build().unwrap_err().to_string();
    assert!(text.starts_with("the revocation list cannot be used: "), "{text}");
    let text = ClientTls::pinned("no").unwrap_err().to_string();
    assert!(text.starts_with("\"no\" is no fingerprint"), "{text}");
    let plain = Master::builder().build().unwrap();
    assert_eq!(plain.reload_tls(&server(&one)), Err(TlsError::Absent));

    let shown = format!("{:?} {:?}", server(&one), showing(trusting(&ca), &one));
    assert!(shown.len() < 300, "{shown}");
}

/// In a process of its own, which has this test's CA for the system's.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn without_more_the_platforms_cas_are_trusted() {
    let ca = Ca::new("ca");
    let (_master, address) = master(server(&ca.issue(&["localhost"]))).await;
    let folder = std::env::temp_dir().join(format!("seqlink-wss-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let run = async |pem: &str| {
        let file = folder.join("roots.pem");
        std::fs::write(&file, pem).unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "a_client_of_the_platform", "--ignored", "--nocapture"]);
        command.env("SSL_CERT_FILE", file).env_remove("SSL_CERT_DIR");
        command.env("SEQLINK_TEST_URL", localhost(address.port()));
        let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let text = run(&ca.pem).await;
    assert!(text.contains("[connected]"), "{text}");
    let text = run(&Ca::new("other").pem).await;
    assert!(
        text.contains("from a CA that is not trusted here (name its CA with ca_pem, --tls-ca, "),
        "{text}"
    );
    let text = run("").await;
    assert!(text.contains("[no CA of this machine's can be used ("), "{text}");
    std::fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
#[ignore = "a part of the one above"]
async fn a_client_of_the_platform() {
    let Ok(url) = std::env::var("SEQLINK_TEST_URL") else { return };
    match dial(Slave::builder().id(7), &url, None).await {
        Ok(client) => {
            client.close("done").await;
            println!("[connected]");
        }
        Err(error) => println!("[{error}]"),
    }
}
