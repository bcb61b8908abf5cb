use std::collections::BTreeMap;

use super::*;
use crate::catalog::game_node::{Code, GameResponse, NodeState};

const CHESS: i64 = 1;
const GOLF: i64 = 2;
/// Answers to [`Hall::answer`].
const GOOD: Outcome = Outcome::Good;

/// A queue with made-up time, whose actions are told as short lines.
struct Hall {
    queue: WaitingQueue,
    now: Instant,
    sent: BTreeMap<i64, Action>,
}

fn refused(code: Code) -> Outcome {
    Outcome::Refused { code, message: "no".into() }
}

fn unknown() -> Outcome {
    Outcome::Unknown { reason: "timed out".into() }
}

impl Hall {
    fn new(settings: Settings) -> Self {
        let games = [(CHESS, "chess".to_string()), (GOLF, "golf".to_string())];
        let queue = WaitingQueue::new(games, settings);
        Self { queue, now: Instant::now(), sent: BTreeMap::new() }
    }

    fn impatient() -> Self {
        Self::new(Settings { rest: Duration::ZERO, ..Settings::default() })
    }

    fn register(&mut self, node: i64, link: u64, packages: &[&str]) -> Vec<String> {
        let installed_packages = packages.iter().map(|package| package.to_string()).collect();
        let name = format!("node-{node}");
        let registration = NodeRegistration { node, link, name, installed_packages };
        self.queue.handle_registered(self.now, registration).unwrap();
        self.told()
    }

    fn join(&mut self, user: i64, game: i64) -> Vec<String> {
        self.queue.join(self.now, user, game, RequestFrom::Api).unwrap();
        self.told()
    }

    fn leave(&mut self, user: i64) -> Vec<String> {
        self.queue.leave(self.now, user).unwrap();
        self.told()
    }

    fn lose(&mut self, node: i64, link: u64) -> Vec<String> {
        self.queue.handle_lost(self.now, node, link);
        self.told()
    }

    /// Answers what was sent to the node last.
    fn answer(&mut self, node: i64, outcome: &Outcome) -> Vec<String> {
        let sent = self.sent[&node].clone();
        self.answer_to(&sent, outcome)
    }

    fn answer_to(&mut self, sent: &Action, outcome: &Outcome) -> Vec<String> {
        match sent {
            Action::Prepare(it) => self.queue.handle_prepare_answer(self.now, it, outcome),
            Action::Play(it) => self.queue.handle_play_answer(self.now, it, outcome),
            Action::Stop(it) => self.queue.handle_stop_answer(self.now, it, outcome),
            Action::Update(_) => unreachable!("an update is not sent to a node"),
        }
        self.told()
    }

    fn finish(&mut self, node: i64, user: i64, game: i64) -> Vec<String> {
        self.queue.handle_stop_finish(self.now, node, user, game).unwrap();
        self.told()
    }

    /// Lets a player join and play on a node that is free.
    fn play(&mut self, node: i64, user: i64, game: i64) {
        self.join(user, game);
        self.answer(node, &GOOD);
        let told = self.answer(node, &GOOD);
        assert_eq!(told, [format!("{user} playing @{node}")]);
    }

    fn pass(&mut self, time: Duration) -> Vec<String> {
        self.now += time;
        self.queue.handle_timeout(self.now);
        self.told()
    }

    fn told(&mut self) -> Vec<String> {
        let mut told = Vec::new();
        while let Some(action) = self.queue.poll_action() {
            let (what, it) = match &action {
                Action::Prepare(it) => ("prepare", it),
                Action::Play(it) => ("play", it),
                Action::Stop(it) => ("stop", it),
                Action::Update(update) => {
                    told.push(line(update));
                    continue;
                }
            };
            told.push(format!("{what} {}/{} @{}", it.user, it.game, it.node));
            self.sent.insert(it.node, action);
        }
        told
    }

    fn state(&self, node: i64) -> NodeState {
        self.queue.nodes().iter().find(|entry| entry.id == node).unwrap().state
    }

    fn order(&self) -> Vec<i64> {
        self.queue.waiting(self.now).iter().map(|entry| entry.user_id).collect()
    }
}

