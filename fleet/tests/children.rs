//! What a game can get of the slave that starts it: none of its secrets.
#![cfg(unix)]

mod programs;

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use programs::{Master, Program, eventually, games_file, path, subcommand};

const PLAY: [&str; 6] = ["play", "--user", "42", "--game", "1", "--follow"];
const STOP: [&str; 5] = ["stop", "--user", "42", "--game", "1"];

/// What a file holds when a program has written its last line, `end`.
fn written(file: &str) -> String {
    eventually(file, || {
        std::fs::read_to_string(file).ok()?.strip_suffix("end\n").map(str::to_owned)
    })
}

/// A command line that has `script` run by a shell, with its output in `file`.
fn script(script: &str, file: &str) -> String {
    format!("sh -c '({script}; echo end) > \"{file}\" 2> /dev/null; sleep 60'")
}

/// With a token that is used by no other test.
fn with(token: &str, mut command: Command) -> Command {
    command.env("SEQLINK_TOKEN", token);
    command
}

fn variables(text: &str) -> BTreeMap<&str, &str> {
    text.lines().filter_map(|line| line.split_once('=')).collect()
}

#[test]
fn a_game_gets_no_secret_in_its_environment() {
    let (launched, ended) = (path("launched.environment"), path("ended.environment"));
    let shutdown = format!("sh -c '(env; echo end) > \"{ended}\"; kill \"$GAME_PID\"'");
    let games = games_file("environment", &script("env", &launched), &shutdown, "");
    let master = Master::from(with("token-5f1d", subcommand("master", &["--games", &games])));
    let mut slave = with("token-5f1d", master.client("slave", &["--id", "4"]));
    slave.env("SEQLINK_OTHER", "x").env("CLOUD_PASSWORD", "x").env("RUST_LOG", "info");
    slave.env("LC_TIME", "C").env("TZ", "UTC").env("HOME", "/home of the slave");
    let slave = Program::start(slave);
    slave.says("registered");
    let mut play = Program::start(with("token-5f1d", master.client("control", &PLAY)));
    let game = written(&launched);
    let mut stop = Program::start(with("token-5f1d", master.client("control", &STOP)));
    assert_eq!((stop.end(), play.end()), (0, 0));
    let end = written(&ended);
    let (game, end) = (variables(&game), variables(&end));
    for (name, value) in [("LC_TIME", "C"), ("TZ", "UTC"), ("HOME", "/home of the slave")] {
        assert_eq!((game.get(name), end.get(name)), (Some(&value), Some(&value)), "{name}");
    }
    assert!(game.contains_key("PATH") && end.contains_key("GAME_PID"), "{game:?} {end:?}");
    let known = [
        "PATH",
        "HOME",
        "USER",
        "LOGNAME",
        "SHELL",
        "LANG",
        "LANGUAGE",
        "TZ",
        "TMPDIR",
        "DISPLAY",
        "WAYLAND_DISPLAY",
        "XAUTHORITY",
        "XDG_RUNTIME_DIR",
        "GAME_PID",
        // Of the shell's own making.
        "PWD",
        "OLDPWD",
        "SHLVL",
        "_",
    ];
    for name in game.keys().chain(end.keys()) {
        assert!(known.contains(name) || name.starts_with("LC_"), "{name} was handed on");
    }
}

/// The same user may read the environment that a process was started with, unless that forbids it.
#[cfg(target_os = "linux")]
#[test]
fn a_game_finds_no_secret_in_the_environment_of_others() {
    let token = "token-of-the-slave-4c1f";
    let found = path("environments");
    let look = script(&format!("grep -la {token} /proc/[0-9]*/environ"), &found);
    let games = games_file("environments", &look, "", "");
    let master = Master::from(powerless(with(token, subcommand("master", &["--games", &games]))));
    let slave = Program::start(powerless(with(token, master.client("slave", &["--id", "4"]))));
    slave.says("registered");
    let _play = Program::start(with(token, master.client("control", &PLAY)));
    let found = written(&found);
    let of = |path: &str| {
        let line = path.replace("environ", "cmdline");
        std::fs::read_to_string(line).unwrap_or_default().replace('\0', " ")
    };
    let found: Vec<String> = found.lines().map(of).collect();
    assert!(found.is_empty(), "{found:#?}");
}

/// A root that may read everything tests nothing: without its powers it is a user as any other.
#[cfg(target_os = "linux")]
fn powerless(command: Command) -> Command {
    if !rustix::process::geteuid().is_root() {
        return command;
    }
    let mut powerless = Command::new("setpriv");
    powerless.args(["--bounding-set=-all", "--inh-caps=-all", "--"]);
    powerless.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => powerless.env(name, value),
            None => powerless.env_remove(name),
        };
    }
    powerless
}

#[cfg(target_os = "linux")]
#[test]
fn a_game_gets_no_open_file_of_its_slave() {
    // What this test hands on itself is none of the slave's.
    let descriptors = |text: &str| -> BTreeSet<String> {
        text.lines().filter_map(|line| line.rsplit_once("-> ")).map(|(_, to)| to.into()).collect()
    };
    let list = "ls -l /proc/$$/fd";
    let ours = Command::new("sh").args(["-c", &format!("{list}; true")]).output().unwrap();
    let ours = descriptors(&String::from_utf8(ours.stdout).unwrap());

    let file = path("descriptors");
    let games = games_file("descriptors", &script(list, &file), "", "");
    let master = Master::start(&["--games", &games]);
    let slave = master.slave(&["--id", "4"]);
    let _play = master.control(&PLAY);
    let game = written(&file);
    assert!(game.contains(" 0 -> /dev/null"), "{game}");
    // The log of the slave is the game's too.
    let log = std::fs::read_link(format!("/proc/{}/fd/2", slave.id())).unwrap();
    let own = ["/dev/null", log.to_str().unwrap(), file.as_str()];
    let more: Vec<String> = descriptors(&game)
        .difference(&ours)
        .filter(|to| !own.contains(&to.as_str()))
        .cloned()
        .collect();
    assert!(more.is_empty(), "{more:?}");
    drop(slave);
}
