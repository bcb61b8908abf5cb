use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, ToSocketAddrs};
use tokio::time::{sleep, timeout_at};

use super::{Inner, Master};
use crate::error::AcceptError;
#[cfg(feature = "tls")]
use crate::error::TlsError;
use crate::link::Link;
use crate::transport::Below;
#[cfg(feature = "tls")]
use crate::transport::tls::{Secured, ServerTls};
use crate::transport::websocket::{self, Admission, IoStream};
use crate::trust::Connection;

/// How long a listener that cannot accept waits before it tries again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

impl Master {
    /// Listens on `address` and accepts links from now on; port 0 picks a free one. Returns the
    /// address that it listens on. May be called for several addresses.
    ///
    /// The endpoint is `/api/socket`; other paths get an HTTP error that says so. Each connection
    /// has [`Config::handshake_timeout`](crate::Config::handshake_timeout) to come to `ready`. With
    /// `MasterBuilder::tls` (feature `tls`) it speaks TLS, and nothing else.
    ///
    /// On a loopback address only a client that calls the master by such an address, by `localhost` or by a
    /// name of [`allow_host`](crate::MasterBuilder::allow_host) is let in: so a proxy on the same
    /// machine that hands on the `Host` of its own clients needs that name allowed.
    ///
    /// # Errors
    ///
    /// The operating system's, when it does not let us listen there; and one after
    /// [`shutdown`](Self::shutdown).
    pub async fn listen(&self, address: impl ToSocketAddrs) -> io::Result<SocketAddr> {
        if self.inner.stop.is_cancelled() {
            return Err(io::Error::other("this master has shut down"));
        }
        let listener = websocket::listen(address).await?;
        let local = listener.local_addr()?;
        let master = self.clone();
        self.inner.doors.spawn(async move {
            let admission = Arc::new(master.inner.admission.at(local.ip()));
            let stop = master.inner.stop.clone();
            stop.run_until_cancelled(master.serve(listener, admission)).await;
        });
        Ok(local)
    }

