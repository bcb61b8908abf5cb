//! What a master does for Clusterio's programs: it remembers which instances its slaves have, logs
//! what they log, and hands on what a control wants of an instance.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Mutex, MutexGuard, PoisonError};

use seqlink::catalog::clusterio::session::{
    AssignInstance, CreateSave, ForInstance, InstanceEntry, InstanceStatus, InstanceStatusChanged,
    KillInstance, ListInstances, ListInstancesResponse, ListSaves, LogMessage, Ping, PlayerEvent,
    SaveListUpdate, SendRcon, SlaveInstance, SlaveStatus, StartInstance, StopInstance,
    UpdateInstances,
};
use seqlink::printable::Printable;
use seqlink::{Ctx, Empty, Link, Request, Router};
use serde::Deserialize;
use serde_json::{Map, Value};
use tracing::{debug, info, warn};

use crate::service::Master;

/// The instances, by id.
#[derive(Debug, Default)]
pub(crate) struct Cluster {
    instances: Mutex<BTreeMap<i64, Instance>>,
}

/// A game server of a slave.
#[derive(Clone, Debug)]
struct Instance {
    name: String,
    slave: i64,
    status: SlaveStatus,
    game_port: Option<i64>,
}

impl Cluster {
    /// `slave` has these instances and no others. One that another slave has stays there; says which
    /// are its own.
    fn report(&self, slave: i64, reported: Vec<(i64, Instance)>) -> Vec<i64> {
        let mut instances = self.lock();
        instances.retain(|_, instance| instance.slave != slave);
        for (id, instance) in reported {
            if let Some(other) = instances.get(&id) {
                warn!(slave, instance = id, other = other.slave, "another slave has this instance");
                continue;
            }
            instances.insert(id, instance);
        }
        let own = instances.iter().filter(|(_, instance)| instance.slave == slave);
        own.map(|(id, _)| *id).collect()
    }

    fn change(&self, slave: i64, changed: &InstanceStatusChanged) {
        let mut instances = self.lock();
        let known = instances.get_mut(&changed.instance_id);
        if let Some(instance) = known.filter(|instance| instance.slave == slave) {
            instance.status = changed.status;
            instance.game_port = changed.game_port.flatten();
        }
    }

    fn slave_of(&self, instance: i64) -> Option<i64> {
        self.lock().get(&instance).map(|instance| instance.slave)
    }

    fn list(&self, connected: impl Fn(i64) -> bool) -> Vec<InstanceEntry> {
        let entry = |(id, instance): (&i64, &Instance)| {
            let here = connected(instance.slave);
            InstanceEntry {
                name: instance.name.clone(),
                id: *id,
                assigned_slave: Some(instance.slave),
                game_port: Some(instance.game_port.filter(|_| here)),
                status: if here { instance.status.into() } else { InstanceStatus::Unknown },
            }
        };
        self.lock().iter().map(entry).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<i64, Instance>> {
        self.instances.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Adds the handlers for Clusterio's programs.
pub(crate) fn handlers(router: Router<Master>) -> Router<Master> {
    router
        .request(ping)
        .request(update_instances)
        .request(list_instances)
        .event(instance_status_changed)
        .event(log_message)
        .event(save_list_update)
        .event(player_event)
        .forward(slave_that_has::<StartInstance>)
        .forward(slave_that_has::<StopInstance>)
        .forward(slave_that_has::<KillInstance>)
        .forward(slave_that_has::<ListSaves>)
        .forward(slave_that_has::<CreateSave>)
        .forward(slave_that_has::<SendRcon>)
}

async fn ping(_: Ping, _: Ctx<Master>) -> Result<Empty, Infallible> {
    Ok(Empty {})
}

/// The slave starts with no instance of its own until each has been assigned to it.
async fn update_instances(request: UpdateInstances, ctx: Ctx<Master>) -> Result<Empty, Infallible> {
    let slave = id(&ctx);
    let (mut reported, mut configs) = (Vec::new(), BTreeMap::new());
    for instance in request.instances {
        match read_instance(slave, &instance) {
            Some((id, known)) => {
                reported.push((id, known));
                configs.insert(id, instance.serialized_config);
            }
            None => warn!(slave, "reports an instance without id and name"),
        }
    }
    let instances = ctx.state().cluster.report(slave, reported);
    info!(slave, instances = instances.len(), "has told its instances");
    for instance_id in instances {
        let Some(serialized_config) = configs.remove(&instance_id) else { continue };
        let assign = AssignInstance { instance_id, serialized_config };
        if let Err(error) = ctx.link().request(&assign).await {
            warn!(slave, instance = instance_id, %error, "cannot be assigned");
        }
    }
    Ok(Empty {})
}

/// A configuration is groups of fields; the group `instance` has what every instance has.
fn read_instance(slave: i64, reported: &SlaveInstance) -> Option<(i64, Instance)> {
    #[derive(Deserialize)]
    struct Config {
        groups: Vec<Group>,
    }
    #[derive(Deserialize)]
    struct Group {
        name: String,
        fields: Map<String, Value>,
    }
    let config: Config = serde_json::from_str(reported.serialized_config.get()).ok()?;
    let group = config.groups.into_iter().find(|group| group.name == "instance")?;
    let (id, name) = (group.fields.get("id")?.as_i64()?, group.fields.get("name")?.as_str()?);
    let name = name.to_owned();
    Some((id, Instance { name, slave, status: reported.status, game_port: None }))
}

async fn list_instances(
    _: ListInstances,
    ctx: Ctx<Master>,
) -> Result<ListInstancesResponse, Infallible> {
    let Master { queue, cluster } = ctx.state();
    let list = cluster.list(|slave| queue.act(|state, _| state.slaves.get(slave).is_some()));
    Ok(ListInstancesResponse { list })
}

async fn instance_status_changed(event: InstanceStatusChanged, ctx: Ctx<Master>) {
    let slave = id(&ctx);
    ctx.state().cluster.change(slave, &event);
    info!(slave, instance = event.instance_id, status = %event.status, "instance");
}

async fn log_message(event: LogMessage, ctx: Ctx<Master>) {
    let (slave, info) = (id(&ctx), event.info);
    let (level, text) = (Printable::new(&info.level), Printable::new(&info.message));
    match info.level.as_str() {
        "fatal" | "error" | "warn" => warn!(slave, ?level, "logs: {text}"),
        "info" => info!(slave, ?level, "logs: {text}"),
        _ => debug!(slave, ?level, "logs: {text}"),
    }
}

async fn save_list_update(event: SaveListUpdate, ctx: Ctx<Master>) {
    info!(slave = id(&ctx), instance = event.instance_id, saves = event.list.len(), "saves");
}

async fn player_event(event: PlayerEvent, ctx: Ctx<Master>) {
    info!(slave = id(&ctx), instance = event.instance_id, "players come and go");
}

/// Where a request for an instance goes.
fn slave_that_has<R: ForInstance + Request>(
    request: &R,
    ctx: &Ctx<Master>,
) -> Result<Link, String> {
    let Master { queue, cluster } = ctx.state();
    let instance = request.instance_id();
    let slave = cluster.slave_of(instance);
    let slave = slave.ok_or_else(|| format!("Instance with ID {instance} does not exist"))?;
    let link = queue.act(|state, _| state.slaves.get(slave));
    link.ok_or_else(|| format!("Slave {slave}, which has the instance, is not connected"))
}

/// Only slaves send what this is asked for.
fn id(ctx: &Ctx<Master>) -> i64 {
    ctx.peer().id.unwrap_or_default()
}
