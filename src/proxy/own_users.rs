//! Learns which users each pod has, if pods have databases of their own. Users of one name count as
//! one user.
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
    sessions::Session,
    shutdown::Shutdown,
    store::kept_document::KeptDocument,
};

/// Longest time that a migration, or the start, waits for a pod's list of users.
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

/// The pods that must not get a request.
#[derive(Default)]
pub(super) struct Unfit {
    pub(super) pods: Vec<PodId>,
    /// Some of them do not have the session's user.
    pub(super) lacks_user: bool,
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
        // If it takes longer, the next look follows.
        let _ = time::timeout(PATIENCE, known).await;
    }

    /// The pods that must not get the request. Those whose users are not known yet: clients would learn
    /// their ids. And those that have no such user, or where the user is disabled.
    pub(super) async fn unfit(&self, ctx: &RequestContext<'_>, body: &ReplayBody) -> Unfit {
        let Some(users) = &ctx.pool.shown_server.users else { return Unfit::default() };
        let pods = ctx.pool.pool.pods().to_vec();
        let mut unfit: Vec<PodId> = pods.iter().filter(|pod| !users.is_known(pod)).map(|pod| pod.id).collect();
        let lacking = match ctx.session() {
            Some(session) => lacking_user_of(users, ctx, session, &pods),
            None => match named(ctx, body, self.shared.forward.client_body).await {
                Some(name) => lacking_name(users, &name, &pods),
                None => Vec::new(),
            },
        };
        let lacks_user = ctx.session().is_some() && !lacking.is_empty();
        unfit.extend(lacking);
        Unfit { pods: unfit, lacks_user }
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
                    let is_read = users.is_known(pod) && seen.iter().any(is_fresh);
                    if is_read || shared.user_looks.has_failed(pod.id) {
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
        for user in users.set(pod, own.collect()) {
            tracing::warn!(
                user.id = user.as_str(),
                pod.pool = &*pod.pool,
                pod.name = &*pod.name,
                "a user has a name that is another user's on another pod, and stays apart"
            );
        }
        true
    }
}

/// The pods that a session cannot go on at. What the home says of its own user is final, and the client
/// goes there as long as it lives.
fn lacking_user_of(
    users: &UserDirectory,
    ctx: &RequestContext<'_>,
    session: &Session,
    pods: &[Arc<Pod>],
) -> Vec<PodId> {
    let home = session.home().map(|home| home.pod);
    let is_home_alive = || pods.iter().any(|pod| Some(pod.id) == home && pod.status().is_alive());
    if !ctx.depends_on_token() || (ctx.target == Target::Home && is_home_alive()) {
        return Vec::new();
    }
    let others = pods.iter().filter(|pod| Some(pod.id) != home);
    others.filter(|pod| is_not_there(users.standing(pod, &session.user))).map(|pod| pod.id).collect()
}

/// The pods at which nobody of this name can sign in. If that is all, one of them says so.
fn lacking_name(users: &UserDirectory, name: &str, pods: &[Arc<Pod>]) -> Vec<PodId> {
    let lacking = pods.iter().filter(|pod| is_not_there(users.standing_of_name(pod, name)));
    let lacking: Vec<PodId> = lacking.map(|pod| pod.id).collect();
    if lacking.len() < pods.len() { lacking } else { Vec::new() }
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
