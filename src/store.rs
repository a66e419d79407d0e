//! What several replicas share, and what outlives a process: Redis, or a file on disk.
//!
//! This room moves bytes from a key to a value and back. What they mean, and that no key shows what it is a key of, is the
//! caller's affair. Neither of the two is ever needed to answer a request.

pub mod clock;
pub mod disk;
pub mod redis_store;
