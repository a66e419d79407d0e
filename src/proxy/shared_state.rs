//! What all workers share: the routes, the pools with their cookies, the pins, and each room's configuration.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::sync::Semaphore;

use super::{Streams, migrate::drain};
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

/// Requests held at once, over all workers, by default; more are answered as if there were no holding.
pub const HELD: usize = 4096;

/// Bytes of held requests' bodies, over all workers, in KiB: 64 MiB.
pub const HELD_KIB: usize = 64 * KIB;
pub(super) const KIB: usize = 1024;

/// How long a request that no other pod may get is left with a pod that was lost. It may only have stood still.
const ONLY_HERE: Duration = Duration::from_secs(3);

/// One for all workers.
pub struct SharedState {
    /// Which pool a request goes to.
    pub router: Router,
    /// In the order that the router knows.
    pub pools: Vec<PoolState>,
    /// Where clients without a known session live, and what pods run.
    pub pins: Pins,
    /// Where the others live, by which tokens; and what was ended.
    pub sessions: Sessions,
    /// How many sessions are minted at once on each pod.
    pub mint_limiter: MintLimiter,
    /// The QuickConnect codes of mints.
    pub mint_codes: MintCodes,
    /// Whether sessions are carried over at all.
    pub migration: sessions::Config,
    /// Paths below which a POST signs a user in, beside those that are known.
    pub log_in_paths: Box<[String]>,
    /// The live playlists that are being played.
    pub streams: Streams,
    /// Which pods refused which tokens.
    pub negative_cache: NegativeCache,
    /// What extra work each address may cause.
    pub budget: Budget,
    /// When refused dials of WebSockets are answered.
    pub reject_pacer: RejectPacer,
    /// The affinity cookie, but for the path that a pool of its own gives it.
    pub cookie: CookieConfig,
    /// What clients see of the server.
    pub shown_server: server_id::Config,
    /// How pods are spoken to.
    pub forward: Arc<forward::Config>,
    /// What else goes to the leader: paths below the BaseUrl, as prefixes.
    pub leader_paths: Vec<String>,
    /// What becomes of pods that their source names no more.
    pub drain: drain::Config,
    /// How pods are judged.
    pub health: Arc<health::Config>,
    /// How sockets are kept and ended.
    pub websocket: websocket::Config,
    /// How much clients may have under way.
    pub limits: Arc<Limits>,
    /// Room for requests that are held.
    pub hold_permits: Semaphore,
    /// Room for their bodies.
    pub hold_kib_permits: Semaphore,
    /// Placements so far, by which ties are broken.
    pub placements: AtomicU64,
}

/// A pool, its leader, the one server that clients see in it, and the cookies that name its pods.
pub struct PoolState {
    /// Its pods.
    pub pool: Arc<Pool>,
    /// The pod that leads them.
    pub leader: Arc<Leader>,
    /// The one server that they are to the eye.
    pub shown_server: Arc<ShownServer>,
    cookie: CookieConfig,
    /// The cookies of the pods of this moment.
    pub cookies: ArcSwap<Cookies>,
    /// As configured; `None` where the pods' versions tell.
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
        PoolState { pool, leader, shown_server: Arc::new(shown_server), cookie, cookies, legacy }
    }

    /// Makes the cookies anew: the set of pods has changed.
    pub fn renew_cookies(&self, keys: &[Secret]) {
        self.cookies.store(Arc::new(Cookies::new(&self.cookie, keys, &self.pool.pods())));
    }

    /// Whether the pods take the carriers of old. A pool that is being upgraded takes them while one pod does.
    pub(super) fn legacy(&self) -> Legacy {
        if let Some(legacy) = self.legacy {
            return legacy;
        }
        if self.pool.pods().iter().any(|pod| pod.may_be_legacy()) { Legacy::Accepted } else { Legacy::Ignored }
    }
}

impl SharedState {
    /// Whether a POST there signs a user in, by what is configured.
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

    /// The sessions that live on a pod and whose clients are there.
    pub fn clients_of(&self, pod: &Pod) -> Vec<Arc<Session>> {
        let mut sessions = self.sessions.of_pod(pod);
        sessions.retain(|session| self.sessions.is_there(session, self.drain.absent));
        sessions
    }

    /// Whether the operator has named a path as the leader's (`[leader] paths`).
    pub(super) fn is_leaders(&self, path: &str) -> bool {
        self.leader_paths.iter().any(|prefix| {
            let below = path.split_at_checked(prefix.len());
            below.is_some_and(|(start, rest)| {
                start.eq_ignore_ascii_case(prefix) && (rest.is_empty() || rest.starts_with('/'))
            })
        })
    }

    /// How long an answer may take to begin. The wait ends with the pod: at once where another pod may be asked, else a little later,
    /// since an answer that comes after all is better than none.
    pub(super) fn response_timeout(&self, path: &str, can_repeat: bool) -> ResponseTimeout {
        let after_lost = if can_repeat { Duration::ZERO } else { ONLY_HERE };
        ResponseTimeout { first_byte: self.forward.first_byte.of(path), after_lost }
    }

    /// Tells `health` what a failure says of a pod.
    ///
    /// A connection that breaks in the middle of a body is no proof against the pod: Kestrel ends those that send too slowly,
    /// and nobody shall take a pod out by that.
    pub(super) fn report_failure(&self, pod: &Pod, failure: Failure, no_body: bool) {
        match failure.cause {
            Cause::Refused => health::refused(pod),
            Cause::Broken if no_body && !failure.on_reused_connection => health::broken(pod),
            // One request may take its time while the pod is well: its checks are to tell.
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
