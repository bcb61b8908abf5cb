//! A command line as words, the way a shell reads it, without a shell.
//!
//! Spaces separate words. Between single quotes every character stands for itself; between double
//! quotes `\"` and `\\` stand for `"` and `\`; elsewhere a backslash makes the next character an
//! ordinary one. Variables, wildcards, pipes and redirections mean nothing here: a command that
//! needs them names its shell, as in `sh -c 'kill "$GAME_PID"'`.

use std::fmt;
use std::iter::Peekable;
use std::str::Chars;

/// Why a command line is not a list of words.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum WordsError {
    /// A quote is opened and never closed.
    OpenQuote(char),
    /// The last character is a backslash with nothing to make ordinary.
    LastBackslash,
}

impl fmt::Display for WordsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OpenQuote(quote) => write!(f, "a {quote} is opened and never closed"),
            Self::LastBackslash => f.write_str("it ends in a backslash"),
        }
    }
}

/// The words of `line`.
pub(crate) fn split(line: &str) -> Result<Vec<String>, WordsError> {
    let mut characters = line.chars().peekable();
    let mut words = Vec::new();
    loop {
        while characters.next_if(|c| c.is_whitespace()).is_some() {}
        if characters.peek().is_none() {
            return Ok(words);
        }
        words.push(word(&mut characters)?);
    }
}

fn word(characters: &mut Peekable<Chars<'_>>) -> Result<String, WordsError> {
    let mut word = String::new();
    while let Some(c) = characters.next_if(|c| !c.is_whitespace()) {
        match c {
            '\'' | '"' => quoted(c, characters, &mut word)?,
            '\\' => word.push(characters.next().ok_or(WordsError::LastBackslash)?),
            _ => word.push(c),
        }
    }
    Ok(word)
}

fn quoted(
    quote: char,
    characters: &mut Peekable<Chars<'_>>,
    word: &mut String,
) -> Result<(), WordsError> {
    while let Some(c) = characters.next() {
        match c {
            _ if c == quote => return Ok(()),
            '\\' if quote == '"' => match characters.next_if(|c| matches!(c, '"' | '\\')) {
                Some(escaped) => word.push(escaped),
                None => word.push('\\'),
            },
            _ => word.push(c),
        }
    }
    Err(WordsError::OpenQuote(quote))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_quotes() {
        let cases: [(&str, &[&str]); 7] = [
            ("", &[]),
            ("  sleep   10 ", &["sleep", "10"]),
            (r#"sh -c 'kill "$GAME_PID"'"#, &["sh", "-c", r#"kill "$GAME_PID""#]),
            (r#"a "b c"d '' "\"\\\n""#, &["a", "b cd", "", r#""\\n"#]),
            (r"my\ game \'x", &["my game", "'x"]),
            (r"'a\'b", &["a\\b"]),
            ("höhle 'ä ö'", &["höhle", "ä ö"]),
        ];
        for (line, words) in cases {
            assert_eq!(split(line).as_deref(), Ok(words.map_to_strings().as_slice()), "{line}");
        }
        assert_eq!(split("a 'b"), Err(WordsError::OpenQuote('\'')));
        assert_eq!(split("a \"b\\\""), Err(WordsError::OpenQuote('"')));
        assert_eq!(split("a\\"), Err(WordsError::LastBackslash));
    }

    trait MapToStrings {
        fn map_to_strings(&self) -> Vec<String>;
    }

    impl MapToStrings for &[&str] {
        fn map_to_strings(&self) -> Vec<String> {
            self.iter().map(ToString::to_string).collect()
        }
    }
}
