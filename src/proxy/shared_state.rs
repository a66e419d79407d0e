//! What all workers share: routes, pools with their cookies, pins and configuration.
//!
//! A reload makes a new state. What it knows of clients and pods is the old one's, behind `Arc`s.
//! A request, a film or a socket keeps the state that it began with.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use http::StatusCode;
use ipnet::IpNet;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::{
    drain_policy,
    groups::Groups,
    in_step_state::InStepState,
    play_sessions::PlaySessions,
    pod_client::OwnDatabases,
    pool_state::PoolState,
    request::context::RequestContext,
    streams::{KIB, Streams},
    user_data_state::UserDataState,
};
use crate::{
    acme::Challenges,
    affinity::{
        budget::Budget, cookie::CookieConfig, negative_cache::NegativeCache, pins::Pins, reject_pacer::RejectPacer,
        user_homes::UserHomes,
    },
    compression::Compression,
    forward::{self, Cause, Failure, ResponseTimeout, head::Client, outbound::ReplayBody},
    health,
    jellyfin::{authorization, canonical},
    limits::{self, AddressUse, Kind, Limits},
    passwords::Passwords,
    pod::{Pod, Pool},
    route::Router,
    server_id,
    sessions::{self, Session, Sessions, Token, mint_codes::MintCodes, mint_limiter::MintLimiter, session::MoveReason},
    websocket,
};

/// Requests held at once over all workers, by default. Further ones get no hold.
pub const HELD: usize = 4096;

/// Bodies of held requests over all workers, in KiB: 64 MiB.
pub const HELD_KIB: usize = 64 * KIB;

/// How long a request for one pod only stays with it when it is lost. It may only have stalled.
const ONLY_HERE: Duration = Duration::from_secs(3);

/// What all workers share. A reload replaces it.
#[derive(Clone)]
pub struct SharedState {
    /// Finds the pool of a request.
    pub router: Router,
    /// In the order of the router's indices. A pool keeps its index as long as the process runs.
    pub pools: Vec<PoolState>,
    /// Those whose pods are not Jellyfin's, in the order of the router's indices.
    pub plain: Vec<Arc<Pool>>,
    /// Checks the passwords of their users.
    pub passwords: Arc<Passwords>,
    /// Homes of clients without a known session, and what runs on which pod.
    pub pins: Arc<Pins>,
    /// Which users' sessions belong on one pod, and whose name is whose.
    pub user_homes: Arc<UserHomes>,
    /// Known sessions with their homes and tokens, and the tombstones.
    pub sessions: Arc<Sessions>,
    /// Limits how many sessions are minted at once on each pod.
    pub mint_limiter: Arc<MintLimiter>,
    /// The QuickConnect codes of mints.
    pub mint_codes: Arc<MintCodes>,
    /// Whether the proxy migrates sessions at all.
    pub migration: sessions::Config,
    /// The API key of the latest configuration, also for what began before the last reload.
    pub latest_api_key: Arc<ArcSwapOption<Token>>,
    /// Configured paths below which a POST signs a user in, besides the built-in ones.
    pub log_in_paths: Box<[String]>,
    /// From where the server may be set up, restarted and shut down. Empty: from everywhere.
    pub operate_from: Box<[IpNet]>,
    /// The live playlists that clients play now.
    pub streams: Arc<Streams>,
    /// Play sessions that a pod knows by another id.
    pub play_sessions: Arc<PlaySessions>,
    /// The SyncPlay groups.
    pub groups: Arc<Groups>,
    /// Which pods refused which tokens.
    pub negative_cache: Arc<NegativeCache>,
    /// How much extra work each address may cause.
    pub budget: Arc<Budget>,
    /// When to answer refused WebSocket attempts.
    pub reject_pacer: Arc<RejectPacer>,
    /// The affinity cookie, except for its path if a pool has its own.
    pub cookie: CookieConfig,
    /// Compresses answers that come as they are.
    pub compression: Arc<Compression>,
    /// Answers for the authority that certificates are ordered from.
    pub challenges: Arc<Challenges>,
    /// What clients see of the server.
    pub shown_server: server_id::Config,
    /// How the proxy connects to pods.
    pub forward: Arc<forward::Config>,
    /// Further paths for the leader: prefixes below the BaseUrl.
    pub leader_paths: Vec<String>,
    /// What happens to pods that their source no longer names.
    pub drain: drain_policy::Config,
    /// How the proxy judges a pod's health.
    pub health: Arc<health::Config>,
    /// How the proxy keeps and ends WebSockets.
    pub websocket: websocket::Config,
    /// How much clients may have in progress.
    pub limits: Arc<Limits>,
    /// Limits the number of held requests.
    pub hold_permits: Arc<Semaphore>,
    /// Limits the bytes of their bodies.
    pub hold_kib_permits: Arc<Semaphore>,
    /// Whether the pods are kept in step (`[jellyfin] in_step`).
    pub keeps_in_step: bool,
    /// Whether an answer whose request waited says so, in `Server-Timing`.
    pub server_timing: bool,
    /// The writes of users' data that some pod does not have yet.
    pub user_data: Arc<UserDataState>,
    /// What other pods must follow.
    pub in_step: Arc<InStepState>,
    /// Counts acts that may have taken a user's rights.
    pub rights_changed: Arc<AtomicU64>,
    /// Counts placements, to break ties.
    pub placements: Arc<AtomicU64>,
}

