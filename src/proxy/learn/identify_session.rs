//! Identifies clients whose log-in the proxy did not see, by a call to their pod behind the answer.

use std::sync::Arc;

use crate::{
    jellyfin::{
        authorization::Device,
        client::users::{self, TokenStatus},
    },
    pod::Pod,
    proxy::{Proxy, RequestContext, pod_client::Caller},
    sessions::Session,
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
        let caller = Caller::of(ctx);
        tokio::spawn(async move {
            // On failure a later request asks again, in a minute at the earliest.
            let whose = proxy.pods.call(&pod, &caller, users::who_am_i(&token)).await;
            if let Ok(TokenStatus::Known { user: Some(user), .. }) = whose {
                proxy.shared.sessions.record_seen(&pod, &user, device, &token).await;
            }
        });
    }
}

impl RequestContext<'_> {
    /// What the client claims in this request, completed from the log-in as a pod does it.
    pub(in crate::proxy) fn reported_by(&self, session: &Session) -> Device {
        Device::claimed(&self.head.headers, self.pool.legacy()).filled_from(&session.device)
    }
}
