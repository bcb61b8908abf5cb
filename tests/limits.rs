//! The limits of a master, each at, below and above what it says.

mod common;

use std::time::Duration;

use common::world::World;
use common::*;
use seqlink::transport::memory;
use seqlink::trust::Limits;
use seqlink::{AcceptError, Client, CloseCode, HandshakeError, Link, Master, Reconnect};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

fn master(limits: Limits) -> Master {
    Master::builder().limits(limits).build().unwrap()
}

async fn enter(
    master: &Master,
    client: seqlink::ClientBuilder,
) -> Result<Link, (HandshakeError, seqlink::ConnectError)> {
    let (ours, theirs) = memory::pair();
    let (joined, link) = tokio::join!(master.attach(theirs), client.attach(ours));
    match (joined, link) {
        (Ok(joined), Ok(_)) => Ok(joined),
        (Err(theirs), Err(ours)) => Err((theirs, ours)),
        other => panic!("one side only: {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn slaves_and_controls_are_counted_apart() {
    const MOST: i64 = 3;
    let master = master(Limits::default().with_slaves(MOST as usize).with_controls(2));
    for id in 1..=MOST {
        enter(&master, slave().id(id)).await.unwrap();
    }
    for id in MOST + 1..10 * MOST {
        let (theirs, ours) = enter(&master, slave().id(id)).await.unwrap_err();
        assert!(matches!(theirs, HandshakeError::Limit { limit: "slaves", most: 3 }), "{theirs}");
        assert!(ours.to_string().contains("The master is full: `slaves` is 3"), "{ours}");
        assert!(!ours.is_final());
    }
    for _ in 0..2 {
        enter(&master, control()).await.unwrap();
    }
    let (theirs, _) = enter(&master, control()).await.unwrap_err();
    assert!(matches!(theirs, HandshakeError::Limit { limit: "controls", most: 2 }), "{theirs}");
    // One that comes back takes its own place, and one that leaves makes room.
    enter(&master, slave().id(1)).await.unwrap();
    let last = master.slave(MOST).unwrap();
    last.close("done");
    last.closed().await;
    enter(&master, slave().id(MOST + 1)).await.unwrap();
    assert_eq!(master.slaves().len(), MOST as usize);
}

/// All at once: none slips in between the look and the registration.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_get_in_at_once_than_one_after_the_other() {
    let master = master(Limits::default().with_slaves(10));
    let (asked, done) = (200, std::sync::Arc::new(tokio::sync::Semaphore::new(0)));
    for id in 0..asked {
        let (master, done) = (master.clone(), done.clone());
        tokio::spawn(async move {
            let (ours, theirs) = memory::pair();
            let _ = tokio::join!(master.attach(theirs), slave().id(id).attach(ours));
            done.add_permits(1);
        });
    }
    let all = timeout(Duration::from_secs(30), done.acquire_many(asked as u32));
    all.await.unwrap().unwrap().forget();
    assert_eq!(master.slaves().len(), 10);
}

#[tokio::test(start_paused = true)]
async fn of_too_many_sessions_without_a_socket_the_oldest_ends() {
    let world = World::new(master(Limits::default().with_detached_sessions(2)));
    let mut clients: Vec<(Client, Link)> = Vec::new();
    for id in 1..=4 {
        let client = world.connect(slave().id(id).reconnect(Reconnect::never())).await;
        clients.push((client, world.master.slave(id).unwrap()));
    }
    let cut = async |n: usize| {
        world.cables.lock().unwrap()[n].cut();
        // The client would come back at once.
        clients[n].0.close("gone").now_or_never();
        sleep(Duration::from_secs(1)).await;
    };
    use futures::FutureExt as _;
    cut(0).await;
    cut(1).await;
    assert!(clients.iter().all(|(_, link)| !link.is_closed()), "as many as there may be");
    cut(2).await;
    let closed = soon(clients[0].1.closed()).await;
    assert!(closed.reason.as_str().contains("`detached_sessions` of 2"), "{closed}");
    let ended: Vec<_> = clients.iter().map(|(_, link)| link.is_closed()).collect();
    assert_eq!(ended, [true, false, false, false]);
}

#[tokio::test]
async fn sockets_that_are_no_links_are_counted_until_they_are_or_go() {
    let master = master(Limits::default().with_connections(3));
    let address = master.listen("127.0.0.1:0").await.unwrap();
    let mut stalled = Vec::new();
    for _ in 0..3 {
        stalled.push(TcpStream::connect(address).await.unwrap());
    }
    // Accepted in order: one more finds all three there, and is closed without a word.
    let mut further = TcpStream::connect(address).await.unwrap();
    let read = timeout(Duration::from_secs(4), further.read(&mut [0; 10])).await.unwrap();
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    stalled.clear();
    let url = format!("ws://{address}/");
    // It may come before the others are seen to be gone, and comes back.
    let good = timeout(Duration::from_secs(10), slave().url(url).connect()).await.unwrap().unwrap();
    // Links are none of them.
    for id in 10..20 {
        let slave = slave().id(id).url(format!("ws://{address}/"));
        timeout(Duration::from_secs(10), slave.connect()).await.unwrap().unwrap();
    }
    assert_eq!(master.slaves().len(), 11);
    good.close("done").await;
    master.shutdown("done", DRAIN).await;
}

#[test]
fn limits_are_told_by_their_names() {
    let error = AcceptError::Limit { limit: "connections", most: 7 };
    assert_eq!(error.to_string(), "`connections` of the master's limits is reached: 7");
    assert_eq!(CloseCode::TRY_AGAIN.0, 1013);
}
