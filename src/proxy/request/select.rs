//! Where a request goes, and why.

use std::{net::IpAddr, sync::Arc};

use crate::{
    affinity::{
        cookie::CookieClaim,
        pins::{Kind, Pins},
        placement::{self, Key, Loads},
        user_homes::NamedUser,
    },
    jellyfin::{Identity, endpoint::Duty},
    pod::{Pod, PodId, PodInstance, Rest, State},
    sessions::Session,
};

/// Everything that can identify a client.
#[derive(Clone, Debug)]
pub(in crate::proxy) struct Keys<'a> {
    pub(in crate::proxy) identity: Identity<'a>,
    /// What the affinity cookie says.
    pub(in crate::proxy) cookie: Option<CookieClaim>,
    /// Whether the client keeps the cookie, whatever the cookie says.
    pub(in crate::proxy) has_cookie: bool,
    pub(in crate::proxy) address: IpAddr,
    /// The user that a log-in names.
    pub(in crate::proxy) user: Option<NamedUser>,
    /// What the pods have to do, if that user has no home yet.
    pub(in crate::proxy) loads: Loads,
}

/// A pod, and one reason out of a closed set.
#[derive(Clone, Debug)]
pub(in crate::proxy) struct Decision {
    pub(in crate::proxy) pod: Arc<Pod>,
    pub(in crate::proxy) reason: Reason,
    /// A pin of this very process of the pod decided. There is nothing to learn from its answer.
    pub(in crate::proxy) is_pinned: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum Reason {
    /// The token's home is known.
    Token,
    Cookie,
    PlaySession,
    LiveStream,
    Playlist,
    Device,
    /// The user who logs in lives there.
    User,
    /// Only the leader, or the pod that made the code, can answer.
    Leader,
    /// Only the pod that writes the catalogue can do it.
    Writer,
    /// Only the pod that has the session which is called can answer.
    Session,
    /// The client's home is gone: its session migrates to this pod.
    Migrated,
    /// Placed by rendezvous hashing on the client's key.
    Hashed,
    /// Placed on the least loaded pod, since the client has no key.
    LeastLoaded,
}

impl Reason {
    pub(in crate::proxy) fn as_str(self) -> &'static str {
        match self {
            Reason::Token => "token",
            Reason::Cookie => "cookie",
            Reason::PlaySession => "play_session",
            Reason::LiveStream => "live_stream",
            Reason::Playlist => "playlist",
            Reason::Device => "device",
            Reason::User => "user",
            Reason::Leader => "leader",
            Reason::Writer => "writer",
            Reason::Session => "session",
            Reason::Migrated => "migrated",
            Reason::Hashed => "hashed",
            Reason::LeastLoaded => "least_loaded",
        }
    }
}

impl Decision {
    pub(in crate::proxy) fn new(pod: Arc<Pod>, reason: Reason) -> Decision {
        Decision { pod, reason, is_pinned: false }
    }

    /// Whether another pod than the client's home did a request of this duty for all. Its answer says
    /// nothing of where the client lives.
    pub(in crate::proxy) fn is_duty_call(&self, duty: Duty) -> bool {
        duty != Duty::Any && matches!(self.reason, Reason::Writer | Reason::Leader)
    }

    /// The client's home, as an accepted request shows it.
    pub(in crate::proxy) fn home(&self) -> PodInstance {
        PodInstance::of(&self.pod)
    }
}

/// Chooses the home of a user who logs in. For other requests chooses the pod that makes a live
/// playlist's segments or has a live file, else a token's living home, else a cookie's living pod.
/// Then come the pods of a play session, a live stream and a device, and last a placement. `None`
/// if every pod was tried.
pub(in crate::proxy) fn decide(
    pods: &[Arc<Pod>],
    keys: &Keys<'_>,
    pins: &Pins,
    tried: &[PodId],
    turn: u64,
) -> Option<Decision> {
    let known = match &keys.user {
        Some(user) => home_of_user(pods, user, pins, tried),
        None => known(pods, keys, pins, tried),
    };
    known.or_else(|| place(pods, keys, tried, turn))
}