fn line(update: &crate::catalog::game_node::PlayerUpdate) -> String {
    let mut line = format!("{} {:?}", update.user_id, update.status).to_lowercase();
    if update.position > 0 {
        line += &format!(" {}", update.position);
    }
    if let Some(node) = update.slave_id {
        line += &format!(" @{node}");
    }
    if let Some(reason) = &update.message {
        line += &format!(": {reason}");
    }
    line
}

#[test]
fn a_player_is_served_and_the_next_follows() {
    let mut hall = Hall::impatient();
    assert_eq!(hall.register(7, 1, &["chess"]), [""; 0]);
    assert_eq!(hall.join(1, CHESS), ["1 queued 1", "prepare 1/1 @7", "1 preparing @7"]);
    assert_eq!(hall.join(2, CHESS), ["2 queued 1"]);
    assert_eq!(hall.answer(7, &GOOD), ["play 1/1 @7"]);
    assert_eq!(hall.state(7), NodeState::Preparing);
    assert_eq!(hall.answer(7, &GOOD), ["1 playing @7"]);
    assert_eq!(hall.state(7), NodeState::Playing);
    assert_eq!(hall.leave(1), ["stop 1/1 @7"]);
    assert_eq!(hall.state(7), NodeState::Stopping);
    assert_eq!(hall.answer(7, &GOOD), [""; 0]);
    let next = ["1 stopped @7", "prepare 2/1 @7", "2 preparing @7"];
    assert_eq!(hall.finish(7, 1, CHESS), next);
}

#[test]
fn a_node_takes_the_first_whose_game_it_has() {
    let mut hall = Hall::impatient();
    for (user, game) in [(1, GOLF), (2, CHESS), (3, GOLF), (4, CHESS)] {
        hall.join(user, game);
        hall.now += Duration::from_millis(500);
    }
    let waiting = hall.queue.waiting(hall.now);
    let shown: Vec<_> = waiting.iter().map(|it| (it.user_id, it.position, it.waited_ms)).collect();
    assert_eq!(shown, [(1, 1, 2000), (2, 2, 1500), (3, 3, 1000), (4, 4, 500)]);
    assert_eq!(hall.register(7, 1, &["chess"]), ["prepare 2/1 @7", "2 preparing @7"]);
    assert_eq!(hall.queue.position(3), 2);
    assert_eq!(hall.register(8, 1, &["chess", "golf"]), ["prepare 1/2 @8", "1 preparing @8"]);
    assert_eq!(hall.register(9, 1, &["poker"]), [""; 0]);
    assert_eq!(hall.register(9, 1, &["poker", "golf"]), ["prepare 3/2 @9", "3 preparing @9"]);
    assert_eq!(hall.order(), [4]);
}

#[test]
fn joining_again_answers_the_same_place() {
    let mut hall = Hall::impatient();
    hall.join(1, CHESS);
    hall.join(2, CHESS);
    let again = |hall: &mut Hall, game| {
        let place = hall.queue.join(hall.now, 2, game, RequestFrom::Website).unwrap();
        assert_eq!(hall.told(), [""; 0]);
        (place.status, place.position)
    };
    assert_eq!(again(&mut hall, CHESS), (PlayerStatus::Queued, 2));
    assert_eq!(again(&mut hall, GOLF), (PlayerStatus::Queued, 2));
    hall.leave(1);
    hall.register(7, 1, &["chess"]);
    assert_eq!(again(&mut hall, GOLF), (PlayerStatus::Preparing, 0));
    hall.answer(7, &GOOD);
    assert_eq!(again(&mut hall, CHESS), (PlayerStatus::Preparing, 0));
    hall.answer(7, &GOOD);
    assert_eq!(again(&mut hall, CHESS), (PlayerStatus::Playing, 0));
    hall.leave(2);
    assert_eq!(again(&mut hall, CHESS), (PlayerStatus::Playing, 0));
    hall.finish(7, 2, CHESS);
    assert_eq!(hall.join(2, CHESS)[0], "2 queued 1");
}

#[test]
fn an_unknown_game_and_a_full_queue_are_refused() {
    let mut hall = Hall::new(Settings { most_waiting: 1, ..Settings::default() });
    let join = |hall: &mut Hall, user, game| {
        let place = hall.queue.join(hall.now, user, game, RequestFrom::Api);
        place.map_err(|error| error.to_string())
    };
    assert_eq!(join(&mut hall, 1, 9), Err("there is no game 9".into()));
    assert_eq!(hall.queue.place(1), None);
    assert!(join(&mut hall, 1, GOLF).is_ok());
    assert_eq!(join(&mut hall, 2, GOLF), Err("the queue is full, 1 wait".into()));
    assert!(join(&mut hall, 1, GOLF).is_ok());
}

