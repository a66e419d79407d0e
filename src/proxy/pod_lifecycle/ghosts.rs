//! Ends the sessions that clients without a socket leave behind on pods that live on.
//!
//! A pod that only hung or lost its network comes back with everybody that has moved meanwhile. What
//! plays a live channel on its old pod is left alone: the channel would end with its session.

use std::{sync::Arc, time::Duration};

use tokio::time;

use crate::{
    pod::{PodInstance, Pool},
    proxy::{pod_client::Caller, shared_state::SharedState, visit::Visits},
    sessions::Session,
    shutdown::Shutdown,
};

/// Time from one look at all sessions to the next.
const ROUND: Duration = Duration::from_secs(2);

/// Sessions that are ended in one round, so that a pod that has just come back is not overrun.
const AT_ONCE: usize = 16;

pub(super) struct GhostEnder {
    shared: Arc<SharedState>,
    visits: Arc<Visits>,
    shutdown: Shutdown,
}

impl GhostEnder {
    pub(super) fn new(shared: Arc<SharedState>, visits: Arc<Visits>, shutdown: Shutdown) -> GhostEnder {
        GhostEnder { shared, visits, shutdown }
    }

    /// Looks at a pool's sessions again and again, until the shutdown.
    pub(super) async fn run(self, pool: Arc<Pool>) {
        // Without the key no session is known.
        if self.shared.api_key().is_none() {
            return;
        }
        loop {
            tokio::select! {
                () = time::sleep(ROUND) => {}
                () = self.shutdown.stopping() => return,
            }
            let mut ended = 0;
            let has_left = |session: &Arc<Session>| session.residence.left.is_any() && *session.pool == *pool.name;
            for session in self.shared.sessions.known.all_that(has_left) {
                ended += self.end_left(&pool, &session);
                if ended >= AT_ONCE {
                    break;
                }
            }
        }
    }

    /// Begins to end one session wherever it was left. Says at how many pods.
    fn end_left(&self, pool: &Pool, session: &Arc<Session>) -> usize {
        let (pods, left) = (pool.pods(), &session.residence.left);
        let mut ended = 0;
        for place in left.places() {
            match pods.iter().find(|pod| pod.id == place.pod) {
                // It may be back in the same life.
                Some(pod) if !pod.status().is_alive() => {}
                Some(pod) if PodInstance::of(pod) == place => {
                    let caller = Caller::new(pool, session.calls.client_headers());
                    ended += usize::from(self.visits.end_left(caller, session, pod));
                }
                // Its new life lists nobody that has left the old one.
                Some(_) | None => left.forget(place),
            }
        }
        ended
    }
}
