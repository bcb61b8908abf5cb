//! Lists that come in parts.

use seqlink::catalog::game_node::{ListNodes, ListQueue, NodeEntry, QueueEntry};
use seqlink::{Link, Request};

use crate::settings::Failure;

/// Most parts of a list: ten times what a master of this crate has. A list without an end is none.
const MOST_PARTS: usize = 1000;

/// All nodes, by id.
pub(crate) async fn nodes(link: &Link) -> Result<Vec<NodeEntry>, Failure> {
    let mut all: Vec<NodeEntry> = Vec::new();
    for _ in 0..MOST_PARTS {
        let after = all.last().map(|node| node.id);
        let answer = ask(link, &ListNodes { after }).await?;
        let is_last = !answer.more;
        all.extend(answer.list);
        if is_last {
            return Ok(all);
        }
    }
    Err(endless())
}

/// All who wait, by position.
pub(crate) async fn queue(link: &Link) -> Result<Vec<QueueEntry>, Failure> {
    let mut all: Vec<QueueEntry> = Vec::new();
    for _ in 0..MOST_PARTS {
        let after = all.last().map(|place| place.position);
        let answer = ask(link, &ListQueue { after }).await?;
        let is_last = !answer.more;
        all.extend(answer.list);
        if is_last {
            return Ok(all);
        }
    }
    Err(endless())
}

async fn ask<R: Request>(link: &Link, request: &R) -> Result<R::Response, Failure> {
    link.request(request).await.map_err(Failure::failed)
}

fn endless() -> Failure {
    Failure::failed(format_args!("the master's list has no end within {MOST_PARTS} parts"))
}
