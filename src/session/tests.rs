//! Sessions that outlive their sockets, with a wire that is cut wherever it can be.

use super::*;
use crate::message::Empty;
use crate::wire::{EncodedMessage, Text};
use proptest::prelude::*;

fn session() -> Session {
    Session::new(Dialect::SEQLINK, 1000)
}

fn message() -> EncodedMessage {
    EncodedMessage::event("tick", &Empty {}).unwrap()
}

fn seq_of(text: &Text) -> u64 {
    crate::wire::Frame::parse(text.as_str()).unwrap().seq.unwrap()
}

/// Gives the socket the next frame; says its number.
fn write(session: &mut Session) -> Option<u64> {
    let [text] = session.sending.unwritten();
    session.sending.wrote(usize::from(text.is_some()));
    text.map(|text| seq_of(&text))
}

fn written(session: &mut Session) -> Vec<u64> {
    std::iter::from_fn(|| write(session)).collect()
}

#[test]
fn frames_are_numbered_from_one_and_held_until_they_are_acknowledged() {
    let mut session = session();
    let bytes = message().bytes();
    for seq in 1..=3 {
        assert_eq!(session.sending.send(&message()), Ok(seq));
    }
    assert_eq!(written(&mut session), [1, 2, 3]);
    assert!(session.sending.is_idle() && session.sending.held() == 3);
    assert_eq!(session.sending.acknowledged(Some(2)), Ok(2 * bytes));
    assert_eq!(session.sending.held(), 1);
    assert_eq!(session.sending.acknowledged(Some(1)), Ok(0), "late, and no fault");
    assert_eq!(session.sending.acknowledged(None), Ok(0));
    assert_eq!(session.sending.acknowledged(Some(3)), Ok(bytes));
    assert_eq!(session.sending.acknowledged(Some(4)), Err(AckError { got: 4, sent: 3 }));
}

/// A frame that is queued and was never written cannot have arrived.
#[test]
fn an_acknowledgement_of_what_was_only_queued_is_impossible() {
    let mut session = session();
    session.sending.send(&message()).unwrap();
    session.sending.send(&message()).unwrap();
    write(&mut session).unwrap();
    assert_eq!(session.sending.acknowledged(Some(2)), Err(AckError { got: 2, sent: 1 }));
    assert_eq!(session.sending.resumed(Some(2)), Err(AckError { got: 2, sent: 1 }));
}

#[test]
fn what_lies_above_the_peers_last_goes_out_again() {
    for (last, again) in [(None, vec![1, 2, 3, 4]), (Some(2), vec![3, 4]), (Some(3), vec![4])] {
        let mut session = session();
        for _ in 1..=3 {
            session.sending.send(&message()).unwrap();
        }
        assert_eq!(written(&mut session), [1, 2, 3]);
        session.sending.send(&message()).unwrap();
        let (_, replayed) = session.sending.resumed(last).unwrap();
        assert_eq!(replayed, again.len() - 1, "the fourth goes out for the first time");
        assert_eq!(written(&mut session), again);
        // A second cut in the middle changes nothing.
        session.sending.resumed(last).unwrap();
        assert_eq!(written(&mut session), again);
    }
    let mut session = session();
    session.sending.send(&message()).unwrap();
    written(&mut session);
    assert_eq!(session.sending.resumed(Some(1)).unwrap().1, 0);
    assert!(written(&mut session).is_empty());
    assert_eq!(session.sending.send(&message()), Ok(2), "numbering goes on");
}

/// The peer may have what an earlier socket has carried, whatever the present one has.
#[test]
fn what_an_earlier_socket_has_carried_counts_as_written() {
    let mut session = session();
    session.sending.send(&message()).unwrap();
    session.sending.send(&message()).unwrap();
    write(&mut session).unwrap();
    session.sending.resumed(None).unwrap();
    assert!(session.sending.was_written(1) && !session.sending.was_written(2));
}

#[test]
fn a_replayed_frame_is_dropped_and_a_gap_is_a_fault() {
    let mut session = session();
    assert_eq!(session.receiving.receive(1, 10), Ok(Sequenced::New));
    assert_eq!(session.receiving.receive(1, 10), Ok(Sequenced::Duplicate));
    assert_eq!(session.receiving.receive(2, 10), Ok(Sequenced::New));
    assert_eq!(session.receiving.receive(1, 10), Ok(Sequenced::Duplicate));
    assert_eq!(session.receiving.receive(4, 10), Err(SequenceError::NotNext { last: 2, got: 4 }));
    assert_eq!(session.receiving.last_received(), Some(2));
    let mut fresh = self::session();
    assert_eq!(fresh.receiving.receive(2, 10), Err(SequenceError::NotNext { last: 0, got: 2 }));
    assert_eq!(fresh.receiving.last_received(), None);
}

