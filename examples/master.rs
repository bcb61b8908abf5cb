//! A master on the library alone: lets slaves and controls in, and gives players who wait to nodes that are free.
//! ```sh
//! cargo run --example master      # prints the token that the others need
//! ```
//!
//! The catalog's queue decides; what is here tells it what happens, and sends what it wants sent.

use std::collections::HashMap;
use std::error::Error;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use clap::Parser;
use seqlink::MembershipEvent::{self, Joined, Left};
use seqlink::catalog::game_node::*;
use seqlink::{Ctx, Link, Master, Request, Role, Router};

#[derive(Parser)]
struct Arguments {
    /// Where to listen.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8750")]
    listen: String,
}

/// The one game that there is, and where its saves would be.
const GAME: &str = r#"{"id": 1, "name": "A nap of twenty seconds", "process": "sleep",
    "commands": {"launch": "sleep 20", "shutdown": ""}, "backup": []}"#;
const STORAGE: &str = r#"{"host": "127.0.0.1", "port": 21, "username": "", "password": "",
    "secure": {"enabled": false, "validation": false}, "timeout": {"connection": 1, "operation": 1}}"#;

/// What the handlers share, under one lock: a link that is lost registers nothing afterwards.
struct Desk {
    queue: WaitingQueue,
    /// The present link of each slave; the queue knows links by their numbers.
    slaves: HashMap<i64, Link>,
    controls: Vec<Link>,
}

type Service = Arc<Mutex<Desk>>;
type Fault = Box<dyn Error + Send + Sync>;

/// Does something at the desk, then what the queue wants done. Nothing in here waits.
fn act<T>(service: &Service, act: impl FnOnce(&mut Desk, Instant) -> T) -> T {
    let mut desk = service.lock().expect("nothing panics while it is held");
    let outcome = act(&mut desk, Instant::now());
    while let Some(action) = desk.queue.poll_action() {
        match action {
            Action::Prepare(it) => {
                let request = PrepareGame {
                    user_id: it.user,
                    game_id: it.game,
                    session_token: hex_digits::<20>().into(),
                    request_from: it.request_from,
                    synchronize_required: false,
                    storage: serde_json::from_str(STORAGE).expect("it is a storage"),
                };
                ask(service, &desk, it, request, WaitingQueue::handle_prepare_answer);
            }
            Action::Play(it) => {
                let game = serde_json::from_str(GAME).expect("it is a game");
                let request = PlayGame { user_id: it.user, expected_save: None, game };
                ask(service, &desk, it, request, WaitingQueue::handle_play_answer);
            }
            Action::Stop(it) => {
                let request = StopGame { user_id: it.user, game_id: it.game };
                ask(service, &desk, it, request, WaitingQueue::handle_stop_answer);
            }
            Action::Update(update) => {
                println!("user {}: {:?}", update.user_id, update.status);
                // In the queue's order, to all: one that does not read loses its own link.
                let _ = Link::broadcast(&update, &desk.controls);
            }
        }
    }
    outcome
}

/// Asks a node on a task of its own, and tells the queue what came of it.
fn ask<R: Request<Response = GameResponse> + Sync>(
    service: &Service,
    desk: &Desk,
    it: Assignment,
    request: R,
    handle: fn(&mut WaitingQueue, Instant, &Assignment, &Outcome),
) {
    // A link that is gone needs no answer: the queue knows that it is lost.
    let present = desk.slaves.get(&it.node).filter(|link| link.number() == it.link);
    let Some(link) = present.cloned() else { return };
    let service = Arc::clone(service);
    tokio::spawn(async move {
        let outcome = match link.request(&request).await {
            Ok(response) => Outcome::from(response),
            Err(error) => Outcome::Unknown { reason: error.to_string() },
        };
        act(&service, |desk, now| handle(&mut desk.queue, now, &it, &outcome));
    });
}

impl Desk {
    /// The slave behind `link`, if that is its present one.
    fn present(&self, link: &Link) -> Option<i64> {
        let id = link.peer().id?;
        self.slaves.get(&id)?.same_link(link).then_some(id)
    }

