//! All sessions that this process knows, found by any of their tokens.
//!
//! A session that is unused for long leaves memory, and the store brings it back. An end is for
//! good. It leaves a tombstone under every token, or the moment at which all of a user or device
//! ended.

mod await_sockets;
mod clients;
mod log_ins;
mod pending_logouts;
pub mod present;
mod quota;
mod random;
mod record;
mod replicas;
mod revocation;
mod stored;
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
    PodSessionId, Session, Token,
    session::{Common, Room},
    session_store::{SessionStore, StoredEntry},
};
use crate::pod::{Pod, PodInstance, Pool};
use await_sockets::OpenQueries;
use pending_logouts::PendingLogouts;
use record::StoredSession;
pub use stored::StoreSays;

/// Dead tokens that are found without a look into the session store, which knows all of them.
const MOST_DEAD: u64 = 100_000;

/// Unknown tokens that each of two tables remembers. One that is forgotten costs one more question.
const MOST_STRANGERS: u64 = 50_000;

/// How many entries a table has room for at first.
const AT_FIRST: usize = 64;

/// Sessions of one user at once, by default.
const OF_ONE_USER: usize = 256;

/// How long jellypin does not ask about an unknown token again.
const ASK_AGAIN: Duration = Duration::from_secs(60);

/// The sessions, and what is known of other tokens. Shared by all workers; only `async fn`s wait.
#[derive(Debug)]
pub struct Sessions {
    active: DashMap<u128, Arc<Session>, ahash::RandomState>,
    dead: Cache<u128, ()>,
    /// Unknown tokens, and until when jellypin asks nobody about them.
    strangers: Cache<u128, Instant>,
    /// Tokens that no replica knew, and until when jellypin does not ask the others again.
    unknown: Cache<u128, Instant>,
    /// The session of each user on each device. A log-in replaces the one before.
    devices: DashMap<u128, Arc<Session>, ahash::RandomState>,
    /// The sessions of each user, as keys of `devices`, the oldest first.
    users: DashMap<u128, Vec<u128>, ahash::RandomState>,
    of_one_user: usize,
    /// The capabilities of clients without a known session, by token, and the pod that got them
    /// last.
    capabilities: clients::Unresolved,
    /// Leaders that may have SyncPlay groups, and when each was last seen serving a member.
    groups: DashMap<PodInstance, Instant, ahash::RandomState>,
    secret: (u64, u64),
    most: usize,
    count: AtomicUsize,
    began: Instant,
    /// When messages of other replicas may have been lost, in seconds since the start plus one; 0:
    /// never.
    missed: AtomicU32,
    pools: Vec<Arc<Pool>>,
    pending_logouts: PendingLogouts,
    store: SessionStore,
    common: Common,
    /// The seeds of older keys, by which other replicas may name tokens.
    older: Vec<(u64, u64)>,
    /// This replica cannot read what another one writes. So it mints nothing and logs nobody out.
    is_apart: AtomicBool,
    /// The other replicas that are present.
    others: ArcSwap<Vec<present::Replica>>,
    /// This replica's open questions to the others.
    open_queries: OpenQueries,
    /// This replica's name in its messages to the others.
    name: String,
}

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

impl Sessions {
    /// No sessions yet, at most `most` tokens in memory. `secret` keys the hashes that find them.
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

