//! The examples that need nothing but the library, as programs; those of the fleet are its tests' matter.

mod programs;

use std::process::Command;

use programs::{Program, example};
use seqlink::catalog::game_node::{
    JoinQueue, ListNodes, NodeState, PlayerStatus, PlayerUpdate, RequestFrom, StopGame,
};
use seqlink::{ConnectError, Control, Ctx, Router};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

async fn update(update: PlayerUpdate, ctx: Ctx<UnboundedSender<PlayerUpdate>>) {
    let _ = ctx.state().send(update);
}

/// A player plays, is stopped, and the node is free; nobody gets in without the token that the master prints.
#[cfg(unix)]
#[tokio::test]
async fn a_master_and_a_slave_play_a_game() {
    let mut master = Program::start(example("master", &["--listen", "127.0.0.1:0"]));
    master.says("/api/socket\n");
    let said = master.out();
    let after =
        |start: &str| said.lines().find_map(|line| line.strip_prefix(start)).unwrap().to_owned();
    let (token, url) = (after("for the others: export SEQLINK_TOKEN="), after("link "));
    let stranger = Control::builder().url(&url).connect().await;
    assert!(matches!(stranger, Err(ConnectError::Authentication(_))), "{stranger:?}");

    let with_token = |mut command: Command| {
        command.env("SEQLINK_TOKEN", &token);
        command
    };
    let mut slave = Program::start(with_token(example("slave", &["--master", &url, "--id", "4"])));
    slave.says("registered");
    let (sender, mut updates) = unbounded_channel();
    let router = Router::new(sender).event(update);
    let control =
        Control::builder().url(&url).token(token.as_str()).router(router).connect().await.unwrap();
    let link = control.link().await.unwrap();
    let join = JoinQueue { user_id: 42, game_id: 1, request_from: RequestFrom::Api };
    link.request(&join).await.unwrap();
    while updates.recv().await.unwrap().status != PlayerStatus::Playing {}
    link.request(&StopGame { user_id: 42, game_id: 1 }).await.unwrap();
    let last = loop {
        let update = updates.recv().await.unwrap();
        if update.status != PlayerStatus::Playing {
            break update;
        }
    };
    assert_eq!((last.status, last.user_id), (PlayerStatus::Stopped, 42));
    let nodes = link.request(&ListNodes { after: None }).await.unwrap().list;
    assert_eq!((nodes.len(), nodes[0].id, nodes[0].state), (1, 4, NodeState::Idle));
    control.close("done").await;

    for program in [&mut slave, &mut master] {
        program.interrupt();
        assert_eq!(program.end(), 0, "{}", program.err());
    }
    assert!(slave.out().contains("has played"), "{}", slave.out());
}
