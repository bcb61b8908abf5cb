use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;

use super::{Inner, Master};
use crate::transport::websocket;
use crate::trust::Connection;

impl Master {
    /// Takes a request that reached an application's own hyper or axum server, on whatever path
    /// the application chose: gives the response to send, and runs the link once the connection is
    /// upgraded. Feature `hyper`.
    ///
    /// A request that is no WebSocket upgrade gets an HTTP error that says what was expected; one
    /// that comes after [`shutdown`](Self::shutdown) gets a 503.
    ///
    /// A page's request gets a 403 unless its `Origin` was allowed
    /// ([`allow_origin`](crate::MasterBuilder::allow_origin)). Whether the server listens on a loopback
    /// address only is not known here: the `Host` is looked at where names were given with
    /// [`allow_host`](crate::MasterBuilder::allow_host), and to give some is the right thing for
    /// such a server.
    ///
    /// # Examples
    ///
    /// On axum:
    ///
    /// ```
    /// use axum::extract::{Request, State};
    /// use axum::response::Response;
    /// use axum::routing::get;
    /// use seqlink::{Control, Master};
    ///
    /// async fn link(State(master): State<Master>, mut request: Request) -> Response<String> {
    ///     master.upgrade(&mut request)
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let master = Master::builder().allow_host("fleet.example.org").build()?;
    /// let app = axum::Router::new()
    ///     .route("/", get(async || "a page"))
    ///     .route("/fleet/api/socket", get(link))
    ///     .with_state(master.clone());
    /// let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    /// let address = listener.local_addr()?;
    /// tokio::spawn(async move { axum::serve(listener, app).await });
    ///
    /// let control = Control::builder().url(format!("ws://{address}/fleet/")).connect().await?;
    /// assert_eq!(master.controls().len(), 1);
    /// control.close("done").await;
    /// # Ok(()) }
    /// ```
    ///
    /// On hyper, whose connections must be served with upgrades:
    ///
    /// ```
    /// use std::convert::Infallible;
    ///
    /// use hyper::server::conn::http1;
    /// use hyper::service::service_fn;
    /// use hyper_util::rt::{TokioIo, TokioTimer};
    /// use seqlink::{Control, Master};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let master = Master::builder().allow_host("fleet.example.org").build()?;
    /// let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    /// let address = listener.local_addr()?;
    /// let serving = master.clone();
    /// tokio::spawn(async move {
    ///     while let Ok((stream, _)) = listener.accept().await {
    ///         let master = serving.clone();
    ///         let service = service_fn(move |mut request| {
    ///             let response = master.upgrade(&mut request);
    ///             async move { Ok::<_, Infallible>(response) }
    ///         });
    ///         let mut http = http1::Builder::new();
    ///         // Without a timer hyper waits for a request for ever.
    ///         let connection = http.timer(TokioTimer::new());
    ///         let connection = connection.serve_connection(TokioIo::new(stream), service);
    ///         tokio::spawn(connection.with_upgrades());
    ///     }
    /// });
    ///
    /// let control = Control::builder().url(format!("ws://{address}/")).connect().await?;
    /// assert_eq!(master.controls().len(), 1);
    /// control.close("done").await;
    /// # Ok(()) }
    /// ```
    pub fn upgrade<B>(&self, request: &mut Request<B>) -> Response<String> {
        if self.inner.stop.is_cancelled() {
            let mut response = Response::new("This master has shut down.\n".to_owned());
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            return response;
        }
        let Inner { dialect, admission, .. } = &*self.inner;
        let (response, dialect) = match websocket::switch(request, *dialect, admission) {
            Ok(accepted) => accepted,
            Err(refusal) => {
                self.inner.refused.add(None, &refusal.error);
                return refusal.response();
            }
        };
        let connection =
            Connection { remote: None, headers: websocket::headers(request.headers()) };
        let upgraded = hyper::upgrade::on(request);
        let master = self.clone();
        self.inner.doors.spawn(async move {
            let stop = master.inner.stop.clone();
            let Some(upgraded) = stop.run_until_cancelled(upgraded).await else { return };
            match upgraded {
                Ok(stream) => {
                    let stream = TokioIo::new(stream);
                    let attached = master.attach_socket(stream, dialect, connection).await;
                    if let Err(error) = attached {
                        master.inner.refused.add(None, &error);
                    }
                }
                Err(error) => master.inner.refused.add(None, &error),
            }
        });
        response
    }
}
