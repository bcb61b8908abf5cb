//! Tells every control what becomes of the players, and never waits for one.
//!
//! The updates go through a ring that each control reads at its own pace. A control that falls a
//! whole ring behind would miss some; it loses its link instead, with a reason.

use seqlink::Link;
use seqlink::catalog::game_node::PlayerUpdate;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::broadcast::{Receiver, Sender, channel};
use tracing::warn;

/// How many updates a control may be behind.
const RING: usize = 1024;

/// The ring; a cheap clone.
#[derive(Clone, Debug)]
pub(crate) struct Updates(Sender<PlayerUpdate>);

impl Updates {
    /// A ring that nobody reads yet.
    pub(crate) fn new() -> Self {
        Self(channel(RING).0)
    }

    /// Tells all controls, each when it can take it.
    pub(crate) fn tell(&self, update: PlayerUpdate) {
        // An error means that there is no control now.
        let _ = self.0.send(update);
    }

    /// Everything that is told from now on goes to `control` too, on a task of its own.
    pub(crate) fn follow(&self, control: Link) {
        tokio::spawn(pass_on(self.0.subscribe(), control));
    }
}

async fn pass_on(mut updates: Receiver<PlayerUpdate>, control: Link) {
    loop {
        let update = tokio::select! {
            update = updates.recv() => update,
            _ = control.closed() => return,
        };
        match update {
            Ok(update) => {
                if control.event(&update).await.is_err() {
                    return;
                }
            }
            Err(RecvError::Lagged(missed)) => {
                warn!(missed, "a control does not keep up with the updates");
                control.close("Too slow for the player updates");
                return;
            }
            Err(RecvError::Closed) => return,
        }
    }
}
