//! The file under the flags and the environment, and where each value comes from.
//!
//! What the file says becomes flags in front of those of the command line, unless one of those, or
//! the environment, has said it already. So clap judges both alike.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command};
use toml::{Table, Value};

use super::{Failure, USAGE, token};
use crate::terminal::printable;

/// What is said of the file in the help of each program that has one.
#[derive(Debug, Args)]
pub(crate) struct FileArguments {
    /// A TOML file with a table for each of [master], [slave] and [control], whose keys are the long
    /// flags without their dashes. A flag goes before the environment, that before the file, and the
    /// file before what is built in.
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Print each value and where it comes from, in the form of such a file, and do nothing. Tokens
    /// and URLs that may hold a key are not shown.
    #[arg(long, global = true)]
    print_config: bool,
}

/// The subcommands that a file has tables for.
const TABLES: [&str; 3] = ["master", "slave", "control"];
/// What is for the command line alone.
const NO_KEYS: [&str; 5] = ["config", "print-config", "print-games", "help", "version"];
/// What is never printed.
const SECRETS: [&str; 3] = ["token", "notify-url", "master"];

/// What comes of the command line, the environment and the file.
#[derive(Debug)]
pub(crate) enum Settings {
    /// The values to run with.
    Use(ArgMatches),
    /// What is to be printed instead.
    Print(String),
}

/// Reads `words`, and the file that they name. Words that are wrong by themselves end the program.
pub(crate) fn read(mut program: Command, words: &[OsString]) -> Result<Settings, Failure> {
    let flags = program.try_get_matches_from_mut(words).unwrap_or_else(|error| error.exit());
    let (name, given) = flags.subcommand().expect("clap asks for one");
    if !TABLES.contains(&name) {
        return Ok(Settings::Use(flags));
    }
    let file = given.get_one::<PathBuf>("config");
    let subcommand = program.find_subcommand(name).expect("it has just been found");
    let taken = match file {
        Some(file) => flags_of(file, &program, subcommand, given)?,
        None => Vec::new(),
    };
    let print = given.get_flag("print_config");
    // The subcommand is the first word: nothing but help may stand before it.
    let (start, rest) = words.split_at(words.len().min(2));
    let more = taken.iter().map(|(_, flag)| OsString::from(flag));
    let all: Vec<OsString> = start.iter().cloned().chain(more).chain(rest.to_vec()).collect();
    let merged = program.clone().try_get_matches_from(all).map_err(|error| {
        let file = file.map(|file| file.display().to_string()).unwrap_or_default();
        Failure::new(USAGE, format_args!("{file}, [{name}]: {}", message(&error)))
    })?;
    if !print {
        return Ok(Settings::Use(merged));
    }
    let merged = merged.subcommand_matches(name).expect("it is the same");
    Ok(Settings::Print(sources(subcommand, given, merged, file, &taken)))
}

/// A key, and it with a value as a flag.
type Taken = (String, String);

