//! Identifies clients whose log-in the proxy did not see, by a call to their pod behind the answer.

use std::sync::Arc;

use crate::{
    jellyfin::{
        authorization::Device,
        client::users::{self, TokenStatus},
    },
    pod::Pod,
    proxy::{learn::Learner, pod_client::Caller, request::context::RequestContext, user_homes},
    sessions::SessionLookup,
};

impl Learner {
    /// After a pod has accepted an unknown client's token, asks it for the user. The device comes
    /// from the request's own headers; without all its fields nothing happens.
    pub(super) fn identify_session(&self, ctx: &RequestContext<'_>, pod: &Arc<Pod>) {
        let Some(token) = ctx.keys.identity.token.as_deref() else { return };
        if self.shared.api_key().is_none() || !self.shared.sessions.lookup.strangers.may_ask_about(token) {
            return;
        }
        let Some(device) = Device::of(&ctx.head.headers, ctx.pool.legacy()) else { return };
        self.shared.sessions.lookup.strangers.record_asked(token);
        let (shared, pods) = (self.shared.clone(), self.pods.clone());
        let (pod, token) = (pod.clone(), token.to_owned());
        let caller = Caller::of(ctx);
        tokio::spawn(async move {
            // On failure a later request asks again, in a minute at the earliest.
            let whose = pods.call(&pod, &caller, users::who_am_i(&token)).await;
            if let Ok(TokenStatus::Known { user: Some(user), name, .. }) = whose {
                if let Some(name) = name {
                    shared.user_homes.record_name(&pod.pool, &name, &user);
                }
                shared.sessions.log_ins.record_seen(&pod, &user, device, &token).await;
                if let SessionLookup::Active(session) = shared.sessions.known.find(&token) {
                    user_homes::record(&shared, &session);
                }
            }
        });
    }
}
