//! Why a client is where it is: what each store says of one of its keys, which pod a request would
//! go to, and which would be next if that pod died.
//!
//! The choice is made by the functions that decide about requests, for a request that has this key
//! and no other. A real request may also have a cookie or a play session, and its path may need the
//! leader.

use std::{borrow::Cow, net::Ipv4Addr, sync::Arc};

use super::{
    pool_state::PoolState,
    request::select::{self, Decision, Keys},
    shared_state::SharedState,
    user_homes,
};
use crate::{
    affinity::{pins::Kind, placement::Loads},
    jellyfin::Identity,
    pod::{Pod, PodId, PodInstance},
    sessions::{PodSessionId, Session, SessionLookup, UnixMillis, plain_id, registry::StoreSays},
};

/// The most sessions of one key that are explained.
const MOST: usize = 50;

/// The key that an operator asks about.
#[derive(Clone, Copy)]
pub enum Question<'a> {
    Token(&'a str),
    Device(&'a str),
    /// A user's id, or a name that has signed in here.
    User(&'a str),
    /// A session's id, as the pods list it.
    Session(&'a str),
}

/// What is known in one pool.
#[derive(Clone, Debug)]
pub struct Explained {
    pub pool: Arc<str>,
    /// From which key to which fact, in the order in which a request is decided.
    pub facts: Vec<Fact>,
    /// Whether a request with this key alone can be decided.
    pub is_decided: bool,
    /// Where a request would go now.
    pub goes_to: Option<Choice>,
    /// Where it would go if that pod died now.
    pub then: Option<Choice>,
}

/// One fact, and who says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// `memory`, `store` or `redis`.
    pub source: &'static str,
    pub says: String,
    /// Since when it is so, if that is known.
    pub since: Option<UnixMillis>,
}

/// A pod, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    pub pod: Arc<str>,
    /// One of the reasons in the access log.
    pub reason: &'static str,
}

/// Explains a key in each pool. Redis is asked within its deadline.
pub async fn explain(shared: &SharedState, question: Question<'_>) -> Vec<Explained> {
    let mut explained = Vec::new();
    for pool in &shared.pools {
        explained.push(of_pool(shared, pool, question).await);
    }
    explained
}

async fn of_pool(shared: &SharedState, pool: &PoolState, question: Question<'_>) -> Explained {
    let pods = pool.pool.pods().to_vec();
    let explainer = Explainer { shared, pool, pods: &pods };
    let mut facts = Vec::new();
    let mut identity = Identity::default();
    let mut session = None;
    let mut is_ended = false;
    match question {
        Question::Token(token) => {
            match shared.sessions.known.find(token) {
                SessionLookup::Active(known) if known.pool == pool.pool.name => {
                    facts.push(explainer.session(&known));
                    session = Some(known);
                }
                SessionLookup::Ended => {
                    is_ended = true;
                    facts.push(said("memory", "the token was ended for good: clients get 401", None));
                }
                SessionLookup::Active(_) | SessionLookup::Unknown | SessionLookup::Unresolved => {
                    facts.push(said("memory", "no session is known by this token", None));
                }
            }
            facts.push(explainer.store(token).await);
            facts.extend(explainer.pin(Kind::Token, token, "the token").await);
            facts.extend(explainer.refusals(token));
            identity.token = Some(Cow::Borrowed(token));
        }
        Question::Device(device) => {
            let known = explainer.sessions(|session| session.device.id == device);
            facts.extend(known.iter().map(|session| explainer.session(session)));
            facts.extend(explainer.pin(Kind::Device, device, "the device").await);
            session = explainer.one(known);
            identity.device = Some(Cow::Borrowed(device));
        }
        Question::User(user) => {
            let known = explainer.sessions_of_user(user);
            facts.extend(known.iter().map(|session| explainer.session(session)));
            let id = known.first().map_or_else(|| plain_id(user), |session| session.user.clone());
            facts.push(explainer.home_of_user(&id));
            session = explainer.one(known);
        }
        Question::Session(id) => {
            let listed = PodSessionId::parse(&plain_id(id));
            session = listed.and_then(|id| shared.sessions.known.listed_as(&pool.pool.name, id));
            facts.extend(session.iter().map(|session| explainer.session(session)));
        }
    }
    if let Some(session) = &session {
        let home = explainer.home_of_user(&session.user);
        if !facts.contains(&home) {
            facts.push(home);
        }
        facts.extend(explainer.valid_at(session));
    } else if facts.is_empty() {
        facts.push(said("memory", "nothing is known by this key", None));
    }
    let can_choose = session.is_some() || identity.token.is_some() || identity.device.is_some();
    // A request would try a pod that takes no connection last, and wait.
    let choose = |tried: &[PodId]| {
        let decision = explainer.choose(&identity, session.as_deref(), tried);
        decision.filter(|decision| decision.pod.status().accepts)
    };
    let goes_to = if can_choose && !is_ended { choose(&[]) } else { None };
    let then = goes_to.as_ref().and_then(|decision| choose(&[decision.pod.id]));
    let choice = |decision: Decision| Choice { pod: decision.pod.name.clone(), reason: decision.reason.as_str() };
    Explained {
        pool: pool.pool.name.clone(),
        facts,
        is_decided: can_choose,
        goes_to: goes_to.map(choice),
        then: then.map(choice),
    }
}

struct Explainer<'a> {
    shared: &'a SharedState,
    pool: &'a PoolState,
    pods: &'a [Arc<Pod>],
}

