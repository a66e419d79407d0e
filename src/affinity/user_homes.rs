//! Where users live: all sessions of a user belong on one pod.
//!
//! A pod keeps a user's data in memory, tells only its own clients of changes, and lists only its own
//! sessions. So a user's clients share one pod, and each sees what the others do. A user's home is a pin like any other. It changes only when its pod
//! can take no new client: when the pod is gone, or drains.

use std::{
    collections::HashSet,
    sync::atomic::{AtomicU32, Ordering},
};

use quick_cache::sync::Cache;

use super::{
    pins::{Kind, Pins},
    placement::Key,
    recent_loads::RecentLoads,
};
use crate::pod::PodInstance;

/// User names whose ids are remembered. A log-in by another name goes by the name's own pin.
const NAMES: usize = 20_000;

/// The homes of users, apart from the pins themselves.
#[derive(Debug)]
pub struct UserHomes {
    spread: SpreadUsers,
    /// The user's id by pool and name.
    names: Cache<String, String>,
    /// Ids of users that are spread, by pool and id. Their names are configured.
    spread_ids: dashmap::DashSet<String, ahash::RandomState>,
    /// How often users' names have changed, as far as this replica has seen.
    changes: AtomicU32,
    /// What the pods' users do.
    pub loads: RecentLoads,
}

/// Whether the other replicas are asked before this one decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Unless this one knows a home that is fit.
    IfUnknown,
    /// In any case: theirs counts.
    Always,
}

/// Users whose devices are placed one by one, as if each were a user: an account that a whole house
/// uses would otherwise load one pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SpreadUsers {
    /// Each user lives on one pod.
    #[default]
    Nobody,
    /// Except these, by name in lower case.
    Named(HashSet<String>),
    /// No user lives on one pod.
    Everybody,
}

/// The user whom a log-in by name is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedUser {
    /// The key of the name's pin.
    name: String,
    /// The key of the user's pin, if the user's id is known.
    id: Option<String>,
}

impl UserHomes {
    pub fn new(spread: SpreadUsers) -> UserHomes {
        UserHomes {
            spread,
            names: Cache::new(NAMES),
            spread_ids: dashmap::DashSet::default(),
            changes: AtomicU32::new(0),
            loads: RecentLoads::default(),
        }
    }

    /// Whether any user's sessions belong together.
    pub fn are_kept(&self) -> bool {
        self.spread != SpreadUsers::Everybody
    }

    /// The names of the users that are spread.
    pub fn spread_names(&self) -> Option<&HashSet<String>> {
        match &self.spread {
            SpreadUsers::Named(names) => Some(names),
            SpreadUsers::Nobody | SpreadUsers::Everybody => None,
        }
    }

    /// The user that a log-in names; `None` if that user's devices are placed one by one.
    pub fn named(&self, pool: &str, name: &str) -> Option<NamedUser> {
        let name = name.to_lowercase();
        let is_spread = match &self.spread {
            SpreadUsers::Nobody => false,
            SpreadUsers::Named(names) => names.contains(&name),
            SpreadUsers::Everybody => true,
        };
        if is_spread || name.is_empty() {
            return None;
        }
        let name = key(pool, &name);
        let id = self.names.get(&name);
        // It may be another name of a user that is spread, as the pods' directory has them.
        let is_spread = id.as_ref().is_some_and(|id| self.spread_ids.contains(id));
        (!is_spread).then_some(NamedUser { id, name })
    }

    /// The user that a log-in names by id.
    pub fn with_id(&self, pool: &str, user: &str) -> Option<NamedUser> {
        self.lives_together(pool, user).then(|| NamedUser { name: key(pool, user), id: Some(key(pool, user)) })
    }

    /// Records whose name it is.
    pub fn record_name(&self, pool: &str, name: &str, user: &str) {
        let name = name.to_lowercase();
        if self.spread_names().is_some_and(|names| names.contains(&name)) {
            self.spread_ids.insert(key(pool, user));
        }
        if self.are_kept() {
            self.names.insert(key(pool, &name), key(pool, user));
        }
    }

    /// Records that a log-in by this name was this user's, whose own name may be another.
    pub fn record_log_in(&self, named: &NamedUser, pool: &str, user: &str) {
        if self.are_kept() {
            self.names.insert(named.name.clone(), key(pool, user));
        }
    }

