use std::fmt;

use serde::Deserialize;

use super::depth::{MAX_DEPTH, too_deep};
use super::limits::describe;
use crate::printable::Printable;

/// Why some JSON is not of the type that was expected. Values are never quoted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeError {
    message: Box<str>,
}

impl DecodeError {
    pub(crate) fn new(error: &serde_json::Error) -> Self {
        Self { message: describe(error).into() }
    }

    fn because(message: impl Into<Box<str>>) -> Self {
        Self { message: message.into() }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // It may name an unknown word.
        fmt::Display::fmt(&Printable::new(&self.message), f)
    }
}

impl std::error::Error for DecodeError {}

/// Reads the `data` of a frame: an object, within the limit of nesting.
pub fn decode<'a, T: Deserialize<'a>>(data: &'a str) -> Result<T, DecodeError> {
    // The frame's own object is the first level.
    if too_deep(data, MAX_DEPTH - 1) {
        return Err(DecodeError::because(format!("nested deeper than {MAX_DEPTH} levels")));
    }
    read_object(data)
}

/// Reads an object. Derived readers take an array for a struct as well, field by field, and the
/// protocol knows no such thing.
pub(super) fn read_object<'a, T: Deserialize<'a>>(json: &'a str) -> Result<T, DecodeError> {
    if !json.trim_ascii_start().starts_with('{') {
        return Err(DecodeError::because("no JSON object"));
    }
    serde_json::from_str(json).map_err(|error| DecodeError::new(&error))
}
