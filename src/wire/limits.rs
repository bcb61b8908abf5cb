use serde_json::error::Category;

/// Deepest nesting of objects and arrays in a frame; the frame's own object is the first level.
pub const MAX_DEPTH: usize = 64;

/// Longest message type in bytes, its `_request`, `_response` or `_event` included.
pub const MAX_TYPE: usize = 128;

/// Longest message name in bytes: a type without its ending.
pub const MAX_NAME: usize = MAX_TYPE - "_response".len();

/// Whether `name` can stand in a message type, and in that of its response: 1 to 119 bytes, none
/// of which JSON would escape.
pub fn is_name(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len()) && is_plain(name)
}

/// Whether JSON would escape no byte of `text`. All are looked at, many at once.
pub(super) fn is_plain(text: &str) -> bool {
    let odd = |byte: u8| byte < 0x20 || byte == b'"' || byte == b'\\';
    !text.bytes().fold(false, |any, byte| any | odd(byte))
}

/// Highest sequence number: 2⁵³ − 1, the last integer that every JSON reader holds exactly.
pub const MAX_SEQ: u64 = (1 << 53) - 1;

/// Whether `json` nests deeper than `levels`.
///
/// serde_json reads a raw value of any depth without complaint, so the depth is counted here.
pub fn too_deep(json: impl AsRef<[u8]>, levels: usize) -> bool {
    let json = json.as_ref();
    // Text with that few brackets cannot nest deeper: nearly every frame is done here.
    json.len() > levels && opening_brackets(json) > levels && deepest(json) > levels
}

/// Written so that the compiler looks at many bytes at once.
fn opening_brackets(json: &[u8]) -> usize {
    // `{` and `[` differ in one bit, which no other bytes share with them.
    let in_block = |block: &[u8]| {
        block.iter().map(|byte| u8::from(byte | 0x20 == b'{')).fold(0, u8::wrapping_add)
    };
    json.chunks(255).map(|block| usize::from(in_block(block))).sum()
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

/// Says what is wrong with some JSON without quoting any value of it.
///
/// serde_json's own text for a value of the wrong type contains the value, which may be a password.
pub fn describe(error: &serde_json::Error) -> String {
    let text = error.to_string();
    if error.classify() != Category::Data {
        return text;
    }
    let quoting = ["invalid type: ", "invalid value: ", "invalid length ", "unknown variant "];
    match (quoting.iter().find(|start| text.starts_with(**start)), text.rfind(", expected ")) {
        (Some(start), Some(expected)) => {
            format!("{}{}", start.trim_end_matches([' ', ':']), &text[expected..])
        }
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(levels: usize) -> String {
        "[".repeat(levels) + &"]".repeat(levels)
    }

    #[test]
    fn depth_counts_open_brackets_only() {
        assert!(!too_deep(nested(64), 64));
        assert!(too_deep(nested(65), 64));
        assert!(too_deep(nested(100_000), 64));
        assert!(!too_deep("[],".repeat(1000), 64));
        assert!(!too_deep(format!("\"{}\"", "[".repeat(1000)), 64));
        assert!(!too_deep(format!("\"\\\"{}\"", "[".repeat(1000)), 64));
        assert!(too_deep(format!("\"\\\\\"{}", nested(65)), 64));
    }

    #[test]
    fn only_opening_brackets_are_counted() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(opening_brackets(&all), 2);
        assert_eq!(opening_brackets("[{".repeat(500).as_bytes()), 1000);
    }

    #[test]
    fn errors_quote_no_value() {
        #[derive(Debug, serde::Deserialize)]
        #[expect(dead_code)]
        struct Port {
            port: u16,
        }
        let error = |json| describe(&serde_json::from_str::<Port>(json).unwrap_err());
        let secret = error(r#"{"port":"hunter2, expected more"}"#);
        assert!(!secret.contains("hunter2"), "{secret}");
        assert_eq!(secret, "invalid type, expected u16 at line 1 column 32");
        assert_eq!(error("{}"), "missing field `port` at line 1 column 2");
        assert_eq!(error(r#"{"port":70000}"#), "invalid value, expected u16 at line 1 column 13");
    }
}
