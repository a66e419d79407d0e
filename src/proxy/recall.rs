//! 2. Identify: a client that is not known here may be known to another replica, which Redis tells.

use super::{Asking, Proxy};
use crate::{affinity::pins::Kind, pod::PodId};

impl Proxy {
    /// Asks at most once, with the store's deadline, and not at all where nothing is shared. The most telling key is asked for:
    /// the token, or the device of a client that has none yet.
    pub(super) async fn recall(&self, asking: &Asking<'_>) {
        let identity = &asking.keys.identity;
        let token = identity.token.as_deref().or(identity.hint.as_deref()).map(|token| (Kind::Token, token));
        let device = || identity.device.as_deref().map(|device| (Kind::Device, device));
        let Some((kind, key)) = token.or_else(device) else { return };
        let is_alive = |id: PodId| asking.pool.pool.pods().iter().any(|pod| pod.id == id && pod.status().is_alive());
        self.site.pins.recall(kind, key, |home| is_alive(home.pod)).await;
    }
}