/// Chooses for a client with a known session: its home, or, if that is gone, the pod where `placed`
/// puts its user. All requests of the user thus meet on one pod. Running media stays on its pod while
/// the session is valid there; requests that `goes_with_media` marks go there too.
pub(in crate::proxy) fn of_session(
    pods: &[Arc<Pod>],
    goes_with_media: bool,
    keys: &Keys<'_>,
    session: &Session,
    pins: &Pins,
    tried: &[PodId],
    placed: impl FnOnce() -> Option<Arc<Pod>>,
) -> Option<Decision> {
    let alive = |id: PodId| pods.iter().find(|pod| pod.id == id && pod.status().is_alive() && !tried.contains(&id));
    let runs = |pod: &Pod| session.is_known_at(pod);
    if goes_with_media
        && let Some(running) = media(pods, keys, session, pins, tried).filter(|decision| runs(&decision.pod))
    {
        return Some(running);
    }
    let at = |place: Option<PodInstance>, reason| Some(Decision::new(alive(place?.pod)?.clone(), reason));
    // While no pod is healthy, for instance without the database, no session migrates. A home that
    // still answers stays the home.
    let nobody_is_well = || !pods.iter().any(|pod| pod.status().is_alive());
    let ill = || {
        let home = session.home().filter(|_| nobody_is_well())?;
        let pod = pods.iter().find(|pod| {
            pod.id == home.pod && pod.status().accepts && !pod.life.is_over() && !tried.contains(&pod.id)
        })?;
        Some(Decision::new(pod.clone(), Reason::Token))
    };
    at(session.home(), Reason::Token)
        .or_else(ill)
        .or_else(|| at(session.migrations.target(), Reason::Migrated))
        .or_else(|| Some(Decision::new(placed()?, Reason::Migrated)))
}

/// Chooses for what only a leader can answer: the pod that made the code or secret, then the
/// leader, then the others in name order.
pub(in crate::proxy) fn of_leader(
    pods: &[Arc<Pod>],
    leader: Option<Arc<Pod>>,
    key: Option<&str>,
    pins: &Pins,
    tried: &[PodId],
) -> Option<Decision> {
    let is_open = |pod: &&Arc<Pod>| pod.status().is_alive() && !tried.contains(&pod.id);
    let made = key.and_then(|key| pins.home(Kind::QuickConnect, key, |_, _| true));
    let maker = pods.iter().filter(is_open).find(|pod| made == Some(PodInstance::of(pod)));
    let leader = || pods.iter().filter(is_open).find(|pod| leader.as_ref().is_some_and(|leader| leader.id == pod.id));
    // The other pods matter only for a code or secret, which a single pod has made.
    let others = || pods.iter().find(is_open).filter(|_| key.is_some() || tried.is_empty() || leader().is_none());
    let pod = maker.or_else(leader).or_else(others)?;
    Some(Decision::new(pod.clone(), Reason::Leader))
}

/// The key of a live stream's pin. Its id is the same on every pod, and several pods may have it
/// open for different viewers. A known viewer therefore has a pin of its own.
pub(in crate::proxy) fn viewer_stream_key(viewer: &Session, id: &str) -> String {
    format!("{id}\n{}", viewer.device.id)
}

/// The pod on which the media of this request is known to run.
fn media(pods: &[Arc<Pod>], keys: &Keys<'_>, session: &Session, pins: &Pins, tried: &[PodId]) -> Option<Decision> {
    let pinned = |kind, key: Option<&str>, reason| {
        let home = pins.home(kind, key?, |_, _| true)?;
        let is_there = |pod: &Pod| PodInstance::of(pod) == home && pod.status().is_alive();
        let pod = pods.iter().find(|pod| is_there(pod) && !tried.contains(&pod.id))?;
        Some(Decision::new(pod.clone(), reason))
    };
    let identity = &keys.identity;
    pinned(Kind::PlaySession, identity.play_session.as_deref(), Reason::PlaySession)
        .or_else(|| pinned(Kind::Playlist, identity.playlist, Reason::Playlist))
        .or_else(|| {
            let own = identity.live_stream.as_deref().map(|id| viewer_stream_key(session, id));
            pinned(Kind::LiveStream, own.as_deref().or(identity.live_file), Reason::LiveStream)
        })
}

