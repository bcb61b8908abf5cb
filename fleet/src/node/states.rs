//! Returns what a link goes through, in words for people.

use std::time::Duration;

use seqlink::{LinkState, States};
use tokio::time::Instant;
use tracing::{info, warn};

/// Logs each state of a link, until it has ended.
pub(crate) async fn tell(mut states: States) {
    let mut away = false;
    while let Some(state) = states.next().await {
        match state {
            LinkState::Resuming { held, next_try: Some(next), .. } => {
                warn!("{}", lost(away, held, next.saturating_duration_since(Instant::now())));
                away = true;
            }
            // A session that goes on has lost nothing.
            LinkState::Resumed { again } => {
                info!("Resumed: {again} sent again, 0 lost");
                away = false;
            }
            LinkState::Lost(closed) if away => {
                warn!("Session lost: {}", closed.reason);
            }
            LinkState::Lost(closed) | LinkState::Closed(closed) => {
                info!(%closed, "the link has ended");
            }
            _ => {}
        }
    }
}

/// That a link has no socket, or `still` has none.
fn lost(still: bool, held: usize, next: Duration) -> String {
    let lost = if still { "Not resumed yet" } else { "Link lost" };
    let frames = if held == 1 { "frame" } else { "frames" };
    format!("{lost}: holding {held} {frames}, next try in {:.1} s", next.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_link_is_told_with_what_it_holds() {
        let soon = Duration::from_millis(412);
        assert_eq!(lost(false, 3, soon), "Link lost: holding 3 frames, next try in 0.4 s");
        assert_eq!(lost(true, 1, soon), "Not resumed yet: holding 1 frame, next try in 0.4 s");
    }
}
