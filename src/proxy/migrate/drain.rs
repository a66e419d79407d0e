//! Drain: a pod that is to go loses its clients little by little, and none of them notices.
//!
//! It gets no new ones from the first moment. Its sessions are carried over as if it had died, while it still lives: their sockets
//! are opened elsewhere before they end here, and what is under way here ends here.
//!
//! A leader that drains gives the lead up: at once where its clients leave it at once; else when it has no SyncPlay groups any more,
//! whose members stay until then, or when a new one is to begin. Where the pods elect among themselves it may lead all the same; then
//! it keeps who is brought to it for a group after the others were sent away.
//!
//! Whoever is not there is not sent away: an app that was closed long ago would come back as a session of the next pod. It is carried
//! when it asks again.
//!
//! An operator says so, or the pod's source: DNS or the configuration names it no more, while it still serves.

use std::{future::pending, sync::Arc, time::Duration};

use futures_util::{StreamExt, stream};
use tokio::time::{self, Instant};

use super::{MigrationKind, MigrationRequest};
use crate::{
    affinity::placement::{self, Key},
    pod::{Pod, PodInstance, Pool, State, Status},
    proxy::Proxy,
    sessions::{Session, mint_limiter::Priority, session::MigrationOutcome},
};

/// When a draining pod's clients leave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// At once, whatever plays.
    Now,
    /// Each when it plays nothing, and is a member of no SyncPlay group.
    Idle,
}

/// What came of taking a drain back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undrained {
    /// The pod serves everybody again.
    Ready,
    /// It did not drain: there is nothing to be done.
    DrainsNot,
    /// Its source names it no more: it has to be named again.
    Leaves,
}

/// What becomes of pods that their source names no more, while they still serve.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// When their clients leave them. Default [`When::Idle`].
    pub removed: When,
    /// After this time the rest of them leave too, whatever plays. Default 5 min.
    pub within: Duration,
    /// A client without an open socket that was not heard of for this time is not there: it is carried when it asks again, and
    /// nothing waits for it. Default 5 min.
    pub absent: Duration,
}

/// Longest time for the last ones to leave such a pod.
const LAST: Duration = Duration::from_secs(10);

/// Sessions that are sent away at once. How fast a pod takes them is paced besides.
const AT_ONCE: usize = 4;

/// Time from one round over the pod's sessions to the next.
const ROUND: Duration = Duration::from_millis(500);

impl Proxy {
    /// Begins to drain a pod that serves, or changes when its clients leave. Says whether it can be drained.
    pub fn drain(self: &Arc<Self>, pool: &Arc<Pool>, pod: &Arc<Pod>, when: When) -> bool {
        let drains = |status: Status| match status.state {
            State::Ready | State::Draining => Status { state: State::Draining, ..status },
            State::Starting | State::Down => status,
        };
        let sessions = self.clients_of(pod);
        pod.set_gives_up_lead(yields(pod, when, &sessions));
        if pod.change(drains).1.state != State::Draining {
            return false;
        }
        let (name, count) = (&*pod.name, sessions.len());
        tracing::info!(pod.name = name, pod.pool = &*pod.pool, when = ?when, sessions = count, "pod is draining");
        let round = pod.begin_drain_round();
        tokio::spawn(self.clone().empty_pod(pool.clone(), pod.clone(), when, round));
        true
    }

    /// The sessions that live on the pod and whose clients are there.
    pub fn clients_of(&self, pod: &Pod) -> Vec<Arc<Session>> {
        self.shared.clients_of(pod)
    }

    /// Lets a draining pod serve everybody again, but for one that its source names no more.
    pub fn undrain(&self, pod: &Pod) -> Undrained {
        if pod.is_removed() {
            return Undrained::Leaves;
        }
        let serves = |status: Status| match status.state {
            State::Draining => Status { state: State::Ready, ..status },
            _ => status,
        };
        let (before, _) = pod.change(serves);
        if before.state == State::Draining { Undrained::Ready } else { Undrained::DrainsNot }
    }

