//! Brings the sessions of each user together on the user's home.
//!
//! A session may stand elsewhere: it signed in by Quick Connect on the leader, it was a guest of a
//! SyncPlay group, or its pod came back. It moves while it is idle, as from a draining pod, so the
//! client notices nothing. This needs the API key.
//!
//! Each replica does this. So that they do not carry a user back and forth, they first agree where
//! the user lives. No session moves while another replica knows what its client is at.

mod names;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt, stream};
use tokio::time::{self, Instant};

use crate::{
    jellyfin::client::users,
    pod::{Pod, Pool, State},
    proxy::{
        migrate::{MigrationKind, MigrationRequest, Migrator},
        pod_client::{Caller, PodClient},
        shared_state::SharedState,
        user_homes,
        visit::Visits,
    },
    sessions::{
        Session,
        mint_limiter::Priority,
        registry::activity::is_busy,
        session::{MigrationOutcome, MoveReason},
    },
    shutdown::Shutdown,
};
use names::Names;

/// Time from one look at all sessions to the next.
const ROUND: Duration = Duration::from_secs(2);

/// Sessions that migrate at once. The mint limiter also paces each pod.
const AT_ONCE: usize = 2;

/// How long a session that no pod took stays where it is.
const PAUSE: Duration = Duration::from_secs(5 * 60);

/// The same of a session that another replica may know to be busy.
const BUSY: Duration = Duration::from_secs(30);

/// The same of a session that another replica has moved. Replicas that see different pods would
/// carry it back and forth.
const MOVED: Duration = Duration::from_secs(60);

/// How long replicas trust that they agree where a user lives.
const AGREED: Duration = Duration::from_secs(60);

/// Users about whom one round asks, besides those with a session that is to move.
const MOST_ASKED: usize = 256;

/// Questions at once.
const ASKED_AT_ONCE: usize = 16;

/// Moves sessions to the homes of their users.
pub(super) struct UserGatherer {
    shared: Arc<SharedState>,
    pods: Arc<PodClient>,
    migrator: Arc<Migrator>,
    visits: Arc<Visits>,
    shutdown: Shutdown,
}

/// What a pool's rounds remember.
#[derive(Default)]
struct Memory {
    names: Names,
    /// Sessions that stay where they are until then, by their address in memory.
    resting: HashMap<usize, Instant>,
    /// When the replicas have agreed where a user lives.
    agreed: HashMap<String, Instant>,
}

impl UserGatherer {
    pub(super) fn new(
        shared: Arc<SharedState>,
        (pods, migrator, visits): (Arc<PodClient>, Arc<Migrator>, Arc<Visits>),
        shutdown: Shutdown,
    ) -> UserGatherer {
        UserGatherer { shared, pods, migrator, visits, shutdown }
    }

    /// Looks at a pool's sessions again and again, until the shutdown.
    pub(super) async fn run(self, pool: Arc<Pool>) {
        if self.shared.api_key().is_none() || !self.shared.user_homes.are_kept() {
            return;
        }
        let mut memory = Memory::default();
        loop {
            tokio::select! {
                () = time::sleep(ROUND) => {}
                () = self.shutdown.stopping() => return,
            }
            self.learn_names(&pool, &mut memory.names).await;
            // Until it is known whose devices are placed one by one, none of them moves.
            if memory.names.say_who_is_spread(self.shared.user_homes.spread_names().is_some()) {
                self.gather_all(&pool, &mut memory).await;
            }
        }
    }

    async fn gather_all(&self, pool: &Pool, memory: &mut Memory) {
        let now = Instant::now();
        memory.resting.retain(|_, until| *until > now);
        self.agree(pool, memory).await;
        let mut away = self.clients(pool);
        away.retain(|session| may_move(session, &memory.resting) && self.is_away(&pool.pods(), session));
        let all: Vec<usize> = away.iter().map(address).collect();
        let idle = self.shared.sessions.activity.idle(away).await;
        let idle_ones: HashSet<usize> = idle.iter().map(address).collect();
        let moved = stream::iter(idle).map(async |session: Arc<Session>| {
            let is_done = self.bring_home(pool, &session).await;
            (!is_done).then(|| address(&session))
        });
        let stayed: Vec<usize> = moved.buffer_unordered(AT_ONCE).filter_map(async |stayed| stayed).collect().await;
        let busy = all.into_iter().filter(|session| !idle_ones.contains(session));
        memory.resting.extend(busy.map(|session| (session, now + BUSY)));
        memory.resting.extend(stayed.into_iter().map(|session| (session, now + PAUSE)));
    }

