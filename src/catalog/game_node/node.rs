//! What a master and its nodes say to each other.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::{CodeResponse, GameResponse};
use crate::message::{Direction, Empty, Request};
use crate::secret::Secret;

/// Most packages of a node.
pub const MAX_PACKAGES: usize = 256;
/// Longest name of a package, in bytes.
pub const MAX_PACKAGE: usize = 128;
/// Longest of a node's other texts, in bytes: its name, its versions, its addresses.
pub const MAX_TEXT: usize = 256;

/// `register_node`: a node tells its master what it is and what it can play. Sent after each new
/// link, and again when the packages change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RegisterNode {
    /// The machine.
    pub node: Node,
    /// The program on it that streams the game to the player.
    pub streamer: Streamer,
    /// The names of the packages that it has: at most [`MAX_PACKAGES`] of [`MAX_PACKAGE`] bytes. A
    /// longer list is not read.
    #[serde(deserialize_with = "packages")]
    pub installed_packages: Vec<String>,
}

/// The answer to [`RegisterNode`].
pub type RegisterNodeResponse = CodeResponse;

impl Request for RegisterNode {
    const NAME: &'static str = "register_node";
    const DIRECTION: Direction = Direction::SLAVE_TO_MASTER;
    type Response = RegisterNodeResponse;
}

/// The machine that a node runs on. Its texts have at most [`MAX_TEXT`] bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Node {
    /// The version of the node's software.
    #[serde(deserialize_with = "text")]
    pub version: String,
    /// The hardware address, six pairs of hex digits with dashes between.
    #[serde(deserialize_with = "text")]
    pub mac_address: String,
    /// The IP address in the node's own network.
    #[serde(deserialize_with = "text")]
    pub local_address: String,
}

/// The program that streams a game to its player.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Streamer {
    /// Its version; at most [`MAX_TEXT`] bytes.
    #[serde(deserialize_with = "text")]
    pub version: String,
    /// The TCP port that it listens on.
    pub port: u16,
}

/// `prepare_game`: fetch what a player needs for a game.
///
/// The answer comes when all is fetched, so it may take as long as several operations on the
/// storage: the asker waits 60 seconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PrepareGame {
    /// The player.
    pub user_id: i64,
    /// The game.
    pub game_id: i64,
    /// The player's token, 40 hex digits. Written `sesison_token`, as the node's document spells
    /// it; `session_token` is read too. `Debug` hides it.
    #[serde(rename = "sesison_token", alias = "session_token")]
    pub session_token: Secret,
    /// Where the player came from. Written `request_from`.
    #[serde(rename = "request_from")]
    pub request_from: RequestFrom,
    /// Whether the player's saves must be fetched from the storage first.
    pub synchronize_required: bool,
    /// Where the player's saves are.
    #[serde(deserialize_with = "object")]
    pub storage: Storage,
}

/// The answer to [`PrepareGame`].
pub type PrepareGameResponse = GameResponse;

impl Request for PrepareGame {
    const NAME: &'static str = "prepare_game";
    const DIRECTION: Direction = Direction::MASTER_TO_SLAVE;
    const TIMEOUT: Option<Duration> = Some(Duration::from_secs(60));
    type Response = PrepareGameResponse;
}

/// Where a player's wish to play came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RequestFrom {
    /// From a program: `api`.
    Api,
    /// From the website: `website`.
    Website,
}

/// Where saves are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Storage {
    /// Host name or IP address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// The account.
    pub username: String,
    /// Its password; may be empty. `Debug` hides it.
    pub password: Secret,
    /// How the connection is secured.
    #[serde(deserialize_with = "object")]
    pub secure: Secure,
    /// How long the node waits for the storage.
    #[serde(deserialize_with = "object")]
    pub timeout: StorageTimeout,
}

/// How the connection to a storage is secured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secure {
    /// Whether it is encrypted.
    pub enabled: bool,
    /// Whether the certificate is checked.
    pub validation: bool,
}

/// How long a node waits for a storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StorageTimeout {
    /// For the connection, in seconds.
    pub connection: u64,
    /// For one operation on it, in seconds.
    pub operation: u64,
}

/// `play_game`: start a game that was prepared.
///
/// The answer comes when the game runs, and starting one may mean unpacking saves first: the asker
/// waits 30 seconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlayGame {
    /// The player.
    pub user_id: i64,
    /// The name of the save to play on, a `.tgz` file; null for none.
    pub expected_save: Option<String>,
    /// The game.
    pub game: Game,
}