    /// Carries the pod's sessions elsewhere until it has none, or drains no more, or is told otherwise.
    async fn empty_pod(self: Arc<Self>, pool: Arc<Pool>, pod: Arc<Pod>, when: When, round: u32) {
        let (began, mut is_told) = (Instant::now(), false);
        while pod.status().state == State::Draining && pod.drain_round() == round && !self.shutdown.is_stopping() {
            let sessions = self.clients_of(&pod);
            if sessions.is_empty() && !is_told {
                is_told = true;
                tracing::info!(pod.name = &*pod.name, pod.pool = &*pod.pool, "the draining pod has no sessions left");
            }
            pod.set_gives_up_lead(yields(&pod, when, &sessions));
            let (place, leads) = (PodInstance::of(&pod), self.is_leader(&pool, &pod));
            let stays = |session: &Session| match when {
                When::Now => leads && session.is_in_group_at(place) && session.moved_for_group_since(place, began),
                When::Idle => session.is_in_group_at(place) || session.is_playing(),
            };
            let leaving = sessions.iter().filter(|session| !stays(session));
            let sent_away = stream::iter(leaving).for_each_concurrent(AT_ONCE, async |session| {
                if pod.status().state == State::Draining {
                    self.migrate_away(&pool, place, session).await;
                }
            });
            sent_away.await;
            tokio::select! {
                () = time::sleep(ROUND) => {}
                () = self.shutdown.stopping() => return,
            }
        }
    }

    /// Drains a pod that its source names no more, and lets it go when nobody lives on it; or when it serves no more, of which
    /// its clients hear as of any death. One that is named again stays.
    pub(in crate::proxy) async fn drain_removed(self: Arc<Self>, pool: Arc<Pool>, pod: Arc<Pod>) {
        let Config { removed, within, .. } = self.shared.drain;
        let (name, of) = (&*pod.name, &*pod.pool);
        tracing::info!(pod.name = name, pod.pool = of, "pod is no longer listed by DNS or the configuration");
        let leaves = async {
            self.drain(&pool, &pod, removed);
            if time::timeout(within, self.await_empty(&pod, Pod::load)).await.is_err() {
                self.drain(&pool, &pod, When::Now);
                // Who does not leave now would not later. Files that it sends go on.
                let _ = time::timeout(LAST, self.await_empty(&pod, Pod::open_sockets)).await;
            }
            // Rather than to nobody, clients go to a pod that leaves.
            while !pool.pods().iter().any(|other| other.status().is_alive() && !other.is_removed()) {
                time::sleep(ROUND).await;
            }
        };
        let mut changes = pod.changes();
        tokio::select! {
            () = leaves => {}
            _ = changes.wait_for(|status| status.state != State::Draining) => {}
            () = self.shutdown.stopping() => return,
        }
        if pool.drop_removed(&pod) {
            tracing::info!(pod.name = name, pod.pool = of, "pod has left");
        }
    }

    /// Ends when nobody lives on the pod and nothing of this is under way there. Never, where it cannot be known who lives there.
    async fn await_empty(&self, pod: &Pod, under_way: impl Fn(&Pod) -> usize) {
        if !self.can_migrate() {
            return pending().await;
        }
        while under_way(pod) > 0 || !self.clients_of(pod).is_empty() {
            time::sleep(ROUND).await;
        }
    }

    fn is_leader(&self, pool: &Arc<Pool>, pod: &Pod) -> bool {
        let shared = self.shared.pools.iter().find(|shared| Arc::ptr_eq(&shared.pool, pool));
        shared.and_then(|shared| shared.leader.current()).is_some_and(|leader| leader.id == pod.id)
    }

    async fn migrate_away(self: &Arc<Self>, pool: &Arc<Pool>, from: PodInstance, session: &Arc<Session>) {
        let pods = pool.pods().to_vec();
        let ready = pods.iter().filter(|pod| pod.status().state == State::Ready);
        let Some(to) = placement::rendezvous(Key::of(session.device.id.as_bytes()), ready) else { return };
        let (base_path, client) = (pool.base_path.clone(), session.client_headers());
        // Meanwhile a request may bring it to another leader, or have it stay.
        let moves = MigrationKind::MoveHomeFrom(from, Instant::now());
        let migrated = self
            .migrate(session, to, MigrationRequest { base_path, client, priority: Priority::Idle, kind: moves })
            .await;
        if migrated == MigrationOutcome::Refused {
            tracing::debug!(to = &*to.name, "a session of a draining pod stays until another pod takes it");
        }
    }
}

/// Whether a pod that drains gives the lead up: it keeps it for the groups that it has, while their members stay.
fn yields(pod: &Pod, when: When, sessions: &[Arc<Session>]) -> bool {
    let place = PodInstance::of(pod);
    when == When::Now || !sessions.iter().any(|session| session.is_in_group_at(place))
}