    /// Records the names and ids of all users of a pool.
    pub fn record_names(&self, pool: &str, users: &[(String, String)]) {
        if let Some(names) = self.spread_names() {
            let is_spread = |(name, _): &&(String, String)| names.contains(&name.to_lowercase());
            let spread: HashSet<String> = users.iter().filter(is_spread).map(|(_, id)| key(pool, id)).collect();
            let of_pool = key(pool, "");
            self.spread_ids.retain(|id| !id.starts_with(&of_pool) || spread.contains(id));
        }
        users.iter().for_each(|(name, id)| self.record_name(pool, name, id));
    }

    /// A request has changed the name of a user, or made a user.
    pub fn record_change(&self) {
        self.changes.fetch_add(1, Ordering::Relaxed);
    }

    /// The number of those requests.
    pub fn changes(&self) -> u32 {
        self.changes.load(Ordering::Relaxed)
    }

    /// The id of the user with this name, if that is known here.
    pub fn id_of(&self, pool: &str, name: &str) -> Option<String> {
        let id = self.names.get(&key(pool, &name.to_lowercase()))?;
        id.strip_prefix(&key(pool, "")).map(str::to_owned)
    }

    /// Whether this user's sessions belong together.
    pub fn lives_together(&self, pool: &str, user: &str) -> bool {
        match &self.spread {
            SpreadUsers::Nobody => true,
            SpreadUsers::Named(_) => !self.spread_ids.contains(&key(pool, user)),
            SpreadUsers::Everybody => false,
        }
    }

    /// The pod that a user lives on, if it is fit to serve.
    pub fn home(
        &self,
        pins: &Pins,
        pool: &str,
        user: &str,
        is_fit: impl Fn(PodInstance) -> bool,
    ) -> Option<PodInstance> {
        if !self.lives_together(pool, user) {
            return None;
        }
        pins.home(Kind::User, &key(pool, user), |home, _| is_fit(home))
    }

    /// Records that one of the user's sessions lives on this pod. The user lives there too, unless
    /// the user's home is fit to serve.
    pub fn record(&self, pins: &Pins, pool: &str, user: &str, at: PodInstance, is_fit: impl Fn(PodInstance) -> bool) {
        if self.lives_together(pool, user) && self.home(pins, pool, user, is_fit).is_none() {
            pins.learn_confirmed(Kind::User, &key(pool, user), at);
            self.loads.add(pool, at.pod);
        }
    }

    /// Asks the other replicas where a user lives.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn look_up(
        &self,
        pins: &Pins,
        (pool, user): (&str, &str),
        asked: Asked,
        is_fit: impl Fn(PodInstance) -> bool,
    ) {
        if self.lives_together(pool, user) {
            look_up(pins, (Kind::User, &key(pool, user)), asked, is_fit).await;
        }
    }
}

impl NamedUser {
    /// The pod for the log-in, if known: the user's home, else where this name last logged in.
    pub fn home(&self, pins: &Pins, is_fit: impl Fn(PodInstance) -> bool) -> Option<PodInstance> {
        let by_id = || pins.home(Kind::User, self.id.as_deref()?, |home, _| is_fit(home));
        by_id().or_else(|| pins.home(Kind::UserName, &self.name, |home, _| is_fit(home)))
    }

    /// Where the log-in of a user without a home is placed. All replicas agree.
    pub fn placement(&self) -> Key {
        Key::of(self.id.as_ref().unwrap_or(&self.name).as_bytes())
    }

    /// Records where the user lives after the log-in.
    pub fn record(&self, pins: &Pins, at: PodInstance) {
        pins.learn_confirmed(Kind::UserName, &self.name, at);
    }

    /// Asks the other replicas, as [`UserHomes::look_up`].
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn look_up(&self, pins: &Pins, asked: Asked, is_fit: impl Fn(PodInstance) -> bool) {
        let pin = match &self.id {
            Some(id) => (Kind::User, id.as_str()),
            None => (Kind::UserName, self.name.as_str()),
        };
        look_up(pins, pin, asked, is_fit).await;
    }
}

async fn look_up(pins: &Pins, (kind, key): (Kind, &str), asked: Asked, is_fit: impl Fn(PodInstance) -> bool) {
    match asked {
        Asked::IfUnknown => pins.look_up_stored(kind, key, is_fit).await,
        Asked::Always => pins.agree(kind, key, is_fit).await,
    }
}

