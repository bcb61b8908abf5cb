//! A TCP proxy that cuts, silences, dribbles, and delivers late on the old connection.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

/// Numbers that look random and come again with the same seed.
#[derive(Clone)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// From 0 to `sides` - 1.
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

#[derive(Default)]
pub struct Faults {
    pub cuts: AtomicU64,
    /// Connections are left alone.
    pub over: AtomicBool,
}

/// How one connection ends.
#[derive(Clone, Copy)]
enum Fate {
    Reset,
    Finish,
    /// Nothing is passed on any more, and nobody is told.
    Silence,
    /// The client's side ends at once; what it had sent reaches the server only later.
    Late,
}

/// Passes connections on to `target` and breaks each somewhere. Returns where it listens.
pub async fn proxy(target: SocketAddr, seed: u64, faults: Arc<Faults>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut dice = Dice::new(seed);
        loop {
            let (client, _) = listener.accept().await.unwrap();
            let (dice, faults) = (Dice::new(dice.roll(u64::MAX)), Arc::clone(&faults));
            tokio::spawn(async move {
                if let Ok(server) = TcpStream::connect(target).await {
                    pass(client, server, dice, &faults).await;
                }
            });
        }
    });
    address
}

async fn pass(mut client: TcpStream, mut server: TcpStream, mut dice: Dice, faults: &Faults) {
    // Past the upgrade most of the time, and sometimes within it.
    let mut left = 200 + dice.roll(8_000) as usize;
    let dribbles = dice.roll(4) == 0;
    let fate = match dice.roll(8) {
        0..3 => Fate::Reset,
        3..5 => Fate::Finish,
        5..7 => Fate::Late,
        _ => Fate::Silence,
    };
    let (mut up, mut down) = ([0; 2048], [0; 2048]);
    loop {
        let whole = faults.over.load(Ordering::Relaxed);
        let most = |size: usize| if dribbles && !whole { 1 } else { size };
        let passed = tokio::select! {
            read = client.read(&mut up[..most(2048)]) => match read {
                Ok(n) if n > 0 => {
                    if !whole && n >= left && matches!(fate, Fate::Late) {
                        faults.cuts.fetch_add(1, Ordering::Relaxed);
                        drop(client);
                        sleep(Duration::from_millis(dice.roll(40))).await;
                        let _ = server.write_all(&up[..n]).await;
                        sleep(Duration::from_millis(dice.roll(40))).await;
                        return;
                    }
                    (server.write_all(&up[..if whole { n } else { n.min(left) }]).await, n)
                }
                _ => return,
            },
            read = server.read(&mut down[..most(2048)]) => match read {
                Ok(n) if n > 0 => {
                    (client.write_all(&down[..if whole { n } else { n.min(left) }]).await, n)
                }
                _ => return,
            },
        };
        let (Ok(()), bytes) = passed else { return };
        if whole {
            continue;
        }
        if bytes >= left {
            break;
        }
        left -= bytes;
    }
    faults.cuts.fetch_add(1, Ordering::Relaxed);
    match fate {
        Fate::Silence => sleep(Duration::from_millis(700)).await,
        Fate::Reset => {
            let _ = client.set_zero_linger();
            let _ = server.set_zero_linger();
        }
        Fate::Finish | Fate::Late => {}
    }
}