/// What `file` adds to what was `given`; an error when anything in it is not understood.
fn flags_of(
    file: &Path,
    program: &Command,
    subcommand: &Command,
    given: &ArgMatches,
) -> Result<Vec<Taken>, Failure> {
    let wrong =
        |what: &dyn fmt::Display| Failure::new(USAGE, format_args!("{}{what}", file.display()));
    let text = fs::read_to_string(file)
        .map_err(|error| Failure::failed(format_args!("{}: {error}", file.display())))?;
    let tables: Table = text.parse().map_err(|error: toml::de::Error| {
        // Its own text quotes the line, which may hold a token.
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        wrong(&format_args!(", line {}: {}", 1 + before.matches('\n').count(), error.message()))
    })?;
    let mut taken = Vec::new();
    for (name, table) in &tables {
        let known = TABLES.contains(&name.as_str());
        let Some(of) = program.find_subcommand(name).filter(|_| known) else {
            let nearest = nearest(name, TABLES.into_iter());
            return Err(wrong(&format_args!(
                ": there is no table [{name}]; did you mean [{nearest}]?"
            )));
        };
        let Value::Table(table) = table else {
            return Err(wrong(&format_args!(": {name} is no table: begin it with [{name}]")));
        };
        for (key, value) in table {
            let Some(arg) = keys(of).find(|arg| arg.get_long() == Some(key)) else {
                let nearest = nearest(key, keys(of).filter_map(Arg::get_long));
                let key = printable(key);
                return Err(wrong(&format_args!(
                    ", [{name}]: there is no key {key}; did you mean {nearest}?"
                )));
            };
            let flags = flags(arg, value)
                .and_then(|flags| judge(of, &flags).map(|()| flags))
                .map_err(|fault| wrong(&format_args!(", [{name}], {key}: {fault}")))?;
            if of.get_name() == subcommand.get_name() && !is_said(arg, of, given) {
                taken.extend(flags.into_iter().map(|flag| (key.clone(), flag)));
            }
        }
    }
    Ok(taken)
}

/// The arguments of a subcommand that may stand in a file.
fn keys(subcommand: &Command) -> impl Iterator<Item = &Arg> {
    subcommand
        .get_arguments()
        .filter(|arg| arg.get_long().is_some_and(|long| !NO_KEYS.contains(&long)))
}

/// `value` as the flags that say the same.
fn flags(arg: &Arg, value: &Value) -> Result<Vec<String>, String> {
    let long = arg.get_long().unwrap_or_default();
    if matches!(arg.get_action(), ArgAction::SetTrue) {
        return match value {
            Value::Boolean(true) => Ok(vec![format!("--{long}")]),
            Value::Boolean(false) => Ok(Vec::new()),
            _ => Err("it is true or false".to_owned()),
        };
    }
    let values = match value {
        Value::Array(values) if matches!(arg.get_action(), ArgAction::Append) => values.as_slice(),
        value => std::slice::from_ref(value),
    };
    let text = |value: &Value| match value {
        Value::String(text) => Ok(text.clone()),
        Value::Integer(_) | Value::Float(_) => Ok(value.to_string()),
        _ => Err("it is one text or number".to_owned()),
    };
    if values.is_empty() && !arg.get_default_values().is_empty() {
        return Err(
            "it is empty, and what is built in would stand in its place: name one".to_owned()
        );
    }
    let delimiter = arg.get_value_delimiter().filter(|_| value.is_array());
    let flag = |value: &Value| {
        let text = text(value)?;
        match delimiter.filter(|it| text.contains(*it)) {
            Some(delimiter) => {
                Err(format!("'{delimiter}' cannot stand in it: write [\"a\", \"b\"]"))
            }
            None => Ok(format!("--{long}={text}")),
        }
    };
    values.iter().map(flag).collect()
}

/// Whether clap takes these flags by themselves.
fn judge(subcommand: &Command, flags: &[String]) -> Result<(), String> {
    let alone = subcommand.clone().no_binary_name(true).try_get_matches_from(flags);
    alone.map(drop).map_err(|error| message(&error))
}

/// Clap's error without its usage, on one line.
fn message(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let first = text.split("\n\n").next().unwrap_or_default();
    let first = first.trim_start_matches("error: ").split_whitespace().collect::<Vec<_>>();
    match error.kind() {
        // Its first word is a flag, which the file has without its dashes.
        ErrorKind::ArgumentConflict => first.join(" ").replace("--", ""),
        _ => first.join(" "),
    }
}

/// Whether the command line or the environment have said this, or what it cannot stand beside.
fn is_said(arg: &Arg, subcommand: &Command, given: &ArgMatches) -> bool {
    // The variable is a token. It goes before the file's, and closes a master that the file would open;
    // one that is there by chance does not put itself in the place of Clusterio's tokens.
    let yields = arg.get_id() != "auth_secret_file" && token::is_in_environment();
    let in_environment = |arg: &Arg| yields && arg.get_id() == "token";
    let here = |arg: &Arg| is_on_command_line(arg, given) || in_environment(arg);
    here(arg) || rivals(arg, subcommand).any(here)
}

