//! A client whose log-in the proxy did not see becomes known: its pod is asked once whose token it is, behind the answer.

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
    /// After a pod has accepted the token of a client that is not known. The user is asked for; the device is what the client
    /// says of itself, and a request that does not say it all is none to go by.
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
            // Whoever is not told now is asked again in a minute.
            if let Ok(TokenStatus::Known { user: Some(user), .. }) =
                proxy.token_status(&pod, &base_path, &token, &client).await
            {
                proxy.shared.sessions.record_seen(&pod, &user, to_session_device(device), &token).await;
            }
        });
    }
}

impl RequestContext<'_> {
    /// What the client says of itself with this request, filled up by the session's log-in, as a pod does it.
    pub(in crate::proxy) fn reported_by(&self, session: &Session) -> sessions::Device {
        to_session_device(Device::claimed(&self.head.headers, self.pool.legacy())).filled_from(&session.device)
    }
}

/// What a client says of itself, as it is kept.
pub(in crate::proxy) fn to_session_device(device: Device) -> sessions::Device {
    sessions::Device { client: device.client, name: device.name, id: device.id, version: device.version }
}

/// What was kept of it, as the client says it.
pub(in crate::proxy) fn to_header_device(device: sessions::Device) -> Device {
    Device { client: device.client, name: device.name, id: device.id, version: device.version }
}
