//! All sessions that this process knows, found by any of their tokens.
//!
//! A session leaves memory when it was not used for long; what is kept beyond the process brings it back. An end is for ever: it
//! leaves a tombstone under every token, and the moment at which everything of its user or its device ended.

mod await_sockets;
mod clients;
mod pending_logouts;
pub mod present;
mod quota;
mod record;
mod replicas;
mod revocation;
mod upkeep;

use std::{
    hash::Hasher,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use dashmap::DashMap;
use quick_cache::sync::Cache;
use siphasher::sip128::{Hasher128, SipHasher24};
use tokio::time::Instant;

use super::{
    Session, Token, plain_id,
    session::{Common, Device, MoveReason, Room},
    session_store::{SessionStore, StoredEntry},
};
use crate::pod::{Pod, PodInstance, Pool};
use await_sockets::OpenQueries;
pub(super) use pending_logouts::MOST as MOST_OWED;
use pending_logouts::PendingLogouts;
use record::StoredSession;

/// Dead tokens that are found without a look into the vault, which knows them all.
const MOST_DEAD: u64 = 100_000;

/// Strangers remembered at once, and those for whom the other replicas were asked. One that is forgotten costs a question.
const MOST_STRANGERS: u64 = 50_000;

/// How many entries a table has room for at first.
const AT_FIRST: usize = 64;

/// Sessions of one user at once, where nothing else is said.
const OF_ONE_USER: usize = 256;

/// How long nobody is asked for a token again.
const ASK_AGAIN: Duration = Duration::from_secs(60);

/// The sessions, and what is known of tokens without one. Shared by all workers; what awaits says so.
#[derive(Debug)]
pub struct Sessions {
    active: DashMap<u128, Arc<Session>, ahash::RandomState>,
    dead: Cache<u128, ()>,
    /// Tokens of which nothing is known, until when nobody is asked for them.
    strangers: Cache<u128, Instant>,
    /// Tokens that no replica knew, until when the others are not asked again.
    unknown: Cache<u128, Instant>,
    /// The session of each user on each device: a log-in takes the place of the one before.
    devices: DashMap<u128, Arc<Session>, ahash::RandomState>,
    /// What each user has: the sessions in `devices`, the oldest first.
    users: DashMap<u128, Vec<u128>, ahash::RandomState>,
    of_one_user: usize,
    /// The capabilities of clients whose session is not known, by token, and where they were told last.
    capabilities: clients::Unresolved,
    /// Leaders that may have SyncPlay groups, and when each was last seen to.
    groups: DashMap<PodInstance, Instant, ahash::RandomState>,
    secret: (u64, u64),
    most: usize,
    count: AtomicUsize,
    began: Instant,
    /// When words of other replicas may have been lost, in seconds since the beginning and one more; 0: never.
    missed: AtomicU32,
    pools: Vec<Arc<Pool>>,
    pending_logouts: PendingLogouts,
    store: SessionStore,
    common: Common,
    /// The seeds of older keys, by which other replicas may name tokens.
    older: Vec<(u64, u64)>,
    /// What another replica writes cannot be read here: nothing is minted, and nobody is logged out.
    is_apart: AtomicBool,
    /// The other replicas that are there.
    others: ArcSwap<Vec<present::Replica>>,
    /// What the other replicas have been asked.
    open_queries: OpenQueries,
    /// This replica's name in what it tells the others.
    name: String,
}

/// What is known of a token.
#[derive(Clone, Debug)]
pub enum SessionLookup {
    /// It stands for this session.
    Active(Arc<Session>),
    /// It was ended, and is never revived.
    Ended,
    /// Nothing, neither here nor beyond this process.
    Unknown,
    /// Nothing here, and what is kept beyond this process has not been heard.
    Unresolved,
}

impl Sessions {
    /// None yet, at most so many tokens in memory; `secret` keys the hashes by which they are found.
    pub fn new(most: usize, secret: (u64, u64), pools: Vec<Arc<Pool>>, store: SessionStore) -> Sessions {
        let common = Common { clock: store.clock().clone(), ..Common::default() };
        Sessions {
            active: DashMap::default(),
            dead: clients::table(MOST_DEAD),
            strangers: clients::table(MOST_STRANGERS),
            unknown: clients::table(MOST_STRANGERS),
            devices: DashMap::default(),
            users: DashMap::default(),
            of_one_user: OF_ONE_USER,
            capabilities: clients::untold(),
            common,
            older: Vec::new(),
            is_apart: AtomicBool::new(false),
            others: ArcSwap::default(),
            groups: DashMap::default(),
            secret,
            most: most.max(16),
            count: AtomicUsize::new(0),
            began: Instant::now(),
            missed: AtomicU32::new(0),
            pools,
            pending_logouts: PendingLogouts::default(),
            store,
            open_queries: DashMap::default(),
            name: replicas::name(),
        }
    }

    /// The same with other bounds: sessions of one user, and the bytes of notes. `older` are the seeds of the ring's older keys.
    #[must_use]
    pub fn bounded(mut self, of_one_user: usize, notes: usize, older: &[(u64, u64)]) -> Sessions {
        self.of_one_user = of_one_user.max(1);
        self.common.room = Room::of(notes);
        self.older = older.to_vec();
        self
    }

    /// This replica's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Another replica writes what this one cannot read, or no longer does. Meanwhile nothing is minted, which would end what
    /// that replica has minted, and nobody hears that he is to log in again.
    pub fn set_apart(&self, is_apart: bool) {
        self.is_apart.store(is_apart, Ordering::Relaxed);
    }

    /// Whether sessions may not be carried over for that reason.
    pub fn is_apart(&self) -> bool {
        self.is_apart.load(Ordering::Relaxed)
    }

    pub fn store(&self) -> &SessionStore {
        &self.store
    }

    /// Sessions in memory.
    pub fn len(&self) -> usize {
        self.devices.len()
    }

    pub fn is_empty(&self) -> bool {
        self.devices.is_empty()
    }

    /// What this process knows of a token; nothing is waited for.
    pub fn find(&self, token: &str) -> SessionLookup {
        let hash = self.hash(&[token]);
        if let Some(session) = self.active.get(&hash) {
            session.touch(self.store_second());
            return SessionLookup::Active(session.clone());
        }
        if self.dead.get(&hash).is_some() {
            return SessionLookup::Ended;
        }
        SessionLookup::Unknown
    }

    /// A request of the session's client has come.
    pub fn is_heard(&self, session: &Session) {
        session.set_heard(self.store_second());
    }

    /// Whether the session's client is there: it has an open socket at this replica, or was heard of within this time. An app
    /// that was closed long ago is not, and does not become so by being carried to another pod.
    pub fn is_there(&self, session: &Session, within: Duration) -> bool {
        let heard = session.heard();
        let since = self.store_second().saturating_sub(heard);
        session.has_sockets() || (heard > 0 && u64::from(since) <= within.as_secs())
    }

    /// Asks what is kept beyond this process, within the store's deadline.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn look_up(&self, token: &str) -> SessionLookup {
        if self.store.is_shared() && !self.should_ask_about(token) {
            return SessionLookup::Unresolved;
        }
        self.lookup_store(token).await
    }

    /// The same, whoever else was asked for this token.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn lookup_store(&self, token: &str) -> SessionLookup {
        match self.store.find(token).await {
            Ok(Some(kept)) => self.resolve_entry(token, kept).await,
            // Another replica may have kept it, and this one cannot read what that one writes.
            Ok(None) if self.is_apart() => SessionLookup::Unresolved,
            Ok(None) => SessionLookup::Unknown,
            Err(_) => SessionLookup::Unresolved,
        }
    }

    async fn resolve_entry(&self, token: &str, kept: StoredEntry) -> SessionLookup {
        match kept {
            StoredEntry::Ended => {
                self.insert_tombstone(token);
                SessionLookup::Ended
            }
            StoredEntry::Session(plain) => match self.deserialize(&plain) {
                Some(kept) => self.restore(token, kept).await,
                None => SessionLookup::Unknown,
            },
            StoredEntry::Restored(plain) => {
                let Some(kept) = self.deserialize(&plain) else { return SessionLookup::Unknown };
                // Nobody knows yet what another replica has made of it meanwhile.
                kept.session.set_entry_lost_at(self.store_second());
                self.restore(token, kept).await
            }
        }
    }

    /// Whether somebody is to be asked for this token, of which nothing is known: once in a while.
    pub fn should_ask_about(&self, token: &str) -> bool {
        self.strangers.get(&self.hash(&[token])).is_none_or(|until| until <= Instant::now())
    }

    /// Somebody is being asked for this token.
    pub fn record_asked(&self, token: &str) {
        self.strangers.insert(self.hash(&[token]), Instant::now() + ASK_AGAIN);
    }

    /// What was kept under this token becomes known, unless all of its user or device has ended since.
    async fn restore(&self, token: &str, kept: StoredSession) -> SessionLookup {
        let Ok(ended) = self.store.scope_ended_at(&kept.session).await else { return SessionLookup::Unresolved };
        if ended >= kept.session.born() {
            self.end_session(&kept.session);
            return SessionLookup::Ended;
        }
        if let SessionLookup::Active(known) = self.find(token) {
            // Another request was quicker.
            self.merge_stored(&known, &kept);
            return SessionLookup::Active(known);
        }
        let session = Arc::new(kept.session);
        if let Some(home) = kept.home {
            session.restore_home(home, kept.moved);
        }
        self.index(&session);
        SessionLookup::Active(session)
    }

    /// A log-in made this token. Whatever session the user had on the device before is ended, as the pod has ended it. Gives the
    /// tokens that are known no more, since their user has too many.
    pub fn record_log_in(&self, pod: &Pod, user: &str, device: Device, token: &str) -> Vec<Token> {
        match self.find(token) {
            SessionLookup::Active(known) => drop(known.record_home(PodInstance::of(pod), token, || MoveReason::First)),
            SessionLookup::Ended => {}
            SessionLookup::Unknown | SessionLookup::Unresolved => {
                let session = self.new_session(pod, user, device, token);
                let before = self.devices.get(&self.device_hash(&session)).map(|before| before.clone());
                if let Some(before) = before {
                    let known_there = before.token_at(PodInstance::of(pod));
                    self.end_session(&before);
                    known_there.iter().for_each(|token| self.confirm_logout(token.as_str()));
                }
                self.is_heard(&session);
                let gone = self.index(&session);
                self.persist(&session);
                return gone;
            }
        }
        Vec::new()
    }

    /// A pod has accepted a token of which nothing was known. What may be kept of it stands.
    pub async fn record_seen(&self, pod: &Pod, user: &str, device: Device, token: &str) {
        let kept = self.store.find(token).await;
        if !matches!(self.find(token), SessionLookup::Unknown) {
            return;
        }
        if let Ok(Some(kept)) = kept {
            drop(self.resolve_entry(token, kept).await);
            return;
        }
        let session = self.new_session(pod, user, device, token);
        self.is_heard(&session);
        self.index(&session);
        self.adopt_capabilities(&session, token);
        match kept {
            Ok(_) => self.persist(&session),
            // It is compared with what is kept before it is believed again, and kept then.
            Err(_) => session.set_compared_at(0),
        }
    }

    /// Keeps a session beyond this process, some time soon, and tells the other replicas.
    pub fn persist(&self, session: &Session) {
        if session.is_ended() {
            return;
        }
        session.bump_revision();
        let plain = self.serialize(session);
        let tokens = session.tokens();
        for minted in &tokens {
            self.store.put_session(minted.token.as_str(), &plain);
        }
        // Ended in this very moment: what was written comes out again.
        if session.is_ended() {
            self.bury_all(session, &tokens);
        }
        if let Some(own) = session.client_token() {
            self.notify_token_changed(own.as_str());
        }
    }

    /// Keeps a session whose tokens have changed, and waits until that is safe, for a bounded time. Says whether it is.
    pub async fn persist_and_flush(&self, session: &Arc<Session>) -> bool {
        self.index(session);
        self.persist(session);
        self.store.flush().await
    }

    /// Every session that lives on this pod.
    pub fn of_pod(&self, pod: &Pod) -> Vec<Arc<Session>> {
        let lives_there = |session: &Session| session.home().is_some_and(|home| home.pod == pod.id);
        self.devices.iter().filter(|entry| lives_there(entry)).map(|entry| entry.clone()).collect()
    }

    /// Makes a session findable by all of its tokens. Gives those of its user's sessions that had to go for it.
    fn index(&self, session: &Arc<Session>) -> Vec<Token> {
        if session.is_ended() {
            return Vec::new();
        }
        session.touch(self.store_second());
        session.set_compared_at(self.store_second());
        let device = self.device_hash(session);
        let is_new = self.devices.insert(device, session.clone()).is_none();
        for minted in session.tokens() {
            let is_new = self.active.insert(self.hash(&[minted.token.as_str()]), session.clone()).is_none();
            if is_new && self.count.fetch_add(1, Ordering::Relaxed) >= self.most {
                self.make_room();
            }
        }
        if is_new { self.count_for_user(session, device) } else { Vec::new() }
    }

    /// Lets a sixteenth go: of those that nobody has used, and then the longest unused.
    fn make_room(&self) {
        let age = |session: &Session| session.worth();
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
        self.hash(&[&session.pool, &session.user, &session.device.id])
    }

    fn hash(&self, parts: &[&str]) -> u128 {
        Sessions::hash_under(self.secret, parts)
    }

    fn hash_under(secret: (u64, u64), parts: &[&str]) -> u128 {
        let mut hasher = SipHasher24::new_with_keys(secret.0, secret.1);
        for part in parts {
            hasher.write(part.as_bytes());
            hasher.write_u8(0);
        }
        hasher.finish128().as_u128()
    }

    /// A session that begins on this pod.
    fn new_session(&self, pod: &Pod, user: &str, device: Device, token: &str) -> Arc<Session> {
        let common = self.common.clone();
        let session = Session::begun(common, pod.pool.clone(), plain_id(user), device, Token::new(token));
        session.record_home(PodInstance::of(pod), token, || MoveReason::First);
        Arc::new(session)
    }

    fn seconds(&self) -> u32 {
        self.began.elapsed().as_secs().try_into().unwrap_or(u32::MAX)
    }

    /// The present second, and one more, so that it is never 0.
    fn store_second(&self) -> u32 {
        self.seconds().saturating_add(1)
    }

    fn pool(&self, name: &str) -> Option<&Arc<Pool>> {
        self.pools.iter().find(|pool| *pool.name == *name)
    }
}
