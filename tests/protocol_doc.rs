//! `docs/protocol.md` is compiled: every JSON block is one frame that the library's own types read
//! and write back, every message of the catalogs has its example, and the tables say what the
//! types say.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use seqlink::catalog::clusterio::*;
use seqlink::catalog::{clusterio, game_node, game_node::*};
use seqlink::message::{Direction, Entry, Event, Kind, Request};
use seqlink::wire::{
    Close, Frame, Hello, Ready, RegisterControl, RegisterSlave, Response, without_seq,
};
use seqlink::{Config, Empty};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

const DOCUMENT: &str = include_str!("../docs/protocol.md");

/// Reads data as one type and writes it again.
type Rewrite = fn(&str) -> serde_json::Result<Value>;

/// What a frame's `data` is, by the frame's `type`; and how long the asker of a request waits.
#[derive(Default)]
struct Shapes {
    data: BTreeMap<String, Rewrite>,
    waits: BTreeMap<&'static str, Duration>,
}

impl Shapes {
    /// The handshake and both catalogs.
    fn all() -> Self {
        Self::default()
            .plain::<Hello>(Hello::TYPE)
            .plain::<RegisterSlave>(RegisterSlave::TYPE)
            .plain::<RegisterControl>(RegisterControl::TYPE)
            .plain::<Ready>(Ready::TYPE)
            .plain::<Close>(Close::TYPE)
            .request::<RegisterNode>()
            .request::<PrepareGame>()
            .request::<PlayGame>()
            .request::<StopGame>()
            .request::<NotifyStopFinish>()
            .request::<Heartbeat>()
            .request::<JoinQueue>()
            .request::<LeaveQueue>()
            .request::<ListQueue>()
            .request::<ListNodes>()
            .request::<CallSlave>()
            .event::<PlayerUpdate>()
            .request::<ListSlaves>()
            .request::<ListInstances>()
            .request::<SetInstanceOutputSubscriptions>()
            .request::<CreateInstance>()
            .request::<GetInstanceConfig>()
            .request::<SetInstanceConfigField>()
            .request::<AssignInstanceCommand>()
            .request::<AssignInstance>()
            .plain::<Empty>("prepare_disconnect_request")
            .plain::<Empty>("prepare_disconnect_response")
            .request::<StartInstance>()
            .request::<CreateSave>()
            .request::<StopInstance>()
            .request::<DeleteInstance>()
            .request::<SendRcon>()
            .request::<GetMetrics>()
            .event::<UpdateInstances>()
            .event::<InstanceOutput>()
    }

    fn plain<D: Serialize + DeserializeOwned>(mut self, kind: &str) -> Self {
        self.data.insert(kind.to_owned(), rewrite::<D>);
        self
    }

    fn request<R: Request>(mut self) -> Self {
        let wait = R::TIMEOUT.unwrap_or(Config::default().request_timeout);
        self.waits.insert(R::NAME, wait);
        self.data.insert(format!("{}_request", R::NAME), rewrite::<R>);
        self.data.insert(format!("{}_response", R::NAME), |data| {
            rewrite::<R::Response>(without_seq(data)?.get())
        });
        self
    }

    fn event<E: Event>(self) -> Self {
        self.plain::<E>(&format!("{}_event", E::NAME))
    }
}

fn rewrite<D: Serialize + DeserializeOwned>(data: &str) -> serde_json::Result<Value> {
    serde_json::to_value(serde_json::from_str::<D>(data)?)
}

/// The JSON blocks of the document, each with its line.
fn blocks() -> Vec<(usize, &'static str)> {
    let mut blocks = Vec::new();
    let mut rest = DOCUMENT;
    while let Some(start) = rest.find("```json\n") {
        let block = &rest[start + "```json\n".len()..];
        let line = 1 + DOCUMENT[..DOCUMENT.len() - block.len()].matches('\n').count();
        let end = block.find("\n```").expect("a block that ends");
        blocks.push((line, &block[..end]));
        rest = &block[end..];
    }
    blocks
}

fn messages() -> impl Iterator<Item = &'static Entry> {
    clusterio::MESSAGES.iter().chain(game_node::MESSAGES)
}

