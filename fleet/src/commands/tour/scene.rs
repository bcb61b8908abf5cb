//! Who takes part: a master, a control, and two slaves, one of them behind a cable.

use std::sync::Arc;
use std::time::Duration;

use seqlink::catalog::game_node::PlayerUpdate;
use seqlink::{
    Client, Closed, Config, Control, Ctx, Link, LinkState, Master, MembershipEvent, Role, Router,
    Secret, Slave,
};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::cable::Cable;
use crate::node::{self, Node, Patience, Reaper};
use crate::queue::{self, Dispatcher};
use crate::settings::{Failure, random};

/// The game that everybody plays: three seconds of it.
const GAMES: &str = include_str!("games.json");
/// Longer than a game lasts, for one that does not end.
const PATIENCE: Patience = Patience {
    shutdown: Duration::from_secs(3),
    end: Duration::from_secs(3),
    terminate: Duration::from_secs(1),
};

/// How long the master holds the session of a node that it does not hear of: less than a game, so
/// that the tour sees the end of it.
const SESSION: Duration = Duration::from_secs(1);

/// Something that was seen on a link.
#[derive(Debug)]
pub(crate) enum Seen {
    /// By the master: a slave has a link.
    Joined(i64),
    /// By the master: a slave's link has ended.
    Left(i64, Closed),
    /// By a slave: its link had lost its socket and has one again, and so many frames went out once more.
    Resumed(i64, usize),
    /// By the control: what became of a player.
    Update(PlayerUpdate),
}

/// Everybody who takes part.
#[derive(Debug)]
pub(crate) struct Scene {
    master: Master,
    address: String,
    /// To node 2.
    cable: Cable,
    slaves: Vec<(Client, Arc<Node>)>,
    control: Client,
    seen: UnboundedReceiver<Seen>,
}

impl Scene {
    /// Starts everybody; the nodes may not be registered yet.
    pub(crate) async fn set() -> Result<Self, Failure> {
        let (sender, seen) = unbounded_channel();
        let offers = queue::parse(GAMES).map_err(|(_, fault)| Failure::failed(fault))?;
        let packages: Vec<String> = offers.iter().map(|offer| offer.package.clone()).collect();
        let dispatcher = Dispatcher::start(offers, |_| {});
        // It stays in this program: nobody else is to run commands here.
        let token = Secret::from(random::hex::<32>().map_err(Failure::failed)?);
        let master = master(&dispatcher, &token, sender.clone())?;
        let port = master.listen("127.0.0.1:0").await.map_err(Failure::failed)?;
        let cable = Cable::lay(port).await.map_err(Failure::failed)?;
        let reaper = Reaper::start().map_err(Failure::failed)?;
        let mut slaves = Vec::new();
        for (id, address) in [(1, port), (2, cable.address())] {
            let node = Node::new(PATIENCE, Some(reaper.clone()));
            let url = format!("ws://{address}/");
            let slave = slave(id, &url, &token, &node, &packages).await?;
            tokio::spawn(follow(id, slave.clone(), sender.clone()));
            slaves.push((slave, node));
        }
        let control = Control::builder()
            .url(format!("ws://{port}/"))
            .agent("seqlink tour")
            .token(token)
            .router(Router::new(sender).event(player_update))
            .connect()
            .await
            .map_err(|error| Failure::from(&error))?;
        let address = format!("ws://{port}/api/socket");
        Ok(Self { master, address, cable, slaves, control, seen })
    }

    /// Where the master listens.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// The control's link.
    pub(crate) async fn control(&self) -> Result<Link, Failure> {
        self.control.link().await.map_err(Failure::failed)
    }

    /// Cuts the cable to node 2.
    pub(crate) fn cut_cable(&self) {
        self.cable.cut();
    }

    /// Pulls the plug of the cable to node 2.
    pub(crate) fn pull_cable(&self) {
        self.cable.pull();
    }

    /// Puts the plug in again.
    pub(crate) fn plug_cable(&self) {
        self.cable.plug();
    }

    /// What was seen next.
    pub(crate) async fn next(&mut self) -> Result<Seen, Failure> {
        self.seen.recv().await.ok_or_else(|| Failure::failed("nobody sees anything any more"))
    }

    /// Ends the games and closes all links.
    pub(crate) async fn strike(self, reason: &str) {
        for (slave, node) in &self.slaves {
            node.close().await;
            slave.close(reason).await;
        }
        self.control.close(reason).await;
        self.master.shutdown(reason, Duration::from_secs(10)).await;
    }
}

/// Tells what becomes of a slave's links.
async fn follow(id: i64, slave: Client, seen: UnboundedSender<Seen>) {
    while let Ok(link) = slave.link().await {
        let mut states = link.states();
        while let Some(state) = states.next().await {
            if let LinkState::Resumed { again } = state {
                // Nobody listens any more when the tour is over.
                let _ = seen.send(Seen::Resumed(id, again));
            }
        }
    }
}

fn master(
    dispatcher: &Arc<Dispatcher>,
    token: &Secret,
    seen: UnboundedSender<Seen>,
) -> Result<Master, Failure> {
    let told = Arc::clone(dispatcher);
    let on_change = move |change: MembershipEvent| {
        let id = |link: &Link| link.peer().id.filter(|_| link.peer().role == Role::Slave);
        let sight = match &change {
            MembershipEvent::Joined(link) => id(link).map(Seen::Joined),
            MembershipEvent::Left(link, closed) => {
                id(link).map(|id| Seen::Left(id, closed.clone()))
            }
            _ => None,
        };
        if let Some(sight) = sight {
            let _ = seen.send(sight);
        }
        told.on_change(change);
    };
    let mut config = Config::default();
    config.session_timeout = SESSION;
    Master::builder()
        .config(config)
        .token(token.clone())
        .router(queue::router(dispatcher))
        .on_change(on_change)
        .build()
        .map_err(Failure::failed)
}

async fn slave(
    id: i64,
    url: &str,
    token: &Secret,
    node: &Arc<Node>,
    packages: &[String],
) -> Result<Client, Failure> {
    let name = format!("node {id}");
    let client = Slave::builder()
        .url(url)
        .id(id)
        .name(&name)
        .agent("seqlink tour")
        .token(token.clone())
        .router(node.router())
        .connect()
        .await
        .map_err(|error| Failure::from(&error))?;
    let registration = node::describe(id, &name, url, packages.to_vec()).await;
    let (keeper, node) = (client.clone(), Arc::clone(node));
    tokio::spawn(async move { node::keep(&keeper, &node, &registration).await });
    Ok(client)
}

async fn player_update(update: PlayerUpdate, ctx: Ctx<UnboundedSender<Seen>>) {
    // Nobody looks any more when the tour is over.
    let _ = ctx.state().send(Seen::Update(update));
}
