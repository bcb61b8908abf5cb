//! The token that a master makes for its user when it is given none: who finds it, who does not,
//! and what becomes of its file.
#![cfg(unix)]

mod programs;

use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use programs::{Master, Program, own_folder, subcommand};
use rustix::process::Signal;
use seqlink::{Client, ConnectError, Control, Reconnect, Registration, Secret};

/// A user's runtime folder.
struct Home(PathBuf);

impl Home {
    /// `name` is used by no other test. With a single letter a close reason has room for the path.
    fn new(name: &str) -> Self {
        let home = PathBuf::from(format!("/tmp/{}{name}", std::process::id()));
        own_folder(&home);
        Self(home)
    }

    fn command(&self, name: &str, arguments: &[&str]) -> Command {
        let mut command = subcommand(name, arguments);
        command.env("XDG_RUNTIME_DIR", &self.0).env("TMPDIR", &self.0);
        command
    }

    fn master(&self) -> Master {
        Master::from(self.command("master", &[]))
    }

    /// A master on an address that has been somebody's before.
    fn master_on(&self, address: SocketAddr) -> Program {
        let master = Program::start(self.command("master", &["--listen", &address.to_string()]));
        master.says("link ws://");
        master
    }

    /// How a master ends that cannot make a token.
    fn refused_master(&self) -> String {
        let mut master = Program::start(self.command("master", &["--listen", "127.0.0.1:0"]));
        assert_eq!(master.end(), 1);
        assert_eq!(master.out(), "", "it says no address");
        master.err()
    }

    /// The exit code and the words of `control slaves` with the master at `url`.
    fn control(&self, url: &str) -> (i32, String) {
        let mut control = Program::start(self.command("control", &["--master", url, "slaves"]));
        (control.end(), control.err())
    }

    fn folder(&self) -> PathBuf {
        self.0.join("seqlink")
    }

