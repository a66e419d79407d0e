//! The sessions that this process has in memory, found by token, by device, or by the pod that they
//! live on.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use dashmap::DashMap;
use quick_cache::sync::Cache;

use super::{
    keyed_hash::KeyedHash,
    quota::{Devices, UserQuota},
    tables,
};
use crate::{
    pod::Pod,
    sessions::{PodSessionId, Session, session::Uptime},
};

/// Dead tokens that are found without a look into the session store, which knows all of them.
const MOST_DEAD: u64 = 100_000;

/// What is known of a token.
#[derive(Clone, Debug)]
pub enum SessionLookup {
    /// It stands for this session.
    Active(Arc<Session>),
    /// It was ended, and jellypin never revives it.
    Ended,
    /// Neither this process nor the store knows it.
    Unknown,
    /// This process does not know it, and the store could not tell.
    Unresolved,
}

/// The sessions in memory.
pub struct KnownSessions {
    active: DashMap<u128, Arc<Session>, ahash::RandomState>,
    pub(super) dead: DeadTokens,
    /// The session of each user on each device. A log-in replaces the one before.
    devices: Devices,
    quota: UserQuota,
    hash: KeyedHash,
    most: usize,
    /// Tokens in `active`.
    count: AtomicUsize,
    uptime: Uptime,
}

/// Tokens that were ended, as far as this process remembers.
pub(super) struct DeadTokens {
    tokens: Cache<u128, ()>,
    hash: KeyedHash,
}

impl DeadTokens {
    pub(super) fn remember(&self, token: &str) {
        self.tokens.insert(self.hash.of(&[token]), ());
    }
}

impl KnownSessions {
    /// None yet: at most `most` tokens, and so many sessions of one user.
    pub(super) fn new(most: usize, of_one_user: usize, hash: KeyedHash, uptime: Uptime) -> KnownSessions {
        KnownSessions {
            active: DashMap::default(),
            dead: DeadTokens { tokens: tables::bounded(MOST_DEAD), hash: hash.clone() },
            devices: Devices::default(),
            quota: UserQuota::of(of_one_user),
            hash,
            most: most.max(16),
            count: AtomicUsize::new(0),
            uptime,
        }
    }

    /// What this process knows of a token. Does not wait.
    pub fn find(&self, token: &str) -> SessionLookup {
        let hash = self.hash.of(&[token]);
        if let Some(session) = self.active.get(&hash) {
            session.usage.touch();
            return SessionLookup::Active(session.clone());
        }
        if self.dead.tokens.get(&hash).is_some() {
            return SessionLookup::Ended;
        }
        SessionLookup::Unknown
    }

    /// Sessions in memory.
    pub fn count(&self) -> usize {
        self.devices.len()
    }

    /// The session of a user on a device.
    pub fn of_device(&self, pool: &str, user: &str, device: &str) -> Option<Arc<Session>> {
        self.devices.get(&self.hash.of(&[pool, user, device])).map(|session| session.clone())
    }

    /// The session that pods list under this id. Several users of one device have the same id; then
    /// it is the one whose client is there.
    pub fn listed_as(&self, pool: &str, id: PodSessionId) -> Option<Arc<Session>> {
        let listed = self.all_that(|session| *session.pool == *pool && session.is_listed_as(id));
        listed.into_iter().max_by_key(|session| (session.sockets.is_any(), session.usage.heard()))
    }

    /// Every session that lives on this pod.
    pub fn of_pod(&self, pod: &Pod) -> Vec<Arc<Session>> {
        self.all_that(|session| session.home().is_some_and(|home| home.pod == pod.id))
    }

    /// The sessions that are meant.
    pub fn all_that(&self, is_meant: impl Fn(&Arc<Session>) -> bool) -> Vec<Arc<Session>> {
        self.devices.iter().filter(|entry| is_meant(entry)).map(|entry| entry.clone()).collect()
    }

    /// The session of a token, by the token's keyed hash.
    pub(super) fn of_hash(&self, hash: u128) -> Option<Arc<Session>> {
        self.active.get(&hash).map(|session| session.clone())
    }