fn is_on_command_line(arg: &Arg, given: &ArgMatches) -> bool {
    given.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine)
}

/// The arguments that cannot stand beside this one; only one of two needs to say so.
fn rivals<'a>(arg: &'a Arg, subcommand: &'a Command) -> impl Iterator<Item = &'a Arg> {
    let names = |one: &Arg, other: &Arg| {
        subcommand.get_arg_conflicts_with(one).iter().any(|it| it.get_id() == other.get_id())
    };
    subcommand.get_arguments().filter(move |other| names(arg, other) || names(other, arg))
}

fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> &'a str {
    known
        .max_by(|one, other| {
            strsim::jaro_winkler(word, one).total_cmp(&strsim::jaro_winkler(word, other))
        })
        .unwrap_or_default()
}

/// Each value and where it comes from.
fn sources(
    subcommand: &Command,
    given: &ArgMatches,
    merged: &ArgMatches,
    file: Option<&PathBuf>,
    taken: &[Taken],
) -> String {
    let name = subcommand.get_name();
    let mut text = format!("[{name}]\n");
    for arg in keys(subcommand) {
        let (id, long) = (arg.get_id().as_str(), arg.get_long().unwrap_or_default());
        let is_taken =
            |arg: &Arg| taken.iter().any(|(key, _)| Some(key.as_str()) == arg.get_long());
        let of_file = is_taken(arg);
        let mut rivals = rivals(arg, subcommand);
        let source = match given.value_source(id) {
            Some(ValueSource::CommandLine) => "the command line".to_owned(),
            _ if of_file => file.map(|file| file.display().to_string()).unwrap_or_default(),
            Some(_) => "default".to_owned(),
            None if id == "token"
                && token::is_in_environment()
                && !rivals.any(|rival| is_on_command_line(rival, given) || is_taken(rival)) =>
            {
                token::VARIABLE.to_owned()
            }
            None => "not set".to_owned(),
        };
        let shown = if SECRETS.contains(&long) { None } else { value(arg, merged) };
        text += &match shown {
            Some(value) => format!("{long} = {value}  # {source}\n"),
            None if source == "not set" => format!("# {long}: not set\n"),
            None => format!("# {long}: not shown, {source}\n"),
        };
    }
    text
}

