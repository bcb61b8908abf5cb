//! The messages of the handshake, and those that the link itself sends after it. Unknown keys are
//! ignored, as everywhere; what a dialect does not know is left out.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::message::Empty;
use crate::secret::Secret;

/// The master's first message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The protocol version that the master speaks.
    pub version: String,
    /// Its plugins, of which this library has none. A client tells by this key that the master
    /// speaks the session generation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugins: Option<Empty>,
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
    /// Its plugins, of which this library has none; left out in plain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugins: Option<Empty>,
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
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ready {
    /// What resumes the session; only where sockets are resumed, as all below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_token: Option<Secret>,
    /// How long the master holds the session after a cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_timeout: Option<Seconds>,
    /// How often both sides send [`HeartbeatMessage`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat_interval: Option<Seconds>,
    /// Who a control is to the master; Clusterio's controls expect it from alpha.10 on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<Account>,
}

/// Who a control is to the master.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// The account's name.
    pub name: String,
    /// Its roles, of which this library's masters know none; left out before alpha.10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roles: Option<Vec<Empty>>,
}

/// A client's answer to [`Hello`] when it has a session to go on with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resume {
    /// From [`Ready`], or from the last [`Continue`] that brought one.
    pub session_token: Secret,
    /// The last message that the client has received; `null` for none.
    #[serde(deserialize_with = "Option::deserialize")]
    pub last_seq: Option<u64>,
}

/// The master's answer to a [`Resume`] that it knows: both sides send again what lies above the
/// other's last.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Continue {
    /// The last message that the master has received; `null` for none.
    #[serde(deserialize_with = "Option::deserialize")]
    pub last_seq: Option<u64>,
    /// As in [`Ready`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_timeout: Option<Seconds>,
    /// As in [`Ready`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat_interval: Option<Seconds>,
    /// What resumes the session from now on, in this library's own dialect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_token: Option<Secret>,
}

/// The master's answer to a [`Resume`] that it does not know: the session is gone, and the client
/// registers on the same socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invalidate {}

/// A sign of life, and an acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeartbeatMessage {
    /// The last message that the sender has received; `null` for none.
    #[serde(deserialize_with = "Option::deserialize")]
    pub seq: Option<u64>,
}

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
    Resume => "resume",
    Continue => "continue",
    Invalidate => "invalidate",
    HeartbeatMessage => "heartbeat",
    Close => "close",
}

/// A time in seconds; whole ones are written as integers. One that is too long to be held is read as
/// the longest: whoever uses a peer's time has to bring it into a range of his own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seconds(pub Duration);

impl Serialize for Seconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.subsec_nanos() {
            0 => serializer.serialize_u64(self.0.as_secs()),
            _ => serializer.serialize_f64(self.0.as_secs_f64()),
        }
    }
}

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let seconds = f64::deserialize(deserializer)?;
        if seconds < 0.0 {
            return Err(serde::de::Error::custom("a time in seconds below zero"));
        }
        Ok(Self(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(message: &impl Serialize) -> String {
        serde_json::to_string(message).unwrap()
    }

    #[test]
    fn each_dialect_gets_its_keys_and_no_others() {
        let hello = |plugins| Hello { version: "2.0.0".into(), plugins };
        assert_eq!(json(&hello(None)), r#"{"version":"2.0.0"}"#);
        assert_eq!(json(&hello(Some(Empty {}))), r#"{"version":"2.0.0","plugins":{}}"#);
        assert_eq!(json(&Ready::default()), "{}");
        let ready = Ready {
            session_token: Some("t".into()),
            session_timeout: Some(Seconds(Duration::from_secs(60))),
            heartbeat_interval: Some(Seconds(Duration::from_millis(250))),
            account: Some(Account { name: "a".into(), roles: Some(Vec::new()) }),
        };
        let text = r#"{"session_token":"t","session_timeout":60,"heartbeat_interval":0.25,"account":{"name":"a","roles":[]}}"#;
        assert_eq!(json(&ready), text);
        assert_eq!(json(&HeartbeatMessage { seq: None }), r#"{"seq":null}"#);
        assert_eq!(
            json(&Resume { session_token: "t".into(), last_seq: Some(6) }),
            r#"{"session_token":"t","last_seq":6}"#
        );
    }

    #[test]
    fn times_are_read_as_whole_and_broken_numbers_and_never_panic() {
        let read =
            |text: &str| serde_json::from_str::<Seconds>(text).map(|time| time.0.as_millis());
        assert_eq!(read("15").unwrap(), 15_000);
        assert_eq!(read("0.25").unwrap(), 250);
        for text in ["1e19", "2e19", "18446744073709551615", "1e308"] {
            assert!(read(text).unwrap() >= 10_u128.pow(22), "{text}");
        }
        assert_eq!(read("-0.0").unwrap(), 0);
        for text in ["-1", "1e309", "\"1\"", "null"] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
