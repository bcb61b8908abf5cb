//! A cable between two programs that a test can cut, mend and lay to somewhere else.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};

/// Passes connections on, as long as it is whole.
pub struct Cable {
    /// Where it listens.
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
}

struct State {
    target: SocketAddr,
    whole: bool,
    /// What clients send is taken and passed on to nobody.
    swallows: bool,
    swallowed: usize,
    connected: usize,
    ends: Vec<TcpStream>,
}

impl Cable {
    /// A cable to `target`.
    pub fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (ends, swallowed, connected) = (Vec::new(), 0, 0);
        let state = State { target, whole: true, swallows: false, swallowed, connected, ends };
        let state = Arc::new(Mutex::new(state));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                connect(&client.unwrap(), &shared);
            }
        });
        Self { address, state }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Ends every connection, and lets no other through.
    pub fn cut(&self) {
        let mut state = self.state();
        state.whole = false;
        for end in state.ends.drain(..) {
            let _ = end.shutdown(Shutdown::Both);
        }
    }

    /// Lets connections through again, and all of what they carry.
    pub fn mend(&self) {
        let mut state = self.state();
        (state.whole, state.swallows) = (true, false);
    }

    /// What clients send from now on is lost on its way.
    pub fn swallow(&self) {
        let mut state = self.state();
        (state.swallows, state.swallowed) = (true, 0);
    }

    /// How many bytes have been lost so.
    pub fn swallowed(&self) -> usize {
        self.state().swallowed
    }

    /// How many connections have come through.
    pub fn connected(&self) -> usize {
        self.state().connected
    }

    /// Leads somewhere else from now on.
    pub fn lay_to(&self, target: SocketAddr) {
        self.state().target = target;
    }
}

fn connect(client: &TcpStream, shared: &Arc<Mutex<State>>) {
    let mut state = shared.lock().unwrap();
    if !state.whole {
        return;
    }
    // Both are on this machine: this takes no time.
    let Ok(server) = TcpStream::connect(state.target) else { return };
    state.connected += 1;
    for (from, to, up) in [(client, &server, true), (&server, client, false)] {
        let _ = from.set_nodelay(true);
        state.ends.push(from.try_clone().unwrap());
        let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
        let shared = Arc::clone(shared);
        std::thread::spawn(move || pass(from, to, up, &shared));
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, up: bool, shared: &Mutex<State>) {
    let mut bytes = [0; 4096];
    while let Ok(read @ 1..) = from.read(&mut bytes) {
        let mut state = shared.lock().unwrap();
        if up && state.swallows {
            state.swallowed += read;
            continue;
        }
        drop(state);
        if to.write_all(&bytes[..read]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}
