//! What happens, and whether it happened as it should.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use seqlink::catalog::game_node::{
    JoinQueue, ListNodes, ListQueue, NodeState, PlayerStatus, PlayerUpdate, RequestFrom,
};
use seqlink::{ClosedBy, Link, Request};
use tokio::time::{Instant, sleep};

use super::scene::{Scene, Seen};
use crate::settings::Failure;

/// The players, in the order in which they join; the first has id 1.
const PLAYERS: [&str; 5] = ["Ann", "Ben", "Cleo", "Dan", "Eve"];
/// The game that all of them want.
const GAME: i64 = 1;
/// The node behind the cable.
const CABLED: i64 = 2;
/// How far into a game the cable is cut, and from then on how long until its plug is pulled.
const PAUSE: Duration = Duration::from_millis(400);

/// What has been seen so far.
#[derive(Debug)]
pub(crate) struct Story {
    start: Instant,
    /// Who has each node now.
    holders: BTreeMap<i64, i64>,
    /// Who had each node last.
    last: HashMap<i64, i64>,
    /// In the order in which they got their first node.
    served: Vec<i64>,
    done: Vec<i64>,
    cut: Cut,
}

/// How far the story of the cable is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    Whole,
    /// This player's game runs on the cabled node; cut at that time.
    Planned(i64, Instant),
    /// Cut, in the middle of this player's game.
    Done(i64),
    /// The link has gone on over a new socket, and the game with it; pulled at that time.
    Resumed(i64, Instant),
    /// Pulled, and the player's game still runs.
    Pulled(i64),
    /// The master has lost the node.
    Noticed(i64),
    /// And the player is the first who waits.
    PutInFront(i64),
    /// And the player's game runs once more.
    Mended,
}

impl Story {
    /// Starts the clock.
    pub(crate) fn new() -> Self {
        Self {
            start: Instant::now(),
            holders: BTreeMap::new(),
            last: HashMap::new(),
            served: Vec::new(),
            done: Vec::new(),
            cut: Cut::Whole,
        }
    }

    /// Lets everybody play; an error tells what did not come out as it should.
    pub(crate) async fn play(mut self, scene: &mut Scene) -> Result<(), Failure> {
        self.say(format_args!("the master listens on {}", scene.address()));
        let control = scene.control().await?;
        idle(&control).await?;
        self.say("node 1 and node 2 are registered and idle; node 2 is behind the cable");
        self.join(&control).await?;
        while self.done.len() < PLAYERS.len() {
            let cut_at = match self.cut {
                Cut::Planned(_, at) | Cut::Resumed(_, at) => Some(at),
                _ => None,
            };
            tokio::select! {
                seen = scene.next() => self.see(seen?, scene)?,
                () = until(cut_at) => self.cut(scene),
            }
        }
        check(self.cut == Cut::Mended, "nobody's game was cut off and played again")?;
        check(self.served == [1, 2, 3, 4, 5], "the players were not served in order of arrival")?;
        idle(&control).await?;
        let waiting = ask(&control, &ListQueue::default()).await?.list;
        check(waiting.is_empty(), "somebody still waits")?;
        self.say("all five have played, nobody waits, and both nodes are idle");
        Ok(())
    }

    /// Two nodes, so the first two get one at once.
    async fn join(&mut self, control: &Link) -> Result<(), Failure> {
        for (user, position) in (1..).zip([0, 0, 1, 2, 3]) {
            let join = JoinQueue { user_id: user, game_id: GAME, request_from: RequestFrom::Api };
            let place = ask(control, &join).await?;
            check(place.position == position, "a player has another place than expected")?;
        }
        self.say("five players join: Ann and Ben get a node each; Cleo, Dan and Eve wait");
        Ok(())
    }

    fn cut(&mut self, scene: &Scene) {
        match self.cut {
            Cut::Planned(player, _) => {
                scene.cut_cable();
                self.say(format_args!("the cable is cut while {} plays", name(player)));
                self.cut = Cut::Done(player);
            }
            Cut::Resumed(player, _) => {
                scene.pull_cable();
                self.say("the plug of the cable is pulled");
                self.cut = Cut::Pulled(player);
            }
            _ => {}
        }
    }

