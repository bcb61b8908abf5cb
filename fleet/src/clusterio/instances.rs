//! A Clusterio slave's instances: what it answers about them, and the process that each of them is.
//!
//! Instances outlive links: they run on while their master is away, and each registration tells
//! what they do by then.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use seqlink::catalog::clusterio::session::{
    AssignInstance, DeleteInstance, GetMetrics, GetMetricsResponse, InstanceStatusChanged,
    KillInstance, SlaveInstance, SlaveStatus, StartInstance, StopInstance, UnassignInstance,
    UpdateInstances,
};
use seqlink::{Client, Ctx, Empty, Link, RequestError, Router};
use serde_json::value::RawValue;
use tracing::{info, warn};

use crate::node::{self, Patience, Process, Reaper};
use crate::settings::Failure;

/// Most instances.
const MOST: usize = 256;
/// Most bytes of their configurations together: `update_instances` tells them all in one frame.
const MOST_CONFIGURED: usize = 768 * 1024;

/// The instances; handlers and the slave's main loop share them.
#[derive(Debug)]
pub struct Instances {
    known: Mutex<BTreeMap<i64, Instance>>,
    /// The command line that runs an instance.
    launch: String,
    reaper: Option<Reaper>,
}

#[derive(Debug)]
struct Instance {
    config: Box<RawValue>,
    status: SlaveStatus,
    /// What runs, unless it is stopped.
    process: Option<Process>,
}

impl Instances {
    /// None yet. `launch` is the command line that runs each of them.
    pub fn new(launch: String, reaper: Option<Reaper>) -> Arc<Self> {
        Arc::new(Self { known: Mutex::default(), launch, reaper })
    }

    /// The handlers of a slave that has these instances.
    pub fn router(self: &Arc<Self>) -> Router<Self> {
        Router::with_state(Arc::clone(self))
            .request(assign_instance)
            .request(async |request: UnassignInstance, ctx| drop_it(request.instance_id, ctx).await)
            .request(async |request: DeleteInstance, ctx| drop_it(request.instance_id, ctx).await)
            .request(start_instance)
            .request(async |request: StopInstance, ctx| stop(request.instance_id, ctx).await)
            .request(async |request: KillInstance, ctx| stop(request.instance_id, ctx).await)
            .request(get_metrics)
    }

    /// Tells the master of `client` what there is, on every link, until the client has stopped for
    /// good.
    ///
    /// # Errors
    ///
    /// Why the client has stopped.
    pub async fn keep(&self, client: &Client) -> Result<(), Failure> {
        loop {
            let link = client.link().await.map_err(node::stopped)?;
            let told = tokio::spawn(node::tell(link.states()));
            match link.request(&self.list()).await {
                Ok(Empty {}) => {
                    let master = &link.peer().version;
                    info!(%master, "registered");
                }
                Err(RequestError::Closed { .. }) => {}
                Err(error) => warn!(%error, "update_instances"),
            }
            // Until the link has ended, over however many sockets.
            let _ = told.await;
        }
    }

    /// Ends all processes.
    pub async fn close(&self) {
        let running: Vec<Process> =
            self.lock().values().filter_map(|instance| instance.process.clone()).collect();
        running.iter().for_each(Process::stop);
        for process in running {
            process.ended().await;
        }
    }

    fn list(&self) -> UpdateInstances {
        let entry = |instance: &Instance| SlaveInstance {
            serialized_config: instance.config.clone(),
            status: instance.status,
        };
        UpdateInstances { instances: self.lock().values().map(entry).collect() }
    }

