//! The waiting queue against a model of its own: random joins, leaves, stops, bad and late answers,
//! lost nodes and returning ones.
//!
//! Two models watch it, and neither shares a line with it. The ledger holds what is promised about
//! players: who has a place, in which order they wait, how often a place was put back. The machines
//! are honest nodes that run one game each and lose it only when told, when it ends, or when they
//! are switched off; they fail the test when they are told to start a second one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use seqlink::catalog::game_node::{
    Action, Assignment, Code, Leaving, NodeRegistration, NodeState, Outcome, PlayerStatus,
    PlayerUpdate, RequestFrom, Settings, WaitingQueue,
};

const USERS: i64 = 7;
const NODES: i64 = 3;
const PACKAGES: [(i64, &str); 3] = [(1, "chess"), (2, "golf"), (3, "chess")];
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
const LONGEST_REST: Duration = Duration::from_secs(4);

/// What happens next.
#[derive(Clone, Debug)]
enum Step {
    Join(i64, i64),
    Leave(i64),
    Stop(i64, i64),
    /// A node registers: on its link, or on a new one whether or not the old one is known as lost.
    Register {
        node: i64,
        chess: bool,
        golf: bool,
        new_link: bool,
    },
    /// A node's link is lost; what was sent may have been done before, and the machine may be
    /// switched off.
    Lose {
        node: i64,
        done: bool,
        off: bool,
    },
    /// A link from before the present one is reported as lost, late.
    LoseLate(i64),
    /// A machine does what one of the requests that are out asks for, and does not answer yet.
    Begin(usize),
    /// One of the requests that are out is answered.
    Answer(usize, Answer),
    /// An answer comes a second time, or from a link that is gone.
    AnswerLate(usize, Answer),
    /// A running game ends by itself.
    End(i64),
    /// A node's report arrives.
    Report(i64),
    /// A node reports the end of a game it does not run.
    ReportWrong(i64, i64, i64),
    Pass(u64),
}

/// How a request is answered.
#[derive(Clone, Copy, Debug)]
enum Answer {
    /// It is done, and said so; a stop of nothing says that there is nothing.
    Honest,
    /// It is not done, and said so.
    Refused,
    /// Nothing is said; it is done or not.
    Silent { done: bool },
}

fn answers() -> impl Strategy<Value = Answer> {
    prop_oneof![
        6 => Just(Answer::Honest),
        2 => Just(Answer::Refused),
        2 => any::<bool>().prop_map(|done| Answer::Silent { done }),
    ]
}

