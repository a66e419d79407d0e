//! Pods that stand by: they get nobody while another pod is ready, and everybody while none is.
//!
//! A pod that stands by drains all the time, so it gets no new clients. If no pod is ready, the
//! clients of a dead pod migrate to it within the same request, as to any draining pod. Then its
//! drain ends, and it serves like every pod. When another pod is ready again, the clients go back as
//! the drain policy says: those that play go last.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::time::{self, Instant};

use super::drain::Drainer;
use crate::{
    pod::{Pod, PodId, Pool, State},
    proxy::{drain_policy::When, shared_state::SharedState},
    shutdown::Shutdown,
};

/// Pause between two looks at the pods of a pool in which one stands by.
const LOOK: Duration = Duration::from_millis(50);

/// Pause between two looks whether the configuration names such a pod.
const LOOK_FOR_ONE: Duration = Duration::from_secs(1);

/// What is to be done with a pod that stands by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    /// It serves, or rests, as it is to.
    Nothing,
    /// Another pod serves: this one's clients go there.
    Rest,
    /// They do so even while they play.
    RestNow,
    /// No other pod is ready.
    Serve,
}

/// Keeps pods standing by.
pub(super) struct StandbyKeeper {
    shared: Arc<SharedState>,
    drainer: Arc<Drainer>,
    shutdown: Shutdown,
    /// Since when each rests, and whether its last clients were sent away.
    resting: HashMap<PodId, (Instant, bool)>,
}

impl StandbyKeeper {
    pub(super) fn new(shared: Arc<SharedState>, drainer: Arc<Drainer>, shutdown: Shutdown) -> StandbyKeeper {
        StandbyKeeper { shared, drainer, shutdown, resting: HashMap::new() }
    }

    /// Looks after a pool until the shutdown.
    pub(super) async fn run(mut self, pool: Arc<Pool>) {
        loop {
            self.look(&pool);
            let pause = if pool.has_standby() { LOOK } else { LOOK_FOR_ONE };
            tokio::select! {
                () = time::sleep(pause) => {}
                () = self.shutdown.stopping() => return,
            }
        }
    }

    fn look(&mut self, pool: &Arc<Pool>) {
        let pods = pool.pods().to_vec();
        let is_served = pods.iter().any(|pod| !pool.is_standby(&pod.name) && pod.status().state == State::Ready);
        for pod in pods.iter().filter(|pod| pool.is_standby(&pod.name) && !pod.drain.is_removed()) {
            let rested = self.resting.get(&pod.id).map(|(since, was_told)| (since.elapsed(), *was_told));
            match act(is_served, pod.status().state, rested, self.shared.drain.within) {
                Act::Nothing => {}
                Act::Rest => {
                    self.resting.insert(pod.id, (Instant::now(), false));
                    self.drainer.drain(pool, pod, self.shared.drain.removed);
                    tracing::info!(pod.name = &*pod.name, pod.pool = &*pod.pool, "a pod stands by");
                }
                Act::RestNow => self.send_away_last(pool, pod),
                Act::Serve => {
                    self.resting.remove(&pod.id);
                    Drainer::undrain(pod);
                    tracing::warn!(
                        pod.name = &*pod.name,
                        pod.pool = &*pod.pool,
                        "no other pod is ready, so the pod that stands by serves"
                    );
                }
            }
        }
    }

    fn send_away_last(&mut self, pool: &Arc<Pool>, pod: &Arc<Pod>) {
        self.resting.entry(pod.id).and_modify(|(_, was_told)| *was_told = true);
        if !self.shared.clients_of(pod).is_empty() {
            self.drainer.drain(pool, pod, When::Now);
        }
    }
}

/// `rested` is how long the pod rests, and whether its last clients were sent away since.
fn act(is_served: bool, state: State, rested: Option<(Duration, bool)>, within: Duration) -> Act {
    match (is_served, state) {
        (true, State::Ready) => Act::Rest,
        (true, State::Draining) => match rested {
            // An operator drains it, or it drained before jellypin looked.
            None => Act::Rest,
            Some((rested, false)) if rested >= within => Act::RestNow,
            Some(_) => Act::Nothing,
        },
        (false, State::Draining) => Act::Serve,
        (false, State::Ready) | (_, State::Starting | State::Down) => Act::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_that_stands_by_serves_only_alone_and_gives_its_clients_back_in_time() {
        const WITHIN: Duration = Duration::from_secs(300);
        let rested = |seconds, was_told| Some((Duration::from_secs(seconds), was_told));
        for (is_served, state, rested, expected) in [
            (true, State::Ready, None, Act::Rest),
            (true, State::Draining, None, Act::Rest),
            (true, State::Draining, rested(10, false), Act::Nothing),
            (true, State::Draining, rested(300, false), Act::RestNow),
            (true, State::Draining, rested(900, true), Act::Nothing),
            (true, State::Ready, rested(900, true), Act::Rest),
            (true, State::Down, None, Act::Nothing),
            (false, State::Draining, rested(900, true), Act::Serve),
            (false, State::Ready, None, Act::Nothing),
            (false, State::Starting, None, Act::Nothing),
        ] {
            assert_eq!(act(is_served, state, rested, WITHIN), expected, "{is_served} {state:?} {rested:?}");
        }
    }
}
