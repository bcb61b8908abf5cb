//! The HTTP upgrade, both ends.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream, ToSocketAddrs, lookup_host};
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::handshake::machine::TryParse as _;
use tokio_tungstenite::tungstenite::handshake::server::{
    create_response_with_body, write_response,
};
#[cfg(feature = "hyper")]
use tokio_tungstenite::tungstenite::http::header::CONTENT_TYPE;
use tokio_tungstenite::tungstenite::http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::{self, Error, client::IntoClientRequest as _};
use tokio_util::io::InspectReader;

use super::address::{Address, PATH};
use super::admission::Admission;
use super::{IoStream, WebSocket, config};
use crate::error::AcceptError;
use crate::trust::Headers;
use crate::wire::Dialect;

/// The path that speaks plain, whatever the master is set to.
const PLAIN_PATH: &str = "/plain/api/socket";

/// The path that speaks the session generation, whatever the master is set to.
const SESSION_PATH: &str = "/session/api/socket";

/// The header that asks for sessions with this library's extensions, and agrees to them.
// No WebSocket subprotocol: a client that offers some fails where the server selects none, and a
// real Clusterio master selects none.
const HEADER: &str = "seqlink-session";
const HEADER_VALUE: HeaderValue = HeaderValue::from_static("1");

/// The longest request head that is read.
const MAX_HEAD: usize = 16 * 1024;

/// How long a refused client has to hang up by itself.
const HANG_UP: Duration = Duration::from_secs(1);

/// Why a server made no WebSocket of a client's request.
#[derive(Debug, Error)]
pub(crate) enum UpgradeError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("answered with HTTP {0}")]
    Refused(u16),
}

/// Makes a WebSocket of an HTTP request for [`PATH`] or one of the two paths that name a dialect,
/// if it is admitted; every other request gets an HTTP error that tells what was expected. Returns
/// the dialect to speak as well: `setting`, unless path or header ask for another.
pub(crate) async fn accept<S: IoStream>(
    mut stream: S,
    max_frame: usize,
    setting: Dialect,
    admission: &Admission,
) -> Result<(WebSocket<S>, Dialect, Headers), AcceptError> {
    let (verdict, rest, sent) = match read_request(&mut stream).await? {
        Ok((request, rest)) => {
            (judge(&request, setting, admission), rest, headers(request.headers()))
        }
        Err(refusal) => (Err(refusal), Vec::new(), Headers::default()),
    };
    match verdict {
        Ok((response, dialect)) => {
            let mut head = Vec::new();
            write_response(&mut head, &response).map_err(io::Error::other)?;
            stream.write_all(&head).await?;
            stream.flush().await?;
            Ok((WebSocket::over(stream, &rest, Role::Server, max_frame), dialect, sent))
        }
        Err(refusal) => {
            refuse(&mut stream, &refusal).await?;
            Err(refusal.error)
        }
    }
}

async fn refuse(stream: &mut impl IoStream, refusal: &Refusal) -> io::Result<()> {
    stream.write_all(refusal.last().as_bytes()).await?;
    stream.shutdown().await?;
    say_goodbye(stream).await;
    Ok(())
}

/// Reading up to its end lets a client see the last words before the socket goes.
pub(crate) async fn say_goodbye(stream: &mut impl IoStream) {
    let mut waste = [0; 1024];
    let hang_up = async { while stream.read(&mut waste).await.is_ok_and(|n| n > 0) {} };
    let _ = tokio::time::timeout(HANG_UP, hang_up).await;
}

/// Refuses a client that asks in HTTP where TLS is spoken.
#[cfg(feature = "tls")]
pub(crate) async fn tell_plain_client(stream: &mut impl IoStream) -> io::Result<()> {
    let text = "This port speaks TLS: the address begins with wss://.";
    refuse(stream, &Refusal::new(StatusCode::BAD_REQUEST, text)).await
}

/// An HTTP error with a text for its reader.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    text: &'static str,
    /// The same for the operator of the server.
    pub(crate) error: AcceptError,
}

impl Refusal {
    fn new(status: StatusCode, text: &'static str) -> Self {
        Self { status, text, error: AcceptError::Refused { status: status.as_u16() } }
    }

    /// Returns the headers that the status requires.
    fn headers(&self) -> &'static [(&'static str, &'static str)] {
        match self.status {
            StatusCode::UPGRADE_REQUIRED => {
                &[("upgrade", "websocket"), ("sec-websocket-version", "13")]
            }
            StatusCode::METHOD_NOT_ALLOWED => &[("allow", "GET")],
            _ => &[],
        }
    }

    /// Returns the whole answer, the last one on its connection.
    fn last(&self) -> String {
        let length = self.text.len() + 1;
        let headers = self.headers().iter().map(|(name, value)| format!("{name}: {value}\r\n"));
        let extra: String = headers.collect();
        format!(
            "HTTP/1.1 {}\r\n{extra}content-type: text/plain; charset=utf-8\r\n\
             content-length: {length}\r\nconnection: close\r\n\r\n{}\n",
            self.status, self.text
        )
    }

    /// Returns the answer for an application's own HTTP server to send.
    #[cfg(feature = "hyper")]
    pub(crate) fn response(&self) -> Response<String> {
        let mut response = Response::new(self.text.to_owned() + "\n");
        *response.status_mut() = self.status;
        let text = HeaderValue::from_static("text/plain; charset=utf-8");
        response.headers_mut().insert(CONTENT_TYPE, text);
        for (name, value) in self.headers() {
            response.headers_mut().insert(*name, HeaderValue::from_static(value));
        }
        response
    }
}

