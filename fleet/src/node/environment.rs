//! The environment of the processes that a slave starts: what programs need, and none of our secrets.
//!
//! A list of what is handed on, because nobody knows the names of all secrets. A game that needs more
//! is told so in its launch command, as in `env NAME=value game`.

use std::ffi::OsStr;
use std::process::Command;

/// Handed on as they are, and with them whatever begins with `LC_`.
const NAMES: [&str; 13] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LANGUAGE",
    "TZ",
    "TMPDIR",
    // Where the user's screen and sound are.
    "DISPLAY",
    "WAYLAND_DISPLAY",
    "XAUTHORITY",
    "XDG_RUNTIME_DIR",
];

/// Without these hardly any program starts on Windows.
#[cfg(windows)]
const SYSTEM: [&str; 13] = [
    "SystemRoot",
    "SystemDrive",
    "windir",
    "ComSpec",
    "PATHEXT",
    "TEMP",
    "TMP",
    "USERNAME",
    "USERPROFILE",
    "APPDATA",
    "LOCALAPPDATA",
    "ProgramData",
    "ProgramFiles",
];
#[cfg(not(windows))]
const SYSTEM: [&str; 0] = [];

/// Gives `command` nothing of this program's environment but what is on the list.
pub(crate) fn clean(command: &mut Command) {
    command.env_clear();
    command.envs(std::env::vars_os().filter(|(name, _)| is_handed_on(name)));
}

fn is_handed_on(name: &OsStr) -> bool {
    let Some(name) = name.to_str() else { return false };
    // Windows writes `Path`.
    let is = |known: &&str| {
        if cfg!(windows) { name.eq_ignore_ascii_case(known) } else { name == *known }
    };
    name.starts_with("LC_") || NAMES.iter().chain(&SYSTEM).any(is)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_on_the_list_is_handed_on() {
        for name in ["PATH", "HOME", "LC_ALL", "LC_CTYPE", "TZ", "XDG_RUNTIME_DIR"] {
            assert!(is_handed_on(name.as_ref()), "{name}");
        }
        for name in ["SEQLINK_TOKEN", "SEQLINK_X", "RUST_LOG", "XDG_RUNTIME", "LC", "PATH_X", ""] {
            assert!(!is_handed_on(name.as_ref()), "{name}");
        }
    }
}