    async fn serve(&self, listener: TcpListener, admission: Arc<Admission>) {
        loop {
            match listener.accept().await {
                Ok((stream, from)) => {
                    let permit = match self.inner.connections.enter(from.ip()) {
                        Ok(permit) => permit,
                        Err(error) => {
                            self.inner.refused.add(Some(from), &error);
                            continue;
                        }
                    };
                    let (master, admission) = (self.clone(), Arc::clone(&admission));
                    self.inner.doors.spawn(async move {
                        let opened = match stream.set_nodelay(true) {
                            Ok(()) => master.let_in(stream, &admission, from).await,
                            Err(error) => Err(error.into()),
                        };
                        if let Err(error) = opened {
                            master.inner.refused.add(Some(from), &error);
                        }
                        drop(permit);
                    });
                }
                Err(error) => {
                    // Most often there are no file descriptors left: let some go.
                    tracing::error!(%error, "cannot accept, trying again");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// With TLS where the master has it.
    async fn let_in(
        &self,
        stream: TcpStream,
        admission: &Admission,
        from: SocketAddr,
    ) -> Result<Link, AcceptError> {
        #[cfg(feature = "tls")]
        if let Inner { config, stop, tls: Some(tls), .. } = &*self.inner {
            let accepting = stop.run_until_cancelled(tls.accept(stream, config.tls_timeout));
            let secured =
                accepting.await.ok_or(AcceptError::Shutdown)?.map_err(AcceptError::Tls)?;
            let Secured { stream, counts, certificate } = secured;
            let below = Below { certificate, counts: Some(counts) };
            return self.open(stream, admission, Some(from), &below).await;
        }
        self.open(stream, admission, Some(from), &Below::default()).await
    }

    /// Shows another certificate, and asks for others, in the handshakes that begin from now on.
    /// Links stay as they are, whatever their clients have shown; a session that goes on over another
    /// socket comes by the new rules. Feature `tls`.
    ///
    /// # Errors
    ///
    /// What of `tls` cannot work, or that this master was built without
    /// [`MasterBuilder::tls`](crate::MasterBuilder::tls). Nothing is changed then.
    #[cfg(feature = "tls")]
    pub fn reload_tls(&self, tls: &ServerTls) -> Result<(), TlsError> {
        self.inner.tls.as_ref().ok_or(TlsError::Absent)?.reload(tls)
    }

    /// Takes a byte stream that the application has accepted itself, over TLS of its own for example:
    /// answers its HTTP request as [`listen`](Self::listen) does, makes the handshake, then runs the link
    /// on a task of its own. All that within
    /// [`Config::handshake_timeout`](crate::Config::handshake_timeout); what came before, such as the
    /// handshake of TLS, is for the application to bound.
    ///
    /// Whether other machines reach the stream's listener is not known here: the `Host` is looked at
    /// where names were given with [`allow_host`](crate::MasterBuilder::allow_host).
    ///
    /// # Example
    ///
    /// TLS of the application's own, here with tokio-rustls, on both ends. The feature `tls` has all
    /// of this in it.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use seqlink::transport::websocket::WebSocket;
    /// use seqlink::{Control, Master};
    /// use tokio::net::{TcpListener, TcpStream};
    /// use tokio_rustls::rustls::pki_types::ServerName;
    /// use tokio_rustls::{TlsAcceptor, TlsConnector};
    ///
    /// # use std::sync::Arc;
    /// # use tokio_rustls::rustls::crypto::ring;
    /// # use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
    /// # use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let signed = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    /// # let certificate: CertificateDer<'static> = signed.cert.into();
    /// # let key = PrivateKeyDer::try_from(signed.signing_key.serialize_der())?;
    /// # let mut roots = RootCertStore::empty();
    /// # roots.add(certificate.clone())?;
    /// # let provider = Arc::new(ring::default_provider());
    /// # let server_config = ServerConfig::builder_with_provider(Arc::clone(&provider))
    /// #     .with_safe_default_protocol_versions()?
    /// #     .with_no_client_auth()
    /// #     .with_single_cert(vec![certificate], key)?;
    /// # let client_config = ClientConfig::builder_with_provider(provider)
    /// #     .with_safe_default_protocol_versions()?
    /// #     .with_root_certificates(roots)
    /// #     .with_no_client_auth();
    /// let acceptor = TlsAcceptor::from(Arc::new(server_config));
    /// let master = Master::builder().allow_host("fleet.example.org").build()?;
    /// let listener = TcpListener::bind("127.0.0.1:0").await?;
    /// let address = listener.local_addr()?;
    /// let serving = master.clone();
    /// tokio::spawn(async move {
    ///     while let Ok((stream, _)) = listener.accept().await {
    ///         let (acceptor, master) = (acceptor.clone(), serving.clone());
    ///         // A task for each, and a time limit: a slow client holds up no other.
    ///         tokio::spawn(async move {
    ///             let encrypting = acceptor.accept(stream);
    ///             let encrypted = tokio::time::timeout(Duration::from_secs(5), encrypting).await;
    ///             let Ok(Ok(stream)) = encrypted else { return };
    ///             if let Err(error) = master.accept(stream).await {
    ///                 eprintln!("a connection came to no link: {error}");
    ///             }
    ///         });
    ///     }
    /// });
    ///
    /// let connector = TlsConnector::from(Arc::new(client_config));
    /// let dial = move || {
    ///     let connector = connector.clone();
    ///     async move {
    ///         let stream = TcpStream::connect(address).await?;
    ///         let name = ServerName::try_from("localhost").map_err(std::io::Error::other)?;
    ///         let stream = connector.connect(name, stream).await?;
    ///         WebSocket::connect(stream, "ws://fleet.example.org/", 1 << 20, true).await
    ///     }
    /// };
    /// let control = Control::builder().connect_by(dial).await?;
    /// assert_eq!(master.controls().len(), 1);
    /// control.close("done").await;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Why there is no link; the client has been told.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is ready, the stream is dropped too.
    pub async fn accept(&self, stream: impl IoStream) -> Result<Link, AcceptError> {
        self.open(stream, &self.inner.admission, None, &Below::default()).await
    }

    /// The upgrade and the handshake of a connection, in one time limit.
    async fn open(
        &self,
        stream: impl IoStream,
        admission: &Admission,
        remote: Option<SocketAddr>,
        below: &Below,
    ) -> Result<Link, AcceptError> {
        let deadline = self.inner.config.handshake_deadline();
        let Inner { config, dialect, stop, .. } = &*self.inner;
        let upgrade = websocket::accept(stream, config.max_frame, *dialect, admission);
        let upgrade = stop.run_until_cancelled(timeout_at(deadline, upgrade));
        let upgraded = upgrade.await.ok_or(AcceptError::Shutdown)?;
        let slow = |_| AcceptError::Timeout { after: config.handshake_timeout };
        let (mut socket, dialect, headers) = upgraded.map_err(slow)??;
        socket.rest_on(below);
        let connection = Connection { remote, headers };
        Ok(self.attach_until(Box::new(socket), dialect, connection, deadline, below).await?)
    }
}
