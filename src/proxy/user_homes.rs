//! A user lives on one pod: where the user's sessions and log-ins go, and what moves the user.

use std::{collections::HashMap, sync::Arc};

use tokio::time;

use super::{request::context::RequestContext, shared_state::SharedState};
use crate::{
    affinity::{
        placement::{self, Key, Loads},
        user_homes::{self, Asked, NamedUser},
    },
    forward::outbound::ReplayBody,
    jellyfin::{
        endpoint::{self, Endpoint, LogInBy},
        log_in_name,
    },
    pod::{Pod, PodId, PodInstance, Pool, State},
    sessions::{Session, session::MoveReason},
};

/// Whether a request may be a log-in that names its user, where users have homes.
pub(super) fn may_name_user(shared: &SharedState, ctx: &RequestContext<'_>) -> bool {
    ctx.endpoint == Endpoint::LogIn && shared.user_homes.are_kept() && ctx.pool.pool.pods().len() > 1
}

/// Finds out which user a log-in by password names, so that the log-in goes to the user's home.
pub(super) async fn name_user(shared: &SharedState, ctx: &mut RequestContext<'_>, body: &ReplayBody) {
    let pool = &ctx.pool.pool;
    let user = match endpoint::log_in_by_password(ctx.path) {
        Some(LogInBy::Id(id)) => {
            let id = id.replace('-', "").to_lowercase();
            shared.user_homes.with_id(&pool.name, &id)
        }
        Some(LogInBy::Name) => {
            // A body that does not come is the client's fault, and the dispatch says so.
            let body = time::timeout(shared.forward.client_body, body.read_ahead()).await;
            let Ok(Some(body)) = body else { return };
            let Ok(name) = log_in_name::user_name(&body) else { return };
            shared.user_homes.named(&pool.name, &name)
        }
        None => return,
    };
    let Some(user) = user else {
        // A device of its own, which counts as a user.
        ctx.keys.loads = loads(shared, pool);
        return;
    };
    user.look_up(&shared.pins, asked(shared), |home| is_ready(pool, home)).await;
    if user.home(&shared.pins, |home| is_ready(pool, home)).is_none() {
        ctx.keys.loads = loads(shared, pool);
    }
    ctx.keys.user = Some(user);
}

/// Records where a user has signed in by name: the user lives there, unless the user's home is
/// another pod. The name leads there from now on.
pub(super) async fn record_log_in(shared: &SharedState, pod: &Pod, user: &str, named: &NamedUser) {
    let homes = &shared.user_homes;
    homes.record_log_in(named, &pod.pool, user);
    let Some(pool) = pool_named(shared, &pod.pool).filter(|_| homes.lives_together(&pod.pool, user)) else { return };
    look_up(shared, pool, user).await;
    record_at(shared, &pool.name, user, PodInstance::of(pod));
    let home = homes.home(&shared.pins, &pool.name, user, |home| is_ready(pool, home));
    named.record(&shared.pins, home.unwrap_or(PodInstance::of(pod)));
}

/// Gives a home to a user who has signed in on the one pod that could answer, by Quick Connect or
/// single sign-on: there, or elsewhere if that pod has its part of users already. The session then
/// joins the user once it is idle.
pub(super) async fn record_anywhere(shared: &SharedState, pod: &Arc<Pod>, user: &str) {
    let at = PodInstance::of(pod);
    if !shared.user_homes.lives_together(&pod.pool, user) {
        return;
    }
    let Some(pool) = pool_named(shared, &pod.pool).filter(|_| shared.api_key().is_some()) else {
        return record_at(shared, &pod.pool, user, at);
    };
    look_up(shared, pool, user).await;
    let (pods, loads) = (pool.pods(), loads(shared, pool));
    let candidates = || placement::candidates(&pods, |_: &Pod| false);
    let place = || {
        let is_full = placement::is_full(pod, &loads, candidates());
        let elsewhere = || placement::bounded(user_homes::placement(&pool.name, user), &loads, candidates());
        is_full.then(elsewhere).flatten().map_or(at, |pod| PodInstance::of(pod))
    };
    record_at(shared, &pool.name, user, place());
}

/// Gives a device its place that has signed in on the one pod that could answer, if its user's
/// devices are placed one by one. It goes there once it is idle.
pub(super) fn place_device(shared: &SharedState, pod: &Pod, session: &Session) {
    let homes = &shared.user_homes;
    let Some(pool) = pool_named(shared, &session.pool).filter(|_| homes.are_kept()) else { return };
    if homes.lives_together(&pool.name, &session.user) {
        return;
    }
    let pods = pool.pods();
    let candidates = placement::candidates(&pods, |_: &Pod| false);
    let placed = placement::bounded(key(shared, session), &loads(shared, pool), candidates);
    let to = placed.map_or(PodInstance::of(pod), |to| PodInstance::of(to));
    session.destination.set(PodInstance::of(pod), to);
    homes.loads.add(&pool.name, to.pod);
}

/// What users do on each pod, as lately counted.
fn loads(shared: &SharedState, pool: &Pool) -> Loads {
    shared.user_homes.loads.get(&pool.name, || count_loads(shared, &pool.pods()))
}

