//! What is noticed of a frame's data while it is written: how deep it nests, and which of the
//! protocol's own keys it uses.

use std::collections::BTreeMap;
use std::io;

use serde::de::IgnoredAny;
use serde_json::ser::Formatter;

/// Deepest nesting of objects and arrays in a frame; the frame's own object is the first level.
pub const MAX_DEPTH: usize = 64;

/// Counts the levels of some JSON while it is written, without spaces. Looking at what has just been
/// written costs as much as half of the writing.
///
/// The keys are looked at for a response only: for a request with 15 of them that took 500 instructions.
#[derive(Debug)]
pub(super) struct DepthFormatter<const RESPONSE: bool> {
    levels: usize,
    entered: usize,
    too_deep: bool,
    /// What is written next is the key of the outermost object.
    at_key: bool,
    maybe_reserved: bool,
}

/// The keys of a response's data that are the protocol's.
const RESERVED: [&str; 2] = ["seq", "error"];

impl<const RESPONSE: bool> DepthFormatter<RESPONSE> {
    /// For JSON of so many levels at most.
    pub(super) fn new(levels: usize) -> Self {
        Self { levels, entered: 0, too_deep: false, at_key: false, maybe_reserved: false }
    }

    /// Whether the outermost object may have a key of a response that is the protocol's:
    /// [`reserved_in`] tells.
    pub(super) fn is_maybe_reserved(&self) -> bool {
        self.maybe_reserved
    }

    /// Whether there were more levels.
    pub(super) fn is_too_deep(&self) -> bool {
        self.too_deep
    }

    fn enter(&mut self) {
        self.entered += 1;
        self.too_deep |= self.entered > self.levels;
    }
}

impl<const RESPONSE: bool> Formatter for &mut DepthFormatter<RESPONSE> {
    fn begin_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.enter();
        writer.write_all(b"[")
    }

    fn end_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.entered -= 1;
        writer.write_all(b"]")
    }

    fn begin_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.enter();
        writer.write_all(b"{")
    }

    fn end_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.entered -= 1;
        writer.write_all(b"}")
    }

    fn begin_object_key<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        if RESPONSE {
            self.at_key = self.entered == 1;
        }
        if first { Ok(()) } else { writer.write_all(b",") }
    }

    fn end_object_key<W: ?Sized + io::Write>(&mut self, _: &mut W) -> io::Result<()> {
        if RESPONSE {
            self.at_key = false;
        }
        Ok(())
    }

    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        if RESPONSE && self.at_key {
            // None of them is escaped, so it is one fragment; and so may be a part of another key.
            self.maybe_reserved |= RESERVED.contains(&fragment);
        }
        writer.write_all(fragment.as_bytes())
    }

    fn write_raw_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        self.too_deep |= too_deep(fragment, self.levels.saturating_sub(self.entered));
        // Its keys may be written in any way.
        self.maybe_reserved |= RESPONSE && self.entered == 0;
        writer.write_all(fragment.as_bytes())
    }
}

/// Which of the keys of a response that are the protocol's the object `json` has.
pub(super) fn reserved_in(json: &[u8]) -> Option<&'static str> {
    let keys: BTreeMap<String, IgnoredAny> = serde_json::from_slice(json).ok()?;
    RESERVED.into_iter().find(|key| keys.contains_key(*key))
}

/// Whether `json` nests deeper than `levels`.
///
/// serde_json reads a raw value of any depth without complaint, so the depth is counted here.
pub(super) fn too_deep(json: &str, levels: usize) -> bool {
    let json = json.as_bytes();
    // Text with that few brackets cannot nest deeper: nearly every frame is done here.
    json.len() > levels && most_brackets(json) > levels && deepest(json) > levels
}

/// How many opening brackets there are at most. Written so that the compiler looks at many bytes at
/// once.
fn most_brackets(json: &[u8]) -> usize {
    // `{` and `[` differ in one bit, which no other bytes share with them.
    let within = |block: &[u8; 64]| {
        let brackets = block.iter().map(|byte| u8::from(byte | 0x20 == b'{'));
        usize::from(brackets.fold(0, u8::wrapping_add))
    };
    let (blocks, rest) = json.as_chunks();
    // What is left over is looked at with some of what was before it, as a whole block again.
    let last = if rest.is_empty() { 0 } else { json.last_chunk().map_or(rest.len(), within) };
    blocks.iter().map(within).sum::<usize>() + last
}

fn deepest(json: &[u8]) -> usize {
    let (mut depth, mut most) = (0_usize, 0_usize);
    let mut bytes = json.iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            b'{' | b'[' => {
                depth += 1;
                most = most.max(depth);
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => skip_string(&mut bytes),
            _ => {}
        }
    }
    most
}

fn skip_string(bytes: &mut impl Iterator<Item = u8>) {
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => return,
            b'\\' => {
                bytes.next();
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use serde::Serialize as _;
    use serde_json::value::RawValue;

    use super::*;

    fn nested(levels: usize) -> String {
        "[".repeat(levels) + &"]".repeat(levels)
    }

    #[test]
    fn depth_counts_open_brackets_only() {
        assert!(!too_deep(&nested(64), 64));
        assert!(too_deep(&nested(65), 64));
        assert!(too_deep(&nested(100_000), 64));
        assert!(!too_deep(&"[],".repeat(1000), 64));
        assert!(!too_deep(&format!("\"{}\"", "[".repeat(1000)), 64));
        assert!(!too_deep(&format!("\"\\\"{}\"", "[".repeat(1000)), 64));
        assert!(too_deep(&format!("\"\\\\\"{}", nested(65)), 64));
    }

    #[test]
    fn levels_are_counted_while_json_is_written() {
        let raw = |json| RawValue::from_string(json).unwrap();
        let too_deep = |levels, value: &(&str, Box<RawValue>, Vec<Vec<u8>>)| {
            let mut formatter = DepthFormatter::<true>::new(levels);
            let mut json = Vec::new();
            let mut writer = serde_json::Serializer::with_formatter(&mut json, &mut formatter);
            value.serialize(&mut writer).unwrap();
            assert_eq!(json, serde_json::to_vec(value).unwrap());
            formatter.is_too_deep()
        };
        let lists = || vec![vec![1], vec![2]];
        let value = ("[[[[", raw("[]".into()), lists());
        assert!(!too_deep(3, &value) && too_deep(2, &value));
        let value = ("", raw(nested(70)), lists());
        assert!(!too_deep(71, &value) && too_deep(70, &value));
    }

    #[test]
    fn only_opening_brackets_are_counted() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(most_brackets(&all), 2);
        assert_eq!(most_brackets(&[b'['; 640]), 640);
        for length in 0..300 {
            // All of them, and at most one block twice.
            let least = most_brackets(&vec![b'{'; length]);
            assert!((length..length + 64).contains(&least), "{least} of {length}");
            assert_eq!(most_brackets(&vec![b'}'; length]), if length < 64 { length } else { 0 });
        }
    }
}
