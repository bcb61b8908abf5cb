//! The slave's side: a node that plays one game at a time, and what it knows of its machine.

mod environment;
mod group;
mod host;
mod play;
mod reaper;
mod registration;
mod runner;
mod states;
mod storage;

pub(crate) use host::host_name;
pub use play::Node;
pub use reaper::{ARGUMENT as REAPER, Reaper, run as reap};
pub(crate) use registration::stopped;
pub use registration::{Registration, describe, keep};
pub use runner::Patience;
pub(crate) use runner::Process;
pub(crate) use states::tell;