    fn see(&mut self, seen: Seen, scene: &Scene) -> Result<(), Failure> {
        match (seen, self.cut) {
            (Seen::Update(update), _) => return self.update(&update),
            (Seen::Resumed(CABLED, again), Cut::Done(player)) => {
                self.say(format_args!(
                    "node 2 has resumed, {again} sent again, 0 lost; {} plays on",
                    name(player)
                ));
                self.cut = Cut::Resumed(player, Instant::now() + PAUSE);
            }
            (Seen::Resumed(..), _) => return Err(Failure::failed("a link was cut by nobody")),
            (Seen::Left(CABLED, closed), Cut::Pulled(player)) => {
                check(closed.by == ClosedBy::Lost, "the link was closed instead of lost")?;
                self.say(format_args!("the master has given node 2 up: {}", closed.reason));
                scene.plug_cable();
                self.say("the plug is put in again");
                self.cut = Cut::Noticed(player);
            }
            (Seen::Left(..), _) => return Err(Failure::failed("a link ended without reason")),
            (Seen::Joined(CABLED), Cut::Noticed(_) | Cut::PutInFront(_)) => {
                self.say("node 2 has come back over a new link");
            }
            (Seen::Joined(_), _) => {}
        }
        Ok(())
    }

    fn update(&mut self, update: &PlayerUpdate) -> Result<(), Failure> {
        let user = update.user_id;
        let held = self.holders.iter().find(|(_, holder)| **holder == user).map(|(node, _)| *node);
        match (update.status, update.slave_id) {
            (PlayerStatus::Queued, _) => self.queued(user, held, update.position)?,
            (PlayerStatus::Preparing, Some(node)) => {
                check(held.is_none(), "a player has two nodes")?;
                check(self.holders.insert(node, user).is_none(), "a node has two players")?;
                if !self.served.contains(&user) {
                    self.served.push(user);
                }
            }
            (PlayerStatus::Playing, Some(node)) => {
                check(held == Some(node), "a game runs on a node that does not have its player")?;
                self.playing(user, node);
            }
            (PlayerStatus::Stopped, _) => {
                let node = held.ok_or_else(|| Failure::failed("a game ended on no node"))?;
                self.holders.remove(&node);
                self.last.insert(node, user);
                self.done.push(user);
            }
            (status, node) => {
                let message = update.message.as_deref().unwrap_or_default();
                let who = name(user);
                return Err(Failure::failed(format_args!("{who}: {status:?} {node:?} {message}")));
            }
        }
        Ok(())
    }

    fn queued(&mut self, user: i64, held: Option<i64>, position: u64) -> Result<(), Failure> {
        let Some(node) = held else { return Ok(()) };
        // Who had a node and waits again is the one whose node was lost.
        check(matches!(self.cut, Cut::Noticed(player) if player == user), "a node gave up")?;
        check(position == 1, "the player who lost the node is not the first in the queue")?;
        self.say(format_args!("{} is the first in the queue again", name(user)));
        self.holders.remove(&node);
        self.cut = Cut::PutInFront(user);
        Ok(())
    }

    fn playing(&mut self, user: i64, node: i64) {
        match self.last.get(&node) {
            Some(last) => self.say(format_args!(
                "{} is done; {} plays on node {node}",
                name(*last),
                name(user)
            )),
            None => self.say(format_args!("{} plays on node {node}", name(user))),
        }
        match self.cut {
            Cut::Whole if node == CABLED => {
                self.cut = Cut::Planned(user, Instant::now() + PAUSE);
            }
            Cut::PutInFront(player) if player == user => self.cut = Cut::Mended,
            _ => {}
        }
    }

    fn say(&self, what: impl std::fmt::Display) {
        println!("{:4.1} s  {what}", self.start.elapsed().as_secs_f64());
    }
}

/// Waits until both nodes are there with nothing to do; the tour's time limit ends a longer wait.
async fn idle(control: &Link) -> Result<(), Failure> {
    loop {
        let nodes = ask(control, &ListNodes::default()).await?.list;
        let idle = nodes.iter().filter(|node| node.connected && node.state == NodeState::Idle);
        if idle.count() == 2 {
            return Ok(());
        }
        sleep(Duration::from_millis(20)).await;
    }
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

async fn ask<R: Request>(link: &Link, request: &R) -> Result<R::Response, Failure> {
    link.request(request).await.map_err(Failure::failed)
}

fn check(good: bool, otherwise: &str) -> Result<(), Failure> {
    if good { Ok(()) } else { Err(Failure::failed(otherwise)) }
}

fn name(player: i64) -> &'static str {
    let index = usize::try_from(player - 1).unwrap_or(usize::MAX);
    PLAYERS.get(index).copied().unwrap_or("a stranger")
}