#[test]
fn a_bad_answer_puts_back_in_front_once_and_then_fails() {
    let mut hall = Hall::impatient();
    hall.register(7, 1, &["chess"]);
    hall.register(8, 1, &["chess"]);
    hall.join(1, CHESS);
    hall.join(2, CHESS);
    hall.join(3, CHESS);
    let back =
        ["1 queued 1: node 7 refused to prepare with 503: no", "prepare 1/1 @7", "1 preparing @7"];
    assert_eq!(hall.answer(7, &refused(Code::UNAVAILABLE)), back);
    assert_eq!(hall.answer(7, &GOOD), ["play 1/1 @7"]);
    let failed =
        ["1 failed @7: node 7 refused to play with 500: no", "prepare 3/1 @7", "3 preparing @7"];
    assert_eq!(hall.answer(7, &refused(Code::FAILED)), failed);
    assert_eq!(hall.queue.place(1), None);
    assert_eq!(hall.join(1, CHESS), ["1 queued 1"]);
}

#[test]
fn a_player_put_back_gets_another_node_that_is_idle() {
    let mut hall = Hall::impatient();
    hall.register(7, 1, &["chess"]);
    hall.register(8, 1, &["chess"]);
    hall.join(1, CHESS);
    let told = hall.answer(7, &unknown());
    let back = "1 queued 1: node 7 was told to prepare: timed out";
    assert_eq!(told, [back, "prepare 1/1 @8", "1 preparing @8"]);
}

#[test]
fn a_player_gets_the_node_that_is_idle_the_longest() {
    let mut hall = Hall::impatient();
    for node in [9, 7, 8] {
        hall.register(node, 1, &["chess"]);
    }
    hall.play(9, 1, CHESS);
    hall.finish(9, 1, CHESS);
    for (user, node) in [(2, 7), (3, 8), (4, 9)] {
        assert_eq!(hall.join(user, CHESS)[1], format!("prepare {user}/1 @{node}"));
    }
}

#[test]
fn who_was_put_back_waits_in_front_by_arrival() {
    let mut hall = Hall::impatient();
    hall.join(1, GOLF);
    hall.register(7, 1, &["chess"]);
    hall.register(8, 1, &["chess"]);
    hall.play(7, 2, CHESS);
    hall.play(8, 3, CHESS);
    hall.join(4, CHESS);
    assert_eq!(hall.lose(8, 1), ["3 queued 1: node 8 was lost"]);
    assert_eq!(hall.lose(7, 1), ["2 queued 1: node 7 was lost"]);
    assert_eq!(hall.order(), [2, 3, 1, 4]);
    let positions = [2, 3, 1, 4, 9].map(|user| hall.queue.position(user));
    assert_eq!(positions, [1, 2, 3, 4, 0]);
}

#[test]
fn a_node_rests_longer_with_each_bad_answer() {
    let mut hall = Hall::new(Settings::default());
    hall.register(7, 1, &["chess"]);
    hall.join(1, CHESS);
    hall.join(2, CHESS);
    let second = Duration::from_secs(1);
    for (pause, who) in [(1, "1"), (2, "2"), (4, "2"), (8, "")] {
        hall.answer(7, &refused(Code::UNAVAILABLE));
        assert_eq!(hall.state(7), NodeState::Idle);
        assert_eq!(hall.queue.poll_timeout(), Some(hall.now + pause * second));
        assert_eq!(hall.pass(pause * second - Duration::from_nanos(1)), [""; 0]);
        let told = hall.pass(Duration::from_nanos(1));
        assert_eq!(told.first().map_or("", |line| &line[8..9]), who);
        if who.is_empty() {
            break;
        }
    }
    assert_eq!(hall.queue.poll_timeout(), None);
    hall.play(7, 3, CHESS);
    hall.finish(7, 3, CHESS);
    hall.join(4, CHESS);
    hall.answer(7, &unknown());
    assert_eq!(hall.queue.poll_timeout(), Some(hall.now + second), "a good play resets it");
    let told = hall.register(7, 1, &["chess"]);
    assert_eq!(told[0], "prepare 4/1 @7", "registering ends a rest");
}