fn steps() -> impl Strategy<Value = Step> {
    let (user, game, node) = (0..USERS, 1..=4_i64, 0..NODES);
    let (user, game, node) = (&user, &game, &node);
    prop_oneof![
        8 => (user.clone(), game.clone()).prop_map(|(user, game)| Step::Join(user, game)),
        3 => user.clone().prop_map(Step::Leave),
        3 => (user.clone(), game.clone()).prop_map(|(user, game)| Step::Stop(user, game)),
        4 => (node.clone(), any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
            |(node, chess, golf, new_link)| Step::Register { node, chess, golf, new_link }
        ),
        2 => (node.clone(), any::<bool>(), any::<bool>())
            .prop_map(|(node, done, off)| Step::Lose { node, done, off }),
        1 => node.clone().prop_map(Step::LoseLate),
        3 => any::<usize>().prop_map(Step::Begin),
        14 => (any::<usize>(), answers()).prop_map(|(which, how)| Step::Answer(which, how)),
        2 => (any::<usize>(), answers()).prop_map(|(which, how)| Step::AnswerLate(which, how)),
        3 => node.clone().prop_map(Step::End),
        4 => node.clone().prop_map(Step::Report),
        1 => (node.clone(), user.clone(), game.clone())
            .prop_map(|(node, user, game)| Step::ReportWrong(node, user, game)),
        3 => (0..12_000_u64).prop_map(Step::Pass),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Sent {
    Prepare,
    Play,
    Stop,
}

/// A node as it really is.
#[derive(Debug, Default)]
struct Machine {
    link: Option<u64>,
    games: BTreeSet<i64>,
    running: Option<(i64, i64)>,
    reports: VecDeque<(i64, i64)>,
    /// When it was last seen with something to do.
    busy: Option<Instant>,
    /// When it last gave a bad answer.
    bad: Option<Instant>,
}

/// A player's place as it is promised.
#[derive(Clone, Debug, PartialEq)]
struct Entry {
    game: i64,
    arrival: u64,
    returned: bool,
    node: Option<i64>,
    /// Of the assignment to that node.
    number: u64,
    /// Asked to leave while on a node.
    leaving: bool,
    /// When its node was told to stop.
    stopping: Option<Instant>,
    /// The end of the game was reported before its play was answered.
    ended: bool,
    status: PlayerStatus,
}

/// A request that is not answered yet.
#[derive(Clone, Copy, Debug)]
struct Out {
    sent: Sent,
    assignment: Assignment,
    done: bool,
}

struct World {
    queue: WaitingQueue,
    now: Instant,
    rests: bool,
    links: u64,
    arrivals: u64,
    machines: BTreeMap<i64, Machine>,
    ledger: BTreeMap<i64, Entry>,
    out: Vec<Out>,
    old: Vec<(Sent, Assignment)>,
    /// What the present step may and must do to players.
    due: BTreeMap<i64, PlayerStatus>,
    started: BTreeSet<u64>,
    served: BTreeSet<i64>,
}

impl World {
    fn new(rests: bool) -> Self {
        let rest = if rests { Duration::from_secs(1) } else { Duration::ZERO };
        let settings = Settings {
            stop_timeout: STOP_TIMEOUT,
            rest,
            longest_rest: LONGEST_REST,
            ..Settings::default()
        };
        let games = PACKAGES.map(|(game, package)| (game, package.to_string()));
        Self {
            queue: WaitingQueue::new(games, settings),
            now: Instant::now(),
            rests,
            links: 0,
            arrivals: 0,
            machines: (0..NODES).map(|node| (node, Machine::default())).collect(),
            ledger: BTreeMap::new(),
            out: Vec::new(),
            old: Vec::new(),
            due: BTreeMap::new(),
            started: BTreeSet::new(),
            served: BTreeSet::new(),
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Join(user, game) => self.join(user, game),
            Step::Leave(user) => self.leave(user, None),
            Step::Stop(user, game) => self.leave(user, Some(game)),
            Step::Register { node, chess, golf, new_link } => {
                let packages = [(chess, "chess"), (golf, "golf")];
                let packages = packages.iter().filter(|(has, _)| *has).map(|(_, name)| *name);
                self.register(node, &packages.collect::<Vec<_>>(), new_link);
            }
            Step::Lose { node, done, off } => self.lose(node, done, off),
            Step::LoseLate(node) => {
                for link in 0..self.machines[&node].link.unwrap_or(self.links + 1) {
                    self.queue.handle_lost(self.now, node, link);
                    self.expect_nothing();
                }
            }
            Step::Begin(which) if !self.out.is_empty() => {
                let which = which % self.out.len();
                let out = self.out[which];
                if out.sent == Sent::Play && !out.done {
                    self.out[which].done = self.carry_out(out.sent, &out.assignment);
                }
            }
            Step::Answer(which, how) if !self.out.is_empty() => {
                self.answer(which % self.out.len(), how);
            }
            Step::AnswerLate(which, how) if !self.old.is_empty() => {
                let (sent, assignment) = self.old[which % self.old.len()];
                self.tell(sent, &assignment, &outcome(how));
                self.expect_nothing();
            }
            Step::Begin(_) | Step::Answer(..) | Step::AnswerLate(..) => {}
            Step::End(node) => {
                let machine = self.machines.get_mut(&node).unwrap();
                let ended = machine.running.take();
                machine.reports.extend(ended.filter(|_| machine.link.is_some()));
            }
            Step::Report(node) => self.report(node),
            Step::ReportWrong(node, user, game) => self.report_wrong(node, user, game),
            Step::Pass(milliseconds) => self.pass(Duration::from_millis(milliseconds)),
        }
        self.check();
    }

    fn join(&mut self, user: i64, game: i64) {
        let had = self.ledger.get(&user).cloned();
        let place = self.queue.join(self.now, user, game, RequestFrom::Website);
        if let Some(had) = had {
            let place = place.expect("who has a place keeps it");
            assert_eq!(place.status, had.status);
            return self.expect_nothing();
        }
        if game > PACKAGES.len() as i64 {
            assert!(place.is_err(), "there is no such game");
            return self.expect_nothing();
        }
        let status = PlayerStatus::Queued;
        let arrival = self.arrivals;
        self.arrivals += 1;
        let entry = Entry {
            game,
            arrival,
            returned: false,
            node: None,
            number: 0,
            leaving: false,
            stopping: None,
            ended: false,
            status,
        };
        self.ledger.insert(user, entry);
        self.due.insert(user, PlayerStatus::Queued);
        self.obey();
        assert_eq!(place.unwrap().status, self.ledger[&user].status);
    }

    fn leave(&mut self, user: i64, game: Option<i64>) {
        let answer = match game {
            None => self.queue.leave(self.now, user),
            Some(game) => self.queue.stop(self.now, user, game),
        };
        let entry = self.ledger.get_mut(&user);
        let Some(entry) = entry.filter(|entry| game.is_none_or(|game| game == entry.game)) else {
            assert!(answer.is_err(), "there is nothing to leave");
            return self.expect_nothing();
        };
        match answer.expect("who has a place can leave") {
            Leaving::Left => {
                self.due.insert(user, PlayerStatus::Stopped);
            }
            Leaving::Stopping { node } => {
                assert_eq!(entry.node, Some(node));
                entry.leaving = true;
                entry.status = PlayerStatus::Playing;
            }
        }
        self.obey();
    }

    fn register(&mut self, node: i64, packages: &[&str], new_link: bool) {
        let before = self.machines[&node].link;
        if before.is_none() || new_link {
            self.links += 1;
            if before.is_some() {
                self.forget_link(node, false, false);
            }
            self.machines.get_mut(&node).unwrap().link = Some(self.links);
        }
        let machine = self.machines.get_mut(&node).unwrap();
        // Registering ends a rest.
        (machine.bad, machine.busy) = (None, None);
        let has = |package: &str| packages.contains(&package);
        machine.games =
            PACKAGES.iter().filter(|(_, package)| has(package)).map(|(game, _)| *game).collect();
        let registration = NodeRegistration {
            node,
            link: machine.link.unwrap(),
            name: format!("node {node}"),
            installed_packages: packages.iter().map(|name| name.to_string()).collect(),
        };
        self.queue.handle_registered(self.now, registration.clone()).unwrap();
        self.obey();
        let older = NodeRegistration { link: 0, installed_packages: Vec::new(), ..registration };
        assert!(self.queue.handle_registered(self.now, older).is_err());
        self.expect_nothing();
    }

    fn lose(&mut self, node: i64, done: bool, off: bool) {
        let Some(link) = self.machines[&node].link else { return };
        self.forget_link(node, done, off);
        self.queue.handle_lost(self.now, node, link);
        self.obey();
        let late = NodeRegistration {
            node,
            link,
            name: "late".into(),
            installed_packages: vec!["chess".into(), "golf".into()],
        };
        assert!(self.queue.handle_registered(self.now, late).is_err());
        self.expect_nothing();
    }

    /// The link is gone: what was on its way is, too, and whoever had the node is put back.
    fn forget_link(&mut self, node: i64, done: bool, off: bool) {
        let (gone, kept): (Vec<Out>, _) =
            self.out.iter().copied().partition(|out| out.assignment.node == node);
        self.out = kept;
        for out in gone {
            if done && !out.done {
                self.carry_out(out.sent, &out.assignment);
            }
            self.old.push((out.sent, out.assignment));
        }
        let machine = self.machines.get_mut(&node).unwrap();
        machine.link = None;
        machine.reports.clear();
        if off {
            machine.running = None;
        }
        let on_it = |(_, entry): &(&i64, &Entry)| entry.node == Some(node);
        let holder = self.ledger.iter().find(on_it).map(|(user, _)| *user);
        if let Some(user) = holder {
            self.fail_once(user);
        }
    }

    /// The place of this player, who is on a node, did not work out.
    fn fail_once(&mut self, user: i64) {
        let entry = &self.ledger[&user];
        let status = match entry {
            Entry { leaving: true, .. } | Entry { ended: true, .. } => PlayerStatus::Stopped,
            Entry { returned: true, .. } => PlayerStatus::Failed,
            _ => PlayerStatus::Queued,
        };
        self.due.insert(user, status);
    }

    fn answer(&mut self, which: usize, how: Answer) {
        // A link keeps its order: what the node reported before, is here before.
        let node = self.out[which].assignment.node;
        while !self.machines[&node].reports.is_empty() {
            self.report(node);
        }
        let Out { sent, assignment, done } = self.out.remove(which);
        let how = if done && matches!(how, Answer::Refused) { Answer::Honest } else { how };
        let mut outcome = outcome(how);
        match how {
            Answer::Honest | Answer::Silent { done: true } if !done => {
                let something = self.carry_out(sent, &assignment);
                if !something && matches!(how, Answer::Honest) {
                    let message = "nothing runs".into();
                    outcome = Outcome::Refused { code: Code::NOT_FOUND, message };
                }
            }
            _ => {}
        }
        self.predict(sent, &assignment, &outcome);
        self.tell(sent, &assignment, &outcome);
        if sent != Sent::Stop {
            self.old.push((sent, assignment));
        }
        self.obey();
    }

    /// What must become of the player of a request that is answered.
    fn predict(&mut self, sent: Sent, assignment: &Assignment, outcome: &Outcome) {
        let user = assignment.user;
        let Some(entry) = self.ledger.get(&user) else { return };
        if (entry.node, entry.number) != (Some(assignment.node), assignment.number) {
            return;
        }
        let due = match (sent, outcome) {
            (Sent::Play, Outcome::Good | Outcome::Unknown { .. }) if entry.leaving => return,
            (Sent::Play, Outcome::Good) if entry.ended => PlayerStatus::Stopped,
            (Sent::Play, Outcome::Good) => PlayerStatus::Playing,
            (Sent::Stop, Outcome::Refused { code: Code::NOT_FOUND, .. }) => PlayerStatus::Stopped,
            (Sent::Prepare, Outcome::Good) | (Sent::Stop, _) => return,
            (Sent::Prepare | Sent::Play, _) => {
                if !entry.leaving && !entry.ended {
                    self.machines.get_mut(&assignment.node).unwrap().bad = Some(self.now);
                }
                return self.fail_once(user);
            }
        };
        self.due.insert(user, due);
    }

    /// The machine does what it was sent; false when there is nothing to stop.
    fn carry_out(&mut self, sent: Sent, assignment: &Assignment) -> bool {
        let machine = self.machines.get_mut(&assignment.node).unwrap();
        let game = (assignment.user, assignment.game);
        match sent {
            Sent::Prepare => {}
            Sent::Play => {
                assert_eq!(machine.running, None, "two games on node {}", assignment.node);
                machine.running = Some(game);
            }
            Sent::Stop if machine.running == Some(game) => {
                machine.running = None;
                machine.reports.push_back(game);
            }
            Sent::Stop => return false,
        }
        true
    }

    fn report(&mut self, node: i64) {
        let machine = self.machines.get_mut(&node).unwrap();
        let Some((user, game)) = machine.reports.pop_front() else { return };
        let unanswered = |out: &Out| out.sent == Sent::Play && out.assignment.node == node;
        let early = self.out.iter().any(unanswered);
        let on_it = |entry: &&mut Entry| entry.node == Some(node) && entry.game == game;
        if let Some(entry) = self.ledger.get_mut(&user).filter(on_it) {
            // Who has not been told that the game runs is told so first.
            if early && !entry.leaving {
                entry.ended = true;
            } else {
                self.due.insert(user, PlayerStatus::Stopped);
            }
        }
        let answer = self.queue.handle_stop_finish(self.now, node, user, game);
        assert!(answer.is_ok(), "an honest report: {answer:?}");
        self.obey();
    }

    fn report_wrong(&mut self, node: i64, user: i64, game: i64) {
        let of = |it: &Assignment| (it.node, it.user, it.game) == (node, user, game);
        let on_it = |entry: &Entry| entry.node == Some(node) && entry.game == game;
        // What a node has been told to clear away, only the queue knows; these are left out.
        let shown = self.queue.nodes().into_iter().find(|entry| entry.id == node);
        let clearing = shown.is_some_and(|it| it.user_id.is_none() && it.game_id == Some(game));
        let asked = self.out.iter().any(|out| of(&out.assignment));
        if !clearing && !asked && !self.ledger.get(&user).is_some_and(on_it) {
            assert!(self.queue.handle_stop_finish(self.now, node, user, game).is_err());
            self.expect_nothing();
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        if self.queue.poll_timeout().is_none_or(|at| at > self.now) {
            return;
        }
        for (user, entry) in &self.ledger {
            if entry.stopping.is_some_and(|told| told + STOP_TIMEOUT <= self.now) {
                self.due.insert(*user, PlayerStatus::Failed);
            }
        }
        self.queue.handle_timeout(self.now);
        self.obey();
        assert!(self.queue.poll_timeout().is_none_or(|at| at > self.now), "the timer spins");
    }

    fn tell(&mut self, sent: Sent, assignment: &Assignment, outcome: &Outcome) {
        match sent {
            Sent::Prepare => self.queue.handle_prepare_answer(self.now, assignment, outcome),
            Sent::Play => self.queue.handle_play_answer(self.now, assignment, outcome),
            Sent::Stop => self.queue.handle_stop_answer(self.now, assignment, outcome),
        }
    }

    fn expect_nothing(&mut self) {
        assert_eq!(self.queue.poll_action(), None);
    }

    /// Takes the actions, and expects that all that was due has come.
    fn obey(&mut self) {
        self.take_actions();
        assert!(self.due.is_empty(), "still due: {:?}", self.due);
    }

    fn take_actions(&mut self) {
        while let Some(action) = self.queue.poll_action() {
            match action {
                Action::Prepare(it) => self.prepared(it),
                Action::Play(it) => {
                    assert!(self.started.insert(it.number), "played twice");
                    self.send(Sent::Play, it);
                }
                Action::Stop(it) => {
                    let its = |entry: &&mut Entry| entry.number == it.number && entry.leaving;
                    if let Some(entry) = self.ledger.get_mut(&it.user).filter(its) {
                        entry.stopping = Some(self.now);
                    }
                    self.send(Sent::Stop, it);
                }
                Action::Update(update) => self.updated(&update),
            }
        }
    }

    fn send(&mut self, sent: Sent, assignment: Assignment) {
        assert_eq!(self.machines[&assignment.node].link, Some(assignment.link));
        self.out.push(Out { sent, assignment, done: false });
    }

    fn prepared(&mut self, it: Assignment) {
        let machine = &self.machines[&it.node];
        assert!(machine.games.contains(&it.game), "the node has not the game");
        assert_eq!(machine.running, None, "the node runs a game");
        assert!(!self.rests || machine.bad != Some(self.now), "the node does not rest");
        assert!(machine.reports.is_empty(), "the node has not told yet that its game is gone");
        assert!(self.ledger.values().all(|entry| entry.node != Some(it.node)), "the node is taken");
        let first =
            self.line().into_iter().find(|user| machine.games.contains(&self.ledger[user].game));
        assert_eq!(first, Some(it.user), "out of order");
        assert_eq!(it.request_from, RequestFrom::Website);
        let entry = self.ledger.get_mut(&it.user).unwrap();
        assert_eq!(entry.node, None, "has a node already");
        entry.node = Some(it.node);
        entry.number = it.number;
        self.send(Sent::Prepare, it);
    }

    fn updated(&mut self, update: &PlayerUpdate) {
        let user = update.user_id;
        let entry = self.ledger.get_mut(&user).expect("told of nobody");
        assert_eq!(update.game_id, entry.game);
        let before = entry.status;
        entry.status = update.status;
        match update.status {
            PlayerStatus::Preparing => {
                assert_eq!((before, update.slave_id), (PlayerStatus::Queued, entry.node));
                return;
            }
            PlayerStatus::Playing => {
                self.served.insert(user);
                assert_eq!((before, update.slave_id), (PlayerStatus::Preparing, entry.node));
                if self.due.get(&user) == Some(&PlayerStatus::Stopped) {
                    return;
                }
            }
            PlayerStatus::Queued => {
                if update.message.is_some() {
                    assert!(!entry.returned, "put back twice");
                    entry.returned = true;
                    entry.node = None;
                }
                assert_eq!(update.slave_id, None);
                let place = 1 + self.line().iter().position(|other| *other == user).unwrap();
                assert_eq!(update.position, place as u64);
            }
            PlayerStatus::Stopped => {
                self.ledger.remove(&user);
            }
            PlayerStatus::Failed => {
                assert!(entry.returned || entry.leaving, "failed the first time");
                assert!(update.message.is_some(), "failed without a reason");
                self.ledger.remove(&user);
            }
        }
        assert_eq!(self.due.remove(&user), Some(update.status), "not due: {update:?}");
    }

    /// Who waits, in the order that is promised.
    fn line(&self) -> Vec<i64> {
        let waiting = self.ledger.iter().filter(|(_, entry)| entry.node.is_none());
        let mut line: Vec<_> =
            waiting.map(|(user, entry)| (!entry.returned, entry.arrival, *user)).collect();
        line.sort_unstable();
        line.into_iter().map(|(.., user)| user).collect()
    }

    /// What holds at any time.
    fn check(&mut self) {
        let line = self.line();
        let waiting = self.queue.waiting(self.now);
        assert_eq!(waiting.iter().map(|it| it.user_id).collect::<Vec<_>>(), line, "the line");
        assert!(waiting.iter().map(|it| it.position).eq(1..=line.len() as u64));
        for user in 0..USERS {
            let place = self.queue.place(user);
            assert_eq!(place.map(|it| it.status), self.ledger.get(&user).map(|it| it.status));
            let position = line.iter().position(|other| *other == user).map_or(0, |at| at + 1);
            assert_eq!(self.queue.position(user), position as u64);
        }
        let nodes = self.queue.nodes();
        let on_nodes = nodes.iter().filter_map(|node| Some((node.user_id?, node.id)));
        let held = self.ledger.iter().filter_map(|(user, entry)| Some((*user, entry.node?)));
        let on_nodes: Vec<_> = on_nodes.collect();
        let distinct: BTreeMap<_, _> = on_nodes.iter().copied().collect();
        assert_eq!(distinct.len(), on_nodes.len(), "a player on two nodes");
        assert_eq!(distinct, held.collect(), "who is on which node");
        for node in &nodes {
            let machine = &self.machines[&node.id];
            assert_eq!((node.connected, node.name == "late"), (machine.link.is_some(), false));
            if let (true, Some(running)) = (node.connected, machine.running) {
                let held = node.user_id == Some(running.0) && node.game_id == Some(running.1);
                assert!(held || node.state == NodeState::Stopping, "runs unseen: {node:?}");
            }
            let idle = node.connected && node.state == NodeState::Idle;
            let wanted = line.iter().any(|user| machine.games.contains(&self.ledger[user].game));
            let rests = machine.busy.is_some_and(|busy| self.now < busy + LONGEST_REST);
            assert!(!(idle && wanted) || (self.rests && rests), "node {} idles", node.id);
            if !idle {
                self.machines.get_mut(&node.id).unwrap().busy = Some(self.now);
            }
        }
    }

    /// From now on all nodes are there and answer well, and every game ends: everybody who did not
    /// ask to leave gets to play, and in the end all nodes are free.
    fn serve_everybody(&mut self) {
        for node in 0..NODES {
            self.step(&Step::Register { node, chess: true, golf: true, new_link: false });
        }
        let waits = |(_, entry): &(&i64, &Entry)| entry.status != PlayerStatus::Playing;
        let unserved: BTreeSet<i64> =
            self.ledger.iter().filter(waits).map(|(user, _)| *user).collect();
        self.served.clear();
        let idle = |world: &Self| world.queue.nodes().iter().all(|it| it.state == NodeState::Idle);
        let mut rounds = 0;
        while !(self.ledger.is_empty() && idle(self)) {
            rounds += 1;
            assert!(rounds < 100, "nothing moves: {:?} {:?}", self.ledger, self.queue.nodes());
            while !self.out.is_empty() {
                self.step(&Step::Answer(0, Answer::Honest));
            }
            for node in 0..NODES {
                self.step(&Step::End(node));
                self.step(&Step::Report(node));
            }
            self.step(&Step::Pass(1000));
        }
        assert!(unserved.is_subset(&self.served), "{unserved:?}, but served {:?}", self.served);
    }
}

fn outcome(how: Answer) -> Outcome {
    match how {
        Answer::Honest => Outcome::Good,
        Answer::Refused => Outcome::Refused { code: Code::UNAVAILABLE, message: "no".into() },
        Answer::Silent { .. } => Outcome::Unknown { reason: "timed out".into() },
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_promises_hold_whatever_happens(
        rests in any::<bool>(),
        steps in prop::collection::vec(steps(), 1..120),
    ) {
        let mut world = World::new(rests);
        for step in &steps {
            world.step(step);
        }
        world.serve_everybody();
    }
}
