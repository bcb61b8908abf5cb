//! The examples that need nothing but the library, as programs; those of the fleet are its tests' matter.

mod programs;

#[cfg(all(unix, feature = "hyper"))]
use std::io::{Read, Write};
use std::process::Command;

use programs::{Program, example, run};
use seqlink::catalog::game_node::{
    JoinQueue, ListNodes, NodeState, PlayerStatus, PlayerUpdate, RequestFrom, StopGame,
};
use seqlink::{ConnectError, Control, Ctx, Router};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

/// Runs an example that ends by itself. Returns what it printed.
fn said(name: &str) -> String {
    let output = run(example(name, &[]));
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}{err}");
    out.into_owned()
}

#[test]
fn two_ways_ask_and_are_asked() {
    let said = said("two_ways");
    assert!(said.contains("the slave says 42") && said.contains("the master says 42"), "{said}");
}

#[test]
fn a_cut_cable_loses_nothing() {
    let said = said("cut_cable");
    assert!(said.contains("resumed") && said.ends_with("answered: Empty\n"), "{said}");
}

#[test]
fn a_control_reaches_a_slave_through_their_master() {
    let said = said("forwarding");
    for line in ["slave 7 starts instance 44", "instance 44 has started", "instance 45: "] {
        assert!(said.contains(line), "{said}");
    }
}

#[cfg(all(unix, feature = "hyper"))]
#[test]
fn a_mounted_master_stands_beside_the_pages_of_its_application() {
    let mut program = Program::start(example("mounted", &[]));
    program.says("slave 7 is here");
    let said = program.out();
    let address = said.trim_start_matches("http://").split('/').next().unwrap();
    let mut socket = std::net::TcpStream::connect(address).unwrap();
    socket
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut page = String::new();
    socket.read_to_string(&mut page).unwrap();
    assert!(page.starts_with("HTTP/1.1 200 ") && page.ends_with("1 slaves\n"), "{page}");
    drop(socket);
    program.interrupt();
    assert_eq!(program.end(), 0, "{}", program.err());
}

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
