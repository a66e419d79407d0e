//! Learns which users each pod has, where pods have databases of their own. Users are one by their
//! names.
//!
//! What clients see of it is in `server_id/users`.

use std::{sync::Arc, time::Duration};

use tokio::time::{self, Instant};

use super::{
    pod_client::{Caller, PodClient},
    pool_state::PoolState,
    request::context::{RequestContext, Target},
    shared_state::SharedState,
};
use crate::{
    forward::{Forward, outbound::ReplayBody},
    jellyfin::{
        client::users,
        endpoint::{self, Endpoint, LogInBy},
        log_in_name,
    },
    pod::{Epoch, Pod, PodId},
    server_id::{
        ServerId,
        users::{OwnUser, Standing, UserDirectory},
    },
    shutdown::Shutdown,
    store::kept_document::KeptDocument,
};

/// Longest time that a request waits for its pod's list of users.
const PATIENCE: Duration = Duration::from_secs(2);

/// Time between two lists of a pod: it may have other users since.
const EVERY: Duration = Duration::from_secs(30);

/// Time between two looks at whether a pod has begun a new life.
const LOOK: Duration = Duration::from_millis(250);

/// One worker's knowledge of the pods' users.
pub struct OwnUsers {
    shared: Arc<SharedState>,
    pods: Arc<PodClient>,
}

impl OwnUsers {
    pub(super) fn new(shared: Arc<SharedState>, pods: Arc<PodClient>) -> OwnUsers {
        OwnUsers { shared, pods }
    }

    /// For [`OwnUsers::watch`].
    pub fn of(shared: Arc<SharedState>) -> OwnUsers {
        let pods = PodClient::new(Arc::new(Forward::new(shared.forward.clone())), shared.own_databases());
        OwnUsers { pods: Arc::new(pods), shared }
    }

    /// Waits until a pod's users are known, for a moment.
    pub(super) async fn know(&self, pool: &PoolState, pod: &Arc<Pod>) {
        let Some(users) = pool.shown_server.users.as_ref().filter(|users| !users.is_known(pod)) else { return };
        let known = async {
            let _turn = pool.user_looks.turn.acquire().await;
            if !users.is_known(pod) && !pool.user_looks.has_failed(pod.id) {
                self.look(pool, users, pod).await;
            }
        };
        // If it takes longer, the pod is asked for the next request again.
        let _ = time::timeout(PATIENCE, known).await;
    }

    /// The pods on which the request's user cannot be: those that have no such user, or where the user
    /// is disabled.
    pub(super) async fn pods_without(&self, ctx: &RequestContext<'_>, body: &ReplayBody) -> Vec<PodId> {
        let Some(users) = &ctx.pool.shown_server.users else { return Vec::new() };
        let pods = ctx.pool.pool.pods().to_vec();
        let Some(session) = ctx.session() else {
            let Some(name) = named(ctx, body, self.shared.forward.client_body).await else { return Vec::new() };
            let lacks = pods.iter().filter(|pod| is_not_there(users.standing_of_name(pod, &name)));
            let lack: Vec<PodId> = lacks.map(|pod| pod.id).collect();
            // One of them says that there is no such user.
            return if lack.len() < pods.len() { lack } else { Vec::new() };
        };
        if !ctx.depends_on_token() {
            return Vec::new();
        }
        // What the home says of its own user is final, and the client goes there as long as it lives.
        let home = session.home().map(|home| home.pod);
        let is_home_alive = || pods.iter().any(|pod| Some(pod.id) == home && pod.status().is_alive());
        if ctx.target == Target::Home && is_home_alive() {
            return Vec::new();
        }
        let others = pods.iter().filter(|pod| Some(pod.id) != home);
        let lacks = others.filter(|pod| is_not_there(users.standing(pod, &session.user)));
        lacks.map(|pod| pod.id).collect()
    }

