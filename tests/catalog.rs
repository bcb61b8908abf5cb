//! The session generation's catalog against the facts: the table of alpha.12's messages, and frames
//! that its programs sent each other.

use std::collections::{BTreeMap, BTreeSet};

use seqlink::catalog::clusterio::session::{self, *};
use seqlink::catalog::link;
use seqlink::message::{Direction, Entry, Event, Kind, Request, Routing};
use seqlink::wire::{Frame, Response, without_seq};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

const TABLE: &str = include_str!("data/clusterio-alpha12.md");
const FRAMES: &str = include_str!("data/clusterio-alpha12.jsonl");

/// Reads data as one type and writes it again.
type Rewrite = fn(&str) -> serde_json::Result<Value>;

fn rewrite<D: Serialize + DeserializeOwned>(data: &str) -> serde_json::Result<Value> {
    serde_json::to_value(serde_json::from_str::<D>(data)?)
}

/// What a frame's `data` is, by the frame's `type`; of a response, without `seq`.
#[derive(Default)]
struct Shapes(BTreeMap<String, Rewrite>);

impl Shapes {
    fn request<R: Request>(&mut self) {
        self.0.insert(format!("{}_request", R::NAME), rewrite::<R>);
        self.0.insert(format!("{}_response", R::NAME), rewrite::<R::Response>);
    }

    fn event<E: Event>(&mut self) {
        self.0.insert(format!("{}_event", E::NAME), rewrite::<E>);
    }
}

macro_rules! shapes {
    (requests: $($request:ty)+; events: $($event:ty)+) => {{
        let mut shapes = Shapes::default();
        $(shapes.request::<$request>();)+
        $(shapes.event::<$event>();)+
        shapes
    }};
}

fn shapes() -> Shapes {
    shapes! {
        requests:
            PrepareDisconnect PrepareMasterDisconnect Ping DebugDumpWs GetMasterConfig
            SetMasterConfigField SetMasterConfigProp ListSlaves SetSlaveSubscriptions GetInstance
            ListInstances SetInstanceSubscriptions GenerateSlaveToken CreateSlaveConfig
            CreateInstance GetInstanceConfig SetInstanceConfigField SetInstanceConfigProp
            AssignInstanceCommand StartInstance ListSaves CreateSave RenameSave CopySave DeleteSave
            DownloadSave TransferSave PullSave PushSave SetSaveListSubscriptions LoadScenario
            ExportData StopInstance KillInstance DeleteInstance SendRcon ListPermissions ListRoles
            CreateRole UpdateRole GrantDefaultRolePermissions DeleteRole ListUsers CreateUser
            UpdateUserRoles SetUserAdmin SetUserWhitelisted SetUserBanned DeleteUser
            SetLogSubscriptions QueryLog UpdateInstances AssignInstance UnassignInstance GetMetrics;
        events:
            DebugWsMessage AccountUpdate LogMessage SlaveUpdate InstanceInitialized
            InstanceStatusChanged InstanceUpdate SaveListUpdate MasterConnectionEvent SyncUserLists
            BanlistUpdate AdminlistUpdate WhitelistUpdate PlayerEvent
    }
}

