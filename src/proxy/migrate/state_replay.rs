//! Replays a client's state to its new pod, since the client does not send it again.

use std::{sync::Arc, time::Duration};

use tokio::time;

use super::Migrator;
use crate::{
    forward::Cause,
    jellyfin::client,
    pod::Pod,
    proxy::pod_client::Caller,
    sessions::{Session, session::ReplayedCall},
};

/// Longest time that the client waits for the pod to accept all replayed calls.
const LONGEST: Duration = Duration::from_secs(2);

/// Tells a pod what the previous one knew of a client.
pub(super) struct StateReplay<'a> {
    pub(super) migrator: &'a Migrator,
    pub(super) session: &'a Arc<Session>,
    pub(super) pod: &'a Arc<Pod>,
    pub(super) caller: &'a Caller,
    /// The token by which the pod knows the session.
    pub(super) token: &'a str,
}

impl StateReplay<'_> {
    /// Sends the pod what the previous pod knew of the client. Calls that the pod does not accept
    /// in time are lost, and nothing else is. A session that keeps its home plays nothing here.
    pub(super) async fn run(&self, moves_home: impl Fn() -> bool) {
        let all = async {
            for call in self.session.calls.capabilities() {
                self.replay_call(call).await;
            }
            // Read only now, since playback may have stopped meanwhile.
            let playing = if moves_home() { self.session.calls.playing() } else { Vec::new() };
            for call in playing {
                let report = call.body.clone();
                let replay = self.replay_call(call);
                // The report is as old as the move: what was written since must outlive it.
                self.migrator.user_data.preserve(self.session, self.pod, &report, replay).await;
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

    /// May outlive the migration, which waits no longer than [`LONGEST`].
    fn replay_call(
        &self,
        ReplayedCall { reported_by, target, body }: ReplayedCall,
    ) -> impl Future<Output = ()> + Send + use<> {
        let call = client::sessions::replay(target, body, &reported_by, self.token);
        let (pods, pod, caller) = (self.migrator.pods.clone(), self.pod.clone(), self.caller.clone());
        async move {
            if let Err(failure) = pods.call(&pod, &caller, call).await {
                tracing::debug!(
                    pod.name = &*pod.name,
                    cause = failure.cause.as_str(),
                    "the pod did not accept a replayed call"
                );
            }
        }
    }
}
