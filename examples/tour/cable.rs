//! A network cable that can be cut: a TCP proxy between a client and its master.

use std::io;
use std::net::SocketAddr;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Accepts connections and passes their bytes on to the master, until it is cut.
#[derive(Debug)]
pub(crate) struct Cable {
    address: SocketAddr,
    cut: tokio::sync::watch::Sender<u32>,
}

impl Cable {
    /// Lays a cable to `master`, whose near end is a free port.
    pub(crate) async fn lay(master: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (cut, cuts) = tokio::sync::watch::channel(0);
        tokio::spawn(carry(listener, master, cuts));
        Ok(Self { address, cut })
    }

    /// The near end.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Drops every connection in the middle of whatever it was carrying. Later ones pass again.
    pub(crate) fn cut(&self) {
        self.cut.send_modify(|cuts| *cuts += 1);
    }
}

async fn carry(
    listener: TcpListener,
    master: SocketAddr,
    mut cuts: tokio::sync::watch::Receiver<u32>,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            // A connection that is accepted after the cut is a new one.
            biased;
            cut = cuts.changed() => {
                // Dropping the tasks drops their sockets; nobody says goodbye.
                connections.abort_all();
                if cut.is_err() {
                    return;
                }
            }
            Ok((mut near, _)) = listener.accept() => {
                connections.spawn(async move {
                    let mut far = TcpStream::connect(master).await?;
                    copy_bidirectional(&mut near, &mut far).await
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}
