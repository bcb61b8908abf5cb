//! Users, their roles, and who may play.

use serde::{Deserialize, Serialize};

use super::macros::{event, request};
use crate::catalog::fields::given;
use crate::message::{Direction, Empty};

const TO_MASTER: Direction = Direction::CONTROL_TO_MASTER;
const TO_INSTANCES: Direction = Direction::MASTER_TO_SLAVE.and(Direction::SLAVE_TO_INSTANCE);

/// `list_permissions`: asks for the permissions that there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListPermissions {}

/// The answer to [`ListPermissions`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListPermissionsResponse {
    /// The permissions.
    pub list: Vec<PermissionEntry>,
}

/// What a role may allow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PermissionEntry {
    /// Its name, such as `core.instance.start`.
    pub name: String,
    /// What people call it.
    pub title: String,
    /// What it allows, for people.
    pub description: String,
}

request!(ListPermissions, "list_permissions", TO_MASTER, ListPermissionsResponse);

/// `list_roles`: asks for the roles that there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListRoles {}

/// The answer to [`ListRoles`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListRolesResponse {
    /// The roles.
    pub list: Vec<RoleEntry>,
}

/// A role: permissions under a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleEntry {
    /// Its id.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// What it is for, for people.
    pub description: String,
    /// What it allows.
    pub permissions: Vec<String>,
}

request!(ListRoles, "list_roles", TO_MASTER, ListRolesResponse);

/// `create_role`: adds a role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateRole {
    /// Its name.
    pub name: String,
    /// What it is for, for people.
    pub description: String,
    /// What it allows.
    pub permissions: Vec<String>,
}

/// The answer to [`CreateRole`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateRoleResponse {
    /// The role's id.
    pub id: i64,
}

request!(CreateRole, "create_role", TO_MASTER, CreateRoleResponse);

/// `update_role`: changes a role, all of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateRole {
    /// The role.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// What it is for, for people.
    pub description: String,
    /// What it allows.
    pub permissions: Vec<String>,
}

request!(UpdateRole, "update_role", TO_MASTER, Empty);

/// `grant_default_role_permissions`: adds the permissions to a role that are given by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantDefaultRolePermissions {
    /// The role.
    pub id: i64,
}

request!(GrantDefaultRolePermissions, "grant_default_role_permissions", TO_MASTER, Empty);

/// `delete_role`: removes a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteRole {
    /// The role.
    pub id: i64,
}

request!(DeleteRole, "delete_role", TO_MASTER, Empty);

/// `list_users`: asks for the users that the master knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListUsers {}

/// The answer to [`ListUsers`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListUsersResponse {
    /// The users.
    pub list: Vec<UserEntry>,
}

/// A user as the master lists it. A key that is missing means no.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserEntry {
    /// The name.
    pub name: String,
    /// The ids of the roles.
    pub roles: Vec<i64>,
    /// Whether the user is an admin in the games.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    pub is_admin: Option<bool>,
    /// Whether the user may not play.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    pub is_banned: Option<bool>,
    /// Whether the user may play where only some may.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    pub is_whitelisted: Option<bool>,
    /// The ids of the instances that the user is in.
    pub instances: Vec<i64>,
}

request!(ListUsers, "list_users", TO_MASTER, ListUsersResponse);

/// `create_user`: adds a user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateUser {
    /// The name.
    pub name: String,
}

request!(CreateUser, "create_user", TO_MASTER, Empty);

/// `update_user_roles`: gives a user these roles and no other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateUserRoles {
    /// The user.
    pub name: String,
    /// The ids of the roles.
    pub roles: Vec<i64>,
}

request!(UpdateUserRoles, "update_user_roles", TO_MASTER, Empty);

/// `set_user_admin`: makes a user an admin in the games, or no longer one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetUserAdmin {
    /// The user.
    pub name: String,
    /// Whether to add a user who is not known.
    pub create: bool,
    /// Whether the user is one.
    pub admin: bool,
}

request!(SetUserAdmin, "set_user_admin", TO_MASTER, Empty);

/// `set_user_whitelisted`: lets a user play where only some may, or no longer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetUserWhitelisted {
    /// The user.
    pub name: String,
    /// Whether to add a user who is not known.
    pub create: bool,
    /// Whether the user may.
    pub whitelisted: bool,
}

request!(SetUserWhitelisted, "set_user_whitelisted", TO_MASTER, Empty);

/// `set_user_banned`: bans a user from the games, or no longer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetUserBanned {
    /// The user.
    pub name: String,
    /// Whether to add a user who is not known.
    pub create: bool,
    /// Whether the user is banned.
    pub banned: bool,
    /// Why, for people.
    pub reason: String,
}

request!(SetUserBanned, "set_user_banned", TO_MASTER, Empty);

/// `delete_user`: removes a user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteUser {
    /// The user.
    pub name: String,
}

request!(DeleteUser, "delete_user", TO_MASTER, Empty);

/// `account_update`: what a control may do has changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountUpdate {
    /// The roles of its user; without the key they are the same as before.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    pub roles: Option<Vec<AccountRole>>,
}

/// A role as its holder sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountRole {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: i64,
    /// What it allows.
    pub permissions: Vec<String>,
}

event!(AccountUpdate, "account_update", Direction::MASTER_TO_CONTROL);

/// `sync_user_lists`: who is an admin, banned or whitelisted, all of them; after each registration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncUserLists {
    /// The names of the admins.
    pub adminlist: Vec<String>,
    /// The names of the banned, each with the reason.
    pub banlist: Vec<(String, String)>,
    /// The names of the whitelisted.
    pub whitelist: Vec<String>,
}

event!(SyncUserLists, "sync_user_lists", Direction::MASTER_TO_SLAVE);

/// `banlist_update`: a user is banned from the games, or no longer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BanlistUpdate {
    /// The user.
    pub name: String,
    /// Whether the user is banned.
    pub banned: bool,
    /// Why, for people.
    pub reason: String,
}

event!(BanlistUpdate, "banlist_update", TO_INSTANCES);

/// `adminlist_update`: a user is an admin in the games, or no longer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdminlistUpdate {
    /// The user.
    pub name: String,
    /// Whether the user is one.
    pub admin: bool,
}

event!(AdminlistUpdate, "adminlist_update", TO_INSTANCES);

/// `whitelist_update`: a user may play where only some may, or no longer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhitelistUpdate {
    /// The user.
    pub name: String,
    /// Whether the user may.
    pub whitelisted: bool,
}

event!(WhitelistUpdate, "whitelist_update", TO_INSTANCES);
