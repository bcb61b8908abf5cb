//! The games that a master offers: a JSON array of `{package, game, storage}`, with `game` and
//! `storage` as they go over the wire.

use std::collections::HashSet;

use seqlink::catalog::game_node::{Game, Storage};
use serde::Deserialize;
use serde_json::value::RawValue;

/// One game that a master offers.
#[derive(Clone, Debug)]
pub struct Offer {
    /// What a node must have installed to play it.
    pub package: String,
    /// What the node is told when it plays.
    pub game: Game,
    /// Where the saves are.
    pub storage: Storage,
}

/// The line, if one is to blame, and what is wrong with it.
pub(crate) type Fault = (Option<usize>, String);

/// The games of `text`.
pub(crate) fn parse(text: &str) -> Result<Vec<Offer>, Fault> {
    let elements: Vec<&RawValue> = serde_json::from_str(text).map_err(|error| fault(&error, 1))?;
    let mut offers = Vec::new();
    let mut ids = HashSet::new();
    for element in elements {
        let offer = offer(text, element)?;
        let at = |fault| (Some(line_of(element, text)), fault);
        check(&offer).map_err(at)?;
        if !ids.insert(offer.game.id) {
            return Err(at(format!("a second game with id {}", offer.game.id)));
        }
        offers.push(offer);
    }
    if offers.is_empty() { Err((None, "there is no game in it".to_owned())) } else { Ok(offers) }
}

fn offer(text: &str, element: &RawValue) -> Result<Offer, Fault> {
    #[derive(Deserialize)]
    struct Element<'a> {
        package: String,
        #[serde(borrow)]
        game: &'a RawValue,
        #[serde(borrow)]
        storage: &'a RawValue,
    }
    let element: Element<'_> = object(text, element, "a game")?;
    Ok(Offer {
        package: element.package,
        game: object(text, element.game, "game")?,
        storage: object(text, element.storage, "storage")?,
    })
}

/// Reads a part of `text`. What is no object is not quoted: in the place of `storage` it may be a
/// password.
fn object<'a, T: Deserialize<'a>>(text: &str, part: &'a RawValue, name: &str) -> Result<T, Fault> {
    let line = line_of(part, text);
    if !part.get().starts_with('{') {
        return Err((Some(line), format!("{name} is no object")));
    }
    serde_json::from_str(part.get()).map_err(|error| fault(&error, line))
}

/// The line of `text` that `part`, a slice of it, starts on.
fn line_of(part: &RawValue, text: &str) -> usize {
    let start = part.get().as_ptr().addr() - text.as_ptr().addr();
    1 + text[..start].matches('\n').count()
}

/// serde_json counts lines from the start of what it was given.
fn fault(error: &serde_json::Error, first_line: usize) -> Fault {
    let text = error.to_string();
    // Its own text ends in the position, which is relative too.
    let text = text.split(" at line ").next().unwrap_or(&text);
    (Some(first_line + error.line().saturating_sub(1)), text.to_owned())
}

fn check(offer: &Offer) -> Result<(), String> {
    let commands = &offer.game.commands;
    for (name, command) in [("launch", &commands.launch), ("shutdown", &commands.shutdown)] {
        let words = shell_words::split(command)
            .map_err(|error| format!("commands.{name} of game {}: {error}", offer.game.id))?;
        if name == "launch" && words.is_empty() {
            return Err(format!("commands.launch of game {} is empty", offer.game.id));
        }
    }
    if offer.package.is_empty() { Err("package is empty".to_owned()) } else { Ok(()) }
}
