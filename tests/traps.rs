//! Mistakes of who embeds the library are told where they are made, and by the name of what is wrong.

mod common;

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::scripted::Scripted;
use common::*;
use seqlink::{
    ConfigError, ConnectError, Control, Ctx, Empty, Event, Master, Request, RequestError, Router,
};
use serde::{Deserialize, Serialize};
use tracing_subscriber::fmt::MakeWriter;

/// What is logged on this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }

    fn lines_with(&self, words: &[&str]) -> usize {
        let has = |line: &&str| words.iter().all(|word| line.contains(word));
        self.text().lines().filter(has).count()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

fn logged() -> (Log, tracing::subscriber::DefaultGuard) {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_writer(log.clone()).with_ansi(false).finish();
    (log, tracing::subscriber::set_default(subscriber))
}

macro_rules! answered_with {
    ($name:literal, $request:ident, $response:ident { $field:ident: $kind:ty }) => {
        #[derive(Serialize, Deserialize)]
        struct $request {
            value: $kind,
        }
        #[derive(Debug, Serialize, Deserialize)]
        struct $response {
            first: u8,
            $field: $kind,
        }
        impl Request for $request {
            const NAME: &'static str = $name;
            type Response = $response;
        }
    };
}

answered_with!("number", Number, NumberAnswer { seq: u64 });
answered_with!("fault", Fault, FaultAnswer { error: Option<String> });
answered_with!("nested", Nested, NestedAnswer { inner: Inner });

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Inner {
    seq: u64,
    error: String,
}

async fn on_number(number: Number, _: Ctx) -> Result<NumberAnswer, String> {
    Ok(NumberAnswer { first: 1, seq: number.value })
}

async fn on_fault(fault: Fault, _: Ctx) -> Result<FaultAnswer, String> {
    Ok(FaultAnswer { first: 1, error: fault.value })
}

async fn on_nested(nested: Nested, _: Ctx) -> Result<NestedAnswer, String> {
    Ok(NestedAnswer { first: 1, inner: nested.value })
}

/// The protocol keeps `seq` and `error` of a response to itself. Who uses them is told, on the side
/// that made the mistake too; deeper down they are the application's.
#[tokio::test(start_paused = true)]
async fn a_response_with_a_field_of_the_protocols_is_refused_where_it_is_written() {
    let (log, _guard) = logged();
    let router = Router::new(()).request(on_number).request(on_fault).request(on_nested);
    let pair = pair_of(Master::builder().router(router), slave()).await;
    let remote = |error: RequestError| match error {
        RequestError::Remote(error) => error.message().to_owned(),
        other => panic!("{other}"),
    };
    let number = remote(pair.ours.request(&Number { value: 77 }).await.unwrap_err());
    assert!(number.contains("`seq`") && number.contains("number_response"), "{number}");
    for value in [Some("why".to_owned()), None] {
        let fault = remote(pair.ours.request(&Fault { value }).await.unwrap_err());
        assert!(fault.contains("`error`") && fault.contains("fault_response"), "{fault}");
    }
    let inner = Inner { seq: 5, error: "none".to_owned() };
    let nested = pair.ours.request(&Nested { value: inner }).await.unwrap();
    assert_eq!(nested.inner.seq, 5);
    assert_eq!(log.lines_with(&["ERROR", "number_response", "`seq`"]), 1, "{}", log.text());
    assert_eq!(log.lines_with(&["ERROR", "fault_response", "`error`"]), 2, "{}", log.text());
}

/// An answer that is too long is told with the name of the limit, on both sides.
#[tokio::test(start_paused = true)]
async fn an_answer_that_is_too_long_names_the_limit() {
    #[derive(Serialize, Deserialize)]
    struct Fill {
        bytes: usize,
    }
    impl Request for Fill {
        const NAME: &'static str = "fill";
        type Response = Echo;
    }
    async fn on_fill(fill: Fill, _: Ctx) -> Result<Echo, String> {
        Ok(Echo { text: "x".repeat(fill.bytes) })
    }
    let (log, _guard) = logged();
    let pair = pair_of(Master::builder().router(Router::new(()).request(on_fill)), slave()).await;
    let error = pair.ours.request(&Fill { bytes: 2 << 20 }).await.unwrap_err().to_string();
    assert!(error.contains("max_frame") && error.contains("1048576"), "{error}");
    assert_eq!(log.lines_with(&["ERROR", "fill", "max_frame", "1048576"]), 1, "{}", log.text());
}

/// A frame that is allowed must fit where it has to wait.
#[test]
fn a_frame_that_fits_nowhere_is_no_configuration() {
    for (limit, change) in [
        ("outbox", (|config| config.outbox = 512 * 1024) as fn(&mut seqlink::Config)),
        ("inbox", |config| config.inbox = 512 * 1024),
        ("outbox", |config| config.max_frame = 2 << 20),
    ] {
        let error = Master::builder().config(config(change)).build().unwrap_err().to_string();
        assert!(error.contains("max_frame") && error.contains(limit), "{error}");
    }
    let fits = |config: &mut seqlink::Config| {
        (config.max_frame, config.outbox, config.inbox) = (8 * 1024, 8 * 1024, 8 * 1024);
    };
    assert!(Master::builder().config(config(fits)).build().is_ok());
}

/// Who is told `busy` is told what is full.
#[tokio::test(start_paused = true)]
async fn busy_says_what_is_full() {
    async fn on_tick(_: Tick, _: Ctx) {
        std::future::pending().await
    }
    let small = |config: &mut seqlink::Config| {
        (config.max_frame, config.inbox, config.handlers) = (8 * 1024, 8 * 1024, 2);
    };
    let master = || Master::builder().config(config(small)).router(router().event(on_tick));
    let pair = pair_of(master(), slave()).await;
    let waiting = [1, 2].map(|_| tokio::spawn(pair.ours.request(&Sleep { ms: 5_000 })));
    tokio::task::yield_now().await;
    let error = pair.ours.request(&Sleep { ms: 1 }).await.unwrap_err().to_string();
    assert_eq!(error, "busy: all 2 `handlers` are at work");
    for waiting in waiting {
        waiting.await.unwrap().unwrap();
    }
    // A frame as long as it may be, behind an event that is not done.
    pair.ours.event(&Tick { n: 1 }).await.unwrap();
    let error = pair.ours.request(&echo(&"x".repeat(8000))).await.unwrap_err().to_string();
    assert_eq!(error, "busy: `inbox` of 8192 bytes is full");
}

#[derive(Serialize, Deserialize)]
struct Ended {}

impl Request for Ended {
    const NAME: &'static str = "start_request";
    type Response = Empty;
}

#[derive(Serialize, Deserialize)]
struct EndedEvent {}

impl Event for EndedEvent {
    const NAME: &'static str = "started_event";
}

async fn on_ended(_: Ended, _: Ctx) -> Result<Empty, String> {
    Ok(Empty {})
}

async fn on_ended_event(_: EndedEvent, _: Ctx) {}

/// What would be ignored, or never arrive, is refused.
#[tokio::test(start_paused = true)]
async fn what_would_be_ignored_is_refused() {
    let text = |built: Result<Master, ConfigError>| built.unwrap_err().to_string();
    let twice = Master::builder().router(router()).router(router()).build();
    assert!(text(twice).contains("`.router(…)` was called twice"));
    let named = Master::builder().router(Router::new(()).request(on_ended)).build();
    let named = text(named);
    assert!(named.contains("start_request") && named.contains("_request"), "{named}");
    let named = text(Master::builder().router(Router::new(()).event(on_ended_event)).build());
    assert!(named.contains("started_event"), "{named}");

    let client = |built: Result<seqlink::Client, ConnectError>| match built {
        Err(ConnectError::Config(error)) => error.to_string(),
        other => panic!("{other:?}"),
    };
    let control = || Control::builder().url("ws://127.0.0.1:1/");
    let given = client(control().id(5).connect().await);
    assert!(given.contains("control") && given.contains("`.id(…)`"), "{given}");
    let given = client(control().name("five").connect().await);
    assert!(given.contains("control") && given.contains("`.name(…)`"), "{given}");
    let twice =
        client(slave().url("ws://127.0.0.1:1/").router(router()).router(router()).connect().await);
    assert!(twice.contains("`.router(…)` was called twice"), "{twice}");

    let pair = pair().await;
    let error = pair.ours.request(&Ended {}).await.unwrap_err().to_string();
    assert!(error.contains("start_request") && error.contains("without"), "{error}");
    let error = pair.ours.event(&EndedEvent {}).await.unwrap_err().to_string();
    assert!(error.contains("started_event"), "{error}");
    let data = serde_json::value::RawValue::from_string("{}".into()).unwrap();
    let error = pair.ours.request_raw("echo_request", &data).await.unwrap_err().to_string();
    assert!(error.contains("echo_request") && error.contains("without"), "{error}");
}

/// An event without a handler is warned of once, and a peer that makes names up fills no log.
#[tokio::test(start_paused = true)]
async fn an_event_that_nobody_handles_is_warned_of_once() {
    let (log, _guard) = logged();
    let master = Master::builder().router(router()).build().unwrap();
    let (mut peer, link) = Scripted::control(&master).await;
    for n in 2..8 {
        peer.say(&format!(r#"{{"seq":{n},"type":"gone_event","data":{{}}}}"#)).await;
    }
    for n in 8..1000 {
        peer.say(&format!(r#"{{"seq":{n},"type":"odd{n}_event","data":{{}}}}"#)).await;
    }
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(link.ignored().events, 998);
    assert_eq!(log.lines_with(&["WARN", "gone"]), 1, "{}", log.text());
    assert!(log.lines_with(&["WARN"]) < 100, "{}", log.text());
}