impl Explainer<'_> {
    fn choose(&self, identity: &Identity<'_>, session: Option<&Session>, tried: &[PodId]) -> Option<Decision> {
        let address = Ipv4Addr::UNSPECIFIED.into();
        let keys = Keys {
            identity: identity.clone(),
            cookie: None,
            has_cookie: false,
            address,
            user: None,
            loads: Loads::new(),
        };
        let pins = &self.shared.pins;
        match session {
            Some(session) => {
                let placed = || user_homes::place(self.shared, self.pods, session, tried);
                select::of_session(self.pods, false, &keys, session, pins, tried, placed)
            }
            None => select::decide(self.pods, &keys, pins, tried, 0),
        }
    }

    /// The sessions that live on this pool's pods, or did when their pod was lost.
    fn sessions(&self, is_it: impl Fn(&Session) -> bool) -> Vec<Arc<Session>> {
        let all = self.pods.iter().flat_map(|pod| self.shared.sessions.known.of_pod(pod));
        all.filter(|session| !session.is_ended() && is_it(session)).take(MOST).collect()
    }

    fn sessions_of_user(&self, user: &str) -> Vec<Arc<Session>> {
        let id = plain_id(user);
        let by_id = self.sessions(|session| session.user == id);
        if !by_id.is_empty() {
            return by_id;
        }
        let id = self.shared.user_homes.id_of(&self.pool.pool.name, user);
        id.map(|id| self.sessions(|session| session.user == id)).unwrap_or_default()
    }

    /// The session that the choice is explained by: the one that moved last.
    fn one(&self, sessions: Vec<Arc<Session>>) -> Option<Arc<Session>> {
        sessions.into_iter().max_by_key(|session| session.residence.last_move().at)
    }

    fn session(&self, session: &Session) -> Fact {
        let moved = session.residence.last_move();
        let home = session.home().map_or_else(|| "no known pod".into(), |home| self.named(home));
        let from = moved.from.filter(|from| session.home().is_none_or(|home| home.pod != from.pod));
        let from = from.map(|from| format!(", from {}", self.named(from))).unwrap_or_default();
        let says = format!(
            "session of user {} on device {:?} ({:?}) lives on {home}: {}{from}; sockets: {}; plays: {}",
            session.user,
            session.device.name,
            session.device.client,
            moved.why.as_str(),
            session.sockets.places().borrow().len(),
            if session.calls.is_playing() { "yes" } else { "no" },
        );
        said("memory", says, Some(moved.at))
    }

    /// Where a session is valid by a token that is known.
    fn valid_at(&self, session: &Session) -> Option<Fact> {
        let valid = |pod: &&Arc<Pod>| session.is_known_at(pod);
        let names: Vec<&str> = self.pods.iter().filter(valid).map(|pod| &*pod.name).collect();
        let says = format!("its tokens are known to be valid on {}", names.join(", "));
        (!names.is_empty()).then(|| said("memory", says, None))
    }

    async fn store(&self, token: &str) -> Fact {
        let lookup = &self.shared.sessions.lookup;
        let source = if self.shared.pins.persistence.redis().is_some() { "redis" } else { "store" };
        let says = match lookup.ask_store(token).await {
            StoreSays::Session => "a session is kept under this token",
            StoreSays::Ended => "the token, its user or its device was ended for good",
            StoreSays::Nothing => "nothing is kept under this token",
            StoreSays::Silent => "it did not answer in time",
        };
        said(source, says, None)
    }

    async fn pin(&self, kind: Kind, key: &str, of: &str) -> Vec<Fact> {
        let pins = &self.shared.pins;
        let is_here = |home: &PodInstance| self.pods.iter().any(|pod| pod.id == home.pod);
        let says = |home: Option<PodInstance>| match home.filter(is_here) {
            Some(home) => format!("{of} is pinned to {}", self.named(home)),
            None => format!("{of} has no pin in this pool"),
        };
        let mut facts = vec![said("memory", says(pins.home(kind, key, |_, _| true)), None)];
        if pins.persistence.redis().is_some() {
            facts.push(said("redis", says(pins.stored_home(kind, key).await), None));
        }
        facts
    }

    fn refusals(&self, token: &str) -> Option<Fact> {
        let refuses = |pod: &&Arc<Pod>| self.shared.negative_cache.is_refused(token, pod);
        let names: Vec<&str> = self.pods.iter().filter(refuses).map(|pod| &*pod.name).collect();
        let says = format!("lately refused by {}", names.join(", "));
        (!names.is_empty()).then(|| said("memory", says, None))
    }

    fn home_of_user(&self, user: &str) -> Fact {
        let pool = &self.pool.pool.name;
        let homes = &self.shared.user_homes;
        let says = match homes.home(&self.shared.pins, pool, user, |_| true) {
            Some(home) => format!("user {user} lives on {}", self.named(home)),
            None if !homes.lives_together(pool, user) => "the user's devices are placed one by one".to_owned(),
            None => "the user has no home yet".to_owned(),
        };
        said("memory", says, None)
    }

    /// A pod by its name and state, or what is left of it.
    fn named(&self, place: PodInstance) -> String {
        let Some(pod) = self.pods.iter().find(|pod| pod.id == place.pod) else { return "a pod that has left".into() };
        let status = pod.status();
        let life = if status.epoch == place.epoch { "" } else { ", in an earlier life" };
        format!("{} ({}{life})", pod.name, status.state.as_str())
    }
}

fn said(source: &'static str, says: impl Into<String>, since: Option<UnixMillis>) -> Fact {
    Fact { source, says: says.into(), since }
}
