//! What a master does for Clusterio's programs: it remembers which instances its slaves have, logs
//! what they log, and hands on what a control wants of an instance.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::convert::Infallible;

use seqlink::catalog::clusterio::session::{
    AssignInstance, CreateSave, ForInstance, InstanceStatusChanged, KillInstance, ListInstances,
    ListInstancesResponse, ListSaves, LogMessage, Ping, PlayerEvent, SaveListUpdate, SendRcon,
    SlaveInstance, StartInstance, StopInstance, UpdateInstances,
};
use seqlink::printable::Printable;
use seqlink::{Ctx, Empty, Link, Request, Router};
use serde::Deserialize;
use serde_json::value::RawValue;
use tracing::{debug, info, warn};

use crate::queue::{Desk, Report};

/// Adds the handlers for Clusterio's programs to those of the queue.
pub fn handlers(router: Router<Desk>) -> Router<Desk> {
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

async fn ping(_: Ping, _: Ctx<Desk>) -> Result<Empty, Infallible> {
    Ok(Empty {})
}

/// The slave starts with no instance of its own until each has been assigned to it.
async fn update_instances(request: UpdateInstances, ctx: Ctx<Desk>) -> Result<Empty, String> {
    let slave = id(&ctx);
    let (mut reports, mut configs, mut others) = (Vec::new(), BTreeMap::new(), 0);
    for instance in request.instances {
        match read_instance(&instance) {
            Some(report) => {
                configs.insert(report.id, instance.serialized_config);
                reports.push(report);
            }
            None => others += 1,
        }
    }
    if others > 0 {
        warn!(slave, instances = others, "reports instances without id and name");
    }
    // Under the lock under which a slave leaves: the instances of one that is gone would stay.
    let own = ctx.state().queue.act(|state, _| {
        state.slaves.number(ctx.link()).ok_or("this is not the slave's present link")?;
        state.instances.report(slave, reports).map_err(|error| error.to_string())
    });
    let own = own.inspect_err(|error| warn!(slave, error, "cannot have its instances"))?;
    info!(slave, instances = own.len(), "has told its instances");
    for instance_id in own {
        let Some(serialized_config) = configs.remove(&instance_id) else { continue };
        let assign = AssignInstance { instance_id, serialized_config };
        if let Err(error) = ctx.link().request(&assign).await {
            warn!(slave, instance = instance_id, %error, "cannot be assigned");
        }
    }
    if !configs.is_empty() {
        warn!(slave, instances = configs.len(), "other slaves have instances that it reports");
    }
    Ok(Empty {})
}

/// A configuration is groups of fields; the group `instance` has what every instance has.
fn read_instance(reported: &SlaveInstance) -> Option<Report> {
    #[derive(Deserialize)]
    struct Config<'a> {
        #[serde(borrow)]
        groups: Vec<Group<'a>>,
    }
    #[derive(Deserialize)]
    struct Group<'a> {
        #[serde(borrow)]
        name: Cow<'a, str>,
        #[serde(borrow)]
        fields: &'a RawValue,
    }
    #[derive(Deserialize)]
    struct Fields {
        id: i64,
        name: String,
    }
    let config: Config<'_> = serde_json::from_str(reported.serialized_config.get()).ok()?;
    let group = config.groups.iter().find(|group| group.name == "instance")?;
    let Fields { id, name } = serde_json::from_str(group.fields.get()).ok()?;
    Some(Report { id, name, status: reported.status })
}

async fn list_instances(
    _: ListInstances,
    ctx: Ctx<Desk>,
) -> Result<ListInstancesResponse, Infallible> {
    let list = ctx.state().queue.act(|state, _| state.instances.list());
    Ok(ListInstancesResponse { list })
}

async fn instance_status_changed(event: InstanceStatusChanged, ctx: Ctx<Desk>) {
    let (slave, InstanceStatusChanged { instance_id, status, game_port }) = (id(&ctx), event);
    ctx.state()
        .queue
        .act(|state, _| state.instances.change(slave, instance_id, status, game_port.flatten()));
    info!(slave, instance = instance_id, %status, "instance");
}

async fn log_message(event: LogMessage, ctx: Ctx<Desk>) {
    let (slave, info) = (id(&ctx), event.info);
    let (level, text) = (Printable::new(&info.level), Printable::new(&info.message));
    match info.level.as_str() {
        "fatal" | "error" | "warn" => warn!(slave, ?level, "logs: {text}"),
        "info" => info!(slave, ?level, "logs: {text}"),
        _ => debug!(slave, ?level, "logs: {text}"),
    }
}

async fn save_list_update(event: SaveListUpdate, ctx: Ctx<Desk>) {
    info!(slave = id(&ctx), instance = event.instance_id, saves = event.list.len(), "saves");
}

async fn player_event(event: PlayerEvent, ctx: Ctx<Desk>) {
    info!(slave = id(&ctx), instance = event.instance_id, "players come and go");
}

/// Where a request for an instance goes.
fn slave_that_has<R: ForInstance + Request>(request: &R, ctx: &Ctx<Desk>) -> Result<Link, String> {
    let instance = request.instance_id();
    ctx.state().queue.act(|state, _| {
        let slave = state.instances.slave_of(instance);
        let slave = slave.ok_or_else(|| format!("Instance with ID {instance} does not exist"))?;
        let link = state.slaves.get(slave);
        link.ok_or_else(|| format!("Slave {slave}, which has the instance, is not connected"))
    })
}

/// Only slaves send what this is asked for.
fn id(ctx: &Ctx<Desk>) -> i64 {
    ctx.peer().id.unwrap_or_default()
}
