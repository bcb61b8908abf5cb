//! The file under the flags, as the programs take it; and what the program says of itself.

mod programs;

use programs::{Master, Program, eventually, lines, path, run, subcommand};

/// A file of this test; `name` is used by no other.
fn file(name: &str, text: &str) -> String {
    let file = path(name);
    std::fs::write(&file, text).unwrap();
    file
}

#[test]
fn one_file_is_for_all_programs() {
    let text = |url: &str| {
        format!(
            "[master]\ntoken = 'sesame'\nlisten = '127.0.0.1:1'\nsession-timeout = 0.5\n\
             [slave]\ntoken = 'sesame'\nmaster = '{url}'\nid = -3\nname = 'of the file'\nonce = true\n\
             [control]\ntoken = 'sesame'\nmaster = '{url}'\njson = true\n"
        )
    };
    let fleet = file("fleet.toml", &text("ws://127.0.0.1:1"));
    // Its flags say another address to listen on.
    let master = Master::start(&["--config", &fleet]);
    std::fs::write(&fleet, text(&master.url)).unwrap();
    let slave = Program::start(subcommand("slave", &["--config", &fleet]));
    slave.says("registered");
    let mut control = Program::start(subcommand("control", &["slaves", "--config", &fleet]));
    assert_eq!(control.end(), 0, "{}", control.err());
    let slaves = &lines(&control.out())[0];
    assert_eq!((&slaves[0]["id"], &slaves[0]["name"]), (&(-3).into(), &"of the file".into()));
    // The environment goes before the file, and a flag before both.
    let asks = |token: &str, flags: &[&str]| {
        let mut control = subcommand("control", &[&["--config", &fleet, "slaves"], flags].concat());
        control.env("SEQLINK_TOKEN", token);
        Program::start(control).end()
    };
    assert_eq!((asks("other", &[]), asks("other", &["--token", "sesame"])), (77, 0));
    drop(slave);
    eventually("the end of a short session", || {
        let mut nodes = Program::start(subcommand("control", &["nodes", "--config", &fleet]));
        nodes.end();
        (lines(&nodes.out())[0][0]["connected"] == false).then_some(())
    });
}

#[test]
fn a_file_that_is_wrong_says_what_and_where() {
    let said = |name: &str, text: &str, code: i32| {
        let output = run("master", &["--config", &file(name, text), "--listen", "127.0.0.1:0"]);
        assert_eq!(output.status.code(), Some(code));
        String::from_utf8(output.stderr).unwrap()
    };
    let unknown = said("unknown.toml", "[master]\nheartbeat = 5", 2);
    assert!(unknown.contains("no key heartbeat; did you mean heartbeat-interval?"), "{unknown}");
    let bad = said("bad.toml", "[master]\ndialect = 'address'", 2);
    assert!(
        bad.contains("bad.toml, [master], dialect: ") && bad.contains("plain, session"),
        "{bad}"
    );
    let both = said("both.toml", "[master]\nopen = true\ntoken-file = 'x'", 2);
    assert!(
        both.contains("both.toml, [master]: ") && both.contains("cannot be used with"),
        "{both}"
    );
    let secret = said("secret.toml", "[master]\ntoken = sesame", 2);
    assert!(secret.contains("secret.toml, line 2: ") && !secret.contains("sesame"), "{secret}");
    let gone = run("slave", &["--config", "/nonexistent/fleet.toml"]);
    assert_eq!(gone.status.code(), Some(1));
}

#[test]
fn a_list_in_a_file_is_taken_entry_by_entry_or_refused() {
    let packages = |name: &str, packages: &str| {
        let file = file(name, &format!("[slave]\npackages = {packages}"));
        run("slave", &["--config", &file, "--print-config"])
    };
    let none = packages("none.toml", "[]");
    let said = String::from_utf8(none.stderr).unwrap();
    assert_eq!(none.status.code(), Some(2), "{said}");
    assert!(said.contains("[slave], packages: it is empty"), "{said}");
    let comma = packages("comma.toml", "['a', 'b,c']");
    let said = String::from_utf8(comma.stderr).unwrap();
    assert_eq!(comma.status.code(), Some(2), "{said}");
    assert!(said.contains("[slave], packages: ',' cannot stand in it"), "{said}");
    for (name, list) in [("list.toml", "['a', 'b']"), ("flag.toml", "'a,b'")] {
        let said = String::from_utf8(packages(name, list).stdout).unwrap();
        assert!(said.contains("packages = [\"a\", \"b\"]"), "{list}: {said}");
    }
    // Where nothing is built in, an empty list says nothing, and a comma is a letter.
    let hosts = file("hosts.toml", "[master]\nallow-host = []\nallow-origin = ['http://a,b']");
    let said = String::from_utf8(run("master", &["--config", &hosts, "--print-config"]).stdout);
    let said = said.unwrap();
    assert!(said.contains("# allow-host: not set"), "{said}");
    assert!(said.contains("allow-origin = [\"http://a,b\"]"), "{said}");
}