    /// Makes a session findable by all of its tokens. Gives its user's sessions that had to make
    /// room. The pods still know them, but they migrate no more.
    pub(super) fn insert(&self, session: &Arc<Session>) -> Vec<Arc<Session>> {
        if session.is_ended() {
            return Vec::new();
        }
        session.usage.touch();
        session.compared_at.set(self.uptime.moment());
        let device = self.device_hash(session);
        let is_new = self.devices.insert(device, session.clone()).is_none();
        for minted in session.tokens.all() {
            let hash = self.hash.of(&[minted.token.as_str()]);
            let is_new = self.active.insert(hash, session.clone()).is_none();
            if is_new && self.count.fetch_add(1, Ordering::Relaxed) >= self.most {
                self.make_room();
            }
        }
        if !is_new {
            return Vec::new();
        }
        let user = self.hash.of(&[&session.pool, &session.user]);
        let gone = self.quota.count(user, device, &self.devices);
        gone.iter().for_each(|session| self.let_go(session));
        gone
    }

    /// Takes a session out, unless another has its device by now. Its tokens end one by one.
    pub(super) fn remove(&self, session: &Session) {
        self.devices.remove_if(&self.device_hash(session), |_, listed| std::ptr::eq(&**listed, session));
    }

    /// Remembers that a token was ended, and takes it out.
    pub(super) fn end_token(&self, token: &str) {
        // First, so that no lookup finds the token neither dead nor active.
        self.dead.remember(token);
        if self.active.remove(&self.hash.of(&[token])).is_some() {
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Forgets what is counted of users whose sessions are all gone.
    pub(super) fn tidy(&self) {
        self.quota.tidy(&self.devices);
    }

    fn let_go(&self, session: &Session) {
        for minted in session.tokens.all() {
            let hash = self.hash.of(&[minted.token.as_str()]);
            if self.active.remove_if(&hash, |_, listed| std::ptr::eq(&**listed, session)).is_some() {
                self.count.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }

    /// Drops a sixteenth: first sessions that nobody has used, then the longest unused.
    fn make_room(&self) {
        let age = |session: &Session| session.usage.worth();
        let mut ages: Vec<(bool, u32)> = self.active.iter().map(|entry| age(&entry)).collect();
        let share = (ages.len() / 16).max(1);
        if ages.len() <= self.most || share >= ages.len() {
            return;
        }
        let (_, &mut oldest_kept, _) = ages.select_nth_unstable(share);
        let mut room = share;
        let mut goes = |session: &Session| {
            let goes = room > 0 && age(session) <= oldest_kept;
            room -= usize::from(goes);
            goes
        };
        self.active.retain(|_, session| !goes(session));
        self.devices.retain(|_, session| age(session) > oldest_kept);
        self.count.store(self.active.len(), Ordering::Relaxed);
    }

    fn device_hash(&self, session: &Session) -> u128 {
        self.hash.of(&[&session.pool, &session.user, &session.device.id])
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        pod::{PodConfig, PodInstance},
        sessions::{
            Device, Token,
            session::{Common, MoveReason},
        },
    };

    #[tokio::test(start_paused = true)]
    async fn one_user_displaces_only_his_own_sessions_and_first_those_that_nobody_uses() {
        let pod =
            Pod::new(&"main".into(), &PodConfig { name: "a".into(), authority: "h:1".into(), ..Default::default() });
        let uptime = Uptime::start();
        let known = KnownSessions::new(100_000, 100, KeyedHash::new(&[(1, 2)]), uptime);
        let common = Common { uptime, ..Common::default() };
        let log_in = |user: &str, device: &str, token: &str| {
            let device = Device { client: "c".into(), name: "n".into(), id: device.into(), version: "1".into() };
            let session = Session::begun(common.clone(), "main".into(), user.into(), device, Token::new(token));
            session.residence.record_home(PodInstance::of(&pod), token, || MoveReason::First);
            known.insert(&Arc::new(session)).len()
        };
        for user in 0..20 {
            log_in(&format!("user{user}"), "sofa", &format!("real {user}"));
        }
        log_in("mallory", "television", "his own");
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(matches!(known.find("his own"), SessionLookup::Active(_)));
        let gone: usize =
            (0..10_000).map(|number| log_in("mallory", &number.to_string(), &format!("token {number}"))).sum();
        assert_eq!((known.count(), gone), (120, 9_901));
        assert!((0..20).all(|user| matches!(known.find(&format!("real {user}")), SessionLookup::Active(_))));
        assert!(matches!(known.find("his own"), SessionLookup::Active(_)), "what is used outlives what is not");
        assert!(
            matches!(known.find("token 0"), SessionLookup::Unknown)
                && matches!(known.find("token 9999"), SessionLookup::Active(_))
        );
        assert_eq!(known.active.len(), 120);
    }
}
