//! Drain: a pod that is to stop loses its clients one by one, and none of them notices.
//!
//! The pod gets no new clients from the start. Its sessions migrate as if it had died, while it
//! still serves. Their sockets open on the new pod before they close here. Requests under way end
//! here.
//!
//! A leader that drains gives up leadership: with [`When::Now`] at once. With [`When::Idle`] it
//! waits until it has no SyncPlay groups, whose members stay until then, or until a new group is to
//! begin. Where pods elect their leader, it may lead all the same. Then it keeps sessions that move
//! to it for a group after the drain began.
//!
//! The session of an absent client stays: an app closed long ago would appear as a session of the
//! next pod. It migrates with the client's next request.
//!
//! An operator starts a drain, or the pod's source does: DNS or the configuration stops listing the
//! pod, while it still serves.

use std::{future::pending, sync::Arc, time::Duration};

use futures_util::{StreamExt, stream};
use tokio::time::{self, Instant};

use crate::{
    affinity::placement,
    pod::{Load, Pod, PodInstance, Pool, State, Status},
    proxy::{
        drain_policy::{Config, When},
        migrate::{MigrationKind, MigrationRequest, Migrator},
        pod_client::Caller,
        shared_state::SharedState,
        user_homes,
        visit::Visits,
    },
    sessions::{Session, mint_limiter::Priority, session::MigrationOutcome},
    shutdown::Shutdown,
};

/// The result of taking a drain back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undrained {
    /// The pod serves every client again.
    Ready,
    /// The pod was not draining; nothing changes.
    DrainsNot,
    /// The pod's source no longer lists it; the source must list it again first.
    Leaves,
}

/// Longest time for the last clients to leave a removed pod.
const LAST: Duration = Duration::from_secs(10);

/// Sessions that migrate at once. The mint limiter also paces each pod.
const AT_ONCE: usize = 4;

/// Time from one round over the pod's sessions to the next.
const ROUND: Duration = Duration::from_millis(500);

/// Drains pods.
pub(super) struct Drainer {
    shared: Arc<SharedState>,
    migrator: Arc<Migrator>,
    visits: Arc<Visits>,
    shutdown: Shutdown,
}

impl Drainer {
    pub(super) fn new(
        shared: Arc<SharedState>,
        (migrator, visits): (Arc<Migrator>, Arc<Visits>),
        shutdown: Shutdown,
    ) -> Drainer {
        Drainer { shared, migrator, visits, shutdown }
    }

    /// Begins to drain a pod that serves, or changes when its clients leave. Returns whether the
    /// pod can drain.
    pub(super) fn drain(self: &Arc<Self>, pool: &Arc<Pool>, pod: &Arc<Pod>, when: When) -> bool {
        let drains = |status: Status| match status.state {
            State::Ready | State::Draining => Status { state: State::Draining, ..status },
            State::Starting | State::Down => status,
        };
        let sessions = self.shared.clients_of(pod);
        self.shared.groups.record_drain(pod, when == When::Now);
        // Another replica may know of a group there: `empty_pod` asks.
        let asks = when == When::Idle && self.shared.sessions.replicas.has_others();
        pod.drain.set_gives_up_lead(!asks && yields(pod, when, &sessions));
        let (_, after) = pod.life.change(drains);
        if after.state != State::Draining {
            return false;
        }
        pod.drain.order(after.epoch);
        let (name, count) = (&*pod.name, sessions.len());
        tracing::info!(pod.name = name, pod.pool = &*pod.pool, when = ?when, sessions = count, "pod is draining");
        let round = pod.drain.begin_round();
        tokio::spawn(self.clone().empty_pod(pool.clone(), pod.clone(), when, round));
        true
    }

    /// Lets a draining pod serve every client again, unless its source no longer lists it.
    pub(super) fn undrain(pod: &Pod) -> Undrained {
        if pod.drain.is_removed() {
            return Undrained::Leaves;
        }
        let serves = |status: Status| match status.state {
            State::Draining => Status { state: State::Ready, ..status },
            _ => status,
        };
        // One that is down for a moment would drain on.
        let was_ordered = pod.drain.take_back(pod.status().epoch);
        let (before, _) = pod.life.change(serves);
        if was_ordered || before.state == State::Draining { Undrained::Ready } else { Undrained::DrainsNot }
    }

