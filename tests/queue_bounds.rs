//! What nodes can make a waiting queue keep, with made-up time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use seqlink::catalog::game_node::{
    Action, Code, MAX_PACKAGE, MAX_PACKAGES, MAX_TEXT, NodeEntry, NodeRegistration, RegisterError,
    RegisterNode, RequestFrom, Settings, WaitingQueue,
};

fn queue(change: impl FnOnce(&mut Settings)) -> WaitingQueue {
    let mut settings = Settings::default();
    change(&mut settings);
    WaitingQueue::new([(1, "chess".to_owned())], settings)
}

fn registration(node: i64, link: u64, packages: &[String]) -> NodeRegistration {
    let installed_packages = packages.to_vec();
    NodeRegistration { node, link, name: format!("node {node}"), installed_packages }
}

fn ids(queue: &WaitingQueue) -> Vec<i64> {
    queue.nodes().iter().map(|node| node.id).collect()
}

#[test]
fn a_registration_beyond_the_limits_is_refused_with_the_limit() {
    let now = Instant::now();
    let mut queue = queue(|_| {});
    let most = vec!["p".repeat(MAX_PACKAGE); MAX_PACKAGES];
    queue.handle_registered(now, registration(1, 1, &most)).unwrap();

    let mut refused = |registration: NodeRegistration, text: &str| {
        let error = queue.handle_registered(now, registration).unwrap_err();
        assert_eq!((error.code(), error.to_string().as_str()), (Code::BAD_REQUEST, text));
    };
    let many = vec![String::new(); MAX_PACKAGES + 1];
    refused(registration(1, 2, &many), "257 packages, the limit is 256");
    let long = ["p".repeat(MAX_PACKAGE + 1)];
    refused(registration(1, 2, &long), "a package's name has 129 bytes, the limit is 128");
    let named = NodeRegistration { name: "n".repeat(MAX_TEXT + 1), ..registration(2, 3, &[]) };
    refused(named, "the node's name has 257 bytes, the limit is 256");
    assert_eq!(ids(&queue), [1]);
    assert_eq!(queue.node(1).unwrap().installed_packages, most, "nothing changed");
    assert_eq!(queue.node(2), None);
}

/// Before it is kept, or even read.
#[test]
fn a_registration_beyond_the_limits_is_not_read() {
    let read = |version: &str, packages: &str| {
        let json = format!(
            r#"{{"node":{{"version":"{version}","macAddress":"","localAddress":""}},
                "streamer":{{"version":"1","port":1}},"installedPackages":[{packages}]}}"#
        );
        serde_json::from_str::<RegisterNode>(&json).map_err(|error| error.to_string())
    };
    let list =
        |count: usize, length: usize| vec![format!("\"{}\"", "p".repeat(length)); count].join(",");
    let most = read(&"v".repeat(MAX_TEXT), &list(MAX_PACKAGES, MAX_PACKAGE)).unwrap();
    assert_eq!(most.installed_packages.len(), MAX_PACKAGES);
    for (version, packages, fault) in [
        ("1", list(MAX_PACKAGES + 1, 0), "more than 256 packages"),
        ("1", list(1, MAX_PACKAGE + 1), "a package's name is longer than 128 bytes"),
        (&"v".repeat(MAX_TEXT + 1), list(1, 1), "a text of the node is longer than 256 bytes"),
    ] {
        let error = read(version, &packages).unwrap_err();
        assert!(error.starts_with(fault), "{error}");
    }
}

#[test]
fn those_that_are_away_make_room_and_those_that_are_here_do_not() {
    let now = Instant::now();
    // Room for three nodes with a short name and one package of 100 bytes.
    let package = ["p".repeat(100)];
    let each = 256 + "node 1".len() + 32 + 100;
    let mut queue = queue(|settings| settings.node_memory = 3 * each);
    for node in 1..=3 {
        queue.handle_registered(now, registration(node, node as u64, &package)).unwrap();
    }
    let full = queue.handle_registered(now, registration(4, 4, &package)).unwrap_err();
    assert_eq!(full, RegisterError::Full { taken: 3 * each, bytes: each, limit: 3 * each });
    assert_eq!(full.code(), Code::UNAVAILABLE);
    // Its own room a node may have again.
    queue.handle_registered(now, registration(3, 5, &package)).unwrap();
    assert_eq!(ids(&queue), [1, 2, 3]);

    queue.handle_lost(now, 2, 2);
    queue.handle_lost(now + Duration::from_secs(1), 1, 1);
    queue.handle_registered(now, registration(4, 6, &package)).unwrap();
    assert_eq!(ids(&queue), [1, 3, 4], "the one that is away the longest is forgotten");
    // One that could not be taken in even so costs nobody his place.
    let large = vec!["p".repeat(100); 8];
    assert!(queue.handle_registered(now, registration(5, 7, &large)).is_err());
    assert_eq!(ids(&queue), [1, 3, 4]);
}

#[test]
fn of_those_that_are_away_the_latest_are_remembered() {
    let now = Instant::now();
    let mut queue = queue(|settings| settings.most_away = 2);
    for node in 1..=4 {
        queue.handle_registered(now, registration(node, 1, &[])).unwrap();
    }
    for (after, node) in [3, 1, 4].into_iter().enumerate() {
        queue.handle_lost(now + Duration::from_secs(after as u64), node, 1);
    }
    assert_eq!(ids(&queue), [1, 2, 4]);
}

