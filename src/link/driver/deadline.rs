use std::pin::Pin;
use std::task::Context;

use tokio::time::{Instant, Sleep, sleep_until};

use crate::link::outbound::Outlet;

/// Ends the requests whose time is over, with one timer for all requests of a link.
#[derive(Debug, Default)]
pub(super) struct Deadline {
    // Made when it is first needed: many links never send a request.
    timer: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl Deadline {
    /// Ends the requests whose time is over, and sets the timer for the next one.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, outlet: &Outlet) {
        // A request that is answered leaves the timer alone, which finds the next time limit when
        // it goes off; a new request wakes the task only if its time limit is before all others.
        while let Some(next) = outlet.next_deadline() {
            let (set, timer) =
                self.timer.get_or_insert_with(|| (next, Box::pin(sleep_until(next))));
            if *set != next {
                *set = next;
                timer.as_mut().reset(next);
            }
            if timer.as_mut().poll(cx).is_pending() {
                return;
            }
            outlet.expire(Instant::now());
        }
    }
}
