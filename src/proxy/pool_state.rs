//! One pool as all workers share it.

use std::{collections::HashMap, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::{sync::Semaphore, time::Instant};

use crate::{
    affinity::{
        Secret,
        cookie::{CookieConfig, Cookies},
    },
    jellyfin::{Legacy, Prefixes},
    leader::{
        Leader,
        writer::{Writer, WriterConfig},
    },
    pod::{PodId, Pool},
    server_id::ShownServer,
    sessions::{board::Board, session_board::SessionBoard},
};

/// A pool, its leader, the server that its clients see, and the cookies that name its pods.
#[derive(Clone)]
pub struct PoolState {
    pub pool: Arc<Pool>,
    /// The pod that leads the pool.
    pub leader: Arc<Leader>,
    /// The pod that writes the catalogue, where one alone does.
    pub writer: Arc<Writer>,
    /// The one server that clients see instead of the pods.
    pub shown_server: Arc<ShownServer>,
    cookie: CookieConfig,
    /// The cookies of the current pods.
    pub cookies: Arc<ArcSwap<Cookies>>,
    /// All sessions, for sockets that listen to their list.
    pub(super) session_board: Arc<SessionBoard>,
    /// The newest entry of the activity log, and the leader's tasks, for dashboards that listen.
    pub(super) activity_board: Arc<Board<Bytes>>,
    pub(super) task_board: Arc<Board<Bytes>>,
    pub(super) user_looks: Arc<UserLooks>,
    /// As configured. `None`: the pods' versions decide.
    legacy: Option<Legacy>,
    /// False once a reload has taken the pool out of the configuration.
    pub is_configured: bool,
}

/// Looks at which users pods have, where they have databases of their own.
pub(super) struct UserLooks {
    /// One look at a time: a crowd of clients needs no more.
    pub(super) turn: Semaphore,
    /// Which pods did not answer, and when.
    failed: Mutex<HashMap<PodId, Instant>>,
    /// When something was warned of last.
    warned: Mutex<Option<Instant>>,
}

/// How long a pod that did not give its list is not asked again.
const PAUSE: Duration = Duration::from_secs(1);

/// Time between two warnings.
const WARNED_EVERY: Duration = Duration::from_secs(60);

impl Default for UserLooks {
    fn default() -> UserLooks {
        UserLooks { turn: Semaphore::new(1), failed: Mutex::default(), warned: Mutex::default() }
    }
}

impl UserLooks {
    pub(super) fn set_failed(&self, pod: PodId) {
        self.failed.lock().insert(pod, Instant::now());
    }

    /// Whether the pod has failed just now.
    pub(super) fn has_failed(&self, pod: PodId) -> bool {
        self.failed.lock().get(&pod).is_some_and(|at| at.elapsed() < PAUSE)
    }

    pub(super) fn may_warn(&self) -> bool {
        let mut warned = self.warned.lock();
        let may = warned.is_none_or(|at| at.elapsed() >= WARNED_EVERY);
        if may {
            *warned = Some(Instant::now());
        }
        may
    }
}

impl PoolState {
    pub fn new(
        pool: Arc<Pool>,
        (leader, writer): (Arc<Leader>, Arc<Writer>),
        shown_server: ShownServer,
        cookie: CookieConfig,
        keys: &[Secret],
        legacy: Option<Legacy>,
    ) -> PoolState {
        let cookies = Arc::new(ArcSwap::from_pointee(Cookies::new(&cookie, keys, &pool.pods())));
        PoolState {
            pool,
            leader,
            writer,
            shown_server: Arc::new(shown_server),
            cookie,
            cookies,
            session_board: Arc::default(),
            activity_board: Arc::default(),
            task_board: Arc::default(),
            user_looks: Arc::default(),
            legacy,
            is_configured: true,
        }
    }

    /// The same pool after a reload.
    pub fn renewed(
        &self,
        writer: WriterConfig,
        cookie: CookieConfig,
        keys: &[Secret],
        legacy: Option<Legacy>,
    ) -> PoolState {
        let cookies = Arc::new(ArcSwap::from_pointee(Cookies::new(&cookie, keys, &self.pool.pods())));
        let writer = if writer == self.writer.config { self.writer.clone() } else { Writer::new(writer) };
        PoolState { cookie, cookies, writer, legacy, is_configured: true, ..self.clone() }
    }

    /// The same pool once the configuration names it no more: no route leads to it.
    pub fn retired(&self) -> PoolState {
        PoolState { is_configured: false, ..self.clone() }
    }

    /// Rebuilds the cookies after the set of pods has changed.
    pub fn renew_cookies(&self, keys: &[Secret]) {
        self.cookies.store(Arc::new(Cookies::new(&self.cookie, keys, &self.pool.pods())));
    }

    /// Whether the pods accept legacy credentials.
    pub(super) fn legacy(&self) -> Legacy {
        self.legacy.unwrap_or_else(|| self.prefixes_and_legacy().1)
    }

    /// What the pods do with prefixes of old, whatever is configured.
    pub(super) fn prefixes(&self) -> Prefixes {
        self.prefixes_and_legacy().0
    }

    /// Both by one look at the pods. During an upgrade, one pod of old is enough.
    pub(super) fn prefixes_and_legacy(&self) -> (Prefixes, Legacy) {
        let (prefixes, legacy) = if self.pool.pods().iter().any(|pod| pod.info.may_be_legacy()) {
            (Prefixes::Stripped, Legacy::Accepted)
        } else {
            (Prefixes::Kept, Legacy::Ignored)
        };
        (prefixes, self.legacy.unwrap_or(legacy))
    }
}
