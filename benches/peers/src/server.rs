//! The server's process: says its port, then takes orders, one a line, until its input ends.

use std::io::{BufRead as _, Write as _};

use anyhow::{Context as _, Result, bail};
use rustix::net::{Shutdown, getpeername, shutdown};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::pace::cpu_ns;
use crate::payload::Output;
use crate::stacks::{Stack, floor, jsonrpc, link, tarpc_json};

/// Runs until there are no more orders. `hold` is for the floor: its server either answers or
/// broadcasts.
pub async fn serve(stack: Stack, hold: bool, handlers: Option<usize>) -> Result<()> {
    let (order, orders) = mpsc::channel(1);
    match stack {
        Stack::Seqlink => {
            let (master, port) = link::serve(handlers).await?;
            listen(port, order);
            relay(orders, async |()| link::broadcast(&master).await).await
        }
        Stack::Floor | Stack::OneLoop => {
            let listener = listener(order).await?;
            if hold {
                return floor::broadcast(listener, orders).await;
            }
            tokio::spawn(floor::serve(listener));
            relay(orders, async |()| bail!("not with this server")).await
        }
        Stack::Tarpc => {
            tokio::spawn(tarpc_json::serve(listener(order).await?));
            relay(orders, async |()| bail!("there are no events")).await
        }
        Stack::Jsonrpsee => {
            let server = jsonrpc::serve().await?;
            listen(server.port, order);
            relay(orders, async |()| {
                server.all.send(serde_json::value::to_raw_value(&Output::sample())?.into())?;
                Ok(())
            })
            .await
        }
        Stack::Clusterio => bail!("its server is clusterio/serve.mjs"),
    }
}

async fn listener(order: mpsc::Sender<()>) -> Result<TcpListener> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    listen(listener.local_addr()?.port(), order);
    Ok(listener)
}

async fn relay(
    mut orders: mpsc::Receiver<()>,
    broadcast: impl AsyncFn(()) -> Result<()>,
) -> Result<()> {
    while let Some(order) = orders.recv().await {
        broadcast(order).await?;
    }
    Ok(())
}

/// Takes orders on a thread of its own, which costs nothing while there are none.
fn listen(port: u16, broadcast: mpsc::Sender<()>) {
    println!("{port}");
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let answer = line.map_err(Into::into).and_then(|order| match order.as_str() {
                "cpu" => Ok(cpu_ns()),
                "memory" => memory(),
                "cut" => cut(port),
                "broadcast" => Ok(broadcast.blocking_send(()).map(|()| 0)?),
                _ => bail!("what is {order}?"),
            });
            match answer {
                Ok(number) => println!("{number}"),
                Err(error) => println!("error: {error}"),
            }
            let _ = std::io::stdout().flush();
        }
        std::process::exit(0);
    });
}

/// Anonymous resident memory in KiB.
fn memory() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")).context("no RssAnon")?;
    Ok(kib.parse()?)
}

/// Shuts every accepted connection of this process, below all that holds it.
fn cut(port: u16) -> Result<u64> {
    let this = pidfd_open(getpid(), PidfdFlags::empty())?;
    let mut count = 0;
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let fd = entry?.file_name().to_string_lossy().parse()?;
        let Ok(fd) = pidfd_getfd(&this, fd, PidfdGetfdFlags::empty()) else { continue };
        let ours = rustix::net::getsockname(&fd)
            .ok()
            .and_then(|ours| std::net::SocketAddr::try_from(ours).ok().map(|ours| ours.port()));
        if ours == Some(port) && getpeername(&fd).is_ok() {
            shutdown(&fd, Shutdown::Both)?;
            count += 1;
        }
    }
    Ok(count)
}
