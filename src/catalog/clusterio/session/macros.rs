//! What the message types of this catalog have in common, written once.

/// Makes a type a request: its name, who may ask whom, the answer; and, of a slow one, how long the
/// asker waits.
macro_rules! request {
    ($type:ty, $name:literal, $direction:expr, $response:ty $(, $timeout:expr)?) => {
        impl crate::message::Request for $type {
            const NAME: &'static str = $name;
            const DIRECTION: crate::message::Direction = $direction;
            $(const TIMEOUT: Option<std::time::Duration> = Some($timeout);)?
            type Response = $response;
        }
    };
}

/// Makes a type an event: its name, and who may send it to whom.
macro_rules! event {
    ($type:ty, $name:literal, $direction:expr) => {
        impl crate::message::Event for $type {
            const NAME: &'static str = $name;
            const DIRECTION: crate::message::Direction = $direction;
        }
    };
}

/// Makes requests ones for the instance that their `instance_id` names.
macro_rules! for_instance {
    ($($type:ty),+ $(,)?) => {
        $(impl crate::catalog::clusterio::ForInstance for $type {
            fn instance_id(&self) -> i64 {
                self.instance_id
            }
        })+
    };
}

/// `Debug` that shows these fields and no other: a configuration may hold a password.
macro_rules! show_only {
    ($type:ident { $($field:ident),* }) => {
        impl std::fmt::Debug for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($type))
                    $(.field(stringify!($field), &self.$field))*
                    .finish_non_exhaustive()
            }
        }
    };
}

pub(super) use {event, for_instance, request, show_only};