#[test]
fn after_an_unanswered_play_the_node_is_told_to_stop_first() {
    let mut hall = Hall::impatient();
    hall.register(7, 1, &["chess"]);
    hall.join(1, CHESS);
    hall.answer(7, &GOOD);
    let told = hall.answer(7, &unknown());
    assert_eq!(told, ["stop 1/1 @7", "1 queued 1: node 7 was told to play: timed out"]);
    let entry = hall.queue.nodes().remove(0);
    assert_eq!((entry.state, entry.user_id), (NodeState::Stopping, None));
    // The node ran nothing.
    let told = hall.answer(7, &refused(Code::NOT_FOUND));
    assert_eq!(told, ["prepare 1/1 @7", "1 preparing @7"]);
    hall.answer(7, &GOOD);
    let told = hall.answer(7, &unknown());
    assert_eq!(told, ["stop 1/1 @7", "1 failed @7: node 7 was told to play: timed out"]);
    hall.join(2, CHESS);
    // This time it did.
    assert_eq!(hall.answer(7, &GOOD), [""; 0]);
    assert_eq!(hall.finish(7, 1, CHESS), ["prepare 2/1 @7", "2 preparing @7"]);
}

#[test]
fn a_node_that_comes_back_clears_its_old_game_first() {
    let mut hall = Hall::impatient();
    hall.register(7, 1, &["chess"]);
    hall.play(7, 1, CHESS);
    assert_eq!(hall.lose(7, 1), ["1 queued 1: node 7 was lost"]);
    let entry = hall.queue.nodes().remove(0);
    assert_eq!((entry.connected, entry.state, entry.user_id), (false, NodeState::Idle, None));
    assert_eq!(hall.register(7, 2, &["chess"]), ["stop 1/1 @7"]);
    assert_eq!(hall.answer(7, &GOOD), [""; 0]);
    assert_eq!(hall.finish(7, 1, CHESS), ["prepare 1/1 @7", "1 preparing @7"]);
    assert_eq!(hall.lose(7, 2), ["1 failed @7: node 7 was lost"]);
    assert_eq!(hall.register(7, 3, &["chess"]), [""; 0], "nothing was started");
}

#[test]
fn answers_from_before_a_loss_do_nothing() {
    let mut hall = Hall::impatient();
    hall.register(7, 1, &["chess"]);
    hall.join(1, CHESS);
    let prepare = hall.sent[&7].clone();
    hall.lose(7, 1);
    let told = hall.register(7, 2, &["chess"]);
    assert_eq!(told, ["prepare 1/1 @7", "1 preparing @7"]);
    for outcome in [GOOD, refused(Code::FAILED), unknown()] {
        assert_eq!(hall.answer_to(&prepare, &outcome), [""; 0]);
    }
    assert_eq!(hall.answer(7, &GOOD), ["play 1/1 @7"]);
    let play = hall.sent[&7].clone();
    hall.register(7, 3, &["chess"]);
    let stop = hall.sent[&7].clone();
    hall.register(7, 4, &["chess"]);
    assert_eq!(hall.answer_to(&play, &GOOD), [""; 0]);
    assert_eq!(hall.answer_to(&stop, &refused(Code::NOT_FOUND)), [""; 0]);
    assert_eq!(hall.state(7), NodeState::Stopping);
}

#[test]
fn only_the_present_link_of_a_node_counts() {
    let mut hall = Hall::impatient();
    hall.register(7, 2, &["chess"]);
    hall.play(7, 1, CHESS);
    let late = |link| NodeRegistration {
        node: 7,
        link,
        name: "late".into(),
        installed_packages: vec!["golf".into()],
    };
    assert_eq!(
        hall.queue.handle_registered(hall.now, late(1)),
        Err(RegisterError::StaleLink { node: 7, link: 1 })
    );
    assert_eq!(hall.lose(7, 1), [""; 0]);
    assert_eq!(hall.register(7, 2, &["golf"]), [""; 0], "the same link: the game goes on");
    assert_eq!(hall.state(7), NodeState::Playing);
    assert_eq!(hall.queue.nodes()[0].installed_packages, ["golf"]);
    assert_eq!(hall.register(7, 3, &["golf"]), ["1 queued 1: node 7 was lost", "stop 1/1 @7"]);
    assert_eq!(hall.lose(7, 2), [""; 0]);
    hall.lose(7, 3);
    assert_eq!(
        hall.queue.handle_registered(hall.now, late(3)),
        Err(RegisterError::StaleLink { node: 7, link: 3 })
    );
    assert_eq!(hall.queue.nodes()[0].name, "node-7");
}