    /// Says in the log that a session goes on nowhere, since its home is away.
    pub(super) fn warn(&self, ctx: &RequestContext<'_>) {
        let (Some(users), Some(session)) = (&ctx.pool.shown_server.users, ctx.session()) else { return };
        if !ctx.pool.user_looks.may_warn() {
            return;
        }
        for pod in ctx.pool.pool.pods().iter().filter(|pod| pod.status().is_alive()) {
            let why = match users.standing(pod, &session.user) {
                Standing::Missing => "no user of this name is there",
                Standing::Disabled => "the user is disabled there",
                Standing::Here | Standing::Unknown => continue,
            };
            let (pool, pod) = (&*pod.pool, &*pod.name);
            tracing::warn!(
                user.id = &*session.user,
                pod.pool = pool,
                pod.name = pod,
                why,
                "a session cannot go on at the pod that is left"
            );
        }
    }

    /// Takes the ids that were shown before. Returns whether they could be read.
    pub async fn remember(&self, pool: usize, document: &KeptDocument) -> bool {
        let Some(users) = &self.shared.pools[pool].shown_server.users else { return true };
        let Ok(copies) = document.read().await else { return false };
        // That of all replicas counts, so it comes last.
        copies.own.into_iter().chain(copies.common).for_each(|ids| users.remember(&ids));
        true
    }

    /// Asks the pods that serve at the start, in the order in which they give ids, for a moment.
    pub async fn look_first(&self, pool: usize) {
        let shared = &self.shared.pools[pool];
        for pod in shared.pool.pods().iter().filter(|pod| pod.status().is_alive()) {
            self.know(shared, pod).await;
        }
    }

    /// Keeps the pods' users known, and the ids that clients see, until the shutdown.
    pub async fn watch(self, pool: usize, document: KeptDocument, shutdown: Shutdown) {
        let shared = &self.shared.pools[pool];
        let Some(users) = &shared.shown_server.users else { return };
        let watching = async {
            let mut seen: Vec<(PodId, Epoch, Instant)> = Vec::new();
            let (mut kept, mut is_remembered) = (Vec::new(), false);
            loop {
                for pod in shared.pool.pods().iter().filter(|pod| pod.status().is_alive()) {
                    let life = (pod.id, pod.status().epoch);
                    let is_fresh =
                        |(id, epoch, at): &(PodId, Epoch, Instant)| (*id, *epoch) == life && at.elapsed() < EVERY;
                    if users.is_known(pod) && seen.iter().any(is_fresh) {
                        continue;
                    }
                    seen.retain(|(id, ..)| *id != pod.id);
                    let _turn = shared.user_looks.turn.acquire().await;
                    if self.look(shared, users, pod).await {
                        seen.push((life.0, life.1, Instant::now()));
                    }
                }
                if document.is_kept() {
                    is_remembered = is_remembered || self.remember(pool, &document).await;
                    let ids = users.document();
                    if is_remembered && users.is_any_known() && ids != kept && document.write(&ids).await {
                        kept = ids;
                    }
                }
                time::sleep(LOOK).await;
            }
        };
        tokio::select! {
            () = watching => {}
            () = shutdown.stopping() => {}
        }
    }

    async fn look(&self, pool: &PoolState, users: &UserDirectory, pod: &Arc<Pod>) -> bool {
        let Some(key) = self.shared.api_key() else { return false };
        let listed = self.pods.call_by_own_ids(pod, &Caller::proxy(&pool.pool), users::standings(key.as_str())).await;
        let Ok(listed) = listed else {
            pool.user_looks.set_failed(pod.id);
            return false;
        };
        let own = listed.into_iter().filter_map(|user| {
            let id = ServerId::parse(&user.id.replace('-', ""))?;
            Some(OwnUser { name: user.name, id, is_disabled: user.is_disabled })
        });
        users.set(pod, own.collect());
        true
    }
}

fn is_not_there(standing: Standing) -> bool {
    matches!(standing, Standing::Missing | Standing::Disabled)
}

/// The name that a log-in by password gives.
async fn named(ctx: &RequestContext<'_>, body: &ReplayBody, longest: Duration) -> Option<String> {
    let is_log_in = ctx.endpoint == Endpoint::LogIn;
    if !is_log_in || !matches!(endpoint::log_in_by_password(ctx.path), Some(LogInBy::Name)) {
        return None;
    }
    // A body that does not come is the client's fault, and the dispatch says so.
    let body = time::timeout(longest, body.read_ahead()).await.ok()??;
    log_in_name::user_name(&body).ok().filter(|name| !name.is_empty())
}
