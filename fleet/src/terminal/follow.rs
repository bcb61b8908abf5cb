//! `play --follow`: tells what becomes of a player until the place is gone.

use seqlink::catalog::game_node::{PlayerStatus, PlayerUpdate};
use seqlink::{Ctx, Link};
use tokio::sync::mpsc::{Receiver, Sender};

use super::Output;
use super::place;
use crate::settings::Failure;

/// Most updates that wait to be looked at. Further ones wait in the link, which ends when they are
/// too many: nobody may be reading what is printed.
pub(crate) const MOST_WAITING: usize = 1024;

/// The updates of all players, in order.
pub(crate) type Updates = Receiver<PlayerUpdate>;

pub(crate) async fn player_update(update: PlayerUpdate, ctx: Ctx<Sender<PlayerUpdate>>) {
    // Nobody listens any more when the program is about to end.
    let _ = ctx.state().send(update).await;
}

/// Prints the updates of the player from the place that `joined` says on, until one is the last.
pub(crate) async fn follow(
    link: &Link,
    output: Output,
    mut updates: Updates,
    joined: PlayerUpdate,
) -> Result<(), Failure> {
    let user = joined.user_id;
    let mut caught_up = false;
    let mut before = joined.clone();
    let mut early = of_this_place(&mut updates, user).into_iter();
    loop {
        let update = match early.next() {
            Some(update) => update,
            None => next(link, &mut updates, user).await?,
        };
        // The beginning of a place that had got further by the time of the answer: it has no
        // reason, unlike that of a player who was put back.
        let old = progress(update.status) < progress(joined.status) && update.message.is_none();
        if old && !caught_up {
            continue;
        }
        caught_up = true;
        if !same(&update, &before) {
            output.show(&update, place::describe)?;
        }
        match update.status {
            PlayerStatus::Stopped => return Ok(()),
            // The update has said why.
            PlayerStatus::Failed => return Err(Failure::failed("")),
            PlayerStatus::Queued | PlayerStatus::Preparing | PlayerStatus::Playing => {}
        }
        before = update;
    }
}

fn progress(status: PlayerStatus) -> u8 {
    match status {
        PlayerStatus::Queued => 0,
        PlayerStatus::Preparing => 1,
        PlayerStatus::Playing => 2,
        PlayerStatus::Stopped | PlayerStatus::Failed => 3,
    }
}

/// Whether the two say the same. The answer to a join may not have told the node.
fn same(update: &PlayerUpdate, before: &PlayerUpdate) -> bool {
    (update.status, update.position) == (before.status, before.position)
        && (before.slave_id.is_none() || update.slave_id == before.slave_id)
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