    /// Keeps the configuration. Returns what the instance does, or which limit it is over.
    fn assign(&self, request: AssignInstance) -> Result<SlaveStatus, String> {
        let config = request.serialized_config;
        let mut known = self.lock();
        let others = known.iter().filter(|(id, _)| **id != request.instance_id);
        let others: Vec<usize> = others.map(|(_, it)| it.config.get().len()).collect();
        if others.len() >= MOST {
            return Err(format!("This slave has {} instances, the limit is {MOST}", others.len()));
        }
        let bytes = others.iter().sum::<usize>() + config.get().len();
        if bytes > MOST_CONFIGURED {
            return Err(format!(
                "The configurations would have {bytes} bytes together, the limit is {MOST_CONFIGURED}"
            ));
        }
        Ok(match known.get_mut(&request.instance_id) {
            Some(instance) => {
                instance.config = config;
                instance.status
            }
            None => {
                let status = SlaveStatus::Stopped;
                known.insert(request.instance_id, Instance { config, status, process: None });
                status
            }
        })
    }

    fn start(&self, id: i64) -> Result<Process, String> {
        let mut known = self.lock();
        let instance = known.get_mut(&id).ok_or_else(|| unknown(id))?;
        if instance.process.is_some() {
            return Err(format!("Instance with ID {id} is {} already", instance.status));
        }
        let process = Process::start(&self.launch, "", Patience::default(), self.reaper.clone())
            .map_err(|error| error.to_string())?;
        instance.status = SlaveStatus::Running;
        instance.process = Some(process.clone());
        Ok(process)
    }

    /// Begins to end what runs.
    fn stop(&self, id: i64) -> Result<Process, String> {
        let mut known = self.lock();
        let instance = known.get_mut(&id).ok_or_else(|| unknown(id))?;
        let process = instance.process.clone();
        let process = process.ok_or_else(|| format!("Instance with ID {id} is not running"))?;
        instance.status = SlaveStatus::Stopping;
        process.stop();
        Ok(process)
    }

    fn ended(&self, id: i64) {
        if let Some(instance) = self.lock().get_mut(&id) {
            (instance.status, instance.process) = (SlaveStatus::Stopped, None);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<i64, Instance>> {
        // Nothing panics while the lock is held.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unknown(id: i64) -> String {
    format!("Instance with ID {id} does not exist")
}

async fn assign_instance(request: AssignInstance, ctx: Ctx<Instances>) -> Result<Empty, String> {
    let id = request.instance_id;
    let status = ctx.state().assign(request)?;
    info!(instance = id, %status, "assigned");
    // In front of the answer: the master takes an instance for unknown until it is told.
    tell(ctx.link(), id, status).await;
    Ok(Empty {})
}

async fn start_instance(request: StartInstance, ctx: Ctx<Instances>) -> Result<Empty, String> {
    let id = request.instance_id;
    let process = ctx.state().start(id)?;
    info!(instance = id, pid = process.pid, "started");
    tell(ctx.link(), id, SlaveStatus::Starting).await;
    tell(ctx.link(), id, SlaveStatus::Running).await;
    let (instances, link) = (ctx.shared_state(), ctx.link().clone());
    tokio::spawn(async move {
        let ended = process.ended().await;
        instances.ended(id);
        info!(instance = id, %ended, "stopped");
        tell(&link, id, SlaveStatus::Stopped).await;
    });
    Ok(Empty {})
}

/// Ends the process as a game that may still save; the instance stays.
async fn stop(id: i64, ctx: Ctx<Instances>) -> Result<Empty, String> {
    let process = ctx.state().stop(id)?;
    tell(ctx.link(), id, SlaveStatus::Stopping).await;
    process.ended().await;
    Ok(Empty {})
}

/// The instance goes, with what runs of it.
async fn drop_it(id: i64, ctx: Ctx<Instances>) -> Result<Empty, String> {
    if let Ok(process) = ctx.state().stop(id) {
        process.ended().await;
    }
    ctx.state().lock().remove(&id).ok_or_else(|| unknown(id))?;
    info!(instance = id, "gone");
    Ok(Empty {})
}

/// There is nothing to measure here.
async fn get_metrics(_: GetMetrics, _: Ctx<Instances>) -> Result<GetMetricsResponse, Infallible> {
    Ok(GetMetricsResponse::default())
}

/// Where the link has ended meanwhile, the next registration tells it.
async fn tell(link: &Link, instance_id: i64, status: SlaveStatus) {
    let _ = link.event(&InstanceStatusChanged { instance_id, status, game_port: None }).await;
}
