//! Where sessions are kept beyond this process: sealed, each entry under the name that only its token gives.
//!
//! There are three kinds of entries: a session under each of its tokens; the moment at which a token, or everything of a user or a
//! device, was ended (`store/ends`); and the log-outs that are owed (`store/pending_logouts`). An end stands beside the session and not in its place:
//! nothing that is written later, by a replica that has not heard of it or by somebody who puts an old entry back, takes it away.

mod ends;
mod pending_logouts;
mod tombstones;

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;

use super::{Bounds, Session, Token, UnixMillis, fingerprint::Fingerprint, registry, seal::Ring};
use crate::store::{
    clock::Clock,
    disk::{self, Disk, Entry},
    redis_store::{RedisStore, notices::Messages, presence::Present},
};
use tombstones::{Tombstone, Tombstones};

pub(super) use ends::EndScope;

/// The longest time that a change waits until it is safe.
const SAFE: Duration = Duration::from_millis(500);

/// How long one replica keeps the others from carrying the same session, unless it says so again.
const LOCK: Duration = Duration::from_secs(3);

/// Entries that are looked for, or written again, in one go.
pub(super) const AT_ONCE: usize = 256;

/// The part of all tombstones that may be of one user.
const OF_ONE_USER: usize = 50;

/// The kept entries: in Redis, where replicas share them; on disk, where there is a folder; and of what was ended, in memory.
pub struct SessionStore {
    ring: Ring,
    /// What opens the log-outs that are owed: nobody else has the token by which they would be opened.
    api_key: Option<Token>,
    bounds: Bounds,
    scope_ended_at: Mutex<Tombstones>,
    disk: Option<Box<OnDisk>>,
    redis: Option<(Arc<RedisStore>, String)>,
    clock: Clock,
}

struct OnDisk {
    disk: Disk,
    /// All sessions that are on disk, by name: read at the start, changed with it.
    entries: Mutex<Entries>,
    /// The log-outs that were owed at the start, sealed.
    pending_logouts: Mutex<Vec<Vec<u8>>>,
}

/// What is on disk, in the order in which it was put: the oldest go first, as they do there.
#[derive(Default)]
struct Entries {
    by_name: HashMap<[u8; 16], (u64, Vec<u8>), ahash::RandomState>,
    by_age: BTreeMap<u64, [u8; 16]>,
    count: u64,
    most: usize,
}

/// An entry as it is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum StoredEntry {
    /// A session, opened.
    Session(Vec<u8>),
    /// The same, which Redis had lost, and with it perhaps what another replica had kept.
    Restored(Vec<u8>),
    /// It was ended.
    Ended,
}

/// A name under the ring's keys, one for each.
pub(super) type Names = Vec<[u8; 16]>;

impl SessionStore {
    pub fn in_memory() -> SessionStore {
        SessionStore::new(std::iter::empty(), None, Bounds::default())
    }