/// Where a user without a fit home is placed. All replicas agree.
pub fn placement(pool: &str, user: &str) -> Key {
    Key::of(key(pool, user).as_bytes())
}

/// The key of a user's pin. Two pools may have users of the same name.
fn key(pool: &str, user: &str) -> String {
    format!("{pool}/{user}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::{Epoch, Pod, PodConfig};

    fn instance(name: &str) -> PodInstance {
        let pod =
            Pod::new(&"main".into(), &PodConfig { name: name.into(), authority: "h:1".into(), ..Default::default() });
        PodInstance { pod: pod.id, epoch: Epoch(1) }
    }

    #[test]
    fn a_user_stays_until_the_home_is_unfit() {
        let (pins, homes) = (Pins::new(100, (1, 2)), UserHomes::new(SpreadUsers::Nobody));
        let (a, b) = (instance("a"), instance("b"));
        homes.record(&pins, "main", "u1", a, |_| true);
        homes.record(&pins, "main", "u1", b, |_| true);
        assert_eq!(homes.home(&pins, "main", "u1", |_| true), Some(a), "a guest elsewhere changes nothing");
        homes.record(&pins, "main", "u1", b, |home| home != a);
        assert_eq!(homes.home(&pins, "main", "u1", |_| true), Some(b));
        assert_eq!(homes.home(&pins, "other", "u1", |_| true), None, "pools have users of their own");
    }

    #[test]
    fn a_name_is_known_in_any_case_and_leads_to_the_users_home() {
        let (pins, homes) = (Pins::new(100, (1, 2)), UserHomes::new(SpreadUsers::Nobody));
        let (a, b) = (instance("a"), instance("b"));
        let before = homes.named("main", "Alice").expect("a user");
        assert_eq!(before.home(&pins, |_| true), None);
        before.record(&pins, a);
        assert_eq!(homes.named("main", "ALICE").expect("a user").home(&pins, |_| true), Some(a), "by the name's pin");
        homes.record_name("main", "alice", "u1");
        homes.record(&pins, "main", "u1", b, |_| true);
        let alice = homes.named("main", "aLICE").expect("a user");
        assert_eq!(alice.home(&pins, |_| true), Some(b), "the user's home counts more");
        assert_eq!(alice.placement(), placement("main", "u1"));
        assert_eq!(homes.named("main", ""), None);
    }

    #[test]
    fn the_list_of_all_users_says_who_is_spread_now() {
        let spread = SpreadUsers::Named(HashSet::from(["house".to_owned()]));
        let homes = UserHomes::new(spread);
        let users = |names: [&str; 2]| [(names[0].to_owned(), "u1".to_owned()), (names[1].to_owned(), "u2".to_owned())];
        let together = |pool: &str| ["u1", "u2"].map(|user| homes.lives_together(pool, user));
        homes.record_names("main", &users(["House", "alice"]));
        homes.record_names("other", &users(["House", "alice"]));
        assert_eq!((together("main"), homes.id_of("main", "ALICE").as_deref()), ([false, true], Some("u2")));
        homes.record_names("main", &users(["family", "house"]));
        assert_eq!((together("main"), together("other")), ([true, false], [false, true]), "the pool's names changed");
        assert_eq!(homes.changes(), 0);
        homes.record_change();
        assert_eq!(homes.changes(), 1);
    }

    #[test]
    fn spread_users_have_no_home() {
        let spread = SpreadUsers::Named(HashSet::from(["house".to_owned()]));
        let (pins, homes) = (Pins::new(100, (1, 2)), UserHomes::new(spread));
        assert_eq!(homes.named("main", "House"), None);
        homes.record_name("main", "House", "u1");
        homes.record(&pins, "main", "u1", instance("a"), |_| true);
        assert_eq!(homes.home(&pins, "main", "u1", |_| true), None);
        assert!(homes.named("main", "alice").is_some());
        let by_directory = homes.named("main", "House (directory)").expect("a user");
        homes.record_log_in(&by_directory, "main", "u1");
        assert_eq!(homes.named("main", "house (DIRECTORY)"), None, "another name of a spread user");
        let nobody = UserHomes::new(SpreadUsers::Everybody);
        assert!(!nobody.are_kept() && nobody.named("main", "alice").is_none());
    }
}