/// Reads the frame `text` with the library's types and says its type; `Err` says what is wrong.
fn read(text: &'static str, shapes: &Shapes) -> Result<String, String> {
    let frame = Frame::parse(text).map_err(|error| error.to_string())?;
    frame.numbered().map_err(|error| error.to_string())?;
    let envelope: BTreeMap<String, Value> =
        serde_json::from_str(text).map_err(|error| error.to_string())?;
    if envelope.len() != 3 {
        return Err(format!("{} keys in the envelope", envelope.len()));
    }
    let kind = frame.kind.to_string();
    let rewrite = shapes.data.get(&kind).ok_or(format!("unknown type {kind}"))?;
    let mut written = envelope["data"].clone();
    if kind.ends_with("_response") {
        let response = Response::parse(frame.data).map_err(|error| error.to_string())?;
        if response.error().is_some() {
            let keys = written.as_object().map_or(0, |object| object.len());
            return if keys == 2 { Ok(kind + ", an error") } else { Err(format!("{keys} keys")) };
        }
        written.as_object_mut().and_then(|object| object.remove("seq"));
    }
    let again = rewrite(frame.data).map_err(|error| format!("{kind}: {error}"))?;
    if again == written { Ok(kind) } else { Err(format!("{kind} is written as {again}")) }
}

#[test]
fn every_example_is_a_frame_of_the_library() {
    let shapes = Shapes::all();
    let faults: Vec<String> = blocks()
        .into_iter()
        .filter_map(|(line, text)| {
            read(text, &shapes).err().map(|fault| format!("line {line}: {fault}"))
        })
        .collect();
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn every_message_has_its_example() {
    let shapes = Shapes::all();
    for entry in messages() {
        let ending = if entry.kind == Kind::Request { "request" } else { "event" };
        let kind = format!("{}_{ending}", entry.name);
        assert!(shapes.data.contains_key(&kind), "{kind} is in a catalog and not in this test");
    }
    let shown: BTreeSet<String> =
        blocks().into_iter().filter_map(|(_, text)| read(text, &shapes).ok()).collect();
    let missing: Vec<_> = shapes.data.keys().filter(|kind| !shown.contains(*kind)).collect();
    assert!(missing.is_empty(), "no example of {missing:?}");
}

#[test]
fn the_tables_say_where_a_message_goes_and_how_long_the_asker_waits() {
    let shapes = Shapes::all();
    for entry in messages() {
        let start = format!("| [`{}`](", entry.name);
        let row = DOCUMENT.lines().find(|line| line.starts_with(&start));
        let row = row.unwrap_or_else(|| panic!("{} stands in no table", entry.name));
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let kind = if entry.kind == Kind::Request { "request" } else { "event" };
        assert_eq!(cells[2], kind, "{row}");
        let said: BTreeSet<String> = match cells[3] {
            "every direction" => directions(Direction::ANY),
            some => some.split(", ").map(|direction| direction.replace(' ', "")).collect(),
        };
        assert_eq!(said, directions(entry.direction), "{row}");
        let wait = shapes.waits.get(entry.name);
        let wait = wait.map_or(String::new(), |wait| format!("{} s", wait.as_secs()));
        assert_eq!(cells[4], wait, "{row}");
    }
}

fn directions(direction: Direction) -> BTreeSet<String> {
    direction.to_string().split(", ").map(str::to_owned).collect()
}

#[test]
fn a_wrong_example_is_noticed() {
    let shapes = Shapes::all();
    let fault = |text| read(text, &shapes).unwrap_err();
    assert_eq!(fault(r#"{"seq":1,"type":"greet_event","data":{}}"#), "unknown type greet_event");
    assert_eq!(fault(r#"{"seq":1,"type":"ready","data":{},"more":1}"#), "4 keys in the envelope");
    assert!(fault(r#"{"seq":1,"type":"ready","data":{"more":1}}"#).contains("is written as"));
    assert!(fault(r#"{"seq":1,"type":"hello","data":{}}"#).contains("missing field"));
    let response = r#"{"seq":1,"type":"send_rcon_response","data":{"seq":1,"result":2}}"#;
    assert!(fault(response).contains("invalid type"));
    assert!(fault(r#"{"type":"ready","data":{}}"#).contains("seq"));
}
