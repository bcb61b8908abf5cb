//! The floor of one loop: one task over one socket that reads all answers that have come, asks as
//! often anew, flushes once and sleeps until there is more. Between it and the socket there is nothing
//! to wake, to lock or to look up. The server is the floor's.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use futures::{SinkExt as _, StreamExt as _};
use tokio_tungstenite::tungstenite::Message;

use super::floor::{PlayedData, Socket, read, text};
use crate::pace::{Pace, Tally};
use crate::payload::PlayGame;

impl Socket {
    /// Keeps `in_flight` requests under way.
    pub async fn play_in_one_loop(&mut self, in_flight: usize, pace: &Pace) -> Result<Tally> {
        let mut play = Play {
            request: PlayGame::sample(),
            free: in_flight,
            timed: VecDeque::new(),
            tally: Tally::new(in_flight),
        };
        poll_fn(|cx| {
            play.read(self, cx)?;
            ready!(play.ask(self, cx, pace))?;
            if play.free == in_flight {
                return Poll::Ready(anyhow::Ok(()));
            }
            ready!(self.stream.poll_flush_unpin(cx))?;
            // The next answer wakes: reading has left word for it.
            Poll::Pending
        })
        .await?;
        Ok(play.tally)
    }
}

struct Play {
    request: PlayGame,
    /// How many more may be in flight.
    free: usize,
    /// Requests whose time is taken, by number. Answers come in order.
    timed: VecDeque<(u64, Instant)>,
    tally: Tally,
}

impl Play {
    /// Reads until nothing is left to read.
    fn read(&mut self, socket: &mut Socket, cx: &mut Context<'_>) -> Result<()> {
        while let Poll::Ready(message) = socket.stream.poll_next_unpin(cx) {
            let message = message.context("the connection has ended")??;
            let Message::Text(text) = message else { bail!("{message:?} came") };
            let played: PlayedData = read("play_game_response", &text)?;
            let of = self.timed.pop_front_if(|(seq, _)| *seq == played.seq);
            self.tally.ends(of.map(|(_, started)| started));
            self.free += 1;
        }
        Ok(())
    }

    /// Asks until all are in flight, or the time is over.
    fn ask(&mut self, socket: &mut Socket, cx: &mut Context<'_>, pace: &Pace) -> Poll<Result<()>> {
        while self.free > 0 {
            ready!(socket.stream.poll_ready_unpin(cx))?;
            if !pace.take() {
                break;
            }
            socket.last_seq += 1;
            let seq = socket.last_seq;
            self.timed.extend(self.tally.starts_at(seq).map(|started| (seq, started)));
            let request = text(seq, "play_game_request", &self.request, 384)?;
            socket.stream.start_send_unpin(Message::Text(request))?;
            self.free -= 1;
        }
        Poll::Ready(Ok(()))
    }
}
