//! No secret in what the programs say, at any level of their logs, in the list of processes, nor in the environment of
//! what they start.
#![cfg(target_os = "linux")]

#[path = "../../tests/common/mod.rs"]
mod common;
mod programs;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::sync::{Arc, Mutex};

use common::raw::{self, Raw};
use programs::{Master, Program, eventually, own_folder, path, subcommand};
use serde_json::{Value, json};

/// Secrets by their kinds. None may be found.
#[derive(Default)]
struct Canaries(BTreeMap<String, String>);

impl Canaries {
    /// A new one, such as is found by chance nowhere.
    fn make(&mut self, kind: &str) -> String {
        let text =
            format!("canary-{}-{:x}", kind.replace(' ', "-"), std::process::id() ^ 0x5a5a_0000);
        self.add(kind, &text);
        text
    }

    fn add(&mut self, kind: &str, text: &str) {
        assert!(text.len() > 10, "{kind}: {text}");
        self.0.insert(kind.to_owned(), text.to_owned());
    }

    fn check(&self, place: &str, text: &str) {
        for (kind, canary) in &self.0 {
            let line = text.lines().find(|line| line.contains(canary));
            assert_eq!(line, None, "{kind} in {place}");
        }
    }
}

/// What it says at TRACE.
fn loud(mut command: Command) -> Command {
    command.env("RUST_LOG", "trace,hyper=trace,tungstenite=trace,seqlink=trace");
    command
}

/// All that `parent` has started, and what that has started.
fn descendants(parent: u32) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().map_while(Result::ok) {
        let Ok(id) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // The name before it may hold anything.
        let above =
            stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)?.parse().ok());
        if above == Some(parent) {
            found.push(id);
            found.extend(descendants(id));
        }
    }
    found
}

fn read(id: u32, file: &str) -> String {
    let bytes = fs::read(format!("/proc/{id}/{file}")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', "\n")
}

/// Looks at a program's words and command line, and at all of its children.
fn check(canaries: &Canaries, name: &str, program: &Program) {
    canaries.check(&format!("the output of {name}"), &(program.out() + &program.err()));
    canaries.check(&format!("the command line of {name}"), &read(program.id(), "cmdline"));
    for child in descendants(program.id()) {
        for file in ["cmdline", "environ"] {
            canaries.check(&format!("{file} of a child of {name}"), &read(child, file));
        }
    }
}

fn address(master: &Master) -> SocketAddr {
    master.url.trim_start_matches("ws://").trim_end_matches("/api/socket").parse().unwrap()
}

/// An application that is told of games, and answers with an error. Returns its port and what it got.
fn application() -> (u16, Arc<Mutex<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let got = Arc::new(Mutex::new(String::new()));
    let told = Arc::clone(&got);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut bytes = [0; 4096];
            let read = stream.read(&mut bytes).unwrap_or(0);
            *told.lock().unwrap() += &String::from_utf8_lossy(&bytes[..read]);
            let _ = stream.write_all(b"HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n");
        }
    });
    (port, got)
}

