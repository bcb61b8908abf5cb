//! `play --follow`: tells what becomes of a player until the place is gone.

use seqlink::catalog::game_node::{JoinQueueResponse, PlayerStatus, PlayerUpdate};
use seqlink::{Ctx, Link};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

use crate::commands::status_name;
use crate::exit::Failure;
use crate::output::Output;
use crate::text::printable;

/// The updates of all players, in order. Unbounded: a control that follows reads at once, and one
/// that does not is gone after a moment.
pub(crate) type Updates = UnboundedReceiver<PlayerUpdate>;

pub(crate) async fn player_update(update: PlayerUpdate, ctx: Ctx<UnboundedSender<PlayerUpdate>>) {
    // Nobody listens any more when the program is about to end.
    let _ = ctx.state().send(update);
}

/// Prints the updates of `user`, from the place that `joined` says on, until one is the last.
pub(crate) async fn follow(
    link: &Link,
    output: Output,
    mut updates: Updates,
    user: i64,
    joined: JoinQueueResponse,
) -> Result<(), Failure> {
    let mut before = (joined.status, joined.position, None);
    let mut early = of_this_place(&mut updates, user).into_iter();
    loop {
        let update = match early.next() {
            Some(update) => update,
            None => next(link, &mut updates, user).await?,
        };
        let now = (update.status, update.position, update.slave_id);
        // The beginning of a place that has got further by the time of the answer: it has no
        // reason, unlike that of a player who was put back.
        let old = update.status == PlayerStatus::Queued
            && update.message.is_none()
            && joined.status != PlayerStatus::Queued;
        if now == before || old {
            continue;
        }
        before = now;
        output.show(&update, describe)?;
        match update.status {
            PlayerStatus::Stopped => return Ok(()),
            PlayerStatus::Failed => {
                let reason = update.message.as_deref().unwrap_or("the master gave no reason");
                return Err(Failure::failed(format_args!("user {user}: {}", printable(reason))));
            }
            PlayerStatus::Queued | PlayerStatus::Preparing | PlayerStatus::Playing => {}
        }
    }
}

/// The updates of `user` that came before the answer to `join_queue`. An end that is the first of
/// them is that of an earlier place: this one began with another update.
fn of_this_place(updates: &mut Updates, user: i64) -> Vec<PlayerUpdate> {
    let mut early: Vec<_> = std::iter::from_fn(|| updates.try_recv().ok())
        .filter(|update| update.user_id == user)
        .collect();
    if early.first().is_some_and(|update| is_end(update.status)) {
        early.remove(0);
    }
    early
}

async fn next(link: &Link, updates: &mut Updates, user: i64) -> Result<PlayerUpdate, Failure> {
    loop {
        tokio::select! {
            // What has come is told before the end of the link is.
            biased;
            Some(update) = updates.recv() => {
                if update.user_id == user {
                    return Ok(update);
                }
            }
            closed = link.closed() => {
                let closed = printable(&closed.to_string());
                return Err(Failure::failed(format_args!(
                    "what becomes of user {user} is not known, the link to the master has ended, \
                     {closed}"
                )));
            }
        }
    }
}

fn is_end(status: PlayerStatus) -> bool {
    matches!(status, PlayerStatus::Stopped | PlayerStatus::Failed)
}

fn describe(update: &PlayerUpdate) -> String {
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
