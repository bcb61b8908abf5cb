use std::ops::Range;

use super::decode::DecodeError;
use super::frame::{Frame, FrameError, Response};
use super::text::Text;

/// Answers of up to so many bytes are copied: cheaper than a new read buffer.
const COPIED: usize = 1024;

/// How much of a frame has been looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parse {
    /// Its head alone: see [`Frame::parse_fast`].
    Fast,
    /// All of it is JSON.
    Full,
}

/// An answer as it came: the frame, and where its `data` stands.
#[derive(Debug)]
pub(crate) struct Answer {
    text: Text,
    data: Range<usize>,
    parse: Parse,
}

/// What an answer is when it is not of the type that was expected.
#[derive(Debug)]
pub(crate) enum Unread {
    /// It tells of an error.
    Error(String),
    /// It is of another type.
    Decode(DecodeError),
    /// It is no frame at all.
    NoFrame(FrameError, DecodeError),
}

impl Answer {
    pub(crate) fn new(text: &Text, data: &str, parse: Parse) -> Self {
        // A part of the read buffer would keep all of it, and another would have to be made for
        // what comes next.
        let own = if text.len() <= COPIED { text.detached() } else { text.clone() };
        Self { text: own, data: text.range_of(data), parse }
    }

    /// Reads the data with `read`. When that fails and the frame was not parsed in full yet, says
    /// what it really is.
    pub(crate) fn read<T>(
        &self,
        read: impl Fn(&str) -> Result<T, DecodeError>,
    ) -> Result<T, Unread> {
        let error = match read(self.text.part(self.data.clone())) {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        if self.parse == Parse::Full {
            return Err(Unread::Decode(error));
        }
        let whole = Frame::parse(self.text.as_str())
            .and_then(|frame| Ok((frame.data, Response::parse(frame.data)?.error())));
        match whole {
            Ok((_, Some(error))) => Err(Unread::Error(error.into_owned())),
            Ok((data, None)) => read(data).map_err(Unread::Decode),
            Err(fault) => Err(Unread::NoFrame(fault, error)),
        }
    }
}