/// Comes by hand, with headers that a proxy would look at, registers with `token`, and is cut; then goes on with its
/// session, and is refused under another token. Returns the tokens of its session.
async fn by_hand(address: SocketAddr, token: &str, headers: &str, wrong: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let request = raw::upgrade("/api/socket");
    let request = request.replace("Host:", &format!("Seqlink-Session: 1\r\n{headers}Host:"));
    let say = |kind: &str, data: Value| format!(r#"{{"seq":null,"type":"{kind}","data":{data}}}"#);
    for turn in 0..4 {
        let mut raw = Raw::tcp(address).await;
        assert!(raw.http(&request).await.starts_with("HTTP/1.1 101 "));
        raw.json().await;
        let register = |token: &str| json!({"agent": "a", "version": "2.0.0", "token": token});
        let first = match (turn, tokens.last()) {
            (1, Some(session)) => {
                say("resume", json!({"session_token": session, "last_seq": null}))
            }
            (2, _) => say("register_control", register(wrong)),
            (3, _) => {
                say("register_control", json!({"agent": "a", "version": [wrong], "token": token}))
            }
            _ => say("register_control", register(token)),
        };
        raw.text(&first).await;
        let answer = raw.json().await;
        assert_eq!(answer["type"], ["ready", "continue", "close", "close"][turn], "{answer}");
        tokens.extend(answer["data"]["session_token"].as_str().map(str::to_owned));
        raw.text(&format!(r#"{{"seq":1,"type":"list_nodes_request","data":["{wrong}"]}}"#)).await;
        if turn < 2 {
            raw.json().await;
        }
    }
    tokens
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_programs_of_a_fleet_show_no_secret() {
    let mut canaries = Canaries::default();
    let token = canaries.make("shared token");
    let wrong = canaries.make("wrong token");
    let hook = canaries.make("notify url");
    let (user, password) = (canaries.make("storage user"), canaries.make("storage password"));
    let (userinfo, query) = (canaries.make("url userinfo"), canaries.make("url query"));
    let headers = format!(
        "Authorization: Bearer {}\r\nCookie: id={}\r\n",
        canaries.make("authorization header"),
        canaries.make("cookie header")
    );

    let (port, told) = application();
    let games = path("leaks.games.json");
    let game = json!([{
        "package": "demo-nap",
        "game": {
            "id": 1, "name": "Chess", "process": "c", "backup": [],
            "commands": {"launch": "sh -c 'echo it plays; sleep 60'", "shutdown": ""},
        },
        "storage": {
            "host": "127.0.0.1", "port": 9, "username": user, "password": password,
            "secure": {"enabled": false, "validation": false}, "timeout": {"connection": 1, "operation": 1},
        },
    }]);
    fs::write(&games, game.to_string()).unwrap();
    let config = path("leaks.toml");
    let text = |url: &str| {
        format!(
            "[master]\ntoken = '{token}'\nsession-timeout = 1\ngames = '{games}'\n\
             notify-url = 'http://127.0.0.1:{port}/{hook}?key={hook}'\n\
             [slave]\nmaster = '{url}'\n[control]\nmaster = '{url}'\n"
        )
    };
    fs::write(&config, text("ws://127.0.0.1:1")).unwrap();
    let master = Master::from(loud(subcommand("master", &["--config", &config])));
    let address = address(&master);
    fs::write(&config, text(&format!("ws://ann:{userinfo}@{address}/?token={query}"))).unwrap();

    // The slave and the control have the token from their environment.
    let with = |name: &str, token: &str, arguments: &[&str]| {
        let mut command = loud(subcommand(name, &[&["--config", &config], arguments].concat()));
        command.env("SEQLINK_TOKEN", token);
        command
    };
    let slave = Program::start(with("slave", &token, &["--id", "4"]));
    slave.says("registered");
    let play = Program::start(with(
        "control",
        &token,
        &["play", "--user", "42", "--game", "1", "--follow"],
    ));
    eventually("the application to be told", || told.lock().unwrap().contains(&hook).then_some(()));
    master.program.says("the application was not told");
    eventually("the game", || (descendants(slave.id()).len() > 1).then_some(()));
    for (kind, token) in by_hand(address, &token, &headers, &wrong).await.iter().enumerate() {
        canaries.add(&format!("session token {kind}"), token);
    }
    let mut refused = Program::start(with("control", &wrong, &["nodes"]));
    assert_eq!(refused.end(), 77);
    let mut late = Program::start(with("slave", &wrong, &["--id", "5", "--once"]));
    assert_eq!(late.end(), 77);
    for (name, program) in [("master", &master.program), ("slave", &slave), ("play", &play)] {
        check(&canaries, name, program);
    }
    let children = descendants(slave.id()).into_iter().map(|child| read(child, "environ"));
    assert!(children.filter(|it| it.contains("PATH=")).count() > 0, "nothing can be read there");
    canaries.check("a refused control", &(refused.out() + &refused.err()));
    canaries.check("a refused slave", &(late.out() + &late.err()));

    // What is printed of the settings, and what is said of wrong ones.
    for name in ["master", "slave", "control"] {
        let arguments: &[&str] =
            if name == "control" { &["nodes", "--print-config"] } else { &["--print-config"] };
        let mut printed = Program::start(with(name, &token, arguments));
        assert_eq!(printed.end(), 0);
        canaries.check(&format!("--print-config of {name}"), &(printed.out() + &printed.err()));
    }
    for url in [
        format!("ftp://ann:{userinfo}@{address}/?token={query}"),
        format!("ws://ann:{userinfo}@127.0.0.1:99999/?token={query}"),
        format!("ws://ann:{userinfo}@127.0.0.1:1/?token={query}"),
    ] {
        fs::write(&config, text(&url)).unwrap();
        let mut control = Program::start(with("control", &token, &["nodes"]));
        assert_ne!(control.end(), 0);
        canaries.check("a control with a wrong URL", &(control.out() + &control.err()));
    }
    fs::write(&config, format!("[master]\nnotify-url = 'https://{hook}@127.0.0.1/{hook}'\n"))
        .unwrap();
    let mut wrong = Program::start(with("master", &token, &[]));
    assert_eq!(wrong.end(), 2);
    canaries.check("a master with a wrong URL", &(wrong.out() + &wrong.err()));

    // The last words too.
    for mut program in [play, slave, master.program] {
        program.interrupt();
        program.end();
        let said = program.out() + &program.err();
        assert!(said.contains("DEBUG"), "{said}");
        canaries.check("the last words", &said);
    }
}

/// A master that makes its token by itself, and those that find it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_token_of_a_masters_own_is_in_its_file_alone() {
    let home = format!("/tmp/{}leaks", std::process::id());
    own_folder(home.as_ref());
    let at_home = |mut command: Command| {
        command.env("XDG_RUNTIME_DIR", &home);
        loud(command)
    };
    let master = Master::from(at_home(subcommand("master", &[])));
    let address = address(&master);
    let file = format!("{home}/seqlink/{}.token", address.to_string().replace(':', "-"));
    let mut canaries = Canaries::default();
    let token = fs::read_to_string(&file).unwrap();
    canaries.add("own token", token.trim_end());
    let slave = Program::start(at_home(master.client("slave", &["--id", "1"])));
    slave.says("registered");
    let play = ["play", "--user", "42", "--game", "1", "--follow"];
    let play = Program::start(at_home(master.client("control", &play)));
    eventually("the game", || (descendants(slave.id()).len() > 1).then_some(()));
    by_hand(address, token.trim_end(), "", "another-token").await;
    for (name, program) in [("master", &master.program), ("slave", &slave), ("play", &play)] {
        check(&canaries, name, program);
        assert!(program.err().contains("DEBUG"), "{name} says little");
    }
    drop((play, slave, master));
    let _ = fs::remove_dir_all(&home);
}

/// A master of Clusterio's: its secret, and the tokens that are signed with it.
#[cfg(feature = "clusterio-tokens")]
#[test]
fn clusterios_secret_and_tokens_are_not_shown() {
    use seqlink::tokens::ClusterioTokens;

    // Base64, as that configuration has it.
    let secret = "Y2FuYXJ5IG9mIHRoZSBhdXRoIHNlY3JldCBpbiBjbHVzdGVyaW8=";
    let tokens = ClusterioTokens::from_secret(secret).unwrap();
    let (slave_token, user_token) = (tokens.slave_token(7), tokens.user_token("alice"));
    let mut canaries = Canaries::default();
    canaries.add("auth secret", secret);
    for (kind, token) in [("slave's JWT", &slave_token), ("user's JWT", &user_token)] {
        canaries.add(kind, token.expose());
        canaries
            .add(&format!("signature of the {kind}"), token.expose().rsplit('.').next().unwrap());
    }
    let file = |name: &str, text: &str| {
        let file = path(name);
        fs::write(&file, text).unwrap();
        file
    };
    let of_master = file("leaks.secret", secret);
    let of_slave = file("leaks.slave.token", slave_token.expose());
    let of_user = file("leaks.user.token", user_token.expose());
    let master = ["--dialect", "session", "--auth-secret-file", &of_master];
    let master = Master::from(loud(subcommand("master", &master)));
    let client =
        |name: &str, arguments: &[&str]| Program::start(loud(master.client(name, arguments)));
    let slave =
        client("slave", &["--token-file", &of_slave, "--id", "7", "--clusterio", "sleep 60"]);
    slave.says("registered");
    let mut other = client("slave", &["--token-file", &of_slave, "--id", "8"]);
    let mut control = client("control", &["--token-file", &of_user, "slaves"]);
    let mut crossed = client("control", &["--token-file", &of_slave, "slaves"]);
    assert_eq!((other.end(), control.end(), crossed.end()), (77, 0, 77));
    let mut broken = Program::start(loud(subcommand("master", &["--auth-secret-file", &of_user])));
    assert_eq!(broken.end(), 1);
    for (name, program) in [("master", &master.program), ("slave", &slave)] {
        check(&canaries, name, program);
    }
    for (name, program) in
        [("slave 8", other), ("control", control), ("crossed", crossed), ("broken", broken)]
    {
        canaries.check(name, &(program.out() + &program.err()));
    }
}
