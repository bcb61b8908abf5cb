//! What Clusterio's own programs said to each other: `tests/frames/`.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

/// One line of the record.
#[derive(Clone, Debug)]
pub struct Line {
    /// Since the part began.
    pub at: Duration,
    pub conn: u64,
    pub what: What,
}

#[derive(Clone, Debug, PartialEq)]
pub enum What {
    Note(String),
    /// The client opens a connection.
    Open,
    /// The master is not there.
    Refused,
    Client(Said),
    Master(Said),
}

#[derive(Clone, Debug, PartialEq)]
pub enum Said {
    Text(String),
    /// A close frame, or the end of the connection without one (1006).
    Close(u16, String),
}

/// A part of the record, in the order in which it was recorded.
pub fn part(name: &str) -> Vec<Line> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/frames/clusterio-alpha12.jsonl");
    let text = std::fs::read_to_string(file).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let lines: Vec<Line> =
        lines.filter(|line| line["part"] == name).filter_map(|line| read(&line)).collect();
    assert!(lines.len() > 50, "{name}");
    lines
}

fn read(line: &Value) -> Option<Line> {
    let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
    let said = || match line["code"].as_u64() {
        Some(code) => Said::Close(u16::try_from(code).unwrap(), text("reason")),
        None => Said::Text(text("text")),
    };
    let what = match (line["dir"].as_str()?, line["event"].as_str()) {
        ("note", _) => What::Note(text("text")),
        ("c2s", Some("open")) => What::Open,
        ("proxy", Some("drop")) => return None, // The ends of both sides follow.
        ("proxy", _) => What::Refused,
        ("c2s", _) => What::Client(said()),
        ("s2c", _) => What::Master(said()),
        other => panic!("{other:?}"),
    };
    let at = Duration::from_millis(line["ms"].as_u64().unwrap());
    Some(Line { at, conn: line["conn"].as_u64().unwrap_or(0), what })
}