#[test]
fn one_that_is_away_is_forgotten_after_its_time() {
    let (mut now, hour) = (Instant::now(), Duration::from_secs(3600));
    let mut queue = queue(|_| {});
    let chess = ["chess".to_owned()];
    let told = |queue: &mut WaitingQueue, now| {
        let mut stops = 0;
        while let Some(action) = queue.poll_action() {
            use seqlink::catalog::game_node::Outcome::Good;
            match action {
                Action::Prepare(it) => queue.handle_prepare_answer(now, &it, &Good),
                Action::Play(it) => queue.handle_play_answer(now, &it, &Good),
                Action::Stop(_) => stops += 1,
                Action::Update(_) => {}
            }
        }
        stops
    };
    queue.join(now, 1, 1, RequestFrom::Api).unwrap();
    queue.handle_registered(now, registration(7, 1, &chess)).unwrap();
    told(&mut queue, now);
    queue.handle_lost(now, 7, 1);
    assert_eq!(queue.poll_timeout(), Some(now + hour));
    now += hour - Duration::from_millis(1);
    queue.handle_timeout(now);
    assert_eq!(ids(&queue), [7], "not yet");
    // It may still run its game.
    queue.handle_registered(now, registration(7, 2, &chess)).unwrap();
    assert_eq!((told(&mut queue, now), queue.poll_timeout().is_some()), (1, true));
    queue.handle_stop_finish(now, 7, 1, 1).unwrap();
    queue.leave(now, 1).unwrap();
    told(&mut queue, now);
    queue.handle_lost(now, 7, 2);
    now += hour;
    assert_eq!(queue.poll_timeout(), Some(now));
    queue.handle_timeout(now);
    assert_eq!((ids(&queue), queue.poll_timeout()), (vec![], None));
    queue.handle_registered(now, registration(7, 3, &chess)).unwrap();
    assert_eq!((told(&mut queue, now), ids(&queue)), (0, vec![7]), "a new one");
}

#[test]
fn lists_can_be_had_in_parts() {
    let now = Instant::now();
    let mut queue = queue(|_| {});
    for node in [-3, 1, 5, i64::MAX] {
        queue.handle_registered(now, registration(node, 1, &[])).unwrap();
    }
    let after = |after| queue.nodes_after(after).map(|node| node.id).collect::<Vec<_>>();
    assert_eq!(after(None), [-3, 1, 5, i64::MAX]);
    assert_eq!(after(Some(1)), [5, i64::MAX]);
    assert_eq!(after(Some(2)), [5, i64::MAX]);
    assert_eq!(after(Some(i64::MAX)), [0; 0]);
    for user in 1..=5 {
        queue.join(now, user, 1, RequestFrom::Api).unwrap();
    }
    let part: Vec<_> = queue.waiting_after(now, 2).map(|it| (it.position, it.user_id)).collect();
    assert_eq!(part, [(3, 3), (4, 4), (5, 5)]);
    assert_eq!(queue.waiting_after(now, u64::MAX).count(), 0);
}

#[derive(Clone, Debug)]
enum Step {
    Register { node: i64, packages: usize, new_link: bool },
    Lose(i64),
    Pass(u64),
}

fn steps() -> impl Strategy<Value = Step> {
    let node = 0..12_i64;
    prop_oneof![
        4 => (node.clone(), 0..6_usize, any::<bool>())
            .prop_map(|(node, packages, new_link)| Step::Register { node, packages, new_link }),
        3 => node.prop_map(Step::Lose),
        1 => (0..40_u64).prop_map(Step::Pass),
    ]
}

fn cost(node: &NodeEntry) -> usize {
    let packages = node.installed_packages.iter().map(|package| 32 + package.len());
    256 + node.name.len() + packages.sum::<usize>()
}

proptest! {
    /// Whatever they do: the limits hold, and who is here stays known.
    #[test]
    fn limits_hold_and_nobody_who_is_here_is_forgotten(steps in prop::collection::vec(steps(), 1..200)) {
        const MEMORY: usize = 3000;
        const AWAY: usize = 3;
        let forget = Duration::from_secs(60);
        let mut queue = queue(|settings| {
            (settings.node_memory, settings.most_away) = (MEMORY, AWAY);
            settings.forget_after = forget;
        });
        let mut now = Instant::now();
        // The present link of each node that is here; when each that is not was lost.
        let (mut here, mut lost) = (BTreeMap::new(), BTreeMap::new());
        let mut links = 0;
        for step in steps {
            match step {
                Step::Register { node, packages, new_link } => {
                    links += 1;
                    let link = here.get(&node).copied().filter(|_| !new_link).unwrap_or(links);
                    let packages = vec!["p".repeat(50); packages];
                    let registration = registration(node, link, &packages);
                    let before = queue.nodes();
                    match queue.handle_registered(now, registration) {
                        Ok(()) => {
                            here.insert(node, link);
                            lost.remove(&node);
                            prop_assert_eq!(queue.node(node).unwrap().installed_packages, packages);
                        }
                        Err(error) => {
                            prop_assert!(matches!(error, RegisterError::Full { .. }), "{}", error);
                            prop_assert_eq!(queue.nodes(), before);
                        }
                    }
                }
                Step::Lose(node) => {
                    if let Some(link) = here.remove(&node) {
                        queue.handle_lost(now, node, link);
                        lost.insert(node, now);
                    }
                }
                Step::Pass(seconds) => {
                    now += Duration::from_secs(seconds);
                    queue.handle_timeout(now);
                }
            }
            let nodes = queue.nodes();
            prop_assert!(nodes.iter().map(cost).sum::<usize>() <= MEMORY);
            let connected: BTreeSet<i64> = nodes.iter().filter(|it| it.connected).map(|it| it.id).collect();
            prop_assert_eq!(connected, here.keys().copied().collect::<BTreeSet<_>>());
            let away: Vec<i64> = nodes.iter().filter(|it| !it.connected).map(|it| it.id).collect();
            prop_assert!(away.len() <= AWAY);
            for node in away {
                prop_assert!(lost[&node] + forget > now, "node {} is remembered too long", node);
            }
        }
    }
}
