//! What several replicas share, and what outlives a process: Redis, or a file on disk.
//!
//! This room moves bytes from a key to a value and back. Callers give them meaning, and ensure that
//! no key shows what it stands for. No answer to a request ever needs either store.

pub mod clock;
pub mod disk;
pub mod kept_document;
mod outcome;
pub mod redis_store;
pub mod seal;
pub mod sealed_documents;