#[test]
#[cfg(feature = "clusterio-tokens")]
fn a_token_that_is_there_by_chance_stands_in_for_no_secret_of_the_file() {
    use seqlink::tokens::ClusterioTokens;
    let secret = "c2VzYW1lc2VzYW1lc2VzYW1lc2VzYW1lc2VzYW1lc2VzYW1l";
    let secret_file = file("auth.secret", secret);
    let fleet = file("auth.toml", &format!("[master]\nauth-secret-file = '{secret_file}'"));
    let with = |words: &[&str]| {
        let mut command = subcommand("master", &[&["--config", &fleet], words].concat());
        command.env("SEQLINK_TOKEN", "stray");
        command
    };
    let mut printed = Program::start(with(&["--print-config"]));
    assert_eq!(printed.end(), 0);
    for line in [format!("auth-secret-file = \"{secret_file}\""), "# token: not set".to_owned()] {
        assert!(printed.out().contains(&line), "no {line} in {}", printed.out());
    }
    let master = Master::from(with(&[]));
    assert_eq!(master.ask(&["slaves", "--token", "stray"]).0, 77);
    let tokens = ClusterioTokens::from_secret(secret).unwrap();
    let token = tokens.user_token("alice");
    assert_eq!(master.ask(&["slaves", "--token", token.expose()]).0, 0);

    // The file's own token and its openness yield to it, as the README says.
    for (name, text) in [("own.toml", "token-file = '/nonexistent'"), ("open.toml", "open = true")]
    {
        let fleet = file(name, &format!("[master]\n{text}"));
        let mut command = subcommand("master", &["--config", &fleet]);
        command.env("SEQLINK_TOKEN", "sesame");
        let master = Master::from(command);
        assert_eq!(master.ask(&["slaves"]).0, 77, "{text}");
        assert_eq!(master.ask(&["slaves", "--token", "sesame"]).0, 0, "{text}");
    }
}

#[test]
fn what_is_set_is_printed_without_secrets() {
    let text = "[master]\ntoken = 'sesame'\nnotify-url = 'http://web/?key=sesame'\nopen = false";
    let file = file("printed.toml", text);
    let output = run("master", &["--config", &file, "--print-config", "--games", "g.json"]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && !said.contains("sesame"), "{said}");
    for line in [
        "listen = \"127.0.0.1:8750\"  # default".to_owned(),
        "games = \"g.json\"  # the command line".to_owned(),
        "heartbeat-interval = 5  # default".to_owned(),
        format!("# token: not shown, {file}"),
        format!("# notify-url: not shown, {file}"),
    ] {
        assert!(said.lines().any(|it| it == line), "no {line} in {said}");
    }
    let mut named = subcommand("slave", &["--print-config"]);
    named.env("SEQLINK_TOKEN", "sesame");
    let mut named = Program::start(named);
    assert_eq!(named.end(), 0);
    assert!(named.out().contains("# token: not shown, SEQLINK_TOKEN"), "{}", named.out());
    assert!(named.out().contains("packages = [\"demo-nap\", \"demo-count\"]"), "{}", named.out());
}

#[test]
fn the_program_completes_its_words_and_writes_its_manual() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = String::from_utf8(run("completions", &[shell]).stdout).unwrap();
        assert!(script.contains("session-timeout") && script.contains("control"), "{shell}");
    }
    let folder = path("manual");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir(&folder).unwrap();
    assert!(run("man", &[&folder]).status.success());
    for (page, word) in
        [("seqlink", "master"), ("seqlink-master", "heartbeat"), ("seqlink-control-play", "user")]
    {
        let text = std::fs::read_to_string(format!("{folder}/{page}.1")).unwrap();
        assert!(text.contains(word), "{page}");
    }
    assert_eq!(run("man", &["/nonexistent"]).status.code(), Some(1));
}