    /// In memory only; `keys` are the ring's, newest first.
    pub fn new<'a>(keys: impl Iterator<Item = &'a [u8]>, api_key: Option<&Token>, bounds: Bounds) -> SessionStore {
        SessionStore {
            ring: Ring::new(keys),
            api_key: api_key.cloned(),
            bounds,
            scope_ended_at: Mutex::new(Tombstones::new(bounds.tombstones, bounds.tombstones / OF_ONE_USER)),
            disk: None,
            redis: None,
            clock: Clock::default(),
        }
    }

    /// On disk too; `entries` are what the disk held at the start, the latest first, and `most` is how many sessions it keeps.
    #[must_use]
    pub fn on_disk(self, disk: Disk, entries: Vec<Entry>, most: usize) -> SessionStore {
        let mut known = Entries { most, ..Entries::default() };
        let mut pending_logouts = Vec::new();
        for Entry { key, value, .. } in entries.into_iter().rev() {
            match key.try_into() {
                // So an earlier version has kept what was ended.
                Ok(name) if value.len() < SHORTEST => self.remember(name, &value),
                Ok(name) => known.put(name, value),
                Err(key) => match ends::name_on_disk(&key) {
                    Some(name) => self.remember(name, &value),
                    None if pending_logouts::is_name(&key) => pending_logouts.push(value),
                    None => {}
                },
            }
        }
        let disk =
            Some(Box::new(OnDisk { disk, entries: Mutex::new(known), pending_logouts: Mutex::new(pending_logouts) }));
        SessionStore { disk, ..self }
    }

    /// In the Redis of all replicas too, whose keys begin with `prefix`.
    #[must_use]
    pub fn in_redis(self, shared: Arc<RedisStore>, prefix: &str) -> SessionStore {
        let clock = shared.clock().clone();
        SessionStore { redis: Some((shared, prefix.to_owned())), clock, ..self }
    }

    /// What a disk keeps of each kind: so many sessions, so many tombstones. What is owed has a bound of its own.
    pub fn bounds_on_disk(sessions: usize, bounds: Bounds) -> disk::Bounds {
        let kind = |key: &[u8]| match key {
            _ if ends::name_on_disk(key).is_some() => 1,
            _ if pending_logouts::is_name(key) => 2,
            _ => 0,
        };
        disk::Bounds { kind, most: vec![sessions, bounds.tombstones, 2 * registry::MOST_OWED] }
    }

    /// What this replica says of its configuration.
    pub fn fingerprint(&self, parts: &[(&str, String)]) -> Fingerprint {
        Fingerprint::new(&self.ring, parts)
    }

    /// Says that this replica is there. `None` where nothing is shared, or Redis does not answer.
    pub(super) async fn announce(&self, name: &str, words: &str) -> Option<Present> {
        let (shared, _) = self.redis.as_ref()?;
        shared.announce(name, words).await
    }

    /// Says that this replica is gone.
    pub async fn depart(&self, name: &str) {
        if let Some((shared, _)) = &self.redis {
            shared.depart(name).await;
        }
    }

    /// The clock that all moments are of.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The nth key of the ring is the first that all replicas have: what is written is for all of them to read.
    pub fn write_under(&self, nth: usize) {
        self.ring.write_under(nth);
    }

    /// Which key of the ring is written under.
    pub fn writes_under(&self) -> usize {
        self.ring.writes_under()
    }

    /// Whether other replicas change it as well.
    pub(super) fn is_shared(&self) -> bool {
        self.redis.is_some()
    }

    /// What is kept under this token, in Redis within the store's deadline. `Err` where Redis does not answer.
    pub(super) async fn find(&self, token: &str) -> Result<Option<StoredEntry>, StoreUnavailable> {
        let (ended, sessions) = (self.tombstone_names(token), self.session_names(token));
        if self.is_ended(&ended) {
            return Ok(Some(StoredEntry::Ended));
        }
        let values = self.values(&[("ended", &ended), ("session", &sessions)]).await?;
        let (of_ended, of_sessions) = values.split_at(ended.len());
        self.remember_all(&ended, of_ended);
        if let Some(kept) = self.open_entry(token, &values, ended.len()) {
            self.hold(&sessions, of_sessions);
            return Ok(Some(kept));
        }
        Ok(self.find_on_disk(token, &sessions))
    }

    /// What only this disk has. Redis, where there is one, gets it again.
    fn find_on_disk(&self, token: &str, names: &Names) -> Option<StoredEntry> {
        let kept = self.disk.as_ref()?;
        let sealed = names.iter().find_map(|name| kept.entries.lock().get(name).cloned())?;
        let plain = self.ring.open(token, &sealed)?;
        if self.restore(names) { Some(StoredEntry::Restored(plain)) } else { Some(StoredEntry::Session(plain)) }
    }

    /// What Redis has of a session in use is held on this disk too.
    fn hold(&self, names: &Names, values: &[Option<Vec<u8>>]) {
        let Some(kept) = &self.disk else { return };
        for (name, sealed) in names.iter().zip(values) {
            if let Some(sealed) = sealed {
                kept.entries.lock().put(*name, sealed.clone());
                kept.disk.put(name.to_vec(), sealed.clone());
            }
        }
    }

    /// The same for a session that is known: what is kept of it, and when all of its user or device was ended last.
    pub(super) async fn find_for_refresh(
        &self,
        token: &str,
        session: &Session,
    ) -> Result<(Option<StoredEntry>, UnixMillis), StoreUnavailable> {
        let (ended, sessions) = (self.tombstone_names(token), self.session_names(token));
        let wholes = self.scope_names(session);
        let values = self.values(&[("ended", &ended), ("session", &sessions), ("ended", &wholes)]).await?;
        let (own, of_wholes) = values.split_at(ended.len() + sessions.len());
        self.remember_all(&ended, &own[..ended.len()]);
        self.remember_all(&wholes, of_wholes);
        let kept =
            if self.is_ended(&ended) { Some(StoredEntry::Ended) } else { self.open_entry(token, own, ended.len()) };
        Ok((kept, self.latest_end(&wholes)))
    }

    /// When all of this session's user, and all of its device, was ended last.
    pub(super) async fn scope_ended_at(&self, session: &Session) -> Result<UnixMillis, StoreUnavailable> {
        let names = self.scope_names(session);
        let values = self.values(&[("ended", &names)]).await?;
        self.remember_all(&names, &values);
        Ok(self.latest_end(&names))
    }

    /// Keeps a session under one of its tokens, some time soon.
    pub(super) fn put_session(&self, token: &str, plain: &[u8]) {
        if let Some(sealed) = self.ring.seal(token, plain)
            && let Some(name) = self.ring.name("session", token)
        {
            if let Some(kept) = &self.disk {
                kept.entries.lock().put(name, sealed.clone());
                kept.disk.put(name.to_vec(), sealed.clone());
            }
            if let Some((shared, prefix)) = &self.redis {
                shared.put(named(prefix, "session", name), sealed);
            }
        }
    }

    /// The name under which a token's session is written.
    pub(super) fn session_name(&self, token: &str) -> Option<[u8; 16]> {
        self.ring.name("session", token)
    }

    /// Which of these sessions' entries Redis has. `None` where it does not say.
    pub(super) async fn has_sessions(&self, names: &[[u8; 16]]) -> Option<Vec<bool>> {
        let (shared, prefix) = self.redis.as_ref()?;
        let keys: Vec<_> = names.iter().map(|name| named(prefix, "session", *name)).collect();
        shared.are_there(&keys).await
    }

    /// Writes into Redis again what only the disk has under these names. Says whether there was something.
    pub(super) fn restore(&self, names: &[[u8; 16]]) -> bool {
        let (Some((shared, prefix)), Some(kept)) = (&self.redis, &self.disk) else { return false };
        let entries = kept.entries.lock();
        let found: Vec<_> = names.iter().filter_map(|name| Some((*name, entries.get(name)?.clone()))).collect();
        drop(entries);
        let is_some = !found.is_empty();
        for (name, sealed) in found {
            shared.put(named(prefix, "session", name), sealed);
        }
        is_some
    }

    /// Takes a session's entries out, which has not ended: there are too many of its user.
    pub(super) fn forget(&self, token: &str) {
        for name in self.session_names(token) {
            self.erase(name);
        }
    }

    /// Tells the other replicas, after all that was written so far.
    pub(super) fn publish(&self, words: String) {
        if let Some((shared, prefix)) = &self.redis {
            shared.publish(channel(prefix), words);
        }
    }

    /// The same, and gives how many replicas listen, this one among them. `None` where they are not to be told, or Redis does not
    /// say.
    pub(super) async fn publish_and_count(&self, words: &str) -> Option<usize> {
        let (shared, prefix) = self.redis.as_ref()?;
        shared.publish_and_count(&channel(prefix), words).await
    }

    /// Hears what the other replicas tell, and this one. `None` where there are none.
    pub(super) fn subscribe(&self) -> Option<Messages> {
        let (shared, prefix) = self.redis.as_ref()?;
        Some(shared.subscribe(channel(prefix)))
    }

    /// Waits until what was told is safe, for a bounded time. Says whether it is.
    pub(super) async fn flush(&self) -> bool {
        let on_disk = async || match &self.disk {
            Some(kept) => kept.disk.flush(SAFE).await,
            None => self.redis.is_none(),
        };
        match &self.redis {
            Some((shared, _)) => shared.flush(SAFE).await || on_disk().await,
            None => on_disk().await,
        }
    }

    /// Keeps other replicas from carrying the session of this token. `false` while another does; where they cannot be told,
    /// the way is free.
    pub(super) async fn lock(&self, token: &str) -> bool {
        let Some((shared, key)) = self.lock_of(token) else { return true };
        shared.acquire_lock(&key, LOCK).await.unwrap_or(true)
    }

    /// Makes the lock last from now on.
    pub(super) async fn renew_lock(&self, token: &str) {
        if let Some((shared, key)) = self.lock_of(token) {
            shared.extend_lock(&key, LOCK).await;
        }
    }

    pub(super) fn unlock(&self, token: &str) {
        if let Some((shared, key)) = self.lock_of(token) {
            shared.remove(key);
        }
    }

    /// The key of the lock on the session of this token, in the Redis of all replicas; `None` where there are none.
    fn lock_of(&self, token: &str) -> Option<(&RedisStore, String)> {
        let (shared, prefix) = self.redis.as_ref()?;
        let name = self.ring.name("carry", token)?;
        Some((shared, named(prefix, "carry", name)))
    }

    /// Marks something with this moment, for all replicas; nothing where there are none.
    pub(super) fn mark(&self, what: &str, of: &str) {
        if let Some((shared, prefix)) = &self.redis {
            shared.put(format!("{prefix}:{what}:{of}"), self.clock.now().to_string().into_bytes());
        }
    }

    /// Whether a replica has marked it within this time.
    pub(super) async fn is_marked(&self, what: &str, of: &str, within: Duration) -> bool {
        let Some((shared, prefix)) = &self.redis else { return false };
        let found = shared.find_all(&[format!("{prefix}:{what}:{of}")]).await.unwrap_or_default();
        u128::from(self.clock.now().saturating_sub(latest(&found))) < within.as_millis()
    }

    /// Writes what is still to be written.
    pub async fn finish(&self) {
        if let Some((shared, _)) = &self.redis {
            shared.finish().await;
        }
        if let Some(kept) = &self.disk {
            kept.disk.finish().await;
        }
    }

    pub(super) fn session_names(&self, token: &str) -> Names {
        self.ring.names("session", token).collect()
    }

    /// What Redis has under these names, each list of which is of one kind, within the store's deadline.
    async fn values(&self, names: &[(&str, &Names)]) -> Result<Vec<Option<Vec<u8>>>, StoreUnavailable> {
        let all = names.iter().flat_map(|(kind, names)| names.iter().map(move |name| (*kind, *name)));
        let Some((shared, prefix)) = &self.redis else { return Ok(all.map(|_| None).collect()) };
        let names: Vec<String> = all.map(|(kind, name)| named(prefix, kind, name)).collect();
        shared.find_all(&names).await.ok_or(StoreUnavailable)
    }

    /// The first `ends` values tell of an end, the others are sessions.
    fn open_entry(&self, token: &str, values: &[Option<Vec<u8>>], ends: usize) -> Option<StoredEntry> {
        let (ended, sessions) = values.split_at(ends);
        if ended.iter().any(Option::is_some) {
            return Some(StoredEntry::Ended);
        }
        sessions.iter().flatten().find_map(|sealed| self.ring.open(token, sealed)).map(StoredEntry::Session)
    }

    fn erase(&self, name: [u8; 16]) {
        if let Some(kept) = &self.disk {
            kept.entries.lock().remove(&name);
            kept.disk.remove(name.to_vec());
        }
        if let Some((shared, prefix)) = &self.redis {
            shared.remove(named(prefix, "session", name));
        }
    }
}

