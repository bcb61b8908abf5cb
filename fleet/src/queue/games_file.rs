//! The file that the games come from, and what is said about one that cannot be used.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use super::games::{self, Offer};

/// Two games that run on any Unix machine.
pub(crate) const BUILT_IN: &str = include_str!("games.json");

/// Why a games file cannot be used. Its text names the file, the line, and what to do.
#[derive(Debug)]
pub struct GamesError {
    file: PathBuf,
    line: Option<usize>,
    fault: String,
}

impl fmt::Display for GamesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ", line {line}")?;
        }
        write!(
            f,
            ": {}\nhelp: `seqlink master --print-games` prints a games file that works",
            self.fault
        )
    }
}

impl std::error::Error for GamesError {}

/// The games of `file`, the built-in ones without a file.
///
/// # Errors
///
/// The file cannot be read, or a game in it cannot be used.
pub fn load(file: Option<&Path>) -> Result<Vec<Offer>, GamesError> {
    let (name, text) = match file {
        None => (Path::new("the built-in games"), Ok(BUILT_IN.to_owned())),
        Some(file) => (file, fs::read_to_string(file)),
    };
    let error = |(line, fault)| GamesError { file: name.to_owned(), line, fault };
    games::parse(&text.map_err(|fault| error((None, fault.to_string())))?).map_err(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_games_are_good() {
        let offers = load(None).unwrap();
        assert_eq!(offers.iter().map(|offer| offer.game.id).collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn faults_have_a_line_and_say_what_to_do() {
        let twice = BUILT_IN.replace("\"id\": 2", "\"id\": 1");
        let open = BUILT_IN.replace("\"true\"", "\"tr'ue\"");
        let port = BUILT_IN.replacen("21,", "\"ftp\",", 1);
        let password = r#"[
            {"package": "p",
             "game": {
                "id": 1, "name": "n", "process": "p",
                "commands": {"launch": "a", "shutdown": ""},
                "backup": []
             },
             "storage": "hunter2"}]"#;
        for (text, line, fault) in [
            ("hello", Some(1), "expected value"),
            ("{}", Some(1), "expected a sequence"),
            ("[", Some(1), "EOF"),
            ("[]", None, "no game"),
            ("[\n\n{\"package\": 1}]", Some(3), "expected a string"),
            (&twice, Some(23), "a second game with id 1"),
            (&open, Some(23), "missing closing quote"),
            (&port, Some(16), "expected u16"),
            (password, Some(8), "storage is no object"),
        ] {
            let (found, message) = games::parse(text).unwrap_err();
            assert_eq!(found, line, "{message}");
            assert!(message.contains(fault) && !message.contains("hunter2"), "{message}");
        }
        let error = load(Some(Path::new("/nonexistent/games.json"))).unwrap_err().to_string();
        assert!(error.contains("/nonexistent/games.json") && error.contains("--print-games"));
    }
}
