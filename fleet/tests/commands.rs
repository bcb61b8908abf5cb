//! The program `seqlink`: help, exit codes, signals, tokens, what they say and what they must
//! not say.

mod programs;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};

use programs::cable::Cable;
use programs::{Master, Program, eventually, example, games_file, lines, run, subcommand};
use serde_json::{Value, json};

fn code(name: &str, arguments: &[&str]) -> i32 {
    Program::start(subcommand(name, arguments)).end()
}

#[test]
fn the_tour_plays_its_story() {
    // The example, which is the subcommand with its first word given.
    let mut tour = Program::start(example("tour", &[]));
    let code = tour.end();
    let story = tour.out();
    assert_eq!(code, 0, "{story}\n{}", tour.err());
    for player in ["Ann", "Ben", "Cleo", "Dan", "Eve"] {
        assert!(story.contains(&format!("{player} plays on node")), "{player} in\n{story}");
    }
    for event in ["the cable is cut", "node 2 has resumed", "the plug of the cable is pulled"] {
        assert!(story.contains(event), "{event} in\n{story}");
    }
    assert!(story.lines().count() <= 20, "{story}");
}

#[cfg(unix)]
#[test]
fn a_tour_that_does_not_reach_its_end_is_a_failure() {
    let mut tour = Program::start(subcommand("tour", &[]));
    tour.says("plays on node");
    tour.interrupt();
    assert_eq!((tour.end(), tour.err().as_str()), (1, "error: interrupted\n"));
    assert!(!tour.out().contains("Everything above was observed"));
}

#[test]
fn every_subcommand_explains_itself() {
    let cases: [(&str, &[&str], &[&str]); 7] = [
        (
            "master",
            &[],
            &[
                "whoever reaches the master can run commands",
                "lists the processes",
                "--allow-origin",
                "--allow-host",
            ],
        ),
        ("slave", &[], &["--once"]),
        ("control", &[], &["play", "--json"]),
        ("control", &["call"], &["go past the queue", "started with --open", "exit code 1"]),
        ("control", &["nodes"], &["\"connected\": false"]),
        ("control", &["play"], &["userId, gameId, status, position, slaveId, message"]),
        ("tour", &[], &[]),
    ];
    for (name, arguments, parts) in cases {
        let output = run(name, &[arguments, &["--help"]].concat());
        // Where the lines break is clap's matter.
        let help = String::from_utf8(output.stdout).unwrap();
        let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(output.status.success() && help.contains("Usage"), "{name}: {help}");
        for part in parts {
            assert!(help.contains(part), "no {part:?} in the help of {name} {arguments:?}: {help}");
        }
    }
}

#[test]
fn exit_codes_tell_what_went_wrong() {
    let master = Master::start(&["--token", "sesame"]);
    let url = master.url.as_str();
    assert_eq!(code("slave", &["--no-such-option"]), 2);
    assert_eq!(code("control", &["--master", url]), 2);
    assert_eq!(code("slave", &["--master", url, "--once", "--token", "wrong"]), 77);
    assert_eq!(code("control", &["--master", url, "slaves"]), 77);
    assert_eq!(code("control", &["--master", url, "--token", "sesame", "slaves"]), 0);
    for call in [["", "{}"], ["_request", "{}"], ["heartbeat", "[]"], ["heartbeat", "nonsense"]] {
        let call = [&["--master", url, "--token", "sesame", "call", "1"], &call[..]].concat();
        assert_eq!(code("control", &call), 2, "{call:?}");
    }
    // Port 9 of this machine: nobody listens there.
    assert_eq!(code("slave", &["--master", "ws://127.0.0.1:9/", "--once"]), 69);
    assert_eq!(code("control", &["--master", "ws://127.0.0.1:9/", "queue"]), 69);
    let bare = run("control", &["--master", "127.0.0.1:8750", "queue"]);
    let help = String::from_utf8(bare.stderr).unwrap();
    assert_eq!(bare.status.code(), Some(2));
    for form in [" ws://HOST:PORT", "wss://HOST:PORT", "http://HOST:PORT"] {
        assert!(help.contains(form), "{help}");
    }

    let newer = Master::start(&["--protocol-version", "3.1.0"]);
    assert_eq!(code("slave", &["--master", &newer.url, "--once"]), 76);
    assert_eq!(newer.ask(&["nodes"]).0, 76);
}

