//! Breaks pods, networks, Redis and disks under clients at work, and writes down what these noticed.
//!
//! `tests/faults.rs` runs all faults before jellypin and holds it to them. The program of this crate runs some of them before
//! other proxies too.

pub mod client;
pub mod compare;
pub mod detection;
pub mod doors;
pub mod fault;
pub mod fleet;
pub mod lanes;
mod link;
pub mod pod;
mod process;
pub mod proxy;
mod redis_server;
pub mod stage;
pub mod table;
mod tokens;
