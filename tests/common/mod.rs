//! What several test files need: message types, and a pair of linked peers in memory.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]

pub mod cutting;
pub mod dialled;
pub mod faults;
pub mod guest;
pub mod line;
pub mod raw;
pub mod recorded;
pub mod scripted;
pub mod world;

use std::time::Duration;

use seqlink::transport::memory::{self, Cable};
use seqlink::{
    Client, ClientBuilder, Config, Control, Ctx, Direction, Empty, Event, Link, Master,
    MasterBuilder, Request, Router, Slave,
};
use serde::{Deserialize, Serialize};

/// How long a master that shuts down waits for what is not finished.
pub const DRAIN: Duration = Duration::from_secs(2);

/// Answered with itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Echo {
    pub text: String,
}

impl Request for Echo {
    const NAME: &'static str = "echo";
    type Response = Echo;
}

/// Answered when the handler has slept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sleep {
    pub ms: u64,
}

impl Request for Sleep {
    const NAME: &'static str = "sleep";
    const TIMEOUT: Option<Duration> = Some(Duration::from_secs(100));
    type Response = Empty;
}

/// Fails, panics or succeeds, as told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fail {
    pub how: String,
}

impl Request for Fail {
    const NAME: &'static str = "fail";
    type Response = Empty;
}

/// Goes to and fro `depth` times over the same link.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Nest {
    pub depth: u32,
}

impl Request for Nest {
    const NAME: &'static str = "nest";
    type Response = Nest;
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tick {
    pub n: u64,
}

impl Event for Tick {
    const NAME: &'static str = "tick";
}

/// Only a master may ask this.
#[derive(Serialize, Deserialize)]
pub struct Order {}

impl Request for Order {
    const NAME: &'static str = "order";
    const DIRECTION: Direction = Direction::MASTER_TO_SLAVE;
    type Response = Empty;
}

/// Only a slave may tell this.
#[derive(Serialize, Deserialize)]
pub struct Report {
    pub n: u64,
}

impl Event for Report {
    const NAME: &'static str = "report";
    const DIRECTION: Direction = Direction::SLAVE_TO_MASTER;
}

pub fn echo(text: &str) -> Echo {
    Echo { text: text.to_owned() }
}

/// The handlers of the requests above.
pub fn router() -> Router<()> {
    Router::new(()).request(on_echo).request(on_sleep).request(on_fail).request(on_nest)
}

async fn on_echo(echo: Echo, _: Ctx) -> Result<Echo, String> {
    Ok(echo)
}

async fn on_sleep(sleep: Sleep, _: Ctx) -> Result<Empty, String> {
    tokio::time::sleep(Duration::from_millis(sleep.ms)).await;
    Ok(Empty {})
}

async fn on_fail(fail: Fail, _: Ctx) -> Result<Empty, String> {
    match fail.how.as_str() {
        "panic" => panic!("as told"),
        "late panic" => {
            tokio::task::yield_now().await;
            panic!("as told, later")
        }
        "not" => Ok(Empty {}),
        why => Err(why.to_owned()),
    }
}

async fn on_nest(nest: Nest, ctx: Ctx) -> Result<Nest, String> {
    match nest.depth {
        0 => Ok(nest),
        depth => {
            let inner = ctx.link().request(&Nest { depth: depth - 1 }).await;
            let inner = inner.map_err(|error| error.to_string())?;
            Ok(Nest { depth: inner.depth + 1 })
        }
    }
}

/// A master's and a client's end of one link in memory.
pub struct Pair {
    pub master: Master,
    /// The master's end.
    pub theirs: Link,
    /// The client's end.
    pub ours: Link,
    pub cable: Cable,
}

pub async fn pair() -> Pair {
    pair_of(Master::builder().router(router()), slave().router(router())).await
}

pub fn slave() -> ClientBuilder {
    Slave::builder().id(7).name("wormhole")
}

pub fn control() -> ClientBuilder {
    Control::builder()
}

pub async fn pair_of(master: MasterBuilder, client: ClientBuilder) -> Pair {
    let master = master.build().unwrap();
    let (one, other) = memory::pair();
    let cable = one.cable();
    let (theirs, ours) = tokio::join!(master.attach(other), client.attach(one));
    Pair { master, theirs: theirs.unwrap(), ours: ours.unwrap(), cable }
}

pub fn config(change: impl FnOnce(&mut Config)) -> Config {
    let mut config = Config::default();
    change(&mut config);
    config
}

/// Waits for `future` with made-up time that a test cannot exceed.
pub async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(60), future).await.expect("it takes too long")
}

/// Large messages both ways, and a graceful end.
pub async fn works(client: Client, link: Link) {
    let text = "x".repeat(100_000);
    assert_eq!(link.request(&echo(&text)).await.unwrap().text, text);
    let up = client.link().await.unwrap();
    assert_eq!(up.request(&echo(&text)).await.unwrap().text, text);
    client.close("done").await;
    assert_eq!(soon(link.closed()).await.reason.as_str(), "done");
}
