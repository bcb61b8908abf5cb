//! How a request went: codes as HTTP means them.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

/// How a request went, as HTTP means its codes. Any integer is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Code(pub i64);

impl Code {
    /// 200: done, or begun where the message says so.
    pub const OK: Self = Self(200);
    /// 400: the request makes no sense.
    pub const BAD_REQUEST: Self = Self(400);
    /// 404: there is no such game, player, node or package. As an answer to [`StopGame`] it says
    /// that the node runs no such game, so there is nothing to wait for.
    ///
    /// [`StopGame`]: super::StopGame
    pub const NOT_FOUND: Self = Self(404);
    /// 409: the node is busy with another game.
    pub const CONFLICT: Self = Self(409);
    /// 500: it went wrong on the answering side.
    pub const FAILED: Self = Self(500);
    /// 503: it cannot be done now, for instance because the storage cannot be reached.
    pub const UNAVAILABLE: Self = Self(503);

    /// Whether it went well: 200 to 299.
    pub const fn is_ok(self) -> bool {
        self.0 >= 200 && self.0 < 300
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An answer that is a code and a text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodeResponse {
    /// How it went.
    pub code: Code,
    /// `OK`, or the reason why not. A missing or null one is read as empty.
    #[serde(default, deserialize_with = "text_or_nothing")]
    pub message: String,
}

impl CodeResponse {
    /// 200 with the text `OK`.
    pub fn ok() -> Self {
        Self::new(Code::OK, "OK")
    }

    /// `code` with its reason.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// An answer that is a code and a text, and names the player and the game.
///
/// The node's document puts the two ids of some answers beside `data`; on this wire all four stand
/// in `data` side by side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GameResponse {
    /// How it went.
    pub code: Code,
    /// `OK`, or the reason why not. A missing or null one is read as empty.
    #[serde(default, deserialize_with = "text_or_nothing")]
    pub message: String,
    /// The player of the request.
    pub user_id: i64,
    /// The game of the request.
    pub game_id: i64,
}

impl GameResponse {
    /// 200 with the text `OK`.
    pub fn ok(user_id: i64, game_id: i64) -> Self {
        Self::new(Code::OK, "OK", user_id, game_id)
    }

    /// `code` with its reason.
    pub fn new(code: Code, message: impl Into<String>, user_id: i64, game_id: i64) -> Self {
        Self { code, message: message.into(), user_id, game_id }
    }
}

fn text_or_nothing<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