/// The home of a user who logs in, if it takes new clients.
fn home_of_user(pods: &[Arc<Pod>], user: &NamedUser, pins: &Pins, tried: &[PodId]) -> Option<Decision> {
    let ready = |home: PodInstance| pods.iter().find(|pod| pod.id == home.pod && pod.status().state == State::Ready);
    let home = user.home(pins, |home| ready(home).is_some_and(|pod| !tried.contains(&pod.id)))?;
    Some(Decision::new(ready(home)?.clone(), Reason::User))
}

fn known(pods: &[Arc<Pod>], keys: &Keys<'_>, pins: &Pins, tried: &[PodId]) -> Option<Decision> {
    let alive = |id: PodId| pods.iter().find(|pod| pod.id == id && pod.status().is_alive() && !tried.contains(&id));
    let pinned = |kind, key: Option<&str>, reason| {
        let home = pins.home(kind, key?, |home, ends_with_epoch| {
            alive(home.pod).is_some_and(|pod| !ends_with_epoch || PodInstance::of(pod) == home)
        })?;
        let pod = alive(home.pod)?.clone();
        let is_pinned = PodInstance::of(&pod) == home;
        Some(Decision { pod, reason, is_pinned })
    };
    let identity = &keys.identity;
    // A live playlist's segment and a live file are on one pod only, whatever else a browser sends
    // with them.
    pinned(Kind::Playlist, identity.playlist, Reason::Playlist)
        .or_else(|| pinned(Kind::LiveStream, identity.live_file, Reason::LiveStream))
        .or_else(|| pinned(Kind::Token, identity.token.as_deref().or(identity.hint.as_deref()), Reason::Token))
        .or_else(|| Some(Decision::new(alive(keys.cookie?.pod)?.clone(), Reason::Cookie)))
        .or_else(|| pinned(Kind::PlaySession, identity.play_session.as_deref(), Reason::PlaySession))
        .or_else(|| pinned(Kind::LiveStream, identity.live_stream.as_deref(), Reason::LiveStream))
        .or_else(|| pinned(Kind::Device, identity.device.as_deref(), Reason::Device))
}

pub(in crate::proxy) fn place(pods: &[Arc<Pod>], keys: &Keys<'_>, tried: &[PodId], turn: u64) -> Option<Decision> {
    let candidates = placement::candidates(pods, |pod: &Pod| tried.contains(&pod.id));
    let (pod, reason) = match placement_key(keys) {
        Some(key) => (placement::bounded(key, &keys.loads, candidates)?, Reason::Hashed),
        None => (placement::least_loaded(turn, candidates)?, Reason::LeastLoaded),
    };
    Some(Decision::new(pod.clone(), reason))
}

/// The key that sends parallel requests of one client to the same pod, also through other replicas.
///
/// The user who logs in comes first. Then comes the device, because a log-in has one and no token
/// yet: later requests are then placed where the log-in was. The address is the last resort, for clients that keep a cookie of a
/// pod that is gone. For others it would put a whole household on one pod.
fn placement_key(keys: &Keys<'_>) -> Option<Key> {
    if let Some(user) = &keys.user {
        return Some(user.placement());
    }
    let identity = &keys.identity;
    let text = identity.device.as_deref().or(identity.token.as_deref()).or(identity.play_session.as_deref());
    let text = text.or(identity.live_stream.as_deref()).or(identity.playlist).or(identity.live_file);
    match text {
        Some(text) => Some(Key::of(text.as_bytes())),
        None if keys.has_cookie => Some(Key::of(keys.address.to_string().as_bytes())),
        None => None,
    }
}

/// The pods whose machines sleep, or do not serve yet: a connection would only be waited for.
pub(in crate::proxy) fn asleep(pods: &[Arc<Pod>]) -> impl Iterator<Item = PodId> {
    let rests = |pod: &&Arc<Pod>| pod.sleep.is_wakeable() && pod.sleep.rest() != Rest::Awake;
    pods.iter().filter(move |pod| rests(pod) && !pod.status().is_alive()).map(|pod| pod.id)
}

#[cfg(test)]
mod tests;
