//! The words of which a field has one.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error};
use serde::ser::{Serialize, Serializer};

use crate::close::cut;

/// Longest part of an unknown word in an error, in bytes.
const MAX_SHOWN: usize = 40;

/// An enum whose values are words on the wire. Any other word is an error that names it.
macro_rules! words {
    ($(#[$about:meta])* $name:ident, $what:literal, {
        $($(#[$meaning:meta])* $variant:ident = $word:literal,)+
    }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$meaning])* $variant,)+
        }

        impl $name {
            /// All values.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The word on the wire.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_str(self.as_str())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let word = String::deserialize(from)?;
                let known = Self::ALL.iter().find(|known| known.as_str() == word);
                known.copied().ok_or_else(|| {
                    D::Error::custom(format!("unknown {} {:?}", $what, cut(&word, MAX_SHOWN)))
                })
            }
        }
    };
}

words! {
    /// What an instance does, as its slave says.
    SlaveStatus, "status", {
        /// It does not run.
        Stopped = "stopped",
        /// It is being started.
        Starting = "starting",
        /// It runs.
        Running = "running",
        /// It is being stopped.
        Stopping = "stopping",
        /// It makes a new save.
        CreatingSave = "creating_save",
        /// It exports its game's data.
        ExportingData = "exporting_data",
    }
}

words! {
    /// What an instance does, as the master says: what its slave says, and what only a master
    /// knows.
    InstanceStatus, "status", {
        /// Its slave is not connected.
        Unknown = "unknown",
        /// It belongs to no slave.
        Unassigned = "unassigned",
        /// It does not run.
        Stopped = "stopped",
        /// It is being started.
        Starting = "starting",
        /// It runs.
        Running = "running",
        /// It is being stopped.
        Stopping = "stopping",
        /// It makes a new save.
        CreatingSave = "creating_save",
        /// It exports its game's data.
        ExportingData = "exporting_data",
        /// It is gone.
        Deleted = "deleted",
    }
}

impl From<SlaveStatus> for InstanceStatus {
    fn from(status: SlaveStatus) -> Self {
        match status {
            SlaveStatus::Stopped => Self::Stopped,
            SlaveStatus::Starting => Self::Starting,
            SlaveStatus::Running => Self::Running,
            SlaveStatus::Stopping => Self::Stopping,
            SlaveStatus::CreatingSave => Self::CreatingSave,
            SlaveStatus::ExportingData => Self::ExportingData,
        }
    }
}

words! {
    /// What kind of entry a save list has.
    SaveKind, "kind of save", {
        /// A save.
        File = "file",
        /// A folder.
        Directory = "directory",
        /// Anything else.
        Special = "special",
    }
}

words! {
    /// In which order log lines come.
    LogOrder, "order", {
        /// The oldest first.
        Ascending = "asc",
        /// The newest first.
        Descending = "desc",
    }
}

words! {
    /// What a player did.
    PlayerAct, "player event", {
        /// Came into the game.
        Join = "join",
        /// Went out of it.
        Leave = "leave",
    }
}
