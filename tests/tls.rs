//! A master on TLS streams that the application has accepted itself.

mod common;

use std::net::SocketAddr;
use std::sync::Arc;

use common::*;
use seqlink::transport::websocket::WebSocket;
use seqlink::{AcceptError, Client, Link, Master};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

type ServerStream = server::TlsStream<TcpStream>;
type ClientStream = client::TlsStream<TcpStream>;

/// What both ends of TLS for `localhost` need; the provider is named, because there may be others
/// in an application.
fn tls() -> (TlsAcceptor, TlsConnector) {
    let signed = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let certificate: CertificateDer<'static> = signed.cert.into();
    let key = PrivateKeyDer::try_from(signed.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(ring::default_provider());
    let server = ServerConfig::builder_with_provider(Arc::clone(&provider));
    let server = server.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let server = server.with_single_cert(vec![certificate.clone()], key).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let client = ClientConfig::builder_with_provider(provider);
    let client = client.with_safe_default_protocol_versions().unwrap();
    let client = client.with_root_certificates(roots).with_no_client_auth();
    (Arc::new(server).into(), Arc::new(client).into())
}

async fn dial(address: SocketAddr, connector: TlsConnector) -> std::io::Result<ClientStream> {
    let name = ServerName::try_from("localhost").unwrap();
    connector.connect(name, TcpStream::connect(address).await?).await
}

/// A slave on a TLS stream to a master that takes it with `accept`.
async fn linked<F>(
    master: &Master,
    accept: impl FnOnce(Master, ServerStream) -> F,
) -> (Client, Link)
where
    F: Future<Output = Link>,
{
    let (acceptor, connector) = tls();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let client = slave().router(router()).connect_by(move || {
        let connector = connector.clone();
        async move {
            let stream = dial(address, connector).await?;
            WebSocket::connect(stream, "ws://localhost/", 1 << 20, true).await
        }
    });
    let serving = async {
        let (stream, _) = listener.accept().await.unwrap();
        accept(master.clone(), acceptor.accept(stream).await.unwrap()).await
    };
    let (client, link) = tokio::join!(client, serving);
    (client.unwrap(), link)
}

#[tokio::test]
async fn a_tls_stream_becomes_a_link_as_the_readme_says() {
    let master = Master::builder().router(router()).build().unwrap();
    let accept = async |master: Master, stream| master.accept(stream).await.unwrap();
    let (client, link) = linked(&master, accept).await;
    works(client, link).await;
}

#[tokio::test]
async fn a_tls_stream_becomes_a_transport_first() {
    let master = Master::builder().router(router()).build().unwrap();
    let accept = async |master: Master, stream| {
        let socket = WebSocket::accept(stream, 1 << 20).await.unwrap();
        master.attach(socket).await.unwrap()
    };
    let (client, link) = linked(&master, accept).await;
    works(client, link).await;
}

/// TLS makes no difference to who may come.
#[tokio::test]
async fn a_page_is_refused_over_tls_too() {
    let master = Master::builder().build().unwrap();
    let (acceptor, connector) = tls();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let page = async {
        let mut stream = dial(address, connector).await.unwrap();
        let request = raw::upgrade("/api/socket");
        let request = request.replace("\r\n\r\n", "\r\nOrigin: https://evil.test\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let serving = async {
        let (stream, _) = listener.accept().await.unwrap();
        master.accept(acceptor.accept(stream).await.unwrap()).await
    };
    let (answer, accepted) = tokio::join!(page, serving);
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    assert!(matches!(accepted, Err(AcceptError::Origin(_))), "{accepted:?}");
}
