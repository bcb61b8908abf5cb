//! Process groups: a game and whatever it starts, addressed as one.
//!
//! By hand, because the reaper ends groups that it has not started: process-wrap signals its own children only, and a
//! game's keeper kills the rest of a group whose leader it has seen end.
//!
//! Elsewhere than on Unix there are none: the functions do nothing, and the runner ends the one
//! process it started.

use std::process::Command;

/// Gives the process of `command` a group of its own, with its own id.
pub(crate) fn own(command: &mut Command) {
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(command, 0);
    #[cfg(not(unix))]
    let _ = command;
}

/// Asks every process in the group of `pid` to end.
pub(crate) fn terminate(pid: u32) {
    #[cfg(unix)]
    signal(pid, rustix::process::Signal::TERM);
    #[cfg(not(unix))]
    let _ = pid;
}

/// Ends every process in the group of `pid`, at once.
pub(crate) fn kill(pid: u32) {
    #[cfg(unix)]
    signal(pid, rustix::process::Signal::KILL);
    #[cfg(not(unix))]
    let _ = pid;
}

#[cfg(unix)]
fn signal(pid: u32, signal: rustix::process::Signal) {
    let group = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    if let Some(group) = group {
        // An empty group is an error here and the wish fulfilled.
        let _ = rustix::process::kill_process_group(group, signal);
    }
}
