//! Keeps the environment and the memory of this program, where its token is, from others of its user.

/// Linux lets a user's processes read each other's environment and memory, a slave's games those of
/// the slave. Whoever forbids it cannot be attached to by a debugger either, and leaves no core
/// dump. Root may read on; other systems know nothing like it.
pub(crate) fn begin() {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{DumpableBehavior, set_dumpable_behavior};
        if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
            tracing::warn!(%error, "other programs of this user can read this one's environment");
        }
    }
}