#[test]
fn a_failure_is_said_once() {
    let master = Master::start(&[]);
    let cases: [(&[&str], &str); 4] = [
        (
            &["play", "--user", "-5", "--game", "99"],
            "there is no game 99; there are 1 (A nap of twenty seconds), 2 (Counting until stopped)",
        ),
        (&["stop", "--user", "5", "--game", "-1"], "404: player 5 neither waits nor plays"),
        (&["leave", "--user", "-5"], "404: player -5 neither waits nor plays"),
        (&["call", "-3", "heartbeat", "{}"], "there is no slave -3"),
    ];
    for (arguments, text) in cases {
        let (code, out, err) = master.ask(arguments);
        assert_eq!((code, out, err), (1, String::new(), format!("error: {text}\n")));
        let (code, out, err) = master.ask(&[arguments, &["--json"]].concat());
        assert_eq!((code, lines(&out), err), (1, vec![json!({"error": text})], String::new()));
    }
    let unreachable = run("control", &["--master", "ws://127.0.0.1:9/", "--json", "queue"]);
    assert_eq!((unreachable.status.code(), unreachable.stderr.len()), (Some(69), 0));
    let told = lines(&String::from_utf8(unreachable.stdout).unwrap());
    assert!(told.len() == 1 && told[0]["error"].is_string(), "{told:?}");
}

#[test]
fn ids_may_be_negative_and_names_complete() {
    let master = Master::start(&[]);
    let slave = master.slave(&["--id", "-3", "--name", "minus three"]);
    let line = slave.err().lines().find(|line| line.contains("registered")).map(str::to_owned);
    let line = line.unwrap();
    for part in ["INFO", "id=-3", "minus three", &master.url] {
        assert!(line.contains(part), "no {part} in {line}");
    }
    for name in ["heartbeat", "heartbeat_request"] {
        assert_eq!(master.ask(&["call", "-3", name, "{}"]), (0, "{}\n".into(), String::new()));
    }
}

#[test]
fn the_token_may_stand_in_the_environment() {
    let with = |mut command: std::process::Command| {
        command.env("SEQLINK_TOKEN", "sesame");
        command
    };
    let master = Master::from(with(subcommand("master", &[])));
    let slave = Program::start(with(master.client("slave", &["--id", "8"])));
    slave.says("registered");
    let mut control = Program::start(with(master.client("control", &["--json", "slaves"])));
    assert_eq!(control.end(), 0);
    assert_eq!(lines(&control.out())[0][0]["id"], 8);
    assert_eq!(master.ask(&["slaves"]).0, 77);
    // The argument wins.
    let mut control = master.client("control", &["--token", "other", "slaves"]);
    control.env("SEQLINK_TOKEN", "sesame");
    assert_eq!(Program::start(control).end(), 77);
}

#[test]
fn no_log_shows_a_token_or_a_password() {
    const SECRETS: [&str; 2] = ["hidden-token-5f1d", "hidden-password-77ab"];
    let games = games_file("secrets", "sleep 20", "", SECRETS[1]);
    let trace = |mut command: std::process::Command| {
        // The second is more precise than any directive that the programs could add.
        command.env("RUST_LOG", "trace,tungstenite::protocol=trace");
        command.env("SEQLINK_TOKEN", SECRETS[0]);
        command
    };
    let master = Master::from(trace(subcommand("master", &["--games", &games])));
    let slave = Program::start(trace(master.client("slave", &["--id", "4"])));
    slave.says("registered");
    let play = ["play", "--user", "42", "--game", "1", "--follow"];
    let mut play = Program::start(trace(master.client("control", &play)));
    play.says("playing");
    let stop = ["stop", "--user", "42", "--game", "1"];
    let mut stop = Program::start(trace(master.client("control", &stop)));
    assert_eq!((stop.end(), play.end()), (0, 0));
    for program in [&master.program, &slave, &play, &stop] {
        let said = program.out() + &program.err();
        assert!(said.contains("DEBUG"), "RUST_LOG is not heard: {said}");
        let shown = SECRETS.into_iter().find(|secret| said.contains(secret));
        assert_eq!(shown, None, "in {said}");
    }
}

#[cfg(unix)]
#[test]
fn an_interrupt_ends_each_program_well_and_the_other_side_learns_why() {
    let mut master = Master::start(&[]);
    let mut slave = master.slave(&["--id", "1"]);
    let other = master.slave(&["--id", "2", "--name", "other"]);
    let mut control = master.control(&["play", "--user", "5", "--game", "1", "--follow"]);
    control.says("playing");
    control.interrupt();
    assert_eq!((control.end(), control.err().as_str()), (0, ""));
    slave.interrupt();
    assert_eq!(slave.end(), 0);
    assert!(slave.err().contains("press Ctrl-C again to stop at once"));
    let left = |peer: &str| {
        let text = master.program.err();
        text.lines().any(|line| {
            line.contains("left")
                && line.contains(peer)
                && line.contains("by the peer: interrupted")
        })
    };
    programs::eventually("the reason of the control", || left("control").then_some(()));
    programs::eventually("the reason of the slave", || left("slave 1").then_some(()));
    master.program.interrupt();
    assert_eq!(master.program.end(), 0);
    other.says("closed by the peer: interrupted");
}

