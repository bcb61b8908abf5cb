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
mod send_state;
#[cfg(test)]
pub(super) mod tests;
mod wait;

pub(super) use handle::Handle;
pub(super) use outlet::{NextWrite, Outlet};
pub(super) use pending::ResponseResult;
pub(super) use phase::SendClass;
pub(super) use request::{RequestFuture, agree_to_disconnect, prepare_disconnect};
pub(super) use send_state::SendRefused;
