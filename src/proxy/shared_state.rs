//! What all workers share: routes, pools with their cookies, pins and configuration.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::sync::Semaphore;

use super::{Streams, migrate::drain, session_lists::board::SessionBoard};
use crate::{
    affinity::{
        Secret,
        budget::Budget,
        cookie::{CookieConfig, Cookies},
        negative_cache::NegativeCache,
        pins::Pins,
        reject_pacer::RejectPacer,
    },
    forward::{self, Cause, Failure, ResponseTimeout},
    health,
    jellyfin::{Legacy, canonical},
    leader::Leader,
    limits::Limits,
    pod::{Pod, Pool},
    route::Router,
    server_id::{self, ShownServer},
    sessions::{self, Session, Sessions, mint_codes::MintCodes, mint_limiter::MintLimiter},
    websocket,
};

/// Requests held at once over all workers, by default. Further ones get no hold.
pub const HELD: usize = 4096;

/// Bodies of held requests over all workers, in KiB: 64 MiB.
pub const HELD_KIB: usize = 64 * KIB;
pub(super) const KIB: usize = 1024;

/// How long a request for one pod only stays with it when it is lost. It may only have stalled.
const ONLY_HERE: Duration = Duration::from_secs(3);

/// What all workers share; there is one.
pub struct SharedState {
    /// Finds the pool of a request.
    pub router: Router,
    /// In the order of the router's indices.
    pub pools: Vec<PoolState>,
    /// Homes of clients without a known session, and what runs on which pod.
    pub pins: Pins,
    /// Known sessions with their homes and tokens, and the tombstones.
    pub sessions: Sessions,
    /// Limits how many sessions are minted at once on each pod.
    pub mint_limiter: MintLimiter,
    /// The QuickConnect codes of mints.
    pub mint_codes: MintCodes,
    /// Whether the proxy migrates sessions at all.
    pub migration: sessions::Config,
    /// Configured paths below which a POST signs a user in, besides the built-in ones.
    pub log_in_paths: Box<[String]>,
    /// The live playlists that clients play now.
    pub streams: Streams,
    /// Which pods refused which tokens.
    pub negative_cache: NegativeCache,
    /// How much extra work each address may cause.
    pub budget: Budget,
    /// When to answer refused WebSocket attempts.
    pub reject_pacer: RejectPacer,
    /// The affinity cookie, except for its path if a pool has its own.
    pub cookie: CookieConfig,
    /// What clients see of the server.
    pub shown_server: server_id::Config,
    /// How the proxy connects to pods.
    pub forward: Arc<forward::Config>,
    /// Further paths for the leader: prefixes below the BaseUrl.
    pub leader_paths: Vec<String>,
    /// What happens to pods that their source no longer names.
    pub drain: drain::Config,
    /// How the proxy judges a pod's health.
    pub health: Arc<health::Config>,
    /// How the proxy keeps and ends WebSockets.
    pub websocket: websocket::Config,
    /// How much clients may have in progress.
    pub limits: Arc<Limits>,
    /// Limits the number of held requests.
    pub hold_permits: Semaphore,
    /// Limits the bytes of their bodies.
    pub hold_kib_permits: Semaphore,
    /// Counts placements, to break ties.
    pub placements: AtomicU64,
}

/// A pool, its leader, the server that its clients see, and the cookies that name its pods.
pub struct PoolState {
    pub pool: Arc<Pool>,
    /// The pod that leads the pool.
    pub leader: Arc<Leader>,
    /// The one server that clients see instead of the pods.
    pub shown_server: Arc<ShownServer>,
    cookie: CookieConfig,
    /// The cookies of the current pods.
    pub cookies: ArcSwap<Cookies>,
    /// All sessions, for sockets that listen to their list.
    pub(super) session_board: Arc<SessionBoard>,
    /// As configured. `None`: the pods' versions decide.
    legacy: Option<Legacy>,
}

impl PoolState {
    pub fn new(
        pool: Arc<Pool>,
        leader: Arc<Leader>,
        shown_server: ShownServer,
        cookie: CookieConfig,
        keys: &[Secret],
        legacy: Option<Legacy>,
    ) -> PoolState {
        let cookies = ArcSwap::from_pointee(Cookies::new(&cookie, keys, &pool.pods()));
        PoolState { pool, leader, shown_server: Arc::new(shown_server), cookie, cookies, session_board: Arc::default(), legacy }
    }

    /// Rebuilds the cookies after the set of pods has changed.
    pub fn renew_cookies(&self, keys: &[Secret]) {
        self.cookies.store(Arc::new(Cookies::new(&self.cookie, keys, &self.pool.pods())));
    }

    /// Whether the pods accept legacy credentials. During an upgrade, one such pod is enough.
    pub(super) fn legacy(&self) -> Legacy {
        if let Some(legacy) = self.legacy {
            return legacy;
        }
        if self.pool.pods().iter().any(|pod| pod.may_be_legacy()) { Legacy::Accepted } else { Legacy::Ignored }
    }
}

impl SharedState {
    /// Whether the configuration makes a POST to this path a log-in.
    pub(super) fn is_log_in(&self, path: &str) -> bool {
        self.log_in_paths.iter().any(|prefix| {
            let below = canonical::below_base(prefix, path);
            below.len() < path.len() || prefix == "/"
        })
    }

    /// A number that differs for each placement.
    pub(super) fn next_placement(&self) -> u64 {
        self.placements.fetch_add(1, Ordering::Relaxed)
    }

    /// The sessions that live on a pod and whose clients are active.
    pub fn clients_of(&self, pod: &Pod) -> Vec<Arc<Session>> {
        let mut sessions = self.sessions.of_pod(pod);
        sessions.retain(|session| self.sessions.is_there(session, self.drain.absent));
        sessions
    }

    /// Whether the operator assigns a path to the leader (`[leader] paths`).
    pub(super) fn is_leaders(&self, path: &str) -> bool {
        self.leader_paths.iter().any(|prefix| {
            let below = path.split_at_checked(prefix.len());
            below.is_some_and(|(start, rest)| {
                start.eq_ignore_ascii_case(prefix) && (rest.is_empty() || rest.starts_with('/'))
            })
        })
    }

    /// How long an answer may take to begin. A lost pod ends the wait at once if another may get
    /// the request; else a little later, since a late answer is better than none.
    pub(super) fn response_timeout(&self, path: &str, can_repeat: bool) -> ResponseTimeout {
        let after_lost = if can_repeat { Duration::ZERO } else { ONLY_HERE };
        ResponseTimeout { first_byte: self.forward.first_byte.of(path), after_lost }
    }

    /// Reports to `health` what a failure means for a pod.
    ///
    /// A connection that breaks in the middle of a body proves nothing against the pod: Kestrel
    /// cuts slow senders. No client may take a pod out that way.
    pub(super) fn report_failure(&self, pod: &Pod, failure: Failure, no_body: bool) {
        match failure.cause {
            Cause::Refused => health::refused(pod),
            Cause::Broken if no_body && !failure.on_reused_connection => health::broken(pod),
            // One slow request does not mean that the pod is unwell, so the health checks decide.
            Cause::Broken | Cause::TimedOut => health::report_suspect(pod),
            Cause::ConnectTimedOut => {
                health::report_suspect(pod);
                health::gateway_failure(pod, &self.health);
            }
            Cause::Malformed => health::gateway_failure(pod, &self.health),
            Cause::Lost | Cause::ClientGone | Cause::ClientSilent | Cause::Exhausted => {}
        }
    }
}
