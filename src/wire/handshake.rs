//! The messages of the handshake, and `close`. Unknown keys are ignored, as everywhere.

use serde::{Deserialize, Serialize};

use crate::secret::Secret;

/// The master's first message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The protocol version that the master speaks.
    pub version: String,
}

/// A slave's answer to [`Hello`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisterSlave {
    /// What lets the slave in; left out when it has none. The protocol document knows no token,
    /// its programs send one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Secret>,
    /// The software that connects, for people.
    pub agent: String,
    /// The protocol version that the slave speaks.
    pub version: String,
    /// The slave's id: one link per id.
    pub id: i64,
    /// The slave's name, for people.
    pub name: String,
}

/// A control's answer to [`Hello`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisterControl {
    /// What lets the control in; left out when it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Secret>,
    /// The software that connects, for people.
    pub agent: String,
    /// The protocol version that the control speaks.
    pub version: String,
}

/// The master's last word of the handshake: from here on both sides send messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {}

/// Why the sender is about to close, in the handshake and after it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Close {
    /// The reason, for people.
    pub reason: String,
}

macro_rules! named {
    ($($message:ty => $kind:literal),+ $(,)?) => {
        $(impl $message {
            /// The frame's `type`.
            pub const TYPE: &'static str = $kind;
        })+
    };
}

named! {
    Hello => "hello",
    RegisterSlave => "register_slave",
    RegisterControl => "register_control",
    Ready => "ready",
    Close => "close",
}