#[test]
fn leaving_in_each_phase() {
    let mut hall = Hall::impatient();
    hall.join(1, CHESS);
    assert_eq!(hall.leave(1), ["1 stopped: left the queue"]);
    hall.register(7, 1, &["chess"]);
    hall.join(1, CHESS);
    assert_eq!(hall.leave(1), ["1 stopped @7: left while the game was prepared"]);
    assert_eq!(hall.join(1, CHESS), ["1 queued 1"]);
    let entry = hall.queue.nodes().remove(0);
    assert_eq!((entry.state, entry.user_id), (NodeState::Preparing, None));
    assert_eq!(hall.answer(7, &GOOD), ["prepare 1/1 @7", "1 preparing @7"]);
    hall.answer(7, &GOOD);
    assert_eq!(hall.leave(1), [""; 0], "not before the play is answered");
    assert_eq!(hall.answer(7, &GOOD), ["stop 1/1 @7"]);
    assert_eq!(hall.leave(1), [""; 0]);
    assert_eq!(hall.answer(7, &refused(Code::NOT_FOUND)), ["1 stopped @7"]);
    hall.join(1, CHESS);
    hall.answer(7, &GOOD);
    hall.leave(1);
    assert_eq!(hall.answer(7, &refused(Code::FAILED)), ["1 stopped @7"]);
    hall.play(7, 1, CHESS);
    assert_eq!(hall.leave(1), ["stop 1/1 @7"]);
    assert_eq!(hall.lose(7, 1), ["1 stopped @7: node 7 was lost"]);
    assert_eq!(hall.queue.leave(hall.now, 1), Err(LeaveError::NoPlace { user: 1 }));
}

#[test]
fn stopping_is_leaving_for_that_game_only() {
    let mut hall = Hall::impatient();
    hall.register(7, 1, &["chess"]);
    hall.play(7, 1, CHESS);
    hall.join(2, GOLF);
    let error = hall.queue.stop(hall.now, 1, GOLF).unwrap_err();
    assert_eq!(error.to_string(), "player 1 has no place for game 2 but for game 1");
    assert_eq!(error.code(), Code::NOT_FOUND);
    assert!(hall.queue.stop(hall.now, 3, GOLF).is_err());
    assert_eq!(hall.queue.stop(hall.now, 1, CHESS), Ok(Leaving::Stopping { node: 7 }));
    assert_eq!(hall.queue.stop(hall.now, 2, GOLF), Ok(Leaving::Left));
    assert_eq!(hall.told(), ["stop 1/1 @7", "2 stopped: left the queue"]);
}

#[test]
fn a_game_that_ends_before_its_play_is_answered() {
    let ended = |outcome: Outcome, leaves: bool| {
        let mut hall = Hall::impatient();
        hall.register(7, 1, &["chess"]);
        hall.join(1, CHESS);
        hall.answer(7, &GOOD);
        assert_eq!(hall.finish(7, 1, CHESS), [""; 0]);
        assert_eq!(hall.finish(7, 1, CHESS), [""; 0]);
        if leaves {
            assert_eq!(hall.leave(1), ["1 stopped @7"]);
        }
        hall.answer(7, &outcome)
    };
    assert_eq!(ended(GOOD, false), ["1 playing @7", "1 stopped @7"]);
    assert_eq!(ended(unknown(), false), ["1 stopped @7"]);
    let back = "1 queued 1: node 7 refused to play with 500: no";
    assert_eq!(ended(refused(Code::FAILED), false)[..2], [back, "prepare 1/1 @7"]);
    assert_eq!(ended(GOOD, true), [""; 0]);

    let mut hall = Hall::impatient();
    hall.register(7, 1, &["chess"]);
    hall.join(1, CHESS);
    hall.answer(7, &GOOD);
    hall.leave(1);
    assert_eq!(hall.finish(7, 1, CHESS), ["1 stopped @7"]);
    assert_eq!(hall.answer(7, &GOOD), [""; 0]);
    assert_eq!(hall.state(7), NodeState::Idle);
}

