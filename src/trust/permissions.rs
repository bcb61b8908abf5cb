use std::borrow::Cow;
use std::collections::HashMap;

use serde::Deserialize;

use crate::message::{Entry, Routing};

/// What the messages of catalogs ask to be permitted, by name.
#[derive(Clone, Debug, Default)]
pub struct Permissions {
    messages: HashMap<&'static str, Entry>,
}

/// What a message that goes [`ToSlave`](Routing::ToSlave) says of the one that it carries.
#[derive(Deserialize)]
struct Carried<'a> {
    #[serde(rename = "type", borrow)]
    name: Cow<'a, str>,
}

impl Permissions {
    /// Takes the messages of one or several catalogs. Of two with one name the later counts.
    pub fn of<'e>(messages: impl IntoIterator<Item = &'e Entry>) -> Self {
        Self { messages: messages.into_iter().map(|entry| (entry.name, *entry)).collect() }
    }

    /// Returns all permissions that the sender of the message `name` needs; `data` is its JSON.
    ///
    /// A message that carries another needs that one's permission as well: a control could have a
    /// slave do everything otherwise. Where no catalog names a permission for what is carried, it is
    /// the carried message's own name.
    pub fn needed<'a>(
        &self,
        name: &str,
        data: &'a str,
    ) -> impl Iterator<Item = Cow<'a, str>> + use<'a> {
        let entry = self.messages.get(name);
        let own = entry.and_then(|entry| entry.permission).map(Cow::Borrowed);
        let carries = entry.is_some_and(|entry| entry.routing == Routing::ToSlave);
        // What cannot be read here cannot be read by the handler either.
        let carried = carries.then(|| serde_json::from_str::<Carried<'_>>(data).ok()).flatten();
        let carried = carried.map(|Carried { name }| {
            let known = self.messages.get(&*name).and_then(|entry| entry.permission);
            known.map_or(name, Cow::Borrowed)
        });
        own.into_iter().chain(carried)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{clusterio, game_node};

    fn needed(name: &str, data: &str) -> Vec<String> {
        let permissions =
            Permissions::of(game_node::MESSAGES.iter().chain(clusterio::session::MESSAGES));
        permissions.needed(name, data).map(Cow::into_owned).collect()
    }

    #[test]
    fn a_message_needs_its_own_permission_and_that_of_what_it_carries() {
        assert_eq!(needed("start_instance", "{}"), ["core.instance.start"]);
        assert!(needed("ping", "{}").is_empty() && needed("unknown", "{}").is_empty());
        let call = |name: &str| {
            needed("call_slave", &format!(r#"{{"slave_id":1,"type":{name:?},"data":{{}}}}"#))
        };
        assert_eq!(call("kill_instance"), ["game_node.slave.call", "core.instance.kill"]);
        assert_eq!(call("heartbeat"), ["game_node.slave.call", "heartbeat"]);
        // An escape hides nothing.
        let data = r#"{"slave_id":1,"type":"kill\u005finstance","data":{}}"#;
        assert_eq!(needed("call_slave", data), ["game_node.slave.call", "core.instance.kill"]);
        assert_eq!(needed("call_slave", "{}"), ["game_node.slave.call"]);
    }
}
