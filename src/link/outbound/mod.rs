//! The sending half of a link, behind a cheap handle.
//!
//! Whatever is sent goes through [`stream`], under its lock: budgets, number, place in the queue and
//! the wait for an answer are one step. The link's task takes the frames out by the [`outlet`].

mod budget;
mod handle;
mod outlet;
mod pending;
mod phase;
mod request;
mod stream;
#[cfg(test)]
pub(super) mod tests;
mod wait;

pub(super) use handle::Handle;
pub(super) use outlet::{Next, Outlet};
pub(super) use pending::Outcome;
pub(super) use phase::Class;
pub(super) use request::{RequestFuture, agree_to_disconnect, prepare_disconnect};
pub(super) use stream::Refused;
