//! What people see: tables, JSON on one line, and what becomes of a player.

mod follow;
mod json;
mod lists;
mod output;
mod place;
mod table;
mod text;

pub(crate) use follow::{MOST_WAITING, Updates, follow, player_update};
pub use json::printable_json;
pub(crate) use lists::{nodes, queue};
pub(crate) use output::Output;
pub(crate) use place::{describe, look_up};
pub use table::table;
pub(crate) use text::printable;