/// One held request's share of the room. Dropping it gives the room back, also when the client
/// leaves.
pub(in crate::proxy) struct HoldPermit<'a> {
    _one: SemaphorePermit<'a>,
    _kib: SemaphorePermit<'a>,
    _limit: limits::Permit,
}

impl SharedState {
    /// The pools of all kinds.
    pub fn all_pools(&self) -> impl Iterator<Item = &Arc<Pool>> {
        self.pools.iter().map(|shared| &shared.pool).chain(&self.plain)
    }

    /// The key that lets jellypin migrate sessions. Without one no session can migrate.
    pub(super) fn api_key(&self) -> Option<&Token> {
        self.migration.api_key.as_ref()
    }

    /// The API key that a pod takes: its own, where pods have databases of their own.
    pub(super) fn api_key_of(&self, pod: &Pod) -> Option<&Token> {
        let mut keys = self.migration.keys_of_pods.iter();
        let own = keys.find(|of| *of.pool == *pod.pool && *of.pod == *pod.name).map(|of| &of.key);
        self.api_key().map(|key| own.unwrap_or(key))
    }

    /// What jellypin's own calls need where pods have databases of their own.
    pub(super) fn own_databases(&self) -> Arc<OwnDatabases> {
        let own = self.pools.iter().filter(|pool| pool.shown_server.users.is_some());
        let keys = self.migration.keys_of_pods.iter();
        Arc::new(OwnDatabases {
            pools: own.map(|pool| (pool.pool.name.clone(), pool.shown_server.clone())).collect(),
            key: self.api_key().map(|key| authorization::token_only(key.as_str())),
            keys: keys
                .map(|of| (of.pool.clone(), of.pod.clone(), authorization::token_only(of.key.as_str())))
                .collect(),
        })
    }

    /// Reserves room for a request and for the kept part of its body; `None` if there is none.
    pub(super) fn hold_permit(&self, ctx: &RequestContext<'_>, body: &ReplayBody) -> Option<HoldPermit<'_>> {
        let kib = u32::try_from(body.replay_capacity().div_ceil(KIB)).ok()?;
        let in_use = in_use_by(&self.limits, ctx.client, ctx.origin);
        Some(HoldPermit {
            _limit: self.limits.take(Kind::Holds, in_use.as_ref()).ok()?,
            _one: self.hold_permits.try_acquire().ok()?,
            _kib: self.hold_kib_permits.try_acquire_many(kib).ok()?,
        })
    }

    /// Requests that wait for a pod now.
    pub fn held(&self) -> usize {
        self.limits.in_progress(Kind::Holds) as usize
    }

    /// Why a session's home moves to this pod, unless a drain moves it.
    pub(super) fn move_reason(&self, session: &Session, pod: &Pod) -> MoveReason {
        let is_alive = |home| self.pools.iter().any(|shared| shared.pool.is_alive(home));
        match session.home() {
            None => MoveReason::First,
            Some(home) if home.pod == pod.id => MoveReason::Restart,
            Some(home) if is_alive(home) => MoveReason::Group,
            Some(_) => MoveReason::HomeGone,
        }
    }

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
        let mut sessions = self.sessions.known.of_pod(pod);
        sessions.retain(|session| session.is_there(self.drain.absent));
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

    /// Jellyfin itself never answers 502: a gateway in front of it does, and finds no pod.
    pub(super) fn report_status(&self, pod: &Pod, status: StatusCode) {
        if status == StatusCode::BAD_GATEWAY {
            health::gateway_failure(pod, &self.health);
        }
    }

    /// Reports to `health` what a failure means for a pod.
    ///
    /// A connection that breaks in the middle of a body proves nothing against the pod: Kestrel
    /// cuts slow senders. No client may take a pod out that way.
    pub(super) fn report_failure(&self, pod: &Pod, failure: Failure, no_body: bool) {
        match failure.cause {
            Cause::Refused => health::refused(pod),
            Cause::Untrusted => health::untrusted(pod),
            Cause::Broken if no_body && !failure.on_reused_connection => health::broken(pod),
            // One slow request does not mean that the pod is unwell, so the health checks decide.
            Cause::Broken | Cause::TimedOut => health::report_suspect(pod),
            Cause::ConnectTimedOut => {
                if let Some(of) = self.pools.iter().find(|of| of.pool.name == pod.pool) {
                    health::connect_timed_out(pod, &of.pool, &self.health, self.forward.connect_timeout);
                }
            }
            Cause::Malformed => health::gateway_failure(pod, &self.health),
            Cause::ServerError => {}
            Cause::ClientGone | Cause::ClientMalformed | Cause::ClientSilent => {}
            Cause::Lost | Cause::Exhausted | Cause::Overloaded => {}
        }
    }
}

/// What the request's client has under way. `None` for a trusted peer itself, which stands for many
/// clients.
pub(super) fn in_use_by(limits: &Limits, client: &Client, origin: IpAddr) -> Option<Arc<AddressUse>> {
    match &client.in_use {
        Some(in_use) => Some(in_use.clone()),
        None if client.trusts(origin) => None,
        None => Some(limits.address(origin)),
    }
}
