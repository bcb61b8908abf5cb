use hyper::{Request, Response};
use hyper_util::rt::TokioIo;

use super::Master;
use crate::transport::websocket;

impl Master {
    /// Takes a request that reached an application's own hyper or axum server, on whatever path
    /// the application chose: gives the response to send, and runs the link once the connection is
    /// upgraded. Feature `hyper`.
    ///
    /// A request that is no WebSocket upgrade gets an HTTP error that says what was expected.
    pub fn upgrade<B>(&self, request: &mut Request<B>) -> Response<String> {
        let response = match websocket::switch(request) {
            Ok(response) => response,
            Err(refusal) => return refusal,
        };
        let upgraded = hyper::upgrade::on(request);
        let master = self.clone();
        self.inner.tasks.spawn(async move {
            match upgraded.await {
                Ok(stream) => {
                    if let Err(error) = master.attach_upgraded(TokioIo::new(stream)).await {
                        tracing::info!(%error, "a connection came to no link");
                    }
                }
                Err(error) => tracing::info!(%error, "an upgrade was not finished"),
            }
        });
        response
    }
}
