//! The saves of instances.

use serde::{Deserialize, Serialize};
use serde_json::Number;
use serde_json::value::RawValue;

use super::macros::{event, for_instance, request};
use super::string_enums::SaveKind;
use super::{ALL_HOPS, BOTH_HOPS, SLOW};
use crate::catalog::fields::{given, nullable, raw_object_or_null};
use crate::message::{Direction, Empty};

const TO_MASTER: Direction = Direction::CONTROL_TO_MASTER;
const TO_SLAVE: Direction = Direction::MASTER_TO_SLAVE;

/// `list_saves`: asks for an instance's saves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListSaves {
    /// The instance.
    pub instance_id: i64,
}

/// The answer to [`ListSaves`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListSavesResponse {
    /// The saves.
    pub list: Vec<SaveEntry>,
}

/// A save of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SaveEntry {
    /// What it is.
    #[serde(rename = "type")]
    pub kind: SaveKind,
    /// Its file's name.
    pub name: String,
    /// Its length in bytes.
    pub size: i64,
    /// When it was last changed, in milliseconds since 1970.
    pub mtime_ms: Number,
    /// Whether the instance runs it now.
    pub loaded: bool,
    /// Whether the instance starts from it when it is told no other.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    pub default: Option<bool>,
}

request!(ListSaves, "list_saves", ALL_HOPS, ListSavesResponse);

/// `create_save`: makes a new save for an instance that does not run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CreateSave {
    /// The instance.
    pub instance_id: i64,
    /// The save's name.
    pub name: String,
    /// What the map grows from; null leaves it to chance.
    #[serde(deserialize_with = "nullable")]
    pub seed: Option<i64>,
    /// An object of the game's own, or null.
    #[serde(deserialize_with = "raw_object_or_null")]
    pub map_gen_settings: Option<Box<RawValue>>,
    /// An object of the game's own, or null.
    #[serde(deserialize_with = "raw_object_or_null")]
    pub map_settings: Option<Box<RawValue>>,
}

request!(CreateSave, "create_save", ALL_HOPS, Empty, SLOW);

/// `rename_save`: gives a save another name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenameSave {
    /// The instance.
    pub instance_id: i64,
    /// The save.
    pub old_name: String,
    /// Its new name.
    pub new_name: String,
}

request!(RenameSave, "rename_save", BOTH_HOPS, Empty);

/// `copy_save`: copies a save within its instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopySave {
    /// The instance.
    pub instance_id: i64,
    /// The save.
    pub source: String,
    /// The copy's name.
    pub destination: String,
}

request!(CopySave, "copy_save", BOTH_HOPS, Empty, SLOW);

/// `delete_save`: removes a save.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteSave {
    /// The instance.
    pub instance_id: i64,
    /// The save.
    pub save: String,
}

request!(DeleteSave, "delete_save", BOTH_HOPS, Empty);
for_instance!(ListSaves, CreateSave, RenameSave, CopySave, DeleteSave);

/// `download_save`: asks for a stream, over HTTP, that brings a save.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DownloadSave {
    /// The instance.
    pub instance_id: i64,
    /// The save.
    pub save: String,
}

/// The answer to [`DownloadSave`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DownloadSaveResponse {
    /// The stream.
    pub stream_id: String,
}

request!(DownloadSave, "download_save", TO_MASTER, DownloadSaveResponse, SLOW);

/// `transfer_save`: copies or moves a save from one instance to another.
///
/// It is not a [`ForInstance`](super::ForInstance): the master hands it on only when both instances
/// are of one slave, and otherwise uses [`PushSave`] and [`PullSave`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransferSave {
    /// The instance that has the save.
    pub instance_id: i64,
    /// The save.
    pub source_save: String,
    /// The instance that gets it.
    pub target_instance_id: i64,
    /// Its name there.
    pub target_save: String,
    /// Whether the first instance keeps it.
    pub copy: bool,
}

/// The answer to [`TransferSave`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransferSaveResponse {
    /// The name that it has got there.
    pub save: String,
}

request!(TransferSave, "transfer_save", BOTH_HOPS, TransferSaveResponse, SLOW);

/// `pull_save`: tells a slave to take a save from a stream of the master's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullSave {
    /// The instance that gets it.
    pub instance_id: i64,
    /// The stream.
    pub stream_id: String,
    /// Its name there.
    pub filename: String,
}

/// The answer to [`PullSave`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullSaveResponse {
    /// The name that it has got there.
    pub save: String,
}

request!(PullSave, "pull_save", TO_SLAVE, PullSaveResponse, SLOW);

/// `push_save`: tells a slave to send a save into a stream of the master's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushSave {
    /// The instance that has the save.
    pub instance_id: i64,
    /// The stream.
    pub stream_id: String,
    /// The save.
    pub save: String,
}

request!(PushSave, "push_save", TO_SLAVE, Empty, SLOW);

/// `set_save_list_subscriptions`: whose [`SaveListUpdate`] this control wants from now on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetSaveListSubscriptions {
    /// Those of all instances.
    pub all: bool,
    /// The instances; the list replaces the one before.
    pub instance_ids: Vec<i64>,
}

request!(SetSaveListSubscriptions, "set_save_list_subscriptions", TO_MASTER, Empty);

/// `save_list_update`: the saves of an instance have changed. It goes from the instance to its slave
/// and to the master, and from there to the controls that subscribed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SaveListUpdate {
    /// The instance.
    pub instance_id: i64,
    /// All its saves.
    pub list: Vec<SaveEntry>,
}

event!(
    SaveListUpdate,
    "save_list_update",
    Direction::INSTANCE_TO_SLAVE.and(Direction::SLAVE_TO_MASTER).and(Direction::MASTER_TO_CONTROL)
);