#[test]
fn the_end_of_a_game_that_a_node_does_not_run_is_ignored() {
    let mut hall = Hall::impatient();
    hall.register(7, 1, &["chess"]);
    hall.play(7, 1, CHESS);
    for (node, user, game) in [(7, 2, CHESS), (7, 1, GOLF), (8, 1, CHESS)] {
        let error = hall.queue.handle_stop_finish(hall.now, node, user, game).unwrap_err();
        assert_eq!(error, FinishError { node, user, game });
    }
    assert_eq!(hall.state(7), NodeState::Playing);
    assert_eq!(hall.finish(7, 1, CHESS), ["1 stopped @7"]);
    assert!(hall.queue.handle_stop_finish(hall.now, 7, 1, CHESS).is_err());
    hall.join(1, CHESS);
    assert!(hall.queue.handle_stop_finish(hall.now, 7, 1, CHESS).is_err(), "still preparing");
    assert_eq!(hall.told(), [""; 0]);
}

#[test]
fn a_stop_that_never_finishes() {
    let mut hall = Hall::impatient();
    let minute = Duration::from_secs(60);
    hall.register(7, 1, &["chess"]);
    hall.play(7, 1, CHESS);
    hall.leave(1);
    hall.join(2, CHESS);
    assert_eq!(hall.answer(7, &refused(Code::FAILED)), [""; 0]);
    assert_eq!(hall.queue.poll_timeout(), Some(hall.now + minute));
    let failed = "1 failed @7: node 7 did not finish stopping the game";
    assert_eq!(hall.pass(minute), [failed, "stop 1/1 @7"]);
    assert_eq!(hall.join(1, CHESS), ["1 queued 2"]);
    for _ in 0..3 {
        assert_eq!(hall.answer(7, &unknown()), [""; 0]);
        assert_eq!(hall.pass(minute), ["stop 1/1 @7"]);
    }
    assert_eq!(hall.finish(7, 1, CHESS), ["prepare 2/1 @7", "2 preparing @7"]);
    assert_eq!(hall.queue.poll_timeout(), None);
}

#[test]
fn extreme_settings_do_not_panic_or_spin() {
    let most = Settings {
        stop_timeout: Duration::MAX,
        rest: Duration::MAX,
        longest_rest: Duration::MAX,
        most_waiting: usize::MAX,
        node_memory: usize::MAX,
        most_away: usize::MAX,
        forget_after: Duration::MAX,
    };
    let mut hall = Hall::new(most);
    hall.register(7, 1, &["chess"]);
    hall.join(1, CHESS);
    for _ in 0..40 {
        hall.answer(7, &refused(Code::FAILED));
        hall.register(7, 1, &["chess"]);
        hall.join(1, CHESS);
    }
    hall.lose(7, 1);
    assert!(hall.queue.poll_timeout().is_some());
    let mut hall = Hall::new(Settings { stop_timeout: Duration::ZERO, ..Settings::default() });
    hall.register(7, 1, &["chess"]);
    hall.play(7, 1, CHESS);
    hall.leave(1);
    assert!(hall.queue.poll_timeout() > Some(hall.now));
    hall.queue.handle_timeout(hall.now + Duration::from_secs(1));
    assert!(hall.queue.poll_timeout() > Some(hall.now));
}

#[test]
fn a_long_reason_is_cut_at_a_character() {
    let mut hall = Hall::impatient();
    hall.register(7, 1, &["chess"]);
    hall.join(1, CHESS);
    let response = GameResponse::new(Code::UNAVAILABLE, "é".repeat(500_000) + "x", 1, CHESS);
    let told = hall.answer(7, &response.into());
    assert!(told[0].len() < 600, "{}", told[0].len());
    assert!(told[0].ends_with('é'));
    assert_eq!(Outcome::from(GameResponse::ok(1, CHESS)), GOOD);
}

#[test]
fn a_long_queue_is_served_in_order() {
    let players = 20_000;
    let mut hall = Hall::impatient();
    for user in 0..players {
        hall.join(user, CHESS);
    }
    hall.register(7, 1, &["chess", "golf"]);
    for user in 0..players {
        assert!(hall.answer(7, &GOOD)[0].starts_with("play"));
        assert_eq!(hall.answer(7, &GOOD), [format!("{user} playing @7")]);
        hall.finish(7, user, CHESS);
    }
    assert_eq!(hall.order(), [0; 0]);
}
