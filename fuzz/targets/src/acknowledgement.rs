//! The numbers of a session against a model of a few integers.

use std::collections::VecDeque;

use arbitrary::{Arbitrary, Unstructured};
use seqlink::session::{Sequenced, Session};
use seqlink::wire::{EncodedMessage, Frame};
use seqlink::{Dialect, Empty};

#[derive(Debug, Arbitrary)]
enum Action {
    Send,
    Write(u8),
    /// An acknowledgement of this, or of so much below the last number.
    Acknowledge(Number),
    Resume(Number),
    Receive(Number, u16),
    Shrink,
}

#[derive(Debug, Arbitrary)]
enum Number {
    None,
    Any(u64),
    Near(i8),
}

impl Number {
    fn near(&self, last: u64) -> Option<u64> {
        match self {
            Self::None => None,
            Self::Any(number) => Some(*number),
            Self::Near(off) => Some(last.saturating_add_signed((*off).into())),
        }
    }
}

/// What is so of a session, whatever it does.
#[derive(Default)]
struct Model {
    /// The frames that are held, of which so many are written on this socket.
    held: VecDeque<u64>,
    written: usize,
    sent: u64,
    /// The highest that any socket has had.
    seen: u64,
    received: Option<u64>,
}

impl Model {
    fn drop_to(&mut self, seq: u64) {
        while self.held.front().is_some_and(|first| *first <= seq) {
            self.held.pop_front();
            self.written = self.written.saturating_sub(1);
        }
    }
}

pub(crate) fn acknowledgement(input: &[u8]) {
    let mut input = Unstructured::new(input);
    let Ok(dialect) = input.choose(&[Dialect::PLAIN, Dialect::SESSION, Dialect::SEQLINK]) else {
        return;
    };
    let resumes = dialect.resumes();
    let mut session = Session::new(*dialect, 4096);
    let mut model = Model { received: resumes.then_some(0), ..Model::default() };
    let message = EncodedMessage::event("tick", &Empty {}).expect("a message");
    for action in input.arbitrary_iter::<Action>().into_iter().flatten().map_while(Result::ok) {
        match action {
            Action::Send => {
                model.sent += 1;
                model.held.push_back(model.sent);
                assert_eq!(session.sending.send(&message), Ok(model.sent));
            }
            Action::Write(most) => {
                let texts = session.sending.unwritten::<8>().into_iter().flatten();
                let numbers: Vec<u64> = texts
                    .take(most.into())
                    .map(|text| {
                        Frame::parse(text.as_str()).expect("a frame").seq.expect("a number")
                    })
                    .collect();
                let expected = model.held.iter().skip(model.written).take(numbers.len());
                assert!(numbers.iter().eq(expected), "{numbers:?}");
                let room = session.sending.wrote(numbers.len());
                model.written += numbers.len();
                model.seen = model.seen.max(numbers.last().copied().unwrap_or(0));
                if !resumes {
                    assert_eq!(room, numbers.len() * message.bytes());
                    model.drop_to(model.seen);
                }
            }
            Action::Acknowledge(number) => {
                let number = number.near(model.seen);
                let held = session.sending.held();
                let room = session.sending.acknowledged(number);
                assert_eq!(room.is_ok(), number.unwrap_or(0) <= model.seen, "{number:?}");
                if let Ok(room) = room {
                    model.drop_to(number.unwrap_or(0));
                    assert_eq!(room, (held - model.held.len()) * message.bytes());
                }
            }
            Action::Resume(number) => {
                let number = number.near(model.seen);
                let resumed = session.sending.resumed(number);
                assert_eq!(resumed.is_ok(), number.unwrap_or(0) <= model.seen, "{number:?}");
                if let Ok((_, again)) = resumed {
                    model.drop_to(number.unwrap_or(0));
                    model.written = 0;
                    let expected = model.held.iter().filter(|seq| **seq <= model.seen).count();
                    assert_eq!(again, expected);
                }
            }
            Action::Receive(number, bytes) => {
                let Some(seq) = number.near(model.received.unwrap_or(0)) else { continue };
                // What no frame can carry never comes as far as this.
                if !(1..=seqlink::wire::MAX_SEQ).contains(&seq) {
                    continue;
                }
                let expected = match model.received {
                    Some(last) if seq <= last && resumes => Some(Sequenced::Duplicate),
                    Some(last) if seq != last + 1 => None,
                    _ => Some(Sequenced::New),
                };
                assert_eq!(session.receiving.peek(seq).ok(), expected);
                assert_eq!(session.receiving.receive(seq, bytes.into()).ok(), expected);
                if expected == Some(Sequenced::New) {
                    model.received = Some(seq);
                }
            }
            Action::Shrink => session.sending.shrink(),
        }
        assert_eq!(session.sending.held(), model.held.len());
        assert_eq!(session.sending.is_idle(), model.written == model.held.len());
        assert_eq!(session.receiving.last_received(), model.received.filter(|last| *last > 0));
        assert!(session.sending.was_written(model.seen));
        assert!(!session.sending.was_written(model.seen + 1));
    }
}