/// A field's type as the table writes it.
#[derive(Clone, Debug)]
enum Type {
    Boolean,
    Integer,
    Number,
    String,
    /// Any object.
    Object,
    Any,
    Words(Vec<&'static str>),
    List(Box<Type>),
    Tuple(Vec<Type>),
    /// Any keys, each with such a value.
    Mapping(Box<Type>),
    Struct {
        fields: Vec<Field>,
        /// Whether further keys are kept.
        open: bool,
    },
    Nullable(Box<Type>),
}

#[derive(Clone, Debug)]
struct Field {
    key: &'static str,
    optional: bool,
    of: Type,
}

/// Reads what the table says of fields.
struct Reader(&'static str);

impl Reader {
    fn fields(text: &'static str) -> Type {
        let mut reader = Self(text);
        let fields = if matches!(text, "" | "–") { Vec::new() } else { reader.list_of_fields() };
        assert!(fields.is_empty() || reader.0.is_empty(), "{text}: {:?} is left", reader.0);
        Type::Struct { fields, open: false }
    }

    fn eat(&mut self, start: &str) -> bool {
        let rest = self.0.strip_prefix(start);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    fn word(&mut self) -> &'static str {
        let end = self.0.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(self.0.len());
        let (word, rest) = self.0.split_at(end);
        self.0 = rest;
        word
    }

    fn list_of_fields(&mut self) -> Vec<Field> {
        let mut fields = Vec::new();
        loop {
            let (key, optional) = (self.word(), self.eat("?"));
            assert!(!key.is_empty() && self.eat(":"), "{}", self.0);
            fields.push(Field { key, optional, of: self.of() });
            if !self.eat(", ") {
                return fields;
            }
        }
    }

    fn of(&mut self) -> Type {
        let bare = if self.eat("{*:") {
            let value = self.of();
            assert!(self.eat("}"), "{}", self.0);
            Type::Mapping(Box::new(value))
        } else if self.eat("{") {
            let fields = self.list_of_fields();
            assert!(self.eat("}"), "{}", self.0);
            Type::Struct { fields, open: self.eat("+") }
        } else if self.eat("[") {
            let first = self.of();
            let more: Vec<Type> = std::iter::from_fn(|| self.eat(",").then(|| self.of())).collect();
            assert!(self.eat("]"), "{}", self.0);
            match more.is_empty() {
                true => Type::List(Box::new(first)),
                false => Type::Tuple(std::iter::once(first).chain(more).collect()),
            }
        } else {
            self.name()
        };
        if self.eat("?") { Type::Nullable(Box::new(bare)) } else { bare }
    }

    fn name(&mut self) -> Type {
        match self.word() {
            "boolean" => Type::Boolean,
            "integer" => Type::Integer,
            "number" => Type::Number,
            "string" => Type::String,
            "object" => Type::Object,
            "any" => Type::Any,
            "enum" => {
                assert!(self.eat("("), "{}", self.0);
                let (words, rest) = self.0.split_once(')').expect("an end of the enum");
                self.0 = rest;
                Type::Words(words.split('/').collect())
            }
            other => panic!("{other:?} is no type"),
        }
    }
}

/// What must become of data that is read and written again.
#[derive(Clone, Debug, PartialEq)]
enum Outcome {
    Same,
    /// It is refused, with an error that contains this.
    Refused(String),
    /// It is read, and written without something.
    Becomes(Value),
}

struct Case {
    about: String,
    data: Value,
    outcome: Outcome,
}

impl Case {
    fn new(about: impl Into<String>, data: Value, outcome: Outcome) -> Self {
        Self { about: about.into(), data, outcome }
    }

    fn refused(about: impl Into<String>, data: Value) -> Self {
        Self::new(about, data, Outcome::Refused(String::new()))
    }

    /// The same case as a part of something larger.
    fn within(self, step: &str, wrap: impl Fn(Value) -> Value) -> Self {
        let outcome = match self.outcome {
            Outcome::Becomes(value) => Outcome::Becomes(wrap(value)),
            other => other,
        };
        Self { about: format!("{step}.{}", self.about), data: wrap(self.data), outcome }
    }
}

impl Type {
    /// A value of this type with everything that may stand in it.
    fn sample(&self) -> Value {
        match self {
            Self::Boolean => json!(true),
            Self::Integer => json!(-42),
            Self::Number => json!(1598000000000.25),
            Self::String => json!("a \"text\"\n"),
            Self::Object => json!({"groups": [{"n": 1.5, "deep": {"null": null}}]}),
            Self::Any => json!([1, {"two": null}]),
            Self::Words(words) => json!(words[0]),
            Self::List(of) => json!([of.sample(), of.sample()]),
            Self::Tuple(of) => of.iter().map(Self::sample).collect(),
            Self::Mapping(of) => json!({"one": of.sample(), "two": of.sample()}),
            Self::Struct { fields, .. } => {
                fields.iter().map(|field| (field.key.to_owned(), field.of.sample())).collect()
            }
            Self::Nullable(of) => of.sample(),
        }
    }

    /// Values of this type and values that are none, each with what must become of it.
    fn cases(&self) -> Vec<Case> {
        let same = |about: &str, data: Value| Case::new(about, data, Outcome::Same);
        let mut cases = vec![same("a sample", self.sample())];
        if !matches!(self, Self::Nullable(_) | Self::Any) {
            cases.push(Case::refused("null", Value::Null));
        }
        match self {
            Self::Boolean => cases.push(Case::refused("a number", json!(1))),
            Self::Integer => {
                cases.extend([
                    same("zero", json!(0)),
                    same("a large one", json!((1_i64 << 53) - 1)),
                ]);
                cases.push(Case::refused("a fraction", json!(1.5)));
                cases.push(Case::refused("a text", json!("1")));
            }
            Self::Number => {
                cases.push(same("an integer", json!(1598000000000_i64)));
                cases.push(Case::refused("a text", json!("1")));
            }
            Self::String => {
                cases.push(same("an empty one", json!("")));
                cases.push(Case::refused("a number", json!(1)));
            }
            Self::Object => {
                cases.push(same("an empty one", json!({})));
                cases.extend(
                    [json!([]), json!("{}"), json!(1)].map(|bad| Case::refused("none", bad)),
                );
            }
            Self::Any => {
                cases.extend([json!(null), json!("x"), json!({})].map(|any| same("any", any)))
            }
            Self::Words(words) => {
                cases.extend(words.iter().map(|word| same(word, json!(word))));
                let named = Outcome::Refused("\"on fire\"".to_owned());
                cases.push(Case::new("an unknown word", json!("on fire"), named));
                cases.push(Case::refused("a number", json!(0)));
            }
            Self::List(of) => {
                cases.push(same("an empty one", json!([])));
                cases.push(Case::refused("an object", json!({})));
                let wrap = |inner| json!([of.sample(), inner]);
                cases.extend(of.cases().into_iter().map(|case| case.within("[1]", wrap)));
            }
            Self::Tuple(of) => {
                let Value::Array(whole) = self.sample() else { unreachable!() };
                cases.push(Case::refused("one too few", Value::from(&whole[1..])));
                let more: Vec<_> = whole.iter().chain(&whole[..1]).cloned().collect();
                cases.push(Case::refused("one too many", Value::from(more)));
                for (at, of) in of.iter().enumerate() {
                    let wrap = |inner| {
                        let mut whole = whole.clone();
                        whole[at] = inner;
                        Value::from(whole)
                    };
                    cases.extend(of.cases().into_iter().map(|case| case.within("tuple", wrap)));
                }
            }
            Self::Mapping(of) => {
                cases.push(same("an empty one", json!({})));
                let wrap = |inner| json!({"one": of.sample(), "other": inner});
                cases.extend(of.cases().into_iter().map(|case| case.within("mapping", wrap)));
            }
            Self::Struct { fields, open } => cases.extend(self.cases_of_fields(fields, *open)),
            Self::Nullable(of) => {
                cases.push(same("null", Value::Null));
                cases.extend(of.cases().into_iter().filter(|case| case.about != "null"));
            }
        }
        cases
    }

    fn cases_of_fields(&self, fields: &[Field], open: bool) -> Vec<Case> {
        let Value::Object(whole) = self.sample() else { unreachable!() };
        let with = |key: &str, value: Value| {
            let mut whole = whole.clone();
            whole.insert(key.to_owned(), value);
            Value::Object(whole)
        };
        let without = |keys: &[&str]| {
            let kept = whole.clone().into_iter().filter(|(key, _)| !keys.contains(&key.as_str()));
            Value::Object(kept.collect())
        };
        let mut cases = Vec::new();
        for Field { key, optional, of } in fields {
            let outcome = match optional {
                true => Outcome::Same,
                false => Outcome::Refused(format!("missing field `{key}`")),
            };
            cases.push(Case::new(format!("no {key}"), without(&[*key]), outcome));
            let inner = of.cases().into_iter();
            cases.extend(inner.map(|case| case.within(key, |inner| with(key, inner))));
        }
        let optional: Vec<&str> =
            fields.iter().filter(|field| field.optional).map(|field| field.key).collect();
        cases.push(Case::new("nothing optional", without(&optional), Outcome::Same));
        let outcome = match open {
            true => Outcome::Same,
            false => Outcome::Becomes(self.sample()),
        };
        cases.push(Case::new("a further key", with("further", json!({"key": [1, null]})), outcome));
        cases
    }
}

/// One line of the table.
struct Row {
    kind: Kind,
    name: &'static str,
    links: BTreeSet<&'static str>,
    routing: Routing,
    permission: Option<&'static str>,
    data: Type,
    response: Type,
}

fn rows() -> Vec<Row> {
    let lines = TABLE.lines().filter(|line| line.starts_with("| R ") || line.starts_with("| E "));
    lines
        .map(|line| {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            let [_, kind, name, links, routing, permission, data, response, _] = cells[..] else {
                panic!("{line}: {} cells", cells.len());
            };
            Row {
                kind: if kind == "R" { Kind::Request } else { Kind::Event },
                name: name.trim_matches('`'),
                links: links.split(' ').collect(),
                routing: match routing {
                    "" => Routing::None,
                    "fwd instance" => Routing::ToInstance,
                    "fwd master" => Routing::ToMaster,
                    "bcast instance" => Routing::ToInstances,
                    other => panic!("{line}: {other:?} is no routing"),
                },
                permission: (!permission.is_empty()).then_some(permission),
                data: Reader::fields(data),
                response: Reader::fields(response),
            }
        })
        .collect()
}

fn links(direction: Direction) -> BTreeSet<String> {
    let letter = |role: &str| role[..1].to_uppercase();
    let text = direction.to_string();
    let pairs = text.split(", ").map(|one| one.split_once('→').expect("from → to"));
    pairs.map(|(from, to)| format!("{}→{}", letter(from), letter(to))).collect()
}

#[test]
fn the_catalog_has_the_rows_of_the_table() {
    let rows = rows();
    assert_eq!(rows.len(), 69, "the rows that alpha.12 has");
    let names = |entry: &Entry| (entry.kind, entry.name);
    let listed: Vec<_> = session::MESSAGES.iter().map(names).collect();
    assert_eq!(listed, rows.iter().map(|row| (row.kind, row.name)).collect::<Vec<_>>());
    for (entry, row) in session::MESSAGES.iter().zip(&rows) {
        let said: BTreeSet<String> = row.links.iter().map(|link| (*link).to_owned()).collect();
        assert_eq!(links(entry.direction), said, "{}", row.name);
        assert_eq!(entry.routing, row.routing, "{}", row.name);
        assert_eq!(entry.permission, row.permission, "{}", row.name);
        assert_eq!(entry.since, (0, 0, 0), "{}", row.name);
    }
    for entry in link::MESSAGES {
        assert!(session::MESSAGES.contains(entry), "{}", entry.name);
    }
}

#[test]
fn every_field_is_read_and_written_as_the_table_says() {
    let shapes = shapes();
    let (mut faults, mut tried) = (Vec::new(), 0);
    let mut try_all = |kind: String, of: &Type| {
        let rewrite = shapes.0.get(&kind).unwrap_or_else(|| panic!("no type for {kind}"));
        for Case { about, data, outcome } in of.cases() {
            let read = rewrite(&data.to_string());
            let good = match (&read, &outcome) {
                (Ok(written), Outcome::Same) => *written == data,
                (Ok(written), Outcome::Becomes(expected)) => written == expected,
                (Err(error), Outcome::Refused(part)) => error.to_string().contains(part),
                _ => false,
            };
            if !good {
                faults.push(format!("{kind}, {about}: {data} is {read:?}, expected {outcome:?}"));
            }
            tried += 1;
        }
    };
    for row in rows() {
        match row.kind {
            Kind::Request => {
                try_all(format!("{}_request", row.name), &row.data);
                try_all(format!("{}_response", row.name), &row.response);
            }
            _ => try_all(format!("{}_event", row.name), &row.data),
        }
    }
    assert!(faults.is_empty(), "{} of {tried}: {faults:#?}", faults.len());
    assert!(tried > 1_500, "only {tried} cases");
}

#[test]
fn the_programs_own_frames_are_read_and_written_again() {
    let shapes = shapes();
    let mut kinds = BTreeSet::new();
    for line in FRAMES.lines() {
        let frame = Frame::parse(line).unwrap();
        let kind = frame.kind.to_string();
        let rewrite = shapes.0.get(&kind).unwrap_or_else(|| panic!("no type for {kind}"));
        let mut data: Map<String, Value> = serde_json::from_str(frame.data).unwrap();
        let again = if kind.ends_with("_response") {
            let response = Response::parse(frame.data).unwrap();
            if let Some(error) = response.error() {
                assert_eq!(json!(error), data["error"], "{line}");
                continue;
            }
            data.remove("seq");
            rewrite(without_seq(frame.data).unwrap().get())
        } else {
            rewrite(frame.data)
        };
        let again = again.unwrap_or_else(|error| panic!("{line}: {error}"));
        assert_eq!(again, Value::Object(data), "{line}");
        kinds.insert(kind);
    }
    assert!(kinds.len() >= 24, "only {kinds:?}");
}

/// The document has the same table, line by line.
#[test]
fn the_document_has_the_table() {
    let document = include_str!("../docs/protocol.md");
    let (_, section) = document.split_once("## Catalog `clusterio::session`").expect("the section");
    let (section, _) = section.split_once("\n## ").expect("a section after it");
    let lines = |text: &'static str| -> Vec<&str> {
        text.lines().filter(|line| line.starts_with('|')).collect()
    };
    assert_eq!(lines(section), lines(TABLE));
}

/// The table's reader itself: a type that is read too leniently would make every case above weak.
#[test]
fn the_reader_of_the_table_takes_every_mark() {
    let of = Reader::fields("a?:[{b:integer?, c:enum(x/y)}]?, d:{e:string}+, f:[[string,any]]");
    let text = format!("{of:?}");
    assert_eq!(
        text,
        "Struct { fields: [Field { key: \"a\", optional: true, of: Nullable(List(Struct { fields: \
         [Field { key: \"b\", optional: false, of: Nullable(Integer) }, Field { key: \"c\", \
         optional: false, of: Words([\"x\", \"y\"]) }], open: false })) }, Field { key: \"d\", \
         optional: false, of: Struct { fields: [Field { key: \"e\", optional: false, of: String }], \
         open: true } }, Field { key: \"f\", optional: false, of: List(Tuple([String, Any])) }], \
         open: false }"
    );
}

/// An unknown status gets back to the asker by name, through the error that the wire carries, and
/// no more of it than is needed to know it.
#[test]
fn an_unknown_status_is_named_in_the_error() {
    let json = |status: &str| {
        format!(
            r#"{{"name":"a","id":1,"assigned_slave":null,"game_port":null,"status":"{status}"}}"#
        )
    };
    let error = seqlink::wire::decode::<Instance>(&json("melting")).unwrap_err().to_string();
    assert!(error.starts_with("unknown status \"melting\""), "{error}");
    let error = seqlink::wire::decode::<Instance>(&json(&"é".repeat(10_000))).unwrap_err();
    assert!(error.to_string().len() < 120, "{error}");
}
