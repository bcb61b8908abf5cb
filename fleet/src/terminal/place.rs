//! A player's place, always as the master's updates tell it.

use std::time::Duration;

use seqlink::Link;
use seqlink::catalog::game_node::{JoinQueueResponse, PlayerStatus, PlayerUpdate};

use super::lists;
use super::printable;

/// How long the rest of a place may take to be known: it is worth no long wait.
const PATIENCE: Duration = Duration::from_secs(2);

/// The place of `user`, who asked for `game` and was given `answer`.
///
/// The answer names no game and no node, and a player who had a place already may have it for
/// another game. A place that changes meanwhile, or a master that does not list, leaves the game
/// that was asked for, and no node.
pub(crate) async fn look_up(
    link: &Link,
    user: i64,
    game: i64,
    answer: JoinQueueResponse,
) -> PlayerUpdate {
    let JoinQueueResponse { status, position } = answer;
    let link = link.with_timeout(PATIENCE);
    let found = if status == PlayerStatus::Queued {
        let queue = lists::queue(&link).await.unwrap_or_default();
        let place = queue.iter().find(|place| place.user_id == user);
        place.map(|place| (place.game_id, None))
    } else {
        let nodes = lists::nodes(&link).await.unwrap_or_default();
        let node = nodes.iter().find(|node| node.user_id == Some(user));
        node.map(|node| (node.game_id.unwrap_or(game), Some(node.id)))
    };
    let (game_id, slave_id) = found.unwrap_or((game, None));
    let other = format!("has this place for game {game_id} already, and none for game {game}");
    let message = (game_id != game).then_some(other);
    PlayerUpdate { user_id: user, game_id, status, position, slave_id, message }
}

/// For people.
pub(crate) fn describe(update: &PlayerUpdate) -> String {
    let mut text = format!("user {}: {}", update.user_id, status_name(update.status));
    if update.position > 0 {
        text += &format!(", position {}", update.position);
    }
    if let Some(slave) = update.slave_id {
        text += &format!(" on node {slave}");
    }
    if let Some(message) = &update.message {
        text += &format!(": {}", printable(message));
    }
    text + "\n"
}

/// The wire's own word for `status`.
fn status_name(status: PlayerStatus) -> &'static str {
    match status {
        PlayerStatus::Queued => "queued",
        PlayerStatus::Preparing => "preparing",
        PlayerStatus::Playing => "playing",
        PlayerStatus::Stopped => "stopped",
        PlayerStatus::Failed => "failed",
    }
}
