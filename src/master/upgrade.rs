use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;

use super::Master;
use crate::transport::websocket;

impl Master {
    /// Takes a request that reached an application's own hyper or axum server, on whatever path
    /// the application chose: gives the response to send, and runs the link once the connection is
    /// upgraded. Feature `hyper`.
    ///
    /// A request that is no WebSocket upgrade gets an HTTP error that says what was expected; one
    /// that comes after [`shutdown`](Self::shutdown) gets a 503.
    pub fn upgrade<B>(&self, request: &mut Request<B>) -> Response<String> {
        if self.inner.stop.is_cancelled() {
            let mut response = Response::new("This master has shut down.\n".to_owned());
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            return response;
        }
        let (response, dialect) = websocket::switch(request, self.inner.dialect);
        let Some(dialect) = dialect else { return response };
        let upgraded = hyper::upgrade::on(request);
        let master = self.clone();
        self.inner.doors.spawn(async move {
            let stop = master.inner.stop.clone();
            let Some(upgraded) = stop.run_until_cancelled(upgraded).await else { return };
            match upgraded {
                Ok(stream) => {
                    if let Err(error) = master.attach_socket(TokioIo::new(stream), dialect).await {
                        master.inner.refused.add(None, &error);
                    }
                }
                Err(error) => master.inner.refused.add(None, &error),
            }
        });
        response
    }
}