    /// Migrates the pod's sessions away until it drains no more, a newer drain begins, or the proxy
    /// stops or hands over. While the pod is down its clients leave it as any dead pod.
    async fn empty_pod(self: Arc<Self>, pool: Arc<Pool>, pod: Arc<Pod>, when: When, round: u32) {
        let (began, mut is_told) = (Instant::now(), false);
        while self.is_to_go_on(&pool, &pod, round) {
            if pod.status().state != State::Draining {
                time::sleep(ROUND).await;
                continue;
            }
            let sessions = self.shared.clients_of(&pod);
            if sessions.is_empty() && !is_told {
                is_told = true;
                tracing::info!(pod.name = &*pod.name, pod.pool = &*pod.pool, "the draining pod has no sessions left");
            }
            let activity = &self.shared.sessions.activity;
            let gives_up =
                yields(&pod, when, &sessions) && (when == When::Now || activity.is_without_groups(&pod).await);
            if pod.drain.round() != round {
                return;
            }
            pod.drain.set_gives_up_lead(gives_up);
            let (place, leads) = (PodInstance::of(&pod), self.is_leader(&pool, &pod));
            let stays = |session: &Session| match when {
                When::Now => leads && session.group.is_at(place) && session.group.moved_since(place, began),
                When::Idle => session.group.is_at(place) || session.calls.is_playing(),
            };
            let mut leaving: Vec<_> = sessions.iter().filter(|session| !stays(session)).cloned().collect();
            if when == When::Idle {
                leaving = activity.idle(leaving).await;
            }
            let sent_away = stream::iter(&leaving).for_each_concurrent(AT_ONCE, async |session| {
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

    fn is_to_go_on(&self, pool: &Pool, pod: &Pod, round: u32) -> bool {
        let status = pod.status();
        // The process that takes this one's place knows neither the drain nor what plays here.
        !(self.shutdown.is_stopping() || self.shutdown.is_leaving())
            && pod.drain.round() == round
            && (status.state == State::Draining || pod.drain.is_ordered(status.epoch))
            && pool.pods().iter().any(|other| other.id == pod.id)
    }

    /// Drains a pod that its source no longer lists, and drops it once no session lives on it. Also
    /// drops a pod that stops serving; its clients then migrate as after any failure. A pod that
    /// its source lists again stays.
    pub(super) async fn drain_removed(self: Arc<Self>, pool: Arc<Pool>, pod: Arc<Pod>) {
        let Config { removed, within, .. } = self.shared.drain;
        let (name, of) = (&*pod.name, &*pod.pool);
        tracing::info!(pod.name = name, pod.pool = of, "pod is no longer listed by DNS or the configuration");
        let leaves = async {
            self.drain(&pool, &pod, removed);
            if time::timeout(within, self.await_empty(&pod, Load::total)).await.is_err() {
                self.drain(&pool, &pod, When::Now);
                // A session that stays now would stay later too. Files that the pod sends go on.
                let _ = time::timeout(LAST, self.await_empty(&pod, Load::sockets)).await;
            }
            // A leaving pod is better than none: keep it until another pod can serve.
            while !pool.pods().iter().any(|other| other.status().is_alive() && !other.drain.is_removed()) {
                time::sleep(ROUND).await;
            }
        };
        let mut changes = pod.life.changes();
        tokio::select! {
            () = leaves => {}
            _ = changes.wait_for(|status| status.state != State::Draining) => {}
            () = self.shutdown.stopping() => return,
        }
        if pool.drop_removed(&pod) {
            tracing::info!(pod.name = name, pod.pool = of, "pod has left");
        }
    }

    /// Returns when no session lives on the pod and `under_way` counts nothing there. Never returns
    /// without migration, since jellypin then cannot know who lives there.
    async fn await_empty(&self, pod: &Pod, under_way: impl Fn(&Load) -> usize) {
        if self.shared.api_key().is_none() {
            return pending().await;
        }
        while under_way(&pod.load) > 0 || !self.shared.clients_of(pod).is_empty() {
            time::sleep(ROUND).await;
        }
    }

    fn is_leader(&self, pool: &Arc<Pool>, pod: &Pod) -> bool {
        let shared = self.shared.pools.iter().find(|shared| Arc::ptr_eq(&shared.pool, pool));
        shared.and_then(|shared| shared.leader.current()).is_some_and(|leader| leader.id == pod.id)
    }

    /// Whether another pod than this one leads, or soon will.
    async fn is_led_elsewhere(&self, pool: &Arc<Pool>, from: PodInstance) -> bool {
        let Some(shared) = self.shared.pools.iter().find(|shared| Arc::ptr_eq(&shared.pool, pool)) else {
            return false;
        };
        let leader = shared.leader.await_fit(pool).await;
        leader.is_some_and(|leader| leader.id != from.pod && leader.status().state == State::Ready)
    }

    async fn migrate_away(self: &Arc<Self>, pool: &Arc<Pool>, from: PodInstance, session: &Arc<Session>) {
        let pods = pool.pods().to_vec();
        let ready = || pods.iter().filter(|pod| pod.status().state == State::Ready);
        let placed = || placement::rendezvous(user_homes::key(&self.shared, session), ready()).cloned();
        // A group goes to the leader as a whole, with all its members.
        if self.shared.groups.of(session).is_some() && self.is_led_elsewhere(pool, from).await {
            return;
        }
        let Some(to) = user_homes::home(&self.shared, &pods, session, &[]).or_else(placed) else { return };
        let caller = Caller::new(pool, session.calls.client_headers());
        // A request may meanwhile move the session to another leader, or keep it here.
        let moves = MigrationKind::MoveHomeFrom(from, Instant::now());
        let migrated = self
            .migrator
            .migrate(session, &to, MigrationRequest { caller: caller.clone(), priority: Priority::Idle, kind: moves })
            .await;
        if migrated == MigrationOutcome::Done
            && let Some(left) = pods.iter().find(|pod| pod.id == from.pod)
        {
            self.visits.end_left(caller, session, left);
        }
        if migrated == MigrationOutcome::Refused {
            tracing::debug!(to = &*to.name, "a session of a draining pod stays until another pod takes it");
        }
    }
}

/// Whether a draining pod gives up leadership. It keeps it for its groups while their members stay.
fn yields(pod: &Pod, when: When, sessions: &[Arc<Session>]) -> bool {
    let place = PodInstance::of(pod);
    when == When::Now || !sessions.iter().any(|session| session.group.is_at(place))
}
