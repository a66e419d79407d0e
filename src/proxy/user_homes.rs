//! A user lives on one pod: where the user's sessions and log-ins go, and what moves the user.

use std::{collections::HashMap, sync::Arc};

use tokio::time;

use super::{request::context::RequestContext, shared_state::SharedState};
use crate::{
    affinity::{
        placement::{self, Key, Loads},
        user_homes,
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
            log_in_name::user_name(&body).ok().and_then(|name| shared.user_homes.named(&pool.name, &name))
        }
        None => return,
    };
    let Some(user) = user else { return };
    user.look_up(&shared.pins, |home| is_ready(pool, home)).await;
    if user.home(&shared.pins, |home| is_ready(pool, home)).is_none() {
        ctx.keys.loads = loads(shared, &pool.pods());
    }
    ctx.keys.user = Some(user);
}

/// Gives a home to a user who has signed in on the one pod that could answer, by Quick Connect or
/// single sign-on: there, or elsewhere if that pod has its part of users already. The session then
/// joins the user once it is idle.
pub(super) async fn record_anywhere(shared: &SharedState, pod: &Arc<Pod>, user: &str) {
    let at = PodInstance::of(pod);
    let pool = shared.pools.iter().find(|of| *of.pool.name == *pod.pool).map(|of| &of.pool);
    let Some(pool) = pool.filter(|_| shared.api_key().is_some()) else {
        return record_at(shared, &pod.pool, user, at);
    };
    shared.user_homes.look_up(&shared.pins, &pool.name, user, |home| is_ready(pool, home)).await;
    let pods = pool.pods();
    let loads = loads(shared, &pods);
    let candidates = || placement::candidates(&pods, |_: &Pod| false);
    let place = || {
        let is_full = placement::is_full(pod, &loads, candidates());
        let elsewhere = || placement::bounded(user_homes::placement(&pool.name, user), &loads, candidates());
        is_full.then(elsewhere).flatten().map_or(at, |pod| PodInstance::of(pod))
    };
    record_at(shared, &pool.name, user, place());
}

/// What users do on each pod: those whose clients are active, and more for those who play.
fn loads(shared: &SharedState, pods: &[Arc<Pod>]) -> Loads {
    /// A film may be transcoded, and is read without a pause.
    const PLAYING: u64 = 4;
    let of_pod = |pod: &Arc<Pod>| {
        let sessions = shared.clients_of(pod);
        let mut users: HashMap<&str, bool> = HashMap::new();
        for session in &sessions {
            *users.entry(&session.user).or_default() |= session.calls.is_playing();
        }
        (pod.id, users.values().map(|plays| if *plays { PLAYING } else { 1 }).sum())
    };
    pods.iter().map(of_pod).collect()
}

/// Whether a session's home is gone.
pub(super) fn is_homeless(pool: &Pool, session: &Session) -> bool {
    let is_alive = |home: PodInstance| pool.pods().iter().any(|pod| pod.id == home.pod && pod.status().is_alive());
    !session.home().is_some_and(is_alive)
}

/// Asks the other replicas where a session's user lives. Waits no longer than the store's deadline.
pub(super) async fn look_up(shared: &SharedState, pool: &Pool, session: &Session) {
    shared.user_homes.look_up(&shared.pins, &pool.name, &session.user, |home| is_ready(pool, home)).await;
}

/// The pod for a session whose home is gone, drains, or is not the user's: the user's home, or else
/// where all of the user's sessions are placed.
pub(super) fn place(shared: &SharedState, pods: &[Arc<Pod>], session: &Session, tried: &[PodId]) -> Option<Arc<Pod>> {
    home(shared, pods, session, tried).or_else(|| {
        let candidates = placement::candidates(pods, |pod: &Pod| tried.contains(&pod.id));
        placement::rendezvous(key(shared, session), candidates).cloned()
    })
}

/// The pod that a session's user lives on, if it takes new clients.
pub(super) fn home(shared: &SharedState, pods: &[Arc<Pod>], session: &Session, tried: &[PodId]) -> Option<Arc<Pod>> {
    let ready = |home: PodInstance| pods.iter().find(|pod| pod.id == home.pod && pod.status().state == State::Ready);
    let is_fit = |home: PodInstance| ready(home).is_some() && !tried.contains(&home.pod);
    let home = shared.user_homes.home(&shared.pins, &session.pool, &session.user, is_fit)?;
    ready(home).cloned()
}

/// Records where a session lives. Its user lives there too, unless the user's home is another pod
/// that takes new clients.
pub(super) fn record(shared: &SharedState, session: &Session) {
    // A member of a SyncPlay group is a guest.
    if session.residence.last_move().why == MoveReason::Group {
        return;
    }
    if let Some(home) = session.home() {
        record_at(shared, &session.pool, &session.user, home);
    }
}

/// The same for a user of whom no session is known.
pub(super) fn record_at(shared: &SharedState, pool: &str, user: &str, at: PodInstance) {
    let is_fit = |home| shared.pools.iter().any(|of| *of.pool.name == *pool && is_ready(&of.pool, home));
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

fn is_ready(pool: &Pool, home: PodInstance) -> bool {
    pool.pods().iter().any(|pod| pod.id == home.pod && pod.status().state == State::Ready)
}
