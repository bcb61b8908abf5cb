//! The logs of the programs when peers, or nobody, make it hard: real processes.

#[path = "../../tests/common/mod.rs"]
mod common;
mod programs;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::guest::{Guest, TOKEN};
use programs::{Master, eventually, subcommand};
use serde_json::json;

/// How many slaves come and go while nobody reads a log: more than a pipe holds of them, and more
/// than wait for it.
const LINES: i64 = 4000;

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

/// Nobody reads what it says, on one pipe for both: it serves, and it ends when it is told to.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_master_whose_log_nobody_reads_goes_on_and_ends() {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let mut command = subcommand("master", &["--token", TOKEN, "--listen", "127.0.0.1:0"]);
    command.env("RUST_LOG", "debug").stdin(Stdio::null());
    command.stdout(writer.try_clone().unwrap()).stderr(writer);
    let mut master = Stuck(command.spawn().unwrap());
    drop(command);
    let mut first = [0; 64];
    let read = reader.read(&mut first).unwrap();
    let first = String::from_utf8_lossy(&first[..read]).into_owned();
    let address = first.trim().trim_start_matches("link ws://").trim_end_matches("/api/socket");
    let address: SocketAddr = address.parse().expect(&first);

    // Twice what the pipe holds, and more than what waits for it: each is told twice.
    for id in 0..LINES {
        let mut slave = Guest::slave(address, id, json!({})).await;
        slave.ask("heartbeat", "{}").await;
    }
    let pid = rustix::process::Pid::from_child(&master.0);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let told = Instant::now();
    let status = eventually("the end of the master", || master.0.try_wait().unwrap());
    assert!(status.success(), "{status}");
    // The peers are gone: there is nothing to wait for but the log, and that is not waited for long.
    assert!(told.elapsed() < Duration::from_secs(5), "{:?}", told.elapsed());
}

/// Who reads again is told how much is missing.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn lines_of_the_log_that_are_lost_are_counted() {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let mut command = subcommand("master", &["--token", TOKEN, "--listen", "127.0.0.1:0"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(writer);
    let mut master = Stuck(command.spawn().unwrap());
    drop(command);
    let mut first = String::new();
    BufReader::new(master.0.stdout.take().unwrap()).read_line(&mut first).unwrap();
    let address = first.trim().trim_start_matches("link ws://").trim_end_matches("/api/socket");
    let address: SocketAddr = address.parse().expect(&first);
    for id in 0..LINES {
        Guest::slave(address, id, json!({})).await;
    }
    let said = Arc::new(Mutex::new(String::new()));
    let saying = Arc::clone(&said);
    std::thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(read @ 1..) = reader.read(&mut bytes) {
            *saying.lock().unwrap() += &String::from_utf8_lossy(&bytes[..read]);
        }
    });
    let lost = eventually("what is lost to be told", || {
        let said = said.lock().unwrap();
        let line = said.lines().find(|line| line.contains("lines of the log were lost"))?;
        line.split(' ').find_map(|word| word.parse::<i64>().ok())
    });
    // It goes on with what is said now.
    Guest::slave(address, -1, json!({})).await;
    eventually("the newest line", || said.lock().unwrap().contains("slave -1").then_some(()));
    let said = said.lock().unwrap();
    let told = said.lines().filter(|line| line.contains("peer=slave")).count() as i64;
    assert!(lost > 0 && told + lost >= 2 * LINES, "{lost} lost, {told} told");
}

/// A master that does not outlive its test.
#[cfg(target_os = "linux")]
struct Stuck(std::process::Child);

#[cfg(target_os = "linux")]
impl Drop for Stuck {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