#[test]
fn an_acknowledgement_is_due_after_64_messages_or_a_share_of_bytes() {
    let mut session = session();
    for seq in 1..=63 {
        session.receiving.receive(seq, 1).unwrap();
    }
    assert!(!session.receiving.is_acknowledgement_due());
    session.receiving.receive(64, 1).unwrap();
    assert!(session.receiving.is_acknowledgement_due());
    assert_eq!(session.receiving.acknowledge(), Some(64));
    assert!(!session.receiving.is_acknowledgement_due());
    session.receiving.receive(65, 999).unwrap();
    assert!(!session.receiving.is_acknowledgement_due());
    session.receiving.receive(65, 999).unwrap();
    assert!(!session.receiving.is_acknowledgement_due(), "a replay holds nothing at the peer");
    session.receiving.receive(66, 1).unwrap();
    assert!(session.receiving.is_acknowledgement_due());
}

/// What may happen between two peers.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// One side queues a frame.
    Send(bool),
    /// One side writes its next frame to the wire.
    Write(bool),
    /// The first frame on one side's wire arrives.
    Arrive(bool),
    /// One side acknowledges what it has.
    Acknowledge(bool),
    /// The wire is cut, with what is on it, and both resume.
    Cut,
}

fn step() -> impl Strategy<Value = Step> {
    let side = any::<bool>();
    prop_oneof![
        4 => side.prop_map(Step::Send),
        4 => side.prop_map(Step::Write),
        4 => side.prop_map(Step::Arrive),
        1 => side.prop_map(Step::Acknowledge),
        1 => Just(Step::Cut),
    ]
}

/// Two sessions and the wire between them.
#[derive(Debug)]
struct World {
    ends: [Session; 2],
    /// What travels away from each end.
    wires: [Vec<u64>; 2],
    sent: [u64; 2],
    /// What has reached the handlers of each end.
    handled: [Vec<u64>; 2],
}

impl World {
    fn new() -> Self {
        Self {
            ends: [session(), session()],
            wires: Default::default(),
            sent: [0, 0],
            handled: Default::default(),
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Send(side) => {
                self.sent[usize::from(side)] =
                    self.ends[usize::from(side)].sending.send(&message()).unwrap();
            }
            Step::Write(side) => {
                let written = write(&mut self.ends[usize::from(side)]);
                self.wires[usize::from(side)].extend(written);
            }
            Step::Arrive(side) => self.arrive(usize::from(side)),
            Step::Acknowledge(side) => {
                let last = self.ends[usize::from(side)].receiving.acknowledge();
                self.ends[usize::from(!side)].sending.acknowledged(last).unwrap();
            }
            Step::Cut => {
                self.wires = Default::default();
                let last = [
                    self.ends[0].receiving.last_received(),
                    self.ends[1].receiving.last_received(),
                ];
                self.ends[0].sending.resumed(last[1]).unwrap();
                self.ends[1].sending.resumed(last[0]).unwrap();
            }
        }
    }

    fn arrive(&mut self, from: usize) {
        if self.wires[from].is_empty() {
            return;
        }
        let seq = self.wires[from].remove(0);
        if self.ends[1 - from].receiving.receive(seq, 50).unwrap() == Sequenced::New {
            self.handled[1 - from].push(seq);
        }
    }

    /// No more cuts: everything arrives.
    fn settle(&mut self) {
        for from in [false, true] {
            while !self.ends[usize::from(from)].sending.is_idle() {
                self.take(Step::Write(from));
            }
            while !self.wires[usize::from(from)].is_empty() {
                self.take(Step::Arrive(from));
            }
        }
        self.take(Step::Acknowledge(false));
        self.take(Step::Acknowledge(true));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever is cut and when: every frame reaches its handler exactly once and in order, and
    /// when all is acknowledged nothing is held.
    #[test]
    fn exactly_once_and_in_order(steps in prop::collection::vec(step(), 0..200)) {
        let mut world = World::new();
        for step in steps {
            world.take(step);
        }
        world.settle();
        for end in [0, 1] {
            let all: Vec<u64> = (1..=world.sent[1 - end]).collect();
            prop_assert_eq!(&world.handled[end], &all);
            prop_assert_eq!(world.ends[end].sending.held(), 0);
        }
    }
}

/// A day without a message, a cut, and the session goes on: nothing in it ages by itself.
#[test]
fn a_quiet_session_resumes() {
    let mut world = World::new();
    for _ in 0..17_280 {
        world.take(Step::Acknowledge(false));
        world.take(Step::Acknowledge(true));
    }
    world.take(Step::Cut);
    world.take(Step::Send(true));
    world.settle();
    assert_eq!(world.handled[0], [1]);
}
