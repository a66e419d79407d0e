//! Identifies clients whose log-in the proxy did not see, by a call to their pod behind the answer.

use std::sync::Arc;

use crate::{
    jellyfin::authorization::Device,
    pod::Pod,
    proxy::{
        Proxy, RequestContext,
        pod_client::{TokenStatus, client_headers},
    },
    sessions::{self, Session},
};

impl Proxy {
    /// After a pod has accepted an unknown client's token, asks it for the user. The device comes
    /// from the request's own headers; without all its fields nothing happens.
    pub(in crate::proxy) fn identify_session(self: &Arc<Self>, ctx: &RequestContext<'_>, pod: &Arc<Pod>) {
        let Some(token) = ctx.keys.identity.token.as_deref() else { return };
        if !self.can_migrate() || !self.shared.sessions.should_ask_about(token) {
            return;
        }
        let Some(device) = Device::of(&ctx.head.headers, ctx.pool.legacy()) else { return };
        self.shared.sessions.record_asked(token);
        let (proxy, pod, token) = (self.clone(), pod.clone(), token.to_owned());
        let (base_path, client) = (ctx.pool.pool.base_path.clone(), client_headers(ctx));
        tokio::spawn(async move {
            // On failure a later request asks again, in a minute at the earliest.
            if let Ok(TokenStatus::Known { user: Some(user), .. }) =
                proxy.token_status(&pod, &base_path, &token, &client).await
            {
                proxy.shared.sessions.record_seen(&pod, &user, to_session_device(device), &token).await;
            }
        });
    }
}

impl RequestContext<'_> {
    /// What the client claims in this request, completed from the log-in as a pod does it.
    pub(in crate::proxy) fn reported_by(&self, session: &Session) -> sessions::Device {
        to_session_device(Device::claimed(&self.head.headers, self.pool.legacy())).filled_from(&session.device)
    }
}

/// Converts a client's device for the session store.
pub(in crate::proxy) fn to_session_device(device: Device) -> sessions::Device {
    sessions::Device { client: device.client, name: device.name, id: device.id, version: device.version }
}

/// Converts a stored device for a header.
pub(in crate::proxy) fn to_header_device(device: sessions::Device) -> Device {
    Device { client: device.client, name: device.name, id: device.id, version: device.version }
}
