//! What is in use at this moment. A reload replaces it.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::{Config, autodiscovery::Listener};
use crate::proxy::SharedState;

/// What is in use now.
pub(super) struct Now {
    /// As it is applied: keys that cannot change have the values of the start.
    pub(super) config: Config,
    pub(super) shared: Arc<SharedState>,
    pub(super) listeners: Vec<Listener>,
}

/// For tasks that outlive reloads.
pub(super) type Current = Arc<ArcSwap<Now>>;
