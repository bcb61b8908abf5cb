//! A byte stream that is cut once, at one byte of one direction.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, DuplexStream, ReadBuf};

/// The client's end of a connection.
pub struct Cutting {
    stream: Option<DuplexStream>,
    state: State,
    /// How many bytes still pass, from the client and to it.
    left: [usize; 2],
    manner: Manner,
    /// How many bytes have passed.
    pub passed: std::sync::Arc<[std::sync::atomic::AtomicUsize; 2]>,
}

/// How it is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Both ends see the end at once.
    End,
    /// Nothing arrives any more, and nobody is told.
    Silence,
    /// The client sees the end; what it was about to write arrives later, and so does the end.
    Late,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Whole,
    Silent,
    Ended,
}

const UP: usize = 0;
const DOWN: usize = 1;

impl Cutting {
    pub fn new(stream: DuplexStream, left: [usize; 2], manner: Manner) -> Self {
        let passed = Default::default();
        Self { stream: Some(stream), state: State::Whole, left, manner, passed }
    }

    fn pass(&mut self, direction: usize, bytes: usize) {
        self.left[direction] -= bytes;
        self.passed[direction].fetch_add(bytes, std::sync::atomic::Ordering::Relaxed);
    }

    /// `rest` is what the client wanted to write behind the last byte that passed.
    fn cut(&mut self, rest: &[u8]) {
        let stream = self.stream.take();
        self.state = State::Ended;
        match (self.manner, stream) {
            (Manner::Silence, stream) => {
                self.stream = stream;
                self.state = State::Silent;
            }
            (Manner::Late, Some(mut stream)) => {
                let rest = rest.to_vec();
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    let _ = stream.write_all(&rest).await;
                    tokio::time::sleep(Duration::from_millis(20)).await;
                });
            }
            _ => {}
        }
    }
}

impl AsyncRead for Cutting {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.state {
            State::Ended => return Poll::Ready(Ok(())),
            State::Silent => return Poll::Pending,
            State::Whole => {}
        }
        let mut bytes = [0; 4096];
        let most = self.left[DOWN].min(buffer.remaining()).min(bytes.len());
        let mut part = ReadBuf::new(&mut bytes[..most]);
        if most > 0 {
            let Some(stream) = &mut self.stream else { return Poll::Ready(Ok(())) };
            std::task::ready!(Pin::new(stream).poll_read(cx, &mut part))?;
            buffer.put_slice(part.filled());
            let read = part.filled().len();
            self.pass(DOWN, read);
        }
        if self.left[DOWN] == 0 {
            self.cut(&[]);
            if most == 0 && self.state == State::Silent {
                return Poll::Pending;
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Cutting {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.state {
            State::Ended => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            State::Silent => return Poll::Ready(Ok(bytes.len())),
            State::Whole => {}
        }
        let most = self.left[UP].min(bytes.len());
        if most == 0 && !bytes.is_empty() {
            self.cut(bytes);
            return self.poll_write(cx, bytes);
        }
        let Some(stream) = &mut self.stream else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        let written = std::task::ready!(Pin::new(stream).poll_write(cx, &bytes[..most]))?;
        self.pass(UP, written);
        if self.left[UP] == 0 {
            self.cut(&bytes[written..]);
        }
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Some(stream) => Pin::new(stream).poll_flush(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Some(stream) => Pin::new(stream).poll_shutdown(cx),
            None => Poll::Ready(Ok(())),
        }
    }
}