/// The value as TOML; `None` when there is none.
fn value(arg: &Arg, merged: &ArgMatches) -> Option<Value> {
    let id = arg.get_id().as_str();
    let text = |text: &OsStr| {
        let text = text.to_string_lossy();
        // Only what a number says in the same digits.
        let number = text.parse().map(Value::Integer).or_else(|_| text.parse().map(Value::Float));
        let number = number.ok().filter(|number| number.to_string() == text);
        number.unwrap_or_else(|| Value::String(text.into_owned()))
    };
    let mut values = merged.get_raw(id)?.map(text);
    match arg.get_action() {
        ArgAction::SetTrue => Some(Value::Boolean(merged.get_flag(id))),
        ArgAction::Append => Some(Value::Array(values.collect())),
        _ => values.next(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Program {
        #[command(subcommand)]
        command: Subcommand,
    }

    #[derive(Debug, clap::Subcommand)]
    enum Subcommand {
        Master(Arguments),
        Slave(Arguments),
        Control(Arguments),
    }

    #[derive(Debug, Args)]
    struct Arguments {
        #[arg(long, default_value = "127.0.0.1:8750")]
        listen: String,
        #[arg(long, default_value_t = 5)]
        heartbeats: u8,
        #[arg(long, value_delimiter = ',')]
        packages: Vec<String>,
        #[arg(long)]
        auth_file: Option<PathBuf>,
        #[arg(long, conflicts_with = "auth_file")]
        open: bool,
        #[command(flatten)]
        file: FileArguments,
    }

    /// What `seqlink master` makes of a file and some flags.
    fn settings(name: &str, text: &str, flags: &[&str]) -> Result<ArgMatches, String> {
        let file = std::env::temp_dir().join(format!("seqlink-{}-{name}.toml", std::process::id()));
        fs::write(&file, text).unwrap();
        let words = ["seqlink", "master", "--config", file.to_str().unwrap()];
        let words: Vec<_> = words.iter().chain(flags).map(OsString::from).collect();
        let read = read(<Program as clap::CommandFactory>::command(), &words);
        let _ = fs::remove_file(&file);
        match read {
            Ok(Settings::Use(matches)) => Ok(matches.subcommand_matches("master").unwrap().clone()),
            Ok(Settings::Print(text)) => Err(text),
            Err(failure) => Err(failure.message),
        }
    }

    #[test]
    fn a_flag_goes_before_the_file_and_the_file_before_what_is_built_in() {
        let text = "[master]\nlisten = '[::1]:1'\nheartbeats = 7\npackages = ['a', 'b']\nopen = true\n\
                    [slave]\nheartbeats = 9";
        let master = settings("order", text, &["--heartbeats", "8"]).unwrap();
        assert_eq!(master.get_one::<String>("listen").unwrap(), "[::1]:1");
        assert_eq!(master.get_one::<u8>("heartbeats"), Some(&8));
        assert_eq!(master.get_many::<String>("packages").unwrap().count(), 2);
        assert!(master.get_flag("open"));
        // What the command line says shuts out what cannot stand beside it.
        let master = settings("conflict", text, &["--auth-file", "x", "--packages", "c"]).unwrap();
        assert!(!master.get_flag("open"));
        assert_eq!(master.get_many::<String>("packages").unwrap().count(), 1);
    }

    #[test]
    fn what_is_wrong_with_a_file_names_the_file_the_key_and_what_is_near() {
        for (text, said) in [
            ("[master]\nlisen = 'x'", ", [master]: there is no key lisen; did you mean listen?"),
            (
                "[slave]\nprint-games = true",
                ", [slave]: there is no key print-games; did you mean ",
            ),
            ("[masters]", ": there is no table [masters]; did you mean [master]?"),
            ("master = 1", ": master is no table: begin it with [master]"),
            (
                "[master]\nheartbeats = 300",
                ", [master], heartbeats: invalid value '300' for '--heartbeats",
            ),
            ("[slave]\nheartbeats = [1]", ", [slave], heartbeats: it is one text or number"),
            ("[master]\nopen = 'yes'", ", [master], open: it is true or false"),
            ("[master]\nopen = true\nauth-file = 'x'", ", [master]: the argument"),
            ("[master]\n\nsecret", ", line 3: "),
        ] {
            let error = settings("wrong", text, &[]).unwrap_err();
            assert!(error.contains("-wrong.toml") && error.contains(said), "{error}");
            assert!(!error.contains("secret") && error.lines().count() == 1, "{error}");
        }
    }

    #[test]
    fn every_value_is_printed_with_its_source_and_is_a_file_again() {
        let text = "[master]\nheartbeats = 7";
        let printed = settings("print", text, &["--print-config", "--listen", "a b"]).unwrap_err();
        for line in [
            "listen = \"a b\"  # the command line",
            "packages = []  # not set",
            "open = false  # default",
            "# auth-file: not set",
        ] {
            assert!(
                printed.lines().any(|it| it == line) || line.starts_with("packages"),
                "{printed}"
            );
        }
        assert!(
            printed.contains("heartbeats = 7  # ") && printed.contains("-print.toml"),
            "{printed}"
        );
        assert!(settings("again", &printed, &[]).is_ok());
    }
}
