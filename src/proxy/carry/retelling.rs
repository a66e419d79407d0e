//! What a pod is told of a client that comes to it, since the client does not say it again.

use std::time::Duration;

use http::Method;
use tokio::time;

use super::Carrying;
use crate::{carryover::session::Note, proxy::call::Call};

/// Longest time that the client waits for the pod to take all of it.
const LONGEST: Duration = Duration::from_secs(2);

impl Carrying {
    /// Tells the pod what the one before knew of the client. What it does not take in time is lost, and nothing else.
    pub(super) async fn retell(&self, token: &str) {
        let all = async {
            self.tell(token, self.session.capabilities()).await;
            // Where it is only to be known, it plays nothing; and it may have stopped meanwhile.
            let playing = self.session.playing().filter(|_| self.errand.moves.holds(&self.session));
            self.tell(token, playing).await;
        };
        if time::timeout(LONGEST, all).await.is_err() {
            tracing::debug!(pod.name = &*self.pod.name, cause = "timed_out", "a note was not taken");
        }
    }

    async fn tell(&self, token: &str, note: Option<Note>) {
        let Some(Note { target, body }) = note else { return };
        let authorization = Some(self.device().header(Some(token)));
        let call = Call { method: Method::POST, target: &target, client: &self.errand.client, authorization, body };
        if let Err(failure) = self.proxy.call(&self.pod, &self.errand.base_path, call).await {
            tracing::debug!(pod.name = &*self.pod.name, cause = failure.cause.name(), "a note was not taken");
        }
    }
}
