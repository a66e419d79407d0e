//! Replays a client's state to its new pod, since the client does not send it again.

use std::time::Duration;

use tokio::time;

use super::migration::Migration;
use crate::{forward::Cause, jellyfin::client, sessions::session::ReplayedCall};

/// Longest time that the client waits for the pod to accept all replayed calls.
const LONGEST: Duration = Duration::from_secs(2);

impl Migration {
    /// Sends the pod what the previous pod knew of the client. Calls that the pod does not accept
    /// in time are lost, and nothing else is.
    pub(super) async fn replay_state(&self, token: &str) {
        let all = async {
            for call in self.session.capabilities() {
                self.replay_call(token, call).await;
            }
            // A session that keeps its home plays nothing here. Read only now, since playback may
            // have stopped meanwhile.
            let playing =
                if self.migration_request.kind.moves_home(&self.session) { self.session.playing() } else { Vec::new() };
            for call in playing {
                self.replay_call(token, call).await;
            }
        };
        if time::timeout(LONGEST, all).await.is_err() {
            tracing::debug!(
                pod.name = &*self.pod.name,
                cause = Cause::TimedOut.as_str(),
                "the pod did not accept a replayed call"
            );
        }
    }

    async fn replay_call(&self, token: &str, ReplayedCall { reported_by, target, body }: ReplayedCall) {
        let call = client::sessions::replay(target, body, &reported_by, token);
        if let Err(failure) = self.migrator.pods.call(&self.pod, &self.migration_request.caller, call).await {
            tracing::debug!(
                pod.name = &*self.pod.name,
                cause = failure.cause.as_str(),
                "the pod did not accept a replayed call"
            );
        }
    }
}
