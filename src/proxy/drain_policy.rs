//! What jellypin does with a pod that is to stop, as configured.

use std::time::Duration;

/// When a draining pod's clients leave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// At once, even while they play.
    Now,
    /// Each client once it plays nothing and is in no SyncPlay group.
    Idle,
}

/// What jellypin does with pods that their source no longer lists, while they still serve.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// When their clients leave. Default [`When::Idle`].
    pub removed: When,
    /// After this time the remaining clients leave too, even while they play. Default 5 min.
    pub within: Duration,
    /// A client without an open socket is absent after this time without a request. It migrates
    /// with its next request, and no drain waits for it. Default 5 min.
    pub absent: Duration,
}
