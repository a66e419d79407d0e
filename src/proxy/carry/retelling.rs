//! What a pod is told of a client that comes to it, since the client does not say it again.

use http::Method;

use super::Carrying;
use crate::{carryover::session::Note, proxy::call::Call};

impl Carrying {
    /// Tells the pod what the one before knew of the client. What it does not take is lost, and nothing else.
    pub(super) async fn retell(&self, token: &str) {
        let device = self.device();
        // Where it is only to be known, it plays nothing.
        let playing = || self.session.playing().filter(|_| self.errand.moves.holds(&self.session));
        for Note { target, body } in self.session.capabilities().into_iter().chain(playing()) {
            let authorization = Some(device.header(Some(token)));
            let call = Call { method: Method::POST, target: &target, client: &self.errand.client, authorization, body };
            if let Err(failure) = self.proxy.call(&self.pod, &self.errand.base_path, call).await {
                tracing::debug!(pod.name = &*self.pod.name, cause = failure.cause.name(), "a note was not taken");
            }
        }
    }
}