/// Counts those whose clients are active, and more for those who play. A device counts as a user if
/// its user's devices are placed one by one.
fn count_loads(shared: &SharedState, pods: &[Arc<Pod>]) -> Loads {
    /// A film may be transcoded, and is read without a pause.
    const PLAYING: u64 = 4;
    let home_of = |session: &Session| session.home().filter(|home| pods.iter().any(|pod| pod.id == home.pod));
    let is_meant = |session: &Arc<Session>| home_of(session).is_some() && session.is_there(shared.drain.absent);
    let sessions = shared.sessions.known.all_that(is_meant);
    let mut users: HashMap<(PodId, &str, &str), bool> = HashMap::new();
    for session in &sessions {
        let Some(home) = home_of(session) else { continue };
        let is_one = shared.user_homes.lives_together(&session.pool, &session.user);
        let device = if is_one { "" } else { session.device.id.as_str() };
        *users.entry((home.pod, &session.user, device)).or_default() |= session.calls.is_playing();
    }
    let mut loads = Loads::new();
    for ((pod, ..), plays) in users {
        *loads.entry(pod).or_default() += if plays { PLAYING } else { 1 };
    }
    loads
}

/// Whether a session's home is gone.
pub(super) fn is_homeless(pool: &Pool, session: &Session) -> bool {
    let is_alive = |home: PodInstance| pool.pods().iter().any(|pod| pod.id == home.pod && pod.status().is_alive());
    !session.home().is_some_and(is_alive)
}

/// Asks the other replicas where a user lives. Waits no longer than the store's deadline.
pub(super) async fn look_up(shared: &SharedState, pool: &Pool, user: &str) {
    let is_fit = |home| is_ready(pool, home);
    shared.user_homes.look_up(&shared.pins, (&pool.name, user), asked(shared), is_fit).await;
}

/// The pod for a session whose home is gone, drains, or is not the user's: the user's home, or else
/// where all of the user's sessions are placed.
pub(super) fn place(shared: &SharedState, pods: &[Arc<Pod>], session: &Session, tried: &[PodId]) -> Option<Arc<Pod>> {
    home(shared, pods, session, tried).or_else(|| {
        let candidates = placement::candidates(pods, |pod: &Pod| tried.contains(&pod.id));
        placement::rendezvous(key(shared, session), candidates).cloned()
    })
}

/// The pod that a session's user lives on, or that the session is on its way to, if that takes new
/// clients.
pub(super) fn home(shared: &SharedState, pods: &[Arc<Pod>], session: &Session, tried: &[PodId]) -> Option<Arc<Pod>> {
    let ready = |home: PodInstance| pods.iter().find(|pod| pod.id == home.pod && pod.status().state == State::Ready);
    let is_fit = |home: PodInstance| ready(home).is_some() && !tried.contains(&home.pod);
    let home = match shared.user_homes.lives_together(&session.pool, &session.user) {
        true => shared.user_homes.home(&shared.pins, &session.pool, &session.user, is_fit)?,
        false => session.destination.of(session.home()?).filter(|home| is_fit(*home))?,
    };
    ready(home).cloned()
}

/// Records where a session lives. Its user lives there too, unless the user's home is another pod
/// that takes new clients.
///
/// If no such home is known here, another replica may know it. So it is asked behind the request.
pub(super) fn record(shared: &Arc<SharedState>, session: &Arc<Session>) {
    // A member of a SyncPlay group is a guest.
    if session.residence.last_move().why == MoveReason::Group {
        return;
    }
    let Some(pool) = pool_named(shared, &session.pool) else { return };
    let is_known = || shared.user_homes.home(&shared.pins, &pool.name, &session.user, |home| is_ready(pool, home));
    if shared.pins.persistence.redis().is_none() || is_known().is_some() {
        return record_here(shared, session);
    }
    let (shared, pool, session) = (shared.clone(), pool.clone(), session.clone());
    tokio::spawn(async move {
        look_up(&shared, &pool, &session.user).await;
        record_here(&shared, &session);
    });
}

/// Records that a session's user lives where the session does, unless another home is known.
pub(super) fn record_here(shared: &SharedState, session: &Session) {
    if let Some(home) = session.home() {
        record_at(shared, &session.pool, &session.user, home);
    }
}

fn record_at(shared: &SharedState, pool: &str, user: &str, at: PodInstance) {
    let is_fit = |home| pool_named(shared, pool).is_some_and(|pool| is_ready(pool, home));
    shared.user_homes.record(&shared.pins, pool, user, at, is_fit);
}

/// An operator makes this pod the home of a session's user, whatever the home was.
pub(super) fn set(shared: &SharedState, session: &Session, at: PodInstance) {
    shared.user_homes.record(&shared.pins, &session.pool, &session.user, at, |_| false);
}

/// Where the sessions of a user without a home are placed: together, or each by its device.
pub(super) fn key(shared: &SharedState, session: &Session) -> Key {
    if shared.user_homes.lives_together(&session.pool, &session.user) {
        user_homes::placement(&session.pool, &session.user)
    } else {
        Key::of(session.device.id.as_bytes())
    }
}

/// While there are other replicas, each may have moved a user.
fn asked(shared: &SharedState) -> Asked {
    if shared.sessions.replicas.has_others() { Asked::Always } else { Asked::IfUnknown }
}

fn pool_named<'a>(shared: &'a SharedState, name: &str) -> Option<&'a Arc<Pool>> {
    shared.pools.iter().map(|of| &of.pool).find(|pool| *pool.name == *name)
}

fn is_ready(pool: &Pool, home: PodInstance) -> bool {
    pool.pods().iter().any(|pod| pod.id == home.pod && pod.status().state == State::Ready)
}