    fn on_change(&mut self, now: Instant, change: MembershipEvent) {
        match change {
            Joined(link) if link.peer().role == Role::Control => self.controls.push(link),
            Joined(link) => {
                self.slaves.insert(link.peer().id.unwrap_or_default(), link);
            }
            Left(link, _) => {
                self.controls.retain(|control| !control.same_link(&link));
                if let Some(id) = self.present(&link) {
                    self.slaves.remove(&id);
                    self.queue.handle_lost(now, id, link.number());
                }
            }
            _ => {}
        }
    }
}

async fn register(it: RegisterNode, ctx: Ctx<Mutex<Desk>>) -> Result<CodeResponse, Fault> {
    act(&ctx.shared_state(), |desk, now| {
        let node = desk.present(ctx.link()).ok_or("another link has taken its place")?;
        let link = ctx.link().number();
        let name = ctx.peer().name.clone().unwrap_or_default();
        let node = NodeRegistration { node, link, name, installed_packages: it.installed_packages };
        desk.queue.handle_registered(now, node)?;
        Ok(CodeResponse::ok())
    })
}

async fn finished(it: NotifyStopFinish, ctx: Ctx<Mutex<Desk>>) -> Result<CodeResponse, Fault> {
    act(&ctx.shared_state(), |desk, now| {
        let node = desk.present(ctx.link()).ok_or("another link has taken its place")?;
        desk.queue.handle_stop_finish(now, node, it.user_id, it.game_id)?;
        Ok(CodeResponse::ok())
    })
}

async fn join(it: JoinQueue, ctx: Ctx<Mutex<Desk>>) -> Result<JoinQueueResponse, JoinError> {
    let JoinQueue { user_id, game_id, request_from } = it;
    act(&ctx.shared_state(), |desk, now| desk.queue.join(now, user_id, game_id, request_from))
}

async fn stop(it: StopGame, ctx: Ctx<Mutex<Desk>>) -> Result<GameResponse, LeaveError> {
    act(&ctx.shared_state(), |desk, now| desk.queue.stop(now, it.user_id, it.game_id))
        .map(|_| GameResponse::ok(it.user_id, it.game_id))
}

/// In parts, of which each fits a frame.
async fn nodes(it: ListNodes, ctx: Ctx<Mutex<Desk>>) -> Result<ListNodesResponse, String> {
    let desk = ctx.state().lock().expect("nothing panics while it is held");
    let mut nodes = desk.queue.nodes_after(it.after);
    Ok(ListNodesResponse { list: nodes.by_ref().take(4).collect(), more: nodes.next().is_some() })
}

fn hex_digits<const BYTES: usize>() -> String {
    let mut bits = [0; BYTES];
    getrandom::fill(&mut bits).expect("the system has random bits");
    bits.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::main]
async fn main() -> Result<(), Fault> {
    let arguments = Arguments::parse();
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
    let queue = WaitingQueue::new([(1, "demo-nap".to_owned())], Settings::default());
    let desk = Desk { queue, slaves: HashMap::new(), controls: Vec::new() };
    let service = Arc::new(Mutex::new(desk));
    // Whoever gets in can run commands on the slaves: nobody does without the token.
    let token = std::env::var("SEQLINK_TOKEN").ok().filter(|token| !token.is_empty());
    let token = token.unwrap_or_else(|| {
        let token = hex_digits::<32>();
        println!("for the others: export SEQLINK_TOKEN={token}");
        token
    });
    let told = Arc::clone(&service);
    let router = Router::with_state(Arc::clone(&service)).request(register).request(finished);
    let master = Master::builder()
        .token(token)
        .router(router.request(join).request(stop).request(nodes))
        .on_change(move |change| act(&told, |desk, now| desk.on_change(now, change)))
        .build()?;
    println!("link ws://{}/api/socket", master.listen(&arguments.listen).await?);
    // The queue's deadlines are whole seconds; `poll_timeout` would tell when the next one is.
    let mut ticks = tokio::time::interval(Duration::from_millis(250));
    loop {
        tokio::select! {
            _ = ticks.tick() => act(&service, |desk, now| desk.queue.handle_timeout(now)),
            interrupted = tokio::signal::ctrl_c() => break interrupted?,
        }
    }
    master.shutdown("interrupted", Duration::from_secs(5)).await;
    Ok(())
}
