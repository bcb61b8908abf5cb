//! The wait for permits, in turn.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::phase::{CloseFrame, Phase};
use super::send_state::{BudgetKind, LockedSendState, SendRefused};

/// Permits that are given back when this is dropped.
#[derive(Debug)]
pub(super) struct Permits<'a> {
    state: &'a LockedSendState,
    kind: BudgetKind,
    count: usize,
}

impl Permits<'_> {
    /// They are used up: others give them back.
    pub(super) fn spend(mut self) {
        self.count = 0;
    }
}

impl Drop for Permits<'_> {
    fn drop(&mut self) {
        if self.count > 0 {
            self.state.with(|state, wake| state.give(self.kind, self.count, wake));
        }
    }
}

/// Waits for permits.
#[derive(Debug)]
struct Acquire<'a> {
    state: &'a LockedSendState,
    kind: BudgetKind,
    count: usize,
    /// While it waits.
    ticket: Option<u64>,
}

impl<'a> Future for Acquire<'a> {
    type Output = Result<Permits<'a>, SendRefused>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { state, kind, count, ticket } = *self;
        let (ticket, outcome) = state.with(|state, _| {
            if matches!(
                state.phase,
                Phase::Closing(_, CloseFrame::Due(..) | CloseFrame::Sent) | Phase::Ended(_)
            ) {
                return (None, Poll::Ready(Err(SendRefused::Closed)));
            }
            let budget = state.budget(kind);
            let taken = match ticket {
                Some(ticket) => !budget.still_waits(ticket, cx.waker()),
                None => budget.try_take(count),
            };
            if taken {
                (None, Poll::Ready(Ok(())))
            } else {
                (ticket.or_else(|| Some(budget.join(count, cx.waker()))), Poll::Pending)
            }
        });
        self.ticket = ticket;
        outcome.map_ok(|()| Permits { state, kind, count })
    }
}

impl Drop for Acquire<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.state.with(|state, wake| {
                state.budget(self.kind).leave(ticket, self.count);
                // Those behind it may have waited for it alone.
                state.give(self.kind, 0, wake);
            });
        }
    }
}

impl LockedSendState {
    /// Waits for permits, in turn with whoever waits already. Cancel safe.
    ///
    /// # Errors
    ///
    /// Nothing more is sent.
    pub(super) async fn permits(
        &self,
        kind: BudgetKind,
        count: usize,
    ) -> Result<Permits<'_>, SendRefused> {
        Acquire { state: self, kind, count, ticket: None }.await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::FutureExt as _;

    use super::*;
    use crate::link::outbound::tests::outlet;

    /// Whoever takes, waits, gives up and gives back at once: no permit is lost, none is there twice,
    /// and nobody waits for one that is free.
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn permits_are_neither_lost_nor_doubled() {
        const PERMITS: usize = 5;
        let (handle, taken) =
            (outlet(|config| config.requests_in_flight = PERMITS), Arc::default());
        let worker = |n: usize| {
            let (handle, taken) = (handle.clone(), Arc::<AtomicUsize>::clone(&taken));
            tokio::spawn(async move {
                for round in 0..2000 {
                    let count = 1 + (n + round) % 3;
                    let permits = if round % 7 == 0 {
                        handle.0.send_state.permits(BudgetKind::Slots, count).now_or_never()
                    } else {
                        Some(handle.0.send_state.permits(BudgetKind::Slots, count).await)
                    };
                    let Some(permits) = permits else { continue };
                    assert!(taken.fetch_add(count, Ordering::SeqCst) + count <= PERMITS);
                    tokio::task::yield_now().await;
                    taken.fetch_sub(count, Ordering::SeqCst);
                    drop(permits.unwrap());
                }
            })
        };
        for worker in (0..16).map(worker).collect::<Vec<_>>() {
            worker.await.unwrap();
        }
        assert!(
            handle.0.send_state.permits(BudgetKind::Slots, PERMITS).now_or_never().is_some(),
            "all are free again"
        );
    }

    /// Who waits is woken by what is given back, and by the end.
    #[tokio::test(start_paused = true)]
    async fn who_waits_is_woken() {
        for ends in [false, true] {
            let handle = outlet(|config| config.requests_in_flight = 1);
            let mut taken = Some(handle.0.send_state.permits(BudgetKind::Slots, 1).await.unwrap());
            let waiting = tokio::spawn({
                let handle = handle.clone();
                async move { handle.0.send_state.permits(BudgetKind::Slots, 1).await.is_ok() }
            });
            tokio::task::yield_now().await;
            if ends {
                handle.end(crate::close::Closed::lost("gone"));
            } else {
                taken = None;
            }
            let woken = tokio::time::timeout(std::time::Duration::from_secs(1), waiting).await;
            assert_eq!(woken.expect("it is woken").unwrap(), !ends);
            drop(taken);
        }
    }

    #[tokio::test]
    async fn who_leaves_lets_those_behind_it_through() {
        let handle = outlet(|config| config.requests_in_flight = 3);
        let _taken = handle.0.send_state.permits(BudgetKind::Slots, 2).await.unwrap();
        let mut large = Box::pin(handle.0.send_state.permits(BudgetKind::Slots, 3));
        let mut small = Box::pin(handle.0.send_state.permits(BudgetKind::Slots, 1));
        assert!((&mut large).now_or_never().is_none() && (&mut small).now_or_never().is_none());
        drop(large);
        assert!(small.now_or_never().is_some());
    }

    #[tokio::test]
    async fn at_the_end_nobody_waits() {
        let handle = outlet(|config| config.requests_in_flight = 1);
        let taken = handle.0.send_state.permits(BudgetKind::Slots, 1).await.unwrap();
        let mut waiting = Box::pin(handle.0.send_state.permits(BudgetKind::Slots, 1));
        assert!((&mut waiting).now_or_never().is_none());
        handle.end(crate::close::Closed::lost("gone"));
        assert!(matches!(waiting.now_or_never(), Some(Err(SendRefused::Closed))));
        drop(taken);
        assert!(matches!(
            handle.0.send_state.permits(BudgetKind::Slots, 1).await,
            Err(SendRefused::Closed)
        ));
    }
}
