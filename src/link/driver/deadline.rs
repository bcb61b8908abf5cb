use std::pin::Pin;
use std::task::Context;

use tokio::time::{Instant, Sleep, sleep_until};

use crate::link::outbound::Outlet;

/// Ends the requests whose time is over: one timer per link, made when it is first needed.
#[derive(Debug, Default)]
pub(super) struct Deadline {
    timer: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl Deadline {
    /// Ends what is over; a new request wakes the task when its time ends before all others.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, outlet: &Outlet) {
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
