//! Drain: a pod that is to go loses its clients one after the other, and none of them notices.
//!
//! It gets no new ones from the first moment. Its sessions are carried over as if it had died, while it still lives: their sockets
//! are opened elsewhere before they end here, and what is under way here ends here.

use std::{sync::Arc, time::Duration};

use tokio::time;

use super::{Proxy, carry::Errand};
use crate::{
    affinity::placement::{self, Key},
    carryover::{Session, mints::Need, session::Carried},
    pod::{Pod, Pool, State, Status},
};

/// When a draining pod's clients leave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    Now,
    /// Each when it plays nothing.
    Idle,
}

/// Time from one round over the pod's sessions to the next.
const ROUND: Duration = Duration::from_millis(500);

impl Proxy {
    /// Begins to drain a pod that serves, or changes when its clients leave. Says whether it can be drained.
    pub fn drain(self: &Arc<Self>, pool: &Arc<Pool>, pod: &Arc<Pod>, when: When) -> bool {
        let drains = |status: Status| match status.state {
            State::Ready | State::Draining => Status { state: State::Draining, ..status },
            State::Starting | State::Down => status,
        };
        if pod.change(drains).1.state != State::Draining {
            return false;
        }
        let (name, count) = (&*pod.name, self.site.sessions.of_pod(pod).len());
        tracing::info!(pod.name = name, pod.pool = &*pod.pool, when = ?when, sessions = count, "pod is draining");
        let round = pod.next_drain();
        tokio::spawn(self.clone().empty(pool.clone(), pod.clone(), when, round));
        true
    }

    /// Lets a draining pod serve everybody again. Says whether it was draining.
    pub fn undrain(&self, pod: &Pod) -> bool {
        let serves = |status: Status| match status.state {
            State::Draining => Status { state: State::Ready, ..status },
            _ => status,
        };
        let (before, _) = pod.change(serves);
        before.state == State::Draining
    }

    /// Carries the pod's sessions elsewhere until it has none, or drains no more, or is told otherwise.
    async fn empty(self: Arc<Self>, pool: Arc<Pool>, pod: Arc<Pod>, when: When, round: u32) {
        let mut is_told = false;
        while pod.status().state == State::Draining && pod.drain_round() == round && !self.shutdown.is_stopping() {
            let sessions = self.site.sessions.of_pod(&pod);
            if sessions.is_empty() && !is_told {
                is_told = true;
                tracing::info!(
                    pod.name = &*pod.name,
                    pod.pool = &*pod.pool,
                    "no client lives on the draining pod any more"
                );
            }
            for session in sessions.iter().filter(|session| when == When::Now || !session.is_playing()) {
                if pod.status().state != State::Draining {
                    return;
                }
                self.send_away(&pool, session).await;
            }
            tokio::select! {
                () = time::sleep(ROUND) => {}
                () = self.shutdown.stopping() => return,
            }
        }
    }

    async fn send_away(self: &Arc<Self>, pool: &Arc<Pool>, session: &Arc<Session>) {
        let pods = pool.pods().to_vec();
        let ready = pods.iter().filter(|pod| pod.status().state == State::Ready);
        let Some(to) = placement::rendezvous(Key::of(session.device.id.as_bytes()), ready) else { return };
        let (base_path, client) = (pool.base_path.clone(), session.client());
        let carried = self.carry(session, to, Errand { base_path, client, need: Need::Idle, moves: true }).await;
        if carried == Carried::Refused {
            tracing::debug!(to = &*to.name, "a session of a draining pod stays until another pod takes it");
        }
    }
}
