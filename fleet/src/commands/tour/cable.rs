//! A network cable that can be cut and pulled: a TCP proxy between a client and its master.

use std::io;
use std::net::SocketAddr;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Accepts connections and passes their bytes on to the master.
#[derive(Debug)]
pub(crate) struct Cable {
    address: SocketAddr,
    state: watch::Sender<State>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Plugged,
    Pulled,
}

impl Cable {
    /// Lays a cable to `master`, whose near end is a free port.
    pub(crate) async fn lay(master: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (state, states) = watch::channel(State::Plugged);
        tokio::spawn(carry(listener, master, states));
        Ok(Self { address, state })
    }

    /// The near end.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Drops every connection in the middle of whatever it was carrying. Later ones pass again.
    pub(crate) fn cut(&self) {
        self.state.send_replace(State::Plugged);
    }

    /// The same, and later ones come to nothing either.
    pub(crate) fn pull(&self) {
        self.state.send_replace(State::Pulled);
    }

    /// Lets new connections pass after [`pull`](Self::pull).
    pub(crate) fn plug(&self) {
        self.state.send_replace(State::Plugged);
    }
}

async fn carry(listener: TcpListener, master: SocketAddr, mut states: watch::Receiver<State>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            // A connection that is accepted after the cut is a new one.
            biased;
            changed = states.changed() => {
                // Dropping the tasks drops their sockets; nobody says goodbye.
                connections.abort_all();
                if changed.is_err() {
                    return;
                }
            }
            Ok((mut near, _)) = listener.accept() => {
                if matches!(*states.borrow(), State::Pulled) {
                    continue;
                }
                connections.spawn(async move {
                    let mut far = TcpStream::connect(master).await?;
                    copy_bidirectional(&mut near, &mut far).await
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}