type RequestHead = (Request<()>, Vec<u8>);

/// Reads a request head. Returns it with the bytes that came behind it.
async fn read_request(stream: &mut impl IoStream) -> io::Result<Result<RequestHead, Refusal>> {
    let mut head = Vec::with_capacity(1024);
    loop {
        if stream.read_buf(&mut head).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match Request::try_parse(&head) {
            // A client that does not wait for the answer may have sent frames behind the head.
            Ok(Some((length, request))) => return Ok(Ok((request, head.split_off(length)))),
            Ok(None) if head.len() <= MAX_HEAD => {}
            Ok(None) => {
                return Ok(Err(long_head()));
            }
            Err(_) if is_tls(&head) => {
                let text = "There is no TLS on this port: the address begins with ws://.";
                let mut refusal = Refusal::new(StatusCode::BAD_REQUEST, text);
                refusal.error = AcceptError::UnexpectedTls;
                return Ok(Err(refusal));
            }
            Err(error) => return Ok(Err(refusal(&error))),
        }
    }
}

fn long_head() -> Refusal {
    let text = "The request head is longer than 16 KiB.";
    Refusal::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, text)
}

/// The headers of a request without the types of the HTTP library.
pub(crate) fn headers(headers: &HeaderMap) -> Headers {
    headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect()
}

/// Whether a peer's first bytes are those of TLS: a record of its handshake, or an alert.
fn is_tls(head: &[u8]) -> bool {
    matches!(head, [21 | 22] | [21 | 22, 3, ..])
}

type Accepted<T> = (Response<T>, Dialect);

fn judge(
    request: &Request<()>,
    setting: Dialect,
    admission: &Admission,
) -> Result<Accepted<()>, Refusal> {
    // Before the path: a page that is not admitted learns nothing about this server.
    admit(request, admission)?;
    let setting = match request.uri().path() {
        PATH => setting,
        // The header is ignored: the path decides, also for this library's own clients.
        PLAIN_PATH => return Ok((upgrade(request)?, Dialect::PLAIN)),
        SESSION_PATH => Dialect::SESSION,
        _ => {
            let text = "Not here: a master's WebSocket is at /api/socket.";
            return Err(Refusal::new(StatusCode::NOT_FOUND, text));
        }
    };
    let mut response = upgrade(request)?;
    let dialect = agree(request.headers(), response.headers_mut(), setting);
    Ok((response, dialect))
}

/// Refuses a request that is not admitted.
fn admit<B>(request: &Request<B>, admission: &Admission) -> Result<(), Refusal> {
    admission.check(request).map_err(|error| Refusal {
        status: StatusCode::FORBIDDEN,
        text: match error {
            AcceptError::Origin(_) => {
                "Pages of this origin may not open this WebSocket: the master has to allow their \
                 exact origin (allow_origin, --allow-origin)."
            }
            _ => {
                "This is no Host that the master goes by: it has to allow this name (allow_host, \
                 --allow-host)."
            }
        },
        error,
    })
}

fn upgrade<B, T: Default>(request: &Request<B>) -> Result<Response<T>, Refusal> {
    create_response_with_body(request, T::default).map_err(|error| refusal(&error))
}

/// Agrees to this library's sessions when the request asks for them.
fn agree(request: &HeaderMap, response: &mut HeaderMap, setting: Dialect) -> Dialect {
    if request.get(HEADER) != Some(&HEADER_VALUE) {
        return setting;
    }
    response.insert(HEADER, HEADER_VALUE);
    Dialect::SEQLINK
}

fn refusal(error: &Error) -> Refusal {
    let (status, text) = match error {
        Error::Protocol(ProtocolError::WrongHttpMethod) => {
            (StatusCode::METHOD_NOT_ALLOWED, "A WebSocket is opened with GET.")
        }
        Error::Protocol(ProtocolError::WrongHttpVersion) => {
            (StatusCode::HTTP_VERSION_NOT_SUPPORTED, "A WebSocket is opened with HTTP/1.1.")
        }
        Error::Protocol(
            ProtocolError::MissingConnectionUpgradeHeader
            | ProtocolError::MissingUpgradeWebSocketHeader
            | ProtocolError::MissingSecWebSocketVersionHeader,
        ) => (
            StatusCode::UPGRADE_REQUIRED,
            "This is a master's WebSocket (version 13): connect with a WebSocket client.",
        ),
        _ => (StatusCode::BAD_REQUEST, "This is no HTTP request that opens a WebSocket."),
    };
    Refusal::new(status, text)
}

