//! Forwarding: control → master → the slave that has the instance, and back.

mod common;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use common::raw::Raw;
use common::*;
use seqlink::catalog::clusterio::{ForInstance, InstanceOutput, SendRcon, SendRconResponse};
use seqlink::{Control, Ctx, Empty, Link, Master, Request, RequestError, Router, Slave};
use serde_json::json;
use tokio::time::sleep;

/// Which slave has which instance.
#[derive(Default)]
struct Fleet {
    master: OnceLock<Master>,
    slave_of: Mutex<HashMap<i64, i64>>,
}

fn slave_of<R: ForInstance>(request: &R, ctx: &Ctx<Fleet>) -> Result<Link, String> {
    let (id, fleet) = (request.instance_id(), ctx.state());
    let slave = fleet.slave_of.lock().unwrap().get(&id).copied();
    let slave = slave.ok_or_else(|| format!("Instance {id} is not assigned to a slave"))?;
    let master = fleet.master.get().ok_or("The master is not up")?;
    master.slave(slave).ok_or_else(|| format!("Slave {slave} is not connected"))
}

/// Hands on what a slave tells, to every control.
async fn on_output(output: InstanceOutput, ctx: Ctx<Fleet>) {
    for control in ctx.state().master.get().map(Master::controls).unwrap_or_default() {
        let _ = control.event(&output).await;
    }
}

async fn fleet() -> (Master, std::net::SocketAddr) {
    let fleet = Arc::new(Fleet::default());
    let slave_of_sleep = |_: &Sleep, ctx: &Ctx<Fleet>| {
        ctx.state().master.get().and_then(|master| master.slave(7)).ok_or("no slave 7")
    };
    let router = Router::with_state(Arc::clone(&fleet))
        .forward(slave_of::<SendRcon>)
        .forward(slave_of_sleep)
        .event(on_output);
    let master = Master::builder().router(router).build().unwrap();
    let address = master.listen("127.0.0.1:0").await.unwrap();
    fleet.master.set(master.clone()).unwrap();
    fleet.slave_of.lock().unwrap().extend([(42, 7), (43, 8)]);
    (master, address)
}

fn rcon(instance_id: i64, command: &str) -> SendRcon {
    SendRcon { instance_id, command: command.to_owned() }
}

#[tokio::test]
async fn a_request_goes_on_and_its_answer_or_error_comes_back() {
    async fn on_rcon(rcon: SendRcon, _: Ctx) -> Result<SendRconResponse, String> {
        match rcon.command.as_str() {
            "fail" => Err("The game says no".to_owned()),
            command => Ok(SendRconResponse { result: format!("did {command}") }),
        }
    }
    let (_master, address) = fleet().await;
    let url = format!("ws://{address}/");
    let router = Router::new(()).request(on_rcon);
    let _slave = Slave::builder().url(&url).id(7).router(router).connect().await.unwrap();
    let control = Control::builder().url(&url).connect().await.unwrap().link().await.unwrap();

    assert_eq!(control.request(&rcon(42, "/time")).await.unwrap().result, "did /time");
    let told = |error: RequestError| match error {
        RequestError::Remote(error) => error.message().to_owned(),
        other => panic!("{other}"),
    };
    let error = control.request(&rcon(42, "fail")).await.unwrap_err();
    assert_eq!(told(error), "The game says no");
    let error = control.request(&rcon(43, "/time")).await.unwrap_err();
    assert_eq!(told(error), "Slave 8 is not connected");
    let error = control.request(&rcon(1, "/time")).await.unwrap_err();
    assert_eq!(told(error), "Instance 1 is not assigned to a slave");
}

