use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;

use super::{Inner, Master};
use crate::transport::websocket;

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
                tracing::info!(error = %refusal.error, "a request came to no link");
                return refusal.response();
            }
        };
        let upgraded = hyper::upgrade::on(request);
        let master = self.clone();
        self.inner.doors.spawn(async move {
            let stop = master.inner.stop.clone();
            let Some(upgraded) = stop.run_until_cancelled(upgraded).await else { return };
            match upgraded {
                Ok(stream) => {
                    if let Err(error) = master.attach_socket(TokioIo::new(stream), dialect).await {
                        tracing::info!(%error, "a connection came to no link");
                    }
                }
                Err(error) => tracing::info!(%error, "an upgrade was not finished"),
            }
        });
        response
    }
}
