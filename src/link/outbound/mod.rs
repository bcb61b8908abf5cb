//! The sending half of a link, behind a cheap handle.
//!
//! Everything that is sent goes through [`send_state`], under its lock: budgets, number, place in
//! the queue and the wait for an answer are one step.

mod budget;
mod handle;
mod pending;
mod phase;
mod request;
mod send_state;
#[cfg(test)]
pub(super) mod tests;

pub(super) use handle::{Handle, NextWrite};
pub(super) use pending::ResponseResult;
pub(super) use phase::SendClass;
pub(super) use request::{RequestFuture, agree_to_disconnect, prepare_disconnect};
pub(super) use send_state::SendRefused;