/// Reads one HTTP request. Returns its first line and its body.
fn http_request(listener: &TcpListener) -> (String, Value, std::net::TcpStream) {
    let (socket, _) = listener.accept().unwrap();
    let mut reader = BufReader::new(socket.try_clone().unwrap());
    let mut head: Vec<String> = Vec::new();
    while head.last().is_none_or(|line| !line.is_empty()) {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        head.push(line.trim_end().to_owned());
    }
    let length = |line: &String| line.strip_prefix("content-length: ")?.parse().ok();
    let mut body = vec![0; head.iter().find_map(length).expect("a length")];
    reader.read_exact(&mut body).unwrap();
    (head[0].clone(), serde_json::from_slice(&body).unwrap(), socket)
}

#[test]
fn the_application_is_told_of_a_game_that_runs() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/players?key=1", listener.local_addr().unwrap());
    let master = Master::start(&["--notify-url", &url]);
    let _slave = master.slave(&["--id", "4"]);
    let told = std::thread::spawn(move || http_request(&listener));
    master.ask(&["play", "--user", "42", "--game", "1"]);
    programs::eventually("the notification", || told.is_finished().then_some(()));
    let (first, body, mut socket) = told.join().unwrap();
    socket.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
    assert_eq!(first, "POST /players?key=1 HTTP/1.1");
    assert_eq!(body, json!({"userId": 42, "gameId": 1, "slaveId": 4, "status": "playing"}));
}

#[test]
fn an_application_that_does_not_answer_holds_up_nobody() {
    // The system accepts for it, and it never reads.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let master =
        Master::start(&["--notify-url", &format!("http://{}/", listener.local_addr().unwrap())]);
    let _slave = master.slave(&["--id", "4"]);
    for user in ["1", "2", "3"] {
        let mut play = master.control(&["play", "--user", user, "--game", "1", "--follow"]);
        play.says("playing on node 4");
        assert_eq!(master.ask(&["stop", "--user", user, "--game", "1"]).0, 0);
        assert_eq!(play.end(), 0);
    }
    // All three have played in the time in which the first was still being told.
    assert!(!master.program.err().contains("the application"), "{}", master.program.err());
}

/// The address in a master's URL.
fn address(master: &Master) -> std::net::SocketAddr {
    let address = master.url.trim_start_matches("ws://").trim_end_matches("/api/socket");
    address.parse().unwrap()
}

#[test]
fn a_slave_tells_what_its_link_goes_through() {
    // The address of the cable is not the master's, and has no token.
    let mut master = Master::start(&["--open"]);
    let cable = Cable::to(address(&master));
    let through = format!("http://{}/", cable.address);
    let slave = Program::start(subcommand("slave", &["--master", &through, "--id", "5"]));
    slave.says("registered");

    // Three answers of the slave are lost on their way.
    cable.swallow();
    let ask = ["call", "5", "heartbeat", "{}"];
    let mut asked = [(); 3].map(|()| master.control(&ask));
    let answer = r#"{"seq":2,"type":"heartbeat_response","data":{"seq":2}}"#;
    eventually("three answers to be lost", || {
        (cable.swallowed() >= 3 * answer.len()).then_some(())
    });
    cable.cut();
    slave.says("Link lost: holding ");
    let said = slave.err();
    let (_, held) = said.split_once("Link lost: holding ").unwrap();
    // The registration may wait for a heartbeat that acknowledges it.
    let (held, next) = held.lines().next().unwrap().split_once(" frames, next try in ").unwrap();
    assert!(held == "3" || held == "4", "{said}");
    assert!(next.starts_with("0.") && next.ends_with(" s"), "{said}");
    assert!(!said.contains("Resumed"), "{said}");
    cable.mend();
    slave.says("Resumed: 3 sent again, 0 lost");
    for control in &mut asked {
        assert_eq!((control.end(), control.out().as_str()), (0, "{}\n"));
    }
    assert_eq!(slave.err().matches("registered").count(), 1, "the master saw one link");

    // Another master does not know the session.
    let other = Master::start(&["--open"]);
    cable.lay_to(address(&other));
    master.program.kill();
    slave.says("Session lost: The master does not know the session any more");
    other.node(5, "idle");
    assert_eq!(slave.err().matches("registered").count(), 2);
}

