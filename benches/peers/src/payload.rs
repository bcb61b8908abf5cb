//! What all stacks carry: the same types, the same text.

use seqlink::{Event, Request};
use serde::{Deserialize, Serialize};

/// `play_game`, as a game node takes it: a frame of about 240 bytes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlayGame {
    pub user_id: i64,
    pub expected_save: Option<String>,
    pub game: Game,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Game {
    pub id: i64,
    pub name: String,
    pub process: String,
    pub commands: Commands,
    pub backup: Vec<Backup>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Commands {
    pub launch: String,
    pub shutdown: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Backup {
    pub name: String,
    pub root: String,
    pub entries: Vec<String>,
    pub remove_entries: Vec<String>,
}

/// Its answer: a frame of about 85 bytes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Played {
    pub code: u16,
    pub game_id: i64,
}

impl Request for PlayGame {
    const NAME: &'static str = "play_game";
    type Response = Played;
}

/// The same request, for a slave: the master hands it on.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Forwarded(pub PlayGame);

impl Request for Forwarded {
    const NAME: &'static str = "play_forwarded";
    type Response = Played;
}

/// Comes back as it is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Blob {
    pub text: String,
}

impl Request for Blob {
    const NAME: &'static str = "blob";
    type Response = Blob;
}

/// Is never answered.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Hang {}

impl Request for Hang {
    const NAME: &'static str = "hang";
    const TIMEOUT: Option<std::time::Duration> = Some(std::time::Duration::from_secs(3600));
    type Response = Hang;
}

/// Asks the server for `events` times [`Output`].
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Stream {
    pub events: u64,
}

impl Request for Stream {
    const NAME: &'static str = "stream";
    type Response = Stream;
}

/// An event of 300 bytes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Output {
    pub user_id: i64,
    pub game_id: i64,
    pub line: String,
}

impl Event for Output {
    const NAME: &'static str = "output";
}

impl PlayGame {
    pub fn sample() -> Self {
        let text = |text: &str| text.to_owned();
        Self {
            user_id: 11,
            expected_save: Some(text("2026-11-21.tgz")),
            game: Game {
                id: 2,
                name: text("Counting until it is stopped"),
                process: text("sh"),
                commands: Commands {
                    launch: text("sleep 600 && echo done"),
                    shutdown: text("true"),
                },
                backup: Vec::new(),
            },
        }
    }

    /// What every server does with it.
    pub fn play(self) -> Played {
        Played { code: 200, game_id: self.game.id }
    }
}

impl Blob {
    pub fn sample() -> Self {
        Self { text: "sixty thousand bytes".repeat(3000) }
    }
}

impl Output {
    pub fn sample() -> Self {
        Self { user_id: 11, game_id: 2, line: "one more line of output ".repeat(11) }
    }
}
