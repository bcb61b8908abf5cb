//! What TLS costs: requests over it beside requests without, in turn, and its handshakes beside those of bare
//! tokio-rustls. Client and server in one process and one thread.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use seqlink::tls::{ClientTls, ServerTls};
use seqlink::{Master, Slave};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::pace::{Clock, Pace};
use crate::stacks::{self, link};

#[derive(clap::Args)]
pub struct Options {
    #[arg(long, default_value_t = 64)]
    in_flight: usize,
    /// Pairs of measurements.
    #[arg(long, default_value_t = 15)]
    rounds: usize,
    /// For how long each.
    #[arg(long, default_value_t = 500)]
    millis: u64,
    /// How many connections are made one after the other, in each round.
    #[arg(long, default_value_t = 200)]
    handshakes: u32,
}

struct Pem {
    certificate: String,
    key: String,
}

pub async fn run(options: &Options) -> Result<()> {
    let signed = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let pem = Pem { certificate: signed.cert.pem(), key: signed.signing_key.serialize_pem() };
    requests(options, &pem).await?;
    handshakes(options, &pem).await
}

async fn requests(options: &Options, pem: &Pem) -> Result<()> {
    let (_plain, port) = link::serve_with(Master::builder(), None).await?;
    let plain = Slave::builder().url(format!("ws://localhost:{port}/")).id(1).connect().await?;
    let tls = ServerTls::from_pem(&pem.certificate, &pem.key)?;
    let (_secure, port) = link::serve_with(Master::builder().tls(tls), None).await?;
    let secure = Slave::builder().url(format!("wss://localhost:{port}/")).id(1);
    let secure = secure.tls(ClientTls::ca_pem(&pem.certificate)?).connect().await?;
    let askers = [link::Asker(plain.link().await?), link::Asker(secure.link().await?)];

    let mut costs = [Vec::new(), Vec::new()];
    for round in 0..=options.rounds {
        // Each comes first as often as the other.
        for which in [round % 2, 1 - round % 2] {
            let clock = Clock::start();
            let pace = Pace::time(Duration::from_millis(options.millis));
            let asker = std::slice::from_ref(&askers[which]);
            let tallies = stacks::play(asker, options.in_flight, &pace).await?;
            let (_, cpu_ns) = clock.read();
            let asked: u64 = tallies.iter().map(|tally| tally.requests).sum();
            // The first round warms up.
            if round > 0 {
                costs[which].push(cpu_ns as f64 / asked as f64);
            }
        }
    }
    let [plain, secure] = &costs;
    let ratios = secure.iter().zip(plain).map(|(secure, plain)| secure / plain).collect();
    println!(
        "{} requests in flight: {:.0} ns of CPU time each without TLS, {:.0} ns with it, {}",
        options.in_flight,
        middle(plain.clone()).0,
        middle(secure.clone()).0,
        spread(middle(ratios)),
    );
    Ok(())
}

async fn handshakes(options: &Options, pem: &Pem) -> Result<()> {
    let bare = Bare::new(pem).await?;
    let tls = ServerTls::from_pem(&pem.certificate, &pem.key)?;
    let (_master, port) = link::serve_with(Master::builder().tls(tls), None).await?;
    let (_plain, plain_port) = link::serve_with(Master::builder(), None).await?;
    let tls = ClientTls::ca_pem(&pem.certificate)?;
    let slave = |url: String| Slave::builder().url(url).id(1).sessions(false);
    let mut costs = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..options.rounds {
        for (which, costs) in costs.iter_mut().enumerate() {
            let clock = Clock::start();
            for _ in 0..options.handshakes {
                match which {
                    0 => bare.connect().await?,
                    1 => {
                        let slave = slave(format!("wss://localhost:{port}/")).tls(tls.clone());
                        slave.connect().await?.close("").await;
                    }
                    _ => {
                        let slave = slave(format!("ws://localhost:{plain_port}/"));
                        slave.connect().await?.close("").await;
                    }
                }
            }
            let (wall_ns, _) = clock.read();
            costs.push(f64::from(options.handshakes) * 1e9 / wall_ns as f64);
        }
    }
    let [bare, secure, plain] = costs.map(|costs| middle(costs).0);
    println!(
        "one after the other, both ends on one thread: {bare:.0} TLS handshakes a second of bare tokio-rustls; \
         {secure:.0} links a second over TLS, from dialling to the end, and {plain:.0} without"
    );
    println!(
        "a TLS handshake: {:.0} µs bare, {:.0} µs more for a link with it than for one without",
        1e6 / bare,
        1e6 / secure - 1e6 / plain
    );
    Ok(())
}

/// Bare tokio-rustls on both ends.
struct Bare {
    connector: TlsConnector,
    address: std::net::SocketAddr,
}

impl Bare {
    async fn new(pem: &Pem) -> Result<Self> {
        let certificate = CertificateDer::from_pem_slice(pem.certificate.as_bytes())?;
        let key = PrivateKeyDer::from_pem_slice(pem.key.as_bytes())?;
        let provider = Arc::new(ring::default_provider());
        let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)?;
        server.send_tls13_tickets = 0;
        let mut roots = RootCertStore::empty();
        roots.add(certificate)?;
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let acceptor = TlsAcceptor::from(Arc::new(server));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move { acceptor.accept(stream).await.map(drop) });
            }
        });
        Ok(Self { connector: Arc::new(client).into(), address })
    }

    async fn connect(&self) -> Result<()> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        self.connector.connect(ServerName::try_from("localhost")?, stream).await?;
        Ok(())
    }
}

/// The median, and the two between which half of all lie.
fn middle(mut numbers: Vec<f64>) -> (f64, f64, f64) {
    numbers.sort_by(f64::total_cmp);
    let at = |part: usize| numbers[(numbers.len() - 1) * part / 4];
    (at(2), at(1), at(3))
}

fn spread((median, low, high): (f64, f64, f64)) -> String {
    format!("{median:.3} × (half of the pairs from {low:.3} to {high:.3})")
}
