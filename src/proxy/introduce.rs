//! A client whose log-in the proxy did not see becomes known: its pod is asked once whose token it is, behind the answer.

use std::sync::Arc;

use super::{
    Asking, Proxy,
    call::{Standing, on_behalf_of},
};
use crate::{
    carryover::{self, Session},
    identity::authorization::Device,
    pod::Pod,
};

impl Proxy {
    /// After a pod has accepted the token of a client that is not known. The user is asked for; the device is what the client
    /// says of itself, and a request that does not say it all is none to go by.
    pub(super) fn introduce(self: &Arc<Self>, asking: &Asking<'_>, pod: &Arc<Pod>) {
        let Some(token) = asking.keys.identity.token.as_deref() else { return };
        if !self.carries_over() || !self.site.sessions.is_stranger(token) {
            return;
        }
        let Some(device) = Device::of(&asking.head.headers, asking.pool.legacy()) else { return };
        self.site.sessions.is_asked_for(token);
        let (proxy, pod, token) = (self.clone(), pod.clone(), token.to_owned());
        let (base_path, client) = (asking.pool.pool.base_path.clone(), on_behalf_of(asking));
        tokio::spawn(async move {
            // Whoever is not told now is asked again in a minute.
            if let Ok(Standing::Known { user: Some(user), .. }) = proxy.ask_who(&pod, &base_path, &token, &client).await
            {
                proxy.site.sessions.begin_seen(&pod, &user, told(device), &token).await;
            }
        });
    }
}

impl Asking<'_> {
    /// What the client says of itself with this request, filled up by the session's log-in, as a pod does it.
    pub(super) fn teller(&self, session: &Session) -> carryover::Device {
        told(Device::said(&self.head.headers, self.pool.legacy())).filled_up(&session.device)
    }
}

/// What a client says of itself, as it is kept.
pub(super) fn told(device: Device) -> carryover::Device {
    carryover::Device { client: device.client, name: device.name, id: device.id, version: device.version }
}

/// What was kept of it, as the client says it.
pub(super) fn as_said(device: carryover::Device) -> Device {
    Device { client: device.client, name: device.name, id: device.id, version: device.version }
}