impl fmt::Debug for SessionStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (disk, redis) = (self.disk.is_some(), self.redis.is_some());
        f.debug_struct("Vault").field("disk", &disk).field("redis", &redis).finish_non_exhaustive()
    }
}

/// The shortest sealed entry: a nonce and a tag. What is shorter is a moment.
const SHORTEST: usize = 40;

/// Redis was not asked, or has not answered in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StoreUnavailable;

impl Entries {
    fn get(&self, name: &[u8; 16]) -> Option<&Vec<u8>> {
        self.by_name.get(name).map(|(_, value)| value)
    }

    fn put(&mut self, name: [u8; 16], value: Vec<u8>) {
        self.remove(&name);
        self.count += 1;
        self.by_age.insert(self.count, name);
        self.by_name.insert(name, (self.count, value));
        while self.by_name.len() > self.most
            && let Some((_, oldest)) = self.by_age.pop_first()
        {
            self.by_name.remove(&oldest);
        }
    }

    fn remove(&mut self, name: &[u8; 16]) {
        if let Some((at, _)) = self.by_name.remove(name) {
            self.by_age.remove(&at);
        }
    }
}

/// The latest of these moments.
fn latest(values: &[Option<Vec<u8>>]) -> UnixMillis {
    let moment = |value: &Vec<u8>| std::str::from_utf8(value).ok()?.parse::<UnixMillis>().ok();
    values.iter().flatten().filter_map(moment).max().unwrap_or(0)
}

/// Where replicas tell each other what has changed.
fn channel(prefix: &str) -> String {
    format!("{prefix}:told")
}

fn named(prefix: &str, kind: &str, name: [u8; 16]) -> String {
    format!("{prefix}:{kind}:{:032x}", u128::from_be_bytes(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_disk_is_known_within_the_same_bound_the_oldest_gone() {
        let mut entries = Entries { most: 3, ..Entries::default() };
        for number in 0..5_u8 {
            entries.put([number; 16], vec![number]);
            entries.put([0; 16], vec![number]);
        }
        assert_eq!(entries.by_name.len(), 3);
        assert_eq!(entries.by_age.len(), 3);
        assert_eq!(entries.get(&[0; 16]), Some(&vec![4]), "what is put again is young again");
        assert!(entries.get(&[4; 16]).is_some() && entries.get(&[2; 16]).is_none());
        entries.remove(&[0; 16]);
        assert_eq!((entries.by_name.len(), entries.by_age.len()), (2, 2));
    }
}