    /// Learns whose which name is, after the start and when names have changed.
    async fn learn_names(&self, pool: &Pool, names: &mut Names) {
        let (homes, now) = (&self.shared.user_homes, Instant::now());
        let changes = homes.changes();
        let pods = pool.pods().to_vec();
        let ready = pods.iter().find(|pod| pod.status().state == State::Ready);
        let (Some(key), Some(pod)) = (self.shared.api_key(), ready.filter(|_| names.are_due(changes, now))) else {
            return;
        };
        let users = self.pods.call(pod, &Caller::proxy(pool), users::names(key.as_str())).await;
        if let Ok(users) = &users {
            homes.record_names(&pool.name, users);
        }
        names.record(users.is_ok(), changes, now);
    }

    /// Agrees with the other replicas where users live: those with a session that is to move, and
    /// from time to time all.
    async fn agree(&self, pool: &Pool, memory: &mut Memory) {
        let now = Instant::now();
        memory.agreed.retain(|_, at| now.duration_since(*at) < AGREED);
        if !self.shared.sessions.replicas.has_others() {
            return;
        }
        let clients = self.clients(pool);
        let is_to_move = |session: &&Arc<Session>| {
            self.is_away(&pool.pods(), session) && (may_move(session, &memory.resting) || was_just_moved(session))
        };
        let mut users: HashSet<String> =
            clients.iter().filter(is_to_move).map(|session| session.user.clone()).collect();
        let others = clients.iter().filter(|session| !memory.agreed.contains_key(&session.user));
        users.extend(others.take(MOST_ASKED).map(|session| session.user.clone()));
        let asked = stream::iter(&users)
            .for_each_concurrent(ASKED_AT_ONCE, async |user| user_homes::look_up(&self.shared, pool, user).await);
        asked.await;
        memory.agreed.extend(users.into_iter().map(|user| (user, now)));
    }

    /// Whether a session does not live where its user does, or its user has no home.
    fn is_away(&self, pods: &[Arc<Pod>], session: &Session) -> bool {
        match user_homes::home(&self.shared, pods, session, &[]) {
            Some(home) => session.home().is_some_and(|at| at.pod != home.id),
            None => self.shared.user_homes.lives_together(&session.pool, &session.user),
        }
    }

    /// The sessions of active clients on ready pods.
    fn clients(&self, pool: &Pool) -> Vec<Arc<Session>> {
        let pods = pool.pods();
        let ready = pods.iter().filter(|pod| pod.status().state == State::Ready);
        ready.flat_map(|pod| self.shared.clients_of(pod)).collect()
    }

    /// Moves a session to its user's home, or gives the user a home where the session is. Says
    /// whether that is done.
    async fn bring_home(&self, pool: &Pool, session: &Arc<Session>) -> bool {
        let pods = pool.pods().to_vec();
        match user_homes::home(&self.shared, &pods, session, &[]) {
            Some(home) => self.gather(pool, session, &home).await,
            None => {
                user_homes::record_here(&self.shared, session);
                true
            }
        }
    }

    async fn gather(&self, pool: &Pool, session: &Arc<Session>, home: &Arc<Pod>) -> bool {
        let Some(from) = session.home().filter(|from| from.pod != home.id) else { return true };
        let caller = Caller::new(pool, session.calls.client_headers());
        let kind = MigrationKind::MoveToUser(from, Instant::now());
        let request = MigrationRequest { caller: caller.clone(), priority: Priority::Idle, kind };
        let is_done = self.migrator.migrate(session, home, request).await == MigrationOutcome::Done;
        if is_done && let Some(left) = pool.pods().iter().find(|pod| pod.id == from.pod) {
            self.visits.end_left(caller, session, left);
        }
        is_done
    }
}

/// Whether nothing is known here that keeps a session where it is.
fn may_move(session: &Arc<Session>, resting: &HashMap<usize, Instant>) -> bool {
    !was_just_moved(session) && !resting.contains_key(&address(session)) && !is_busy(session)
}

/// Whether another replica has moved the session to where it is.
fn was_just_moved(session: &Session) -> bool {
    session.residence.last_move().why == MoveReason::StoredEntry && session.residence.moved_for() < MOVED
}

fn address(session: &Arc<Session>) -> usize {
    Arc::as_ptr(session).addr()
}
