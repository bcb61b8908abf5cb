//! The core messages of Clusterio's session generation, 2.0.0-alpha.12.
//!
//! A control asks the master; the master asks its slaves; a slave asks the instances that it runs,
//! and reports for them. The slave's hop to its instances is its own affair and no link of this
//! library; the directions of a message name it all the same. [`MESSAGES`] says of each message who
//! may send it to whom, where it is handed on to, and what a control must be permitted.
//!
//! - [`Routing::ToInstance`]: `instance_id` names the instance. The master hands the request on to
//!   the slave that has it, with [`Router::forward`](crate::Router::forward). Those are
//!   [`ForInstance`]s.
//! - [`Routing::ToMaster`]: an instance's event that its slave hands on. What the master hands on to
//!   controls goes by their subscriptions, with
//!   [`Router::forward_event`](crate::Router::forward_event).
//! - [`Routing::ToInstances`]: the slave hands the event on to all its instances.
//!
//! The names, keys, directions and permissions were read from the alpha.12 programs and their own
//! validators, which refuse unknown keys. So writing is exact: an optional key is left out when it
//! is `None`, and a key that is always there is written as null. Reading ignores unknown keys,
//! refuses a missing key that must be there, and refuses null where none may stand. A key that is
//! optional and may be null is an `Option` in an `Option`.
//!
//! [`CreateInstance`], [`GetInstanceConfig`], [`SetInstanceConfigField`], [`AssignInstance`],
//! [`StopInstance`], [`DeleteInstance`] and [`SendRcon`] are the plain generation's, which are the
//! same; [`Ping`] and [`PrepareDisconnect`] are those of [every link](crate::catalog::link).

mod cluster;
mod instance;
mod logs;
mod macros;
mod saves;
mod string_enums;
#[cfg(test)]
mod tests;
mod users;

use super::{ALL_HOPS, BOTH_HOPS};
use crate::message::{Entry, Request, Routing};

pub use super::{
    AssignInstance, CreateInstance, DeleteInstance, ForInstance, GetInstanceConfig,
    GetInstanceConfigResponse, SLOW, SendRcon, SendRconResponse, SetInstanceConfigField,
    StopInstance,
};
pub use crate::catalog::link::{Ping, PrepareDisconnect};
pub use cluster::*;
pub use instance::*;
pub use logs::*;
pub use saves::*;
pub use string_enums::*;
pub use users::*;

/// All messages of this catalog.
pub const MESSAGES: &[Entry] = &[
    Entry::request::<PrepareDisconnect>(),
    Entry::request::<PrepareMasterDisconnect>(),
    Entry::request::<Ping>(),
    Entry::request::<DebugDumpWs>().needs("core.debug.dump_ws"),
    Entry::request::<GetMasterConfig>().needs("core.master.get_config"),
    Entry::request::<SetMasterConfigField>().needs("core.master.update_config"),
    Entry::request::<SetMasterConfigProp>().needs("core.master.update_config"),
    Entry::request::<ListSlaves>().needs("core.slave.list"),
    Entry::request::<SetSlaveSubscriptions>().needs("core.slave.subscribe"),
    Entry::request::<GetInstance>().needs("core.instance.get"),
    Entry::request::<ListInstances>().needs("core.instance.list"),
    Entry::request::<SetInstanceSubscriptions>().needs("core.instance.subscribe"),
    Entry::request::<GenerateSlaveToken>().needs("core.slave.generate_token"),
    Entry::request::<CreateSlaveConfig>().needs("core.slave.create_config"),
    Entry::request::<CreateInstance>().needs("core.instance.create"),
    Entry::request::<GetInstanceConfig>().needs("core.instance.get_config"),
    Entry::request::<SetInstanceConfigField>().needs("core.instance.update_config"),
    Entry::request::<SetInstanceConfigProp>().needs("core.instance.update_config"),
    Entry::request::<AssignInstanceCommand>().needs("core.instance.assign"),
    for_instance::<StartInstance>().needs("core.instance.start"),
    for_instance::<ListSaves>().needs("core.instance.save.list"),
    for_instance::<CreateSave>().needs("core.instance.save.create"),
    for_instance::<RenameSave>().needs("core.instance.save.rename"),
    for_instance::<CopySave>().needs("core.instance.save.copy"),
    for_instance::<DeleteSave>().needs("core.instance.save.delete"),
    Entry::request::<DownloadSave>().needs("core.instance.save.download"),
    Entry::request::<TransferSave>().needs("core.instance.save.transfer"),
    Entry::request::<PullSave>(),
    Entry::request::<PushSave>(),
    Entry::request::<SetSaveListSubscriptions>().needs("core.instance.save.list_subscribe"),
    for_instance::<LoadScenario>().needs("core.instance.load_scenario"),
    for_instance::<ExportData>().needs("core.instance.export_data"),
    for_instance::<StopInstance>().needs("core.instance.stop"),
    for_instance::<KillInstance>().needs("core.instance.kill"),
    for_instance::<DeleteInstance>().needs("core.instance.delete"),
    for_instance::<SendRcon>().needs("core.instance.send_rcon"),
    Entry::request::<ListPermissions>().needs("core.permission.list"),
    Entry::request::<ListRoles>().needs("core.role.list"),
    Entry::request::<CreateRole>().needs("core.role.create"),
    Entry::request::<UpdateRole>().needs("core.role.update"),
    Entry::request::<GrantDefaultRolePermissions>().needs("core.role.update"),
    Entry::request::<DeleteRole>().needs("core.role.delete"),
    Entry::request::<ListUsers>().needs("core.user.list"),
    Entry::request::<CreateUser>().needs("core.user.create"),
    Entry::request::<UpdateUserRoles>().needs("core.user.update_roles"),
    Entry::request::<SetUserAdmin>().needs("core.user.set_admin"),
    Entry::request::<SetUserWhitelisted>().needs("core.user.set_whitelisted"),
    Entry::request::<SetUserBanned>().needs("core.user.set_banned"),
    Entry::request::<DeleteUser>().needs("core.user.delete"),
    Entry::request::<SetLogSubscriptions>().needs("core.log.follow"),
    Entry::request::<QueryLog>().needs("core.log.query"),
    Entry::request::<UpdateInstances>(),
    for_instance::<AssignInstance>(),
    for_instance::<UnassignInstance>(),
    Entry::request::<GetMetrics>(),
    Entry::event::<DebugWsMessage>(),
    Entry::event::<AccountUpdate>(),
    Entry::event::<LogMessage>(),
    Entry::event::<SlaveUpdate>(),
    Entry::event::<InstanceInitialized>(),
    Entry::event::<InstanceStatusChanged>(),
    Entry::event::<InstanceUpdate>(),
    Entry::event::<SaveListUpdate>().routed(Routing::ToMaster),
    Entry::event::<MasterConnectionEvent>(),
    Entry::event::<SyncUserLists>(),
    Entry::event::<BanlistUpdate>().routed(Routing::ToInstances),
    Entry::event::<AdminlistUpdate>().routed(Routing::ToInstances),
    Entry::event::<WhitelistUpdate>().routed(Routing::ToInstances),
    Entry::event::<PlayerEvent>().routed(Routing::ToMaster),
];

const fn for_instance<R: ForInstance + Request>() -> Entry {
    Entry::request::<R>().routed(Routing::ToInstance)
}
