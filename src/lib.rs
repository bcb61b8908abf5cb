//! placeholder, replaced when the rooms stand
pub mod close;
pub mod message;
pub mod secret;
