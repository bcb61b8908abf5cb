//! How the fields of catalogs are read where serde's own way is too lenient, and what `Debug` shows
//! of them.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error};
use serde_json::value::RawValue;

/// Reads an object and leaves it unparsed.
pub(super) fn raw_object<'de, D: Deserializer<'de>>(from: D) -> Result<Box<RawValue>, D::Error> {
    object(Box::<RawValue>::deserialize(from)?)
}

/// Reads an object or null, of which one must stand there.
pub(super) fn raw_object_or_null<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<Box<RawValue>>, D::Error> {
    Option::<Box<RawValue>>::deserialize(from)?.map(object).transpose()
}

/// Reads a list of objects and leaves them unparsed.
pub(super) fn raw_objects<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Vec<Box<RawValue>>, D::Error> {
    Vec::<Box<RawValue>>::deserialize(from)?.into_iter().map(object).collect()
}

fn object<E: Error>(value: Box<RawValue>) -> Result<Box<RawValue>, E> {
    if value.get().starts_with('{') {
        Ok(value)
    } else {
        Err(E::custom("invalid type: expected an object"))
    }
}

/// Reads a value or null, of which one must stand there: serde takes a missing key for null.
pub(super) fn nullable<'de, D, T>(from: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::deserialize(from)
}

/// Reads a value that may be missing, beside `#[serde(default)]`: what stands there is a `T`, and
/// null only if `T` takes it.
pub(super) fn given<'de, D, T>(from: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    T::deserialize(from).map(Some)
}

/// Shows the length of a raw value in `Debug`. Configurations carry passwords and tokens, and
/// it cannot be told where in them.
pub(super) struct Unshown<'a>(pub(super) &'a RawValue);

impl fmt::Debug for Unshown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes of JSON", self.0.get().len())
    }
}