    /// Where the token of the master at `address` is.
    fn file(&self, address: SocketAddr) -> PathBuf {
        self.folder().join(format!("{}.token", address.to_string().replace(':', "-")))
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn address(master: &Master) -> SocketAddr {
    let address = master.url.trim_start_matches("ws://").trim_end_matches("/api/socket");
    address.parse().unwrap()
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// A control with this token; a refusal in its own words.
async fn dial(url: &str, token: Option<&str>) -> Result<Client, String> {
    let mut control = Control::builder().url(url).reconnect(Reconnect::never());
    if let Some(token) = token {
        control = control.token(token);
    }
    match control.connect().await {
        Ok(client) => Ok(client),
        Err(ConnectError::Authentication(reason)) => Err(reason.to_string()),
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn a_master_that_is_given_no_token_asks_for_one_of_its_own() {
    let home = Home::new("a");
    let master = home.master();
    let file = home.file(address(&master));
    let tail = format!("({}, or start the master with --open)", file.display());
    let none = dial(&master.url, None).await.unwrap_err();
    assert_eq!(none, format!("Authentication failed: a token is required {tail}"));
    let wrong = dial(&master.url, Some("nonsense")).await.unwrap_err();
    assert_eq!(wrong, format!("Authentication failed: the token is wrong {tail}"));

    let text = fs::read_to_string(&file).unwrap();
    let token = text.trim_end();
    assert!(token.len() == 64 && token.bytes().all(|digit| digit.is_ascii_hexdigit()), "{token}");
    dial(&master.url, Some(token)).await.unwrap().close("done").await;
    master.program.says(&file.display().to_string());
    let said = master.program.out() + &master.program.err();
    assert!(!said.contains(token), "{said}");

    let other = home.master();
    assert_ne!(fs::read_to_string(home.file(address(&other))).unwrap(), text);
}

#[test]
fn the_file_is_its_users_alone_and_goes_with_its_master() {
    let home = Home::new("goes");
    for signal in [Signal::TERM, Signal::INT] {
        let mut master = home.master();
        let file = home.file(address(&master));
        assert_eq!((mode(&file), mode(&home.folder())), (0o600, 0o700));
        master.program.signal(signal);
        assert_eq!(master.program.end(), 0);
        assert!(!file.exists(), "after {signal:?}");
    }
    // Nothing else is left either.
    assert_eq!(fs::read_dir(home.folder()).unwrap().count(), 0);
}

#[test]
fn a_slave_and_a_control_find_it_and_find_that_of_the_next_master() {
    let home = Home::new("find");
    let mut master = home.master();
    let address = address(&master);
    let url = master.url.clone();
    let slave = Program::start(home.command("slave", &["--master", &url, "--id", "1"]));
    slave.says("registered");
    assert_eq!(home.control(&url), (0, String::new()));

    let file = home.file(address);
    let old = fs::read_to_string(&file).unwrap();
    master.program.kill();
    assert_eq!(fs::read_to_string(&file).unwrap(), old, "nobody removes it then");
    slave.says("Link lost");
    // This one begins with the token of the dead master.
    let early = Program::start(home.command("slave", &["--master", &url, "--id", "2"]));
    let _next = home.master_on(address);
    assert_ne!(fs::read_to_string(&file).unwrap(), old);
    early.says("registered");
    programs::eventually("the slave to be back", || {
        (slave.err().matches("registered").count() == 2).then_some(())
    });
    assert_eq!(home.control(&url), (0, String::new()));
}

#[test]
fn a_second_master_leaves_the_file_of_the_first_alone() {
    let home = Home::new("second");
    let master = home.master();
    let file = home.file(address(&master));
    let text = fs::read_to_string(&file).unwrap();
    let listen = address(&master).to_string();
    let mut second = Program::start(home.command("master", &["--listen", &listen]));
    assert_eq!(second.end(), 1);
    assert!(second.err().contains("cannot listen"), "{}", second.err());
    assert_eq!(fs::read_to_string(&file).unwrap(), text);
    assert_eq!(home.control(&master.url).0, 0);
}

#[test]
fn a_master_removes_no_file_but_its_own() {
    let home = Home::new("own");
    let mut master = home.master();
    let file = home.file(address(&master));
    fs::write(&file, "another master's\n").unwrap();
    master.program.interrupt();
    assert_eq!(master.program.end(), 0);
    assert_eq!(fs::read_to_string(&file).unwrap(), "another master's\n");
}

#[test]
fn a_link_in_the_place_of_the_file_is_replaced_and_not_followed() {
    let home = Home::new("link");
    let mut master = home.master();
    let address = address(&master);
    let file = home.file(address);
    master.program.kill();
    let victim = home.0.join("victim");
    fs::write(&victim, "precious").unwrap();
    fs::remove_file(&file).unwrap();
    symlink(&victim, &file).unwrap();
    let _next = home.master_on(address);
    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
    assert!(fs::symlink_metadata(&file).unwrap().is_file());
}

#[test]
fn a_folder_that_others_could_look_into_is_not_used() {
    let home = Home::new("folder");
    let folder = home.folder();
    fs::create_dir(&folder).unwrap();
    for open in [0o750, 0o705, 0o777] {
        set_mode(&folder, open);
        let said = home.refused_master();
        assert!(said.contains(&folder.display().to_string()), "{open:o}: {said}");
        assert!(said.contains("--token-file") && said.contains("--open"), "{said}");
    }
    fs::remove_dir(&folder).unwrap();

    let elsewhere = home.0.join("elsewhere");
    own_folder(&elsewhere);
    symlink(&elsewhere, &folder).unwrap();
    let said = home.refused_master();
    assert!(said.contains(&folder.display().to_string()), "{said}");
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
}

#[test]
fn a_runtime_folder_that_others_can_write_to_is_passed_over() {
    let home = Home::new("passed");
    let common = home.0.join("common");
    fs::create_dir(&common).unwrap();
    set_mode(&common, 0o777);
    let with = |mut command: Command| {
        command.env("XDG_RUNTIME_DIR", &common);
        command
    };
    let master = Master::from(with(home.command("master", &[])));
    let folder = home.0.join(format!("seqlink-{}", fs::metadata(&home.0).unwrap().uid()));
    assert_eq!(mode(&folder), 0o700);
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
    assert_eq!(fs::read_dir(&common).unwrap().count(), 0);
    let words = ["--master", master.url.as_str(), "slaves"];
    assert_eq!(Program::start(with(home.command("control", &words))).end(), 0);
}

#[test]
fn a_file_that_others_could_have_read_or_written_is_not_used() {
    let home = Home::new("file");
    let master = home.master();
    let file = home.file(address(&master));
    set_mode(&file, 0o640);
    let (code, said) = home.control(&master.url);
    assert_eq!(code, 77, "{said}");
    assert!(said.contains("not used"), "{said}");
    set_mode(&file, 0o600);
    assert_eq!(home.control(&master.url), (0, String::new()));

    let aside = home.0.join("aside");
    fs::rename(&file, &aside).unwrap();
    symlink(&aside, &file).unwrap();
    assert_eq!(home.control(&master.url).0, 77);
}

/// A library's master that lets everybody in, and what it was sent as tokens.
async fn listener() -> (seqlink::Master, SocketAddr, Arc<Mutex<Vec<Option<Secret>>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&seen);
    let master = seqlink::Master::builder().authenticate(move |registration: Registration| {
        told.lock().unwrap().push(registration.token);
        std::future::ready(Ok::<_, String>(()))
    });
    let master = master.build().unwrap();
    let address = master.listen("127.0.0.1:0").await.unwrap();
    (master, address, seen)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_token_goes_to_loopback_addresses_and_never_to_a_name() {
    let home = Home::new("names");
    let (master, address, seen) = listener().await;
    own_folder(&home.folder());
    let file = home.file(address);
    fs::write(&file, "for-this-address\n").unwrap();
    set_mode(&file, 0o600);
    let other = master.listen("127.0.0.1:0").await.unwrap().port();
    let port = address.port();
    for (url, sent) in [
        (format!("ws://127.0.0.1:{port}/"), true),
        (format!("http://127.0.0.1:{port}/plain/"), true),
        (format!("ws://localhost:{port}/"), false),
        (format!("ws://user@127.0.0.1:{port}/"), false),
        (format!("ws://127.0.0.1:{other}/"), false),
    ] {
        let words = ["--master", &url, "ask", "ping", "{}"];
        let mut control = Program::start(home.command("control", &words));
        tokio::task::block_in_place(|| control.end());
        let tokens = std::mem::take(&mut *seen.lock().unwrap());
        assert_eq!(tokens, [sent.then(|| Secret::from("for-this-address"))], "{url}");
    }
}

#[tokio::test]
async fn an_open_master_asks_for_nothing_and_says_what_that_means() {
    let home = Home::new("open");
    let master = Master::from(home.command("master", &["--open"]));
    dial(&master.url, None).await.unwrap().close("done").await;
    let said = master.program.err();
    let line = said.lines().find(|line| line.contains("WARN")).expect("a warning");
    assert!(line.contains("can run commands on the slaves"), "{line}");
    assert!(!home.folder().exists());

    // The argument wins over the environment.
    let mut command = home.command("master", &["--open"]);
    command.env("SEQLINK_TOKEN", "sesame");
    let master = Master::from(command);
    dial(&master.url, None).await.unwrap().close("done").await;
}

#[test]
fn all_three_programs_take_their_token_from_a_file() {
    let home = Home::new("files");
    let file = |name: &str, text: &str| {
        let path = home.0.join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (right, wrong) = (file("right", "sesame\n"), file("wrong", "other\r\n"));
    let master = Master::from(home.command("master", &["--token-file", &right]));
    assert!(!home.folder().exists());
    let client = |name: &str, token: &str, more: &[&str]| {
        let words = [&["--master", &master.url, "--token-file", token], more].concat();
        let mut command = home.command(name, &words);
        // The argument wins over the environment.
        command.env("SEQLINK_TOKEN", "from the environment");
        Program::start(command)
    };
    client("slave", &right, &["--id", "4"]).says("registered");
    assert_eq!(client("control", &right, &["slaves"]).end(), 0);
    assert_eq!(client("control", &wrong, &["slaves"]).end(), 77);
    assert_eq!(client("slave", &wrong, &[]).end(), 77);
    let refused = |text: &str, why: &str| {
        let bad = file("bad", text);
        let mut control = client("control", &bad, &["slaves"]);
        assert_eq!(control.end(), 1, "{}", control.err());
        assert!(control.err().contains(&format!("{bad}: {why}")), "{}", control.err());
    };
    refused("\n", "it is empty");
    refused("two\nlines", "it has more than one line");
    refused(&"x".repeat(100_000), "it is longer than");
    for arguments in [
        ["--token", "a", "--token-file", "b"],
        ["--open", "--token", "a", "--print-games"],
        ["--open", "--token-file", "a", "--print-games"],
        ["--open", "--auth-secret-file", "a", "--print-games"],
        ["--token-file", "a", "--auth-secret-file", "b"],
    ] {
        assert_eq!(Program::start(subcommand("master", &arguments)).end(), 2, "{arguments:?}");
    }
}

#[tokio::test]
async fn the_tour_lets_nobody_in() {
    let tour = Program::start(subcommand("tour", &[]));
    tour.says("/api/socket");
    let said = tour.out();
    let (_, rest) = said.split_once("the master listens on ").unwrap();
    let url = rest.lines().next().unwrap();
    let refused = dial(url, None).await.map(drop);
    assert_eq!(refused, Err("Authentication failed".to_owned()));
}
