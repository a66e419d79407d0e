//! Brings the sessions of each user together on the user's home.
//!
//! A session may stand elsewhere: it signed in by Quick Connect on the leader, it was a guest of a
//! SyncPlay group, or its pod came back. It moves while it is idle, as from a draining pod, so the
//! client notices nothing. This needs the API key.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures_util::{StreamExt, stream};
use tokio::time::{self, Instant};

use crate::{
    jellyfin::client::users,
    pod::{Pod, PodInstance, Pool, State},
    proxy::{
        migrate::{MigrationKind, MigrationRequest, Migrator},
        pod_client::{Caller, PodClient},
        shared_state::SharedState,
        user_homes,
    },
    sessions::{Session, mint_limiter::Priority, session::MigrationOutcome},
    shutdown::Shutdown,
};

/// Time from one look at all sessions to the next.
const ROUND: Duration = Duration::from_secs(2);

/// Sessions that migrate at once. The mint limiter also paces each pod.
const AT_ONCE: usize = 2;

/// How long a session that no pod took stays where it is.
const PAUSE: Duration = Duration::from_secs(5 * 60);

/// Moves sessions to the homes of their users.
pub(super) struct UserGatherer {
    shared: Arc<SharedState>,
    pods: Arc<PodClient>,
    migrator: Arc<Migrator>,
    shutdown: Shutdown,
}

impl UserGatherer {
    pub(super) fn new(
        shared: Arc<SharedState>,
        (pods, migrator): (Arc<PodClient>, Arc<Migrator>),
        shutdown: Shutdown,
    ) -> UserGatherer {
        UserGatherer { shared, pods, migrator, shutdown }
    }

    /// Looks at a pool's sessions again and again, until the shutdown.
    pub(super) async fn run(self, pool: Arc<Pool>) {
        if self.shared.api_key().is_none() || !self.shared.user_homes.are_kept() {
            return;
        }
        let mut has_names = false;
        // Sessions by their address in memory.
        let mut resting: HashMap<usize, Instant> = HashMap::new();
        loop {
            tokio::select! {
                () = time::sleep(ROUND) => {}
                () = self.shutdown.stopping() => return,
            }
            has_names = has_names || self.learn_names(&pool).await;
            let now = Instant::now();
            resting.retain(|_, until| *until > now);
            let away = self.away(&pool);
            let away = away.into_iter().filter(|(session, _)| !resting.contains_key(&address(session)));
            let moved = stream::iter(away).map(async |(session, home)| {
                let is_done = self.gather(&pool, &session, &home).await;
                (!is_done).then(|| address(&session))
            });
            let stayed: Vec<usize> = moved.buffer_unordered(AT_ONCE).filter_map(async |stayed| stayed).collect().await;
            resting.extend(stayed.into_iter().map(|session| (session, now + PAUSE)));
        }
    }

    /// Learns whose the names of the configured accounts are. Returns whether that is known.
    async fn learn_names(&self, pool: &Pool) -> bool {
        if self.shared.user_homes.spread_names().is_none() {
            return true;
        }
        let pods = pool.pods();
        let (Some(key), Some(pod)) =
            (self.shared.api_key(), pods.iter().find(|pod| pod.status().state == State::Ready))
        else {
            return false;
        };
        let Ok(users) = self.pods.call(pod, &Caller::proxy(pool), users::names(key.as_str())).await else {
            return false;
        };
        users.iter().for_each(|(name, id)| self.shared.user_homes.record_name(&pool.name, name, id));
        true
    }

    /// The idle sessions that do not live where their users do, each with that pod.
    fn away(&self, pool: &Pool) -> Vec<(Arc<Session>, Arc<Pod>)> {
        let pods = pool.pods();
        let mut away = Vec::new();
        for pod in pods.iter().filter(|pod| pod.status().state == State::Ready) {
            let place = PodInstance::of(pod);
            for session in self.shared.clients_of(pod) {
                if session.group.is_at(place) || session.calls.is_playing() {
                    continue;
                }
                match user_homes::home(&self.shared, &pods, &session, &[]) {
                    Some(home) if home.id != pod.id => away.push((session, home)),
                    Some(_) => {}
                    None => user_homes::record_at(&self.shared, &session.pool, &session.user, place),
                }
            }
        }
        away
    }

    async fn gather(&self, pool: &Pool, session: &Arc<Session>, home: &Arc<Pod>) -> bool {
        let Some(from) = session.home() else { return true };
        let caller = Caller::new(pool, session.calls.client_headers());
        let kind = MigrationKind::MoveToUser(from, Instant::now());
        let moved =
            self.migrator.migrate(session, home, MigrationRequest { caller, priority: Priority::Idle, kind }).await;
        moved == MigrationOutcome::Done
    }
}

fn address(session: &Arc<Session>) -> usize {
    Arc::as_ptr(session).addr()
}
