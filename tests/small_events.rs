//! What many small events take of the heap while they wait, counted by the allocator itself.

mod common;

use std::alloc::System;

use common::scripted::Scripted;
use common::*;
use futures::FutureExt as _;
use seqlink::transport::Incoming;
use seqlink::{Ctx, Master, Router};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static HEAP: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const INBOX: usize = 1 << 20;

fn on_heap() -> usize {
    let stats = HEAP.stats();
    stats.bytes_allocated - stats.bytes_deallocated
}

async fn on_tick(_: Tick, _: Ctx) {
    std::future::pending().await
}

/// Alone in this file: another test would be counted too.
#[tokio::test(start_paused = true)]
async fn small_events_that_wait_take_what_the_inbox_may_have() {
    let config = config(|config| config.inbox = INBOX);
    let router = Router::new(()).event(on_tick);
    let master = Master::builder().router(router).config(config).build().unwrap();
    let (mut peer, link) = Scripted::control(&master).await;
    let before = on_heap();
    let (mut most, mut n) = (0, 1);
    let close = loop {
        n += 1;
        assert!(n < 1_000_000, "the link takes all of it");
        peer.say(&format!(r#"{{"seq":{n},"type":"tick_event","data":{{"n":{n}}}}}"#)).await;
        if n % 64 == 0 {
            tokio::task::yield_now().await;
            most = most.max(on_heap().saturating_sub(before));
        }
        if let Some(Some(Incoming::Text(text))) = peer.any().now_or_never() {
            break text;
        }
    };
    assert!(close.as_str().contains("The inbox is full"), "{}", close.as_str());
    assert!(soon(link.closed()).await.reason.as_str().starts_with("The inbox is full"));
    eprintln!("{n} events, {most} bytes");
    assert!(n > 1000, "{n} events have room");
    assert!(most <= INBOX + INBOX / 4, "{n} events take {most} bytes");
}
