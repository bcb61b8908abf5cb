//! The logs of the programs when peers, or nobody, make it hard: real processes.

mod common;
mod programs;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use common::guest::TOKEN;
use programs::{Master, eventually};

fn guarded() -> (Master, SocketAddr) {
    let master = Master::start(&["--token", TOKEN]);
    let address = master.url.trim_start_matches("ws://").trim_end_matches("/api/socket");
    let address = address.parse().unwrap();
    (master, address)
}

/// Of how many connections each line says that they came to no link.
fn refused(log: &str) -> Vec<u64> {
    let lines = log.lines().filter(|line| line.contains("came to no link"));
    let count = |line: &str| line.split_once("count=")?.1.split(' ').next()?.parse().ok();
    lines.map(|line| count(line).unwrap_or(1)).collect()
}

/// A flood of connections writes a line a second, and none of them goes untold.
#[test]
fn connections_that_come_to_no_link_are_counted() {
    const ALL: u64 = 1000;
    let (mut master, address) = guarded();
    let started = Instant::now();
    for _ in 0..ALL {
        drop(TcpStream::connect(address).unwrap());
    }
    eventually("all of them to be told", || {
        (refused(&master.program.err()).iter().sum::<u64>() == ALL).then_some(())
    });
    let seconds = started.elapsed().as_secs() as usize;
    let lines = refused(&master.program.err());
    assert_eq!(lines[0], 1, "the first is told at once");
    assert!(lines.len() <= 2 + seconds, "{lines:?} within {seconds} s");
    // Whoever stops it within that second learns of the last ones too.
    #[cfg(unix)]
    {
        let mut last = TcpStream::connect(address).unwrap();
        last.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        // Its answer says that it has been accepted.
        last.read_exact(&mut [0; 12]).unwrap();
        master.program.interrupt();
        assert_eq!(master.program.end(), 0);
        assert_eq!(refused(&master.program.err()).iter().sum::<u64>(), ALL + 1);
    }
}
