//! Whether a game's storage can be reached before the game is played.

use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

/// Opens a connection to `host:port` within `patience` and closes it again; else says what failed.
pub(crate) async fn reachable(host: &str, port: u16, patience: Duration) -> Result<(), String> {
    match timeout(patience, TcpStream::connect((host, port))).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(format!("storage {host}:{port} cannot be reached: {error}")),
        Err(_) => {
            let seconds = patience.as_secs_f64();
            Err(format!("storage {host}:{port} does not answer within {seconds:.1} s"))
        }
    }
}