/// The answer to [`PlayGame`].
pub type PlayGameResponse = GameResponse;

impl Request for PlayGame {
    const NAME: &'static str = "play_game";
    const DIRECTION: Direction = Direction::MASTER_TO_SLAVE;
    const TIMEOUT: Option<Duration> = Some(Duration::from_secs(30));
    type Response = PlayGameResponse;
}

/// A game: how to start and stop it, and what of it to keep.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Game {
    /// Its id, the `gameId` of the other messages.
    pub id: i64,
    /// Its name, for people.
    pub name: String,
    /// The name of its process.
    pub process: String,
    /// How it is started and stopped.
    pub commands: Commands,
    /// What is saved when it ends.
    pub backup: Vec<Backup>,
}

/// The commands of a game.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commands {
    /// Starts it.
    pub launch: String,
    /// Ends it.
    pub shutdown: String,
}

/// Files of a game that are its saves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Backup {
    /// The name of this set.
    pub name: String,
    /// The folder that the entries are in.
    pub root: String,
    /// What to save, relative to the root.
    pub entries: Vec<String>,
    /// What to leave out or remove, relative to the root.
    pub remove_entries: Vec<String>,
}

/// `stop_game`: end a player's game. From a control to the master, and from the master to the node
/// that plays it.
///
/// A good answer says that the end has begun. That the game is gone, a node says with
/// [`NotifyStopFinish`]. A node answers [`Code::NOT_FOUND`](super::Code::NOT_FOUND) when it runs no
/// such game.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StopGame {
    /// The player.
    pub user_id: i64,
    /// The game.
    pub game_id: i64,
}

/// The answer to [`StopGame`].
pub type StopGameResponse = GameResponse;

impl Request for StopGame {
    const NAME: &'static str = "stop_game";
    const DIRECTION: Direction = Direction::MASTER_TO_SLAVE.and(Direction::CONTROL_TO_MASTER);
    type Response = StopGameResponse;
}

/// `heartbeat`: a sign of life, answered with another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {}

impl Request for Heartbeat {
    const NAME: &'static str = "heartbeat";
    type Response = Empty;
}

/// `notify_stop_finish`: a game is gone, because it was stopped or has ended by itself. The node is
/// free for the next player.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NotifyStopFinish {
    /// The player whose game it was.
    pub user_id: i64,
    /// The game.
    pub game_id: i64,
}

/// The answer to [`NotifyStopFinish`].
pub type NotifyStopFinishResponse = CodeResponse;

impl Request for NotifyStopFinish {
    const NAME: &'static str = "notify_stop_finish";
    const DIRECTION: Direction = Direction::SLAVE_TO_MASTER;
    type Response = NotifyStopFinishResponse;
}

fn text<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let text = String::deserialize(from)?;
    if text.len() > MAX_TEXT {
        return Err(de::Error::custom(format!(
            "a text of the node is longer than {MAX_TEXT} bytes"
        )));
    }
    Ok(text)
}

/// Reads no more of a list than may be kept of it.
fn packages<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    from.deserialize_seq(Packages)
}

struct Packages;

impl<'de> Visitor<'de> for Packages {
    type Value = Vec<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of packages")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<String>, A::Error> {
        let mut packages = Vec::new();
        while let Some(package) = list.next_element::<String>()? {
            if packages.len() == MAX_PACKAGES {
                return Err(de::Error::custom(format!("more than {MAX_PACKAGES} packages")));
            }
            if package.len() > MAX_PACKAGE {
                let fault = format!("a package's name is longer than {MAX_PACKAGE} bytes");
                return Err(de::Error::custom(fault));
            }
            packages.push(package);
        }
        Ok(packages)
    }
}

/// Reads a struct from an object and from nothing else. A derived reader would quote a text that
/// stands where the object should be, and beside a password that text may be one.
fn object<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    // Not `deserialize_map`: serde_json then words the error itself, and quotes the value.
    deserializer.deserialize_any(ObjectVisitor(PhantomData))
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map))
    }

    fn visit_str<E: de::Error>(self, _: &str) -> Result<T, E> {
        Err(E::invalid_type(de::Unexpected::Other("a string"), &self))
    }
}
