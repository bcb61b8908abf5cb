//! A TCP line that falls silent or is slow.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

/// A line to a master that can fall silent, and carries only so many bytes a second.
pub struct Line {
    address: SocketAddr,
    silent: Arc<AtomicBool>,
}

impl Line {
    pub async fn new(target: SocketAddr, bytes_per_second: Option<usize>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let line = Self { address: listener.local_addr().unwrap(), silent: Arc::default() };
        let silent = Arc::clone(&line.silent);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(target).await.unwrap();
                let ((from_client, to_client), (from_server, to_server)) =
                    (client.into_split(), server.into_split());
                tokio::spawn(carry(from_client, to_server, bytes_per_second, Arc::clone(&silent)));
                tokio::spawn(carry(from_server, to_client, bytes_per_second, Arc::clone(&silent)));
            }
        });
        line
    }

    pub fn url(&self) -> String {
        format!("ws://{}/", self.address)
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// What is open carries nothing any more, for ever.
    pub fn silence(&self) {
        self.silent.store(true, Ordering::Relaxed);
    }

    /// What is opened from now on carries again.
    pub fn mend(&self) {
        self.silent.store(false, Ordering::Relaxed);
    }
}

async fn carry(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    bytes_per_second: Option<usize>,
    silent: Arc<AtomicBool>,
) {
    let most = bytes_per_second.map_or(usize::MAX, |rate| rate / 10).min(16 * 1024);
    let mut bytes = vec![0; most];
    while let Ok(read) = from.read(&mut bytes).await {
        if silent.load(Ordering::Relaxed) {
            return sleep(Duration::from_secs(60)).await;
        }
        if read == 0 || to.write_all(&bytes[..read]).await.is_err() {
            return;
        }
        if let Some(rate) = bytes_per_second {
            sleep(Duration::from_secs_f64(read as f64 / rate as f64)).await;
        }
    }
}