    /// The same with other bounds: sessions of one user, and bytes of replayed calls. `older` are
    /// the seeds of the ring's older keys.
    #[must_use]
    pub fn bounded(mut self, of_one_user: usize, notes: usize, older: &[(u64, u64)]) -> Sessions {
        self.of_one_user = of_one_user.max(1);
        self.common.room = Room::of(notes);
        self.older = older.to_vec();
        self
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Sets whether another replica writes what this one cannot read. Meanwhile this one mints
    /// nothing, since that would end what the other has minted. It tells no client to log in again.
    pub fn set_apart(&self, is_apart: bool) {
        self.is_apart.store(is_apart, Ordering::Relaxed);
    }

    /// Whether sessions may not migrate for that reason.
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

    /// What this process knows of a token. Does not wait.
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

    /// Records that a request of the session's client has come.
    pub fn is_heard(&self, session: &Session) {
        session.set_heard(self.store_second());
    }

    /// Whether the session's client is there: it has an open socket at this replica, or was heard
    /// within this time. An app that was closed long ago is not there, even if its session
    /// migrates.
    pub fn is_there(&self, session: &Session, within: Duration) -> bool {
        let heard = session.heard();
        let since = self.store_second().saturating_sub(heard);
        session.has_sockets() || (heard > 0 && u64::from(since) <= within.as_secs())
    }

    /// Looks a token up in the store, within the store's deadline.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn look_up(&self, token: &str) -> SessionLookup {
        if self.store.is_shared() && !self.should_ask_about(token) {
            return SessionLookup::Unresolved;
        }
        self.lookup_store(token).await
    }

    /// The same, even if jellypin has just asked about this token.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn lookup_store(&self, token: &str) -> SessionLookup {
        match self.store.find(token).await {
            Ok(Some(kept)) => self.resolve_entry(token, kept).await,
            // Another replica may have kept it in a form that this one cannot read.
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
                // Another replica may have changed it meanwhile; that is not known yet.
                kept.session.set_entry_lost_at(self.store_second());
                self.restore(token, kept).await
            }
        }
    }

    /// Whether jellypin may ask about this unknown token: once in a while.
    pub fn should_ask_about(&self, token: &str) -> bool {
        self.strangers.get(&self.hash(&[token])).is_none_or(|until| until <= Instant::now())
    }

    /// Records that jellypin is asking about this token.
    pub fn record_asked(&self, token: &str) {
        self.strangers.insert(self.hash(&[token]), Instant::now() + ASK_AGAIN);
    }

    /// Takes a stored session into memory, unless all of its user or device has ended since.
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

    /// Queues a session to be kept in the store, and notifies the other replicas.
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
        // It ended at this very moment: take out again what was written.
        if session.is_ended() {
            self.bury_all(session, &tokens);
        }
        if let Some(own) = session.client_token() {
            self.notify_token_changed(own.as_str());
        }
    }

    /// Keeps a session whose tokens have changed. Waits for a bounded time until that is safe, and
    /// says whether it is.
    pub async fn persist_and_flush(&self, session: &Arc<Session>) -> bool {
        self.index(session);
        self.persist(session);
        self.store.flush().await
    }

    /// The session of a user on a device.
    pub fn of_device(&self, pool: &str, user: &str, device: &str) -> Option<Arc<Session>> {
        self.devices.get(&self.hash(&[pool, user, device])).map(|session| session.clone())
    }

    /// The session that pods list under this id. Several users of one device have the same id; then
    /// it is the one whose client is there.
    pub fn listed_as(&self, pool: &str, id: PodSessionId) -> Option<Arc<Session>> {
        let is_it = |session: &Session| *session.pool == *pool && session.is_listed_as(id);
        let listed = self.devices.iter().filter(|entry| is_it(entry)).map(|entry| entry.clone());
        listed.max_by_key(|session| (session.has_sockets(), session.heard()))
    }

    /// Every session that lives on this pod.
    pub fn of_pod(&self, pod: &Pod) -> Vec<Arc<Session>> {
        let lives_there = |session: &Session| session.home().is_some_and(|home| home.pod == pod.id);
        self.devices.iter().filter(|entry| lives_there(entry)).map(|entry| entry.clone()).collect()
    }

    /// Makes a session findable by all of its tokens. Gives the tokens of its user's sessions that
    /// had to make room.
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

    /// Drops a sixteenth: first sessions that nobody has used, then the longest unused.
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

    fn seconds(&self) -> u32 {
        self.began.elapsed().as_secs().try_into().unwrap_or(u32::MAX)
    }

    /// The present second plus one, so that it is never 0.
    fn store_second(&self) -> u32 {
        self.seconds().saturating_add(1)
    }

    fn pool(&self, name: &str) -> Option<&Arc<Pool>> {
        self.pools.iter().find(|pool| *pool.name == *name)
    }
}