#[test]
fn a_node_that_is_away_is_shown_with_the_time_it_has_left() {
    let master = Master::start(&["--session-timeout", "40.5"]);
    let mut slave = master.slave(&["--id", "5", "--name", "away"]);
    slave.kill();
    let left = programs::eventually("node 5 to be away", || {
        master.json(&["nodes"])[0][0]["resumingMs"].as_u64()
    });
    assert!((20_000..=40_500).contains(&left), "{left} ms");
    let table = master.ask(&["nodes"]).1;
    let row = table.lines().nth(1).unwrap();
    assert!(row.contains("resuming, ") && row.contains(" s left"), "{table}");
    assert_eq!(master.json(&["nodes"])[0][0]["connected"], true);
    assert_eq!(master.json(&["slaves"])[0][0]["connected"], true);

    let _again = master.slave(&["--id", "5", "--name", "away"]);
    assert_eq!(master.node(5, "idle")["resumingMs"], Value::Null);

    let short = Master::start(&["--session-timeout", "0.2"]);
    short.slave(&["--id", "5"]).kill();
    programs::eventually("the end of the session", || {
        (short.json(&["nodes"])[0][0]["connected"] == false).then_some(())
    });
}

/// The first line of a master's answer to a request for a WebSocket with these lines.
fn upgrade(master: &Master, lines: &str) -> String {
    let mut socket = TcpStream::connect(address(master)).unwrap();
    let head = "GET /api/socket HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";
    socket.write_all(format!("{head}{lines}\r\n").as_bytes()).unwrap();
    let mut line = String::new();
    BufReader::new(socket).read_line(&mut line).unwrap();
    line
}

#[test]
fn a_master_says_which_page_it_refused_and_what_to_set() {
    let master = Master::start(&[]);
    let page = "Host: localhost\r\nOrigin: http://\x1b[31mevil.test\u{9b}\r\n";
    // Bytes that no HTTP header may have are no request.
    assert!(upgrade(&master, page).starts_with("HTTP/1.1 400 "));
    let page = format!("Host: localhost\r\nOrigin: \"\u{9b}31m{}\r\n", "x".repeat(9000));
    assert!(upgrade(&master, &page).starts_with("HTTP/1.1 403 "));
    master.program.says("--allow-origin");
    let line = upgrade(&master, "Host: evil.test\r\n");
    assert!(line.starts_with("HTTP/1.1 403 "), "{line}");
    master.program.says("--allow-host");
    let said = master.program.err();
    assert!(said.contains(r#""\"\xc2\x9b31mxxx"#) && said.contains("xxx\"…"), "{said}");
    assert!(said.contains(r#"the Host "evil.test""#), "{said}");
    assert!(said.lines().all(|line| line.len() < 400), "{said}");

    let page = "Host: fleet.test:80\r\nOrigin: https://panel.test\r\n";
    let ours = ["--allow-origin", "https://panel.test", "--allow-host", "fleet.test"];
    let also = ["--allow-origin", "https://other.test", "--allow-host", "other.test"];
    for (arguments, status) in
        [(&[&ours[..], &also].concat()[..], 101), (&ours[2..], 403), (&ours[..2], 403)]
    {
        let line = upgrade(&Master::start(arguments), page);
        assert!(line.starts_with(&format!("HTTP/1.1 {status} ")), "{arguments:?}: {line}");
    }
}

#[test]
fn a_master_says_what_is_wrong_with_its_arguments() {
    let refused = |arguments: &[&str], code: i32, help: &str| {
        let output = run("master", &[&["--listen", "127.0.0.1:0"], arguments].concat());
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(help), "{arguments:?}: {said}");
    };
    refused(&["--session-timeout", "soon"], 2, "like 5 or 0.5");
    refused(&["--heartbeat-interval=-1"], 2, "negative");
    refused(&["--heartbeat-interval", "0"], 1, "heartbeat_interval");
    refused(&["--dialect", "address"], 2, "plain, session");
    refused(&["--token", "a", "--auth-secret-file", "b"], 2, "cannot be used with");
    refused(&["--allow-origin", "null"], 1, "scheme://host[:port]");
    refused(&["--allow-host", "http://fleet.test"], 1, "is no host");
    if cfg!(feature = "clusterio-tokens") {
        refused(&["--auth-secret-file", "no such file"], 1, "no such file: ");
        let short = programs::path("short-secret");
        std::fs::write(&short, "c2hvcnQ=\n").unwrap();
        refused(&["--auth-secret-file", &short], 1, "stands for 5 bytes");
    } else {
        refused(&["--auth-secret-file", "any"], 2, "with `--features clusterio-tokens`");
    }
}
