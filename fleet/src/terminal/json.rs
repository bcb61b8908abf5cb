//! JSON on its way to a terminal.

use seqlink::printable::is_printable;

/// The same JSON on one line, in which each character of a peer's that does anything to a terminal
/// is written as JSON's escape.
pub fn printable_json(json: &str) -> String {
    let mut line = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            // They stand between tokens alone: in a string they would be escaped.
            '\t' | '\n' | '\r' => line.push(' '),
            c if is_printable(c) => line.push(c),
            c => c
                .encode_utf16(&mut [0; 2])
                .iter()
                .for_each(|unit| line += &format!("\\u{unit:04x}")),
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_stays_the_same_and_does_nothing_to_a_terminal() {
        let value = serde_json::json!({"a\u{9b}": ["b\n\u{7f}\u{202e}ö穴", "\u{e0041}\u{10ffff}"]});
        for json in [value.to_string(), serde_json::to_string_pretty(&value).unwrap()] {
            let line = printable_json(&json.replace('\n', "\r\n"));
            assert!(line.chars().all(is_printable), "{line}");
            assert_eq!(serde_json::from_str::<serde_json::Value>(&line).unwrap(), value);
        }
    }
}