/// Returns the answer to a request that reached an application's own HTTP server: the switch to a
/// WebSocket and the dialect to speak on it, or an HTTP error.
#[cfg(feature = "hyper")]
pub(crate) fn switch<B>(
    request: &Request<B>,
    setting: Dialect,
    admission: &Admission,
) -> Result<Accepted<String>, Refusal> {
    admit(request, admission)?;
    // As of a request that is read here: they are kept until the client is let in.
    let headers = request.headers().iter();
    let bytes: usize = headers.map(|(name, value)| name.as_str().len() + value.len()).sum();
    if bytes > MAX_HEAD {
        return Err(long_head());
    }
    let mut response = upgrade(request)?;
    let dialect = agree(request.headers(), response.headers_mut(), setting);
    Ok((response, dialect))
}

/// Most bytes that the kernel holds for a peer; it takes twice that for itself.
// By default it takes megabytes, and reports room only when a third of them is free: a peer that
// reads steadily would seem to take nothing for a long time, and be given up.
const KERNEL_BUFFER: u32 = 128 * 1024;

/// Opens the TCP connection to a master.
pub(crate) async fn dial(address: &Address) -> io::Result<TcpStream> {
    let mut last = None;
    for address in lookup_host((address.host.as_str(), address.port)).await? {
        match socket(address)?.connect(address).await {
            Ok(stream) => {
                // Frames are gathered above already; waiting for more would only delay them.
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(nowhere))
}

/// Listens for connections, with bounded kernel buffers.
pub(crate) async fn listen(address: impl ToSocketAddrs) -> io::Result<TcpListener> {
    let mut last = None;
    for address in lookup_host(address).await? {
        let socket = socket(address)?;
        // A restarted master can take its port while connections of the old one still linger.
        #[cfg(unix)]
        socket.set_reuseaddr(true)?;
        match socket.bind(address).and_then(|()| socket.listen(BACKLOG)) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(nowhere))
}

/// Connections that the kernel completes before they are accepted.
const BACKLOG: u32 = 1024;

fn socket(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // Before it listens: accepted connections inherit the size.
    socket.set_send_buffer_size(KERNEL_BUFFER)?;
    Ok(socket)
}

fn nowhere() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "the name stands for no address")
}

/// Makes a WebSocket of a connection to a master. `sessions` asks for this library's own.
pub(crate) async fn connect<S: IoStream>(
    stream: S,
    address: &Address,
    max_frame: usize,
    sessions: bool,
) -> Result<WebSocket<S>, UpgradeError> {
    let mut request = address.uri.clone().into_client_request().map_err(io::Error::other)?;
    let agent = HeaderValue::from_static(concat!("seqlink/", env!("CARGO_PKG_VERSION")));
    request.headers_mut().insert("user-agent", agent);
    if sessions {
        request.headers_mut().insert(HEADER, HEADER_VALUE);
    }
    let config = config(max_frame);
    // The library does not give back the frames that it has read behind the answer.
    let mut answer = Vec::new();
    let stream = InspectReader::new(stream, |bytes: &[u8]| answer.extend_from_slice(bytes));
    let upgrade = tokio_tungstenite::client_async_with_config(request, stream, Some(config));
    let fault = match upgrade.await {
        Ok((socket, response)) => {
            // Only the upgrade is tokio-tungstenite's: its stream is made for two tasks.
            let stream = socket.into_inner().into_inner();
            let frames = answer.get(head_length(&answer)?..).unwrap_or_default();
            let mut socket = WebSocket::over(stream, frames, Role::Client, max_frame);
            socket.extended = sessions && response.headers().get(HEADER) == Some(&HEADER_VALUE);
            return Ok(socket);
        }
        Err(fault) => fault,
    };
    Err(match fault {
        tungstenite::Error::Http(response) => UpgradeError::Refused(response.status().as_u16()),
        tungstenite::Error::Io(error) => error.into(),
        tungstenite::Error::Protocol(ProtocolError::HandshakeIncomplete) => {
            let fault = "the server closed the connection before the upgrade";
            io::Error::new(io::ErrorKind::UnexpectedEof, fault).into()
        }
        _ if is_tls(&answer) => {
            let fault = "the server speaks TLS: its address begins with wss://";
            io::Error::new(io::ErrorKind::InvalidData, fault).into()
        }
        other => io::Error::new(io::ErrorKind::InvalidData, other).into(),
    })
}

/// Returns the length of an answer's head, which the WebSocket library has found complete.
fn head_length(answer: &[u8]) -> io::Result<usize> {
    let parsed = Response::<Option<Vec<u8>>>::try_parse(answer).map_err(io::Error::other)?;
    parsed.map(|(length, _)| length).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}
