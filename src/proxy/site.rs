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

use super::{Streams, drain};
use crate::{
    affinity::{
        Secret,
        budget::Budget,
        cookie::{CookieConfig, Cookies},
        pace::Pace,
        pins::Pins,
        refusals::Refusals,
    },
    carryover::{self, Session, Sessions, mint_codes::MintCodes, mints::Mints},
    facade::{self, Facade},
    forward::{self, Cause, Failure, Patience},
    health,
    identity::{Legacy, canonical},
    leader::Leader,
    pod::{Pod, Pool},
    route::Router,
    websocket,
};

/// Requests held at once, over all workers; more are answered as if there were no holding.
pub const HELD: usize = 4096;

/// Bytes of held requests' bodies, over all workers, in KiB: 64 MiB.
pub const HELD_KIB: usize = 64 * KIB;
pub(super) const KIB: usize = 1024;

/// How long a request that no other pod may get is left with a pod that was lost. It may only have stood still.
const ONLY_HERE: Duration = Duration::from_secs(3);

/// One for all workers.
pub struct Site {
    /// Which pool a request goes to.
    pub router: Router,
    /// In the order that the router knows.
    pub pools: Vec<PoolSite>,
    /// Where clients without a known session live, and what pods run.
    pub pins: Pins,
    /// Where the others live, by which tokens; and what was ended.
    pub sessions: Sessions,
    /// How many sessions are minted at once on each pod.
    pub mints: Mints,
    /// The QuickConnect codes of mints.
    pub mint_codes: MintCodes,
    /// Whether sessions are carried over at all.
    pub carryover: carryover::Config,
    /// Paths below which a POST signs a user in, beside those that are known.
    pub log_in_paths: Box<[String]>,
    /// The live playlists that are being played.
    pub streams: Streams,
    /// Which pods refused which tokens.
    pub refusals: Refusals,
    /// What extra work each address may cause.
    pub budget: Budget,
    /// When refused dials of WebSockets are answered.
    pub pace: Pace,
    /// The affinity cookie, but for the path that a pool of its own gives it.
    pub cookie: CookieConfig,
    /// What clients see of the server.
    pub facade: facade::Config,
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
    /// Room for requests that are held.
    pub held: Semaphore,
    /// Room for their bodies.
    pub held_kib: Semaphore,
    /// Placements so far, by which ties are broken.
    pub turns: AtomicU64,
}

/// A pool, its leader, the one server that clients see in it, and the cookies that name its pods.
pub struct PoolSite {
    /// Its pods.
    pub pool: Arc<Pool>,
    /// The pod that leads them.
    pub leader: Arc<Leader>,
    /// The one server that they are to the eye.
    pub facade: Arc<Facade>,
    cookie: CookieConfig,
    /// The cookies of the pods of this moment.
    pub cookies: ArcSwap<Cookies>,
    /// As configured; `None` where the pods' versions tell.
    legacy: Option<Legacy>,
}

impl PoolSite {
    pub fn new(
        pool: Arc<Pool>,
        leader: Arc<Leader>,
        facade: Facade,
        cookie: CookieConfig,
        keys: &[Secret],
        legacy: Option<Legacy>,
    ) -> PoolSite {
        let cookies = ArcSwap::from_pointee(Cookies::new(&cookie, keys, &pool.pods()));
        PoolSite { pool, leader, facade: Arc::new(facade), cookie, cookies, legacy }
    }

    /// Makes the cookies anew: the set of pods has changed.
    pub fn renew(&self, keys: &[Secret]) {
        self.cookies.store(Arc::new(Cookies::new(&self.cookie, keys, &self.pool.pods())));
    }

    /// Whether the pods take the carriers of old. A pool that is being upgraded takes them while one pod does.
    pub(super) fn legacy(&self) -> Legacy {
        if let Some(legacy) = self.legacy {
            return legacy;
        }
        if self.pool.pods().iter().any(|pod| pod.may_be_old()) { Legacy::Accepted } else { Legacy::Ignored }
    }
}

impl Site {
    /// Whether a POST there signs a user in, by what is configured.
    pub(super) fn is_log_in(&self, path: &str) -> bool {
        self.log_in_paths.iter().any(|prefix| {
            let below = canonical::below_base(prefix, path);
            below.len() < path.len() || prefix == "/"
        })
    }

    /// A number that differs for each placement.
    pub(super) fn turn(&self) -> u64 {
        self.turns.fetch_add(1, Ordering::Relaxed)
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
    pub(super) fn patience(&self, path: &str, can_repeat: bool) -> Patience {
        let after_lost = if can_repeat { Duration::ZERO } else { ONLY_HERE };
        Patience { first_byte: self.forward.first_byte.of(path), after_lost }
    }

    /// Tells `health` what a failure says of a pod.
    ///
    /// A connection that breaks in the middle of a body is no proof against the pod: Kestrel ends those that send too slowly,
    /// and nobody shall take a pod out by that.
    pub(super) fn report(&self, pod: &Pod, failure: Failure, no_body: bool) {
        match failure.cause {
            Cause::Refused => health::refused(pod),
            Cause::Broken if no_body && !failure.over_kept => health::broken(pod),
            // One request may take its time while the pod is well: its checks are to tell.
            Cause::Broken | Cause::TimedOut => health::doubtful(pod),
            Cause::ConnectTimedOut => {
                health::doubtful(pod);
                health::gateway_failure(pod, &self.health);
            }
            Cause::Malformed => health::gateway_failure(pod, &self.health),
            Cause::Lost | Cause::ClientGone | Cause::Exhausted => {}
        }
    }
}
