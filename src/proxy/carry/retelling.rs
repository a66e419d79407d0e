//! What a pod is told of a client that comes to it, since the client does not say it again.

use std::time::Duration;

use http::Method;
use tokio::time;

use super::Carrying;
use crate::{
    carryover::session::Note,
    proxy::{call::Call, introduce::as_said},
};

/// Longest time that the client waits for the pod to take all of it.
const LONGEST: Duration = Duration::from_secs(2);

impl Carrying {
    /// Tells the pod what the one before knew of the client. What it does not take in time is lost, and nothing else.
    pub(super) async fn retell(&self, token: &str) {
        let all = async {
            for note in self.session.capabilities() {
                self.tell(token, note).await;
            }
            // Where it is only to be known, it plays nothing; and it may have stopped meanwhile.
            let playing = if self.errand.moves.holds(&self.session) { self.session.playing() } else { Vec::new() };
            for note in playing {
                self.tell(token, note).await;
            }
        };
        if time::timeout(LONGEST, all).await.is_err() {
            tracing::debug!(pod.name = &*self.pod.name, cause = "timed_out", "a note was not taken");
        }
    }

    async fn tell(&self, token: &str, Note { teller, target, body }: Note) {
        let authorization = Some(as_said(teller).header(Some(token)));
        let call = Call { method: Method::POST, target: &target, client: &self.errand.client, authorization, body };
        if let Err(failure) = self.proxy.call(&self.pod, &self.errand.base_path, call).await {
            tracing::debug!(pod.name = &*self.pod.name, cause = failure.cause.name(), "a note was not taken");
        }
    }
}