/// Each hop is a request of its own: the slave sees the master's number, the control its own, and
/// keys that the master does not know go through.
#[tokio::test]
async fn each_hop_has_numbers_of_its_own() {
    let (_master, address) = fleet().await;
    let mut slave = Raw::open(address).await;
    slave.json().await;
    let data = r#"{"agent":"raw","version":"2.0.0","id":7,"name":"raw"}"#;
    slave.text(&format!(r#"{{"seq":1,"type":"register_slave","data":{data}}}"#)).await;
    assert_eq!(slave.json().await["type"], "ready");
    let mut control = Raw::control(address).await;

    let data = r#"{"instance_id":42,"command":"/time","extra":[1]}"#;
    control.text(&format!(r#"{{"seq":77,"type":"send_rcon_request","data":{data}}}"#)).await;
    let passed = slave.json().await;
    let expected = json!({"instance_id": 42, "command": "/time", "extra": [1]});
    assert_eq!(passed, json!({"seq": 3, "type": "send_rcon_request", "data": expected}));

    slave
        .text(r#"{"seq":5,"type":"send_rcon_response","data":{"result":"noon","seq":3,"more":{}}}"#)
        .await;
    let answer = control.json().await;
    let expected = json!({"seq": 77, "result": "noon", "more": {}});
    assert_eq!(answer, json!({"seq": 3, "type": "send_rcon_response", "data": expected}));
}

/// The link that carries the request dies on the way: the origin is answered with an error, once.
#[tokio::test(start_paused = true)]
async fn a_forwarded_request_ends_with_the_link_that_carries_it() {
    let fleet = Arc::new(Fleet::default());
    let router = Router::with_state(Arc::clone(&fleet)).forward(|_: &Sleep, ctx: &Ctx<Fleet>| {
        ctx.state().master.get().and_then(|master| master.slave(7)).ok_or("no slave 7")
    });
    let down = pair_of(Master::builder().router(router), slave().router(common::router())).await;
    fleet.master.set(down.master.clone()).unwrap();
    let (ours, theirs) = seqlink::transport::memory::pair();
    let (_, control) = tokio::join!(down.master.attach(theirs), control().attach(ours));
    let control = control.unwrap();

    assert_eq!(control.request(&Sleep { ms: 5 }).await.unwrap(), Empty {});
    let asked = tokio::spawn(control.request(&Sleep { ms: 50_000 }));
    sleep(Duration::from_secs(1)).await;
    down.cable.cut();
    let error = soon(asked).await.unwrap().unwrap_err();
    assert!(matches!(error, RequestError::Remote(_)));
    let text = error.to_string();
    assert!(
        text.starts_with("slave 7 did not answer sleep: the link ended before the answer"),
        "{text}"
    );
    assert!(text.contains("whether it was delivered is unknown"), "{text}");
    // Once: nothing else comes, and the next request is told that there is no slave.
    sleep(Duration::from_secs(100)).await;
    assert_eq!(control.ignored().responses, 0);
    let error = control.request(&Sleep { ms: 5 }).await.unwrap_err();
    assert_eq!(error.to_string(), "no slave 7");
}

/// An asker that gives up leaves nothing behind on the second hop either.
#[tokio::test(start_paused = true)]
async fn a_forwarded_request_times_out_on_both_hops() {
    #[derive(serde::Serialize, serde::Deserialize)]
    struct Never {}
    impl Request for Never {
        const NAME: &'static str = "never";
        const TIMEOUT: Option<Duration> = Some(Duration::from_secs(3));
        type Response = Empty;
    }
    async fn never(_: Never, _: Ctx) -> Result<Empty, String> {
        std::future::pending().await
    }
    let fleet = Arc::new(Fleet::default());
    let router = Router::with_state(Arc::clone(&fleet)).forward(|_: &Never, ctx: &Ctx<Fleet>| {
        ctx.state().master.get().and_then(|master| master.slave(7)).ok_or("no slave 7")
    });
    let stuck = slave().router(Router::new(()).request(never));
    let down = pair_of(Master::builder().router(router), stuck).await;
    fleet.master.set(down.master.clone()).unwrap();
    let (ours, theirs) = seqlink::transport::memory::pair();
    let (_, control) = tokio::join!(down.master.attach(theirs), control().attach(ours));
    let control = control.unwrap();
    let error = control.request(&Never {}).await.unwrap_err();
    assert!(error.to_string().contains("no answer within 3s"), "{error}");
    sleep(Duration::from_secs(1)).await;
    assert_eq!((down.theirs.pending(), control.pending()), (0, 0));
}

/// What a slave tells reaches every control, in order.
#[tokio::test]
async fn an_event_goes_on_to_every_control() {
    let (_master, address) = fleet().await;
    let url = format!("ws://{address}/");
    let seen: [Arc<Mutex<Vec<i64>>>; 2] = Default::default();
    for seen in &seen {
        async fn on_output(output: InstanceOutput, ctx: Ctx<Mutex<Vec<i64>>>) {
            ctx.state().lock().unwrap().push(output.instance_id);
        }
        let router = Router::with_state(Arc::clone(seen)).event(on_output);
        Control::builder().url(&url).router(router).connect().await.unwrap();
    }
    let slave = Slave::builder().url(&url).id(7).connect().await.unwrap().link().await.unwrap();
    let text = |n: i64| json!({"instance_id": n, "output": {"source": "a", "format": "b", "type": "c", "message": "d", "received": 1}});
    for n in 0..50 {
        let output: InstanceOutput = serde_json::from_value(text(n)).unwrap();
        slave.event(&output).await.unwrap();
    }
    for seen in &seen {
        for _ in 0..2000 {
            if seen.lock().unwrap().len() == 50 {
                break;
            }
            sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(*seen.lock().unwrap(), (0..50).collect::<Vec<_>>());
    }
}
