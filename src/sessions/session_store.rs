//! Where sessions are kept beyond this process. Each entry is sealed, under a name that only its
//! token gives.
//!
//! There are three kinds of entries. A session stands under each of its tokens. A tombstone is the
//! moment at which a token, or all of a user or device, was ended (`session_store/ends`). The third
//! are pending log-outs (`session_store/pending_logouts`). A tombstone stands beside the session,
//! not in its place. So no later write takes it away: neither a replica that missed the end, nor
//! someone who puts an old entry back.

mod ends;
mod on_disk;
mod pending_logouts;
mod replicas;
mod tombstones;

use std::{fmt, sync::Arc, time::Duration};

use parking_lot::Mutex;

use super::{Bounds, Session, Token, UnixMillis, fingerprint::Fingerprint, seal::Ring};
use crate::store::{
    clock::Clock,
    disk::{self, Disk, Entry},
    redis_store::RedisStore,
};
use on_disk::{Entries, OnDisk};
pub(in crate::sessions) use pending_logouts::MOST as MOST_PENDING;
use tombstones::{Tombstone, Tombstones};

pub(super) use ends::EndScope;

/// The longest time that a flush waits until a change is safe.
const SAFE: Duration = Duration::from_millis(500);

/// Entries that one batch looks up or writes again.
pub(super) const AT_ONCE: usize = 256;

/// One owner's tombstones are at most all tombstones divided by this.
const OF_ONE_OWNER: usize = 50;

/// The kept entries: in Redis, shared; on disk, if there is a folder. Tombstones are in memory too.
pub struct SessionStore {
    ring: Ring,
    /// Opens the pending log-outs, since no client presents their tokens any more.
    api_key: Option<Token>,
    bounds: Bounds,
    scope_ended_at: Mutex<Tombstones>,
    disk: Option<Box<OnDisk>>,
    redis: Option<(Arc<RedisStore>, String)>,
    clock: Clock,
}

/// An entry as the store finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum StoredEntry {
    /// A session, opened.
    Session(Vec<u8>),
    /// A session that Redis had lost, and with it perhaps what another replica had kept.
    Restored(Vec<u8>),
    /// A tombstone.
    Ended,
}

/// One name under each of the ring's keys.
pub(super) type Names = Vec<[u8; 16]>;

impl SessionStore {
    pub fn in_memory() -> SessionStore {
        SessionStore::new(std::iter::empty(), None, Bounds::default())
    }

    /// In memory only. `keys` are the ring's, newest first.
    pub fn new<'a>(keys: impl Iterator<Item = &'a [u8]>, api_key: Option<&Token>, bounds: Bounds) -> SessionStore {
        SessionStore {
            ring: Ring::new(keys),
            api_key: api_key.cloned(),
            bounds,
            scope_ended_at: Mutex::new(Tombstones::new(bounds.tombstones, bounds.tombstones / OF_ONE_OWNER)),
            disk: None,
            redis: None,
            clock: Clock::default(),
        }
    }

    /// Adds a disk with room for `most` sessions. It held `entries` at the start, the latest first.
    #[must_use]
    pub fn on_disk(self, disk: Disk, entries: Vec<Entry>, most: usize) -> SessionStore {
        let mut known = Entries::bounded(most);
        let mut pending_logouts = Vec::new();
        for Entry { key, value, .. } in entries.into_iter().rev() {
            match key.try_into() {
                // An earlier version kept tombstones like this.
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

    /// Adds the Redis of all replicas. The keys there begin with `prefix`.
    #[must_use]
    pub fn in_redis(self, shared: Arc<RedisStore>, prefix: &str) -> SessionStore {
        let clock = shared.clock().clone();
        SessionStore { redis: Some((shared, prefix.to_owned())), clock, ..self }
    }

    /// What a disk keeps of each kind. Pending log-outs have a bound of their own.
    pub fn bounds_on_disk(sessions: usize, bounds: Bounds) -> disk::Bounds {
        let kind = |key: &[u8]| match key {
            _ if ends::name_on_disk(key).is_some() => 1,
            _ if pending_logouts::is_name(key) => 2,
            _ => 0,
        };
        disk::Bounds { kind, most: vec![sessions, bounds.tombstones, 2 * MOST_PENDING] }
    }

    /// The fingerprint of this replica's configuration.
    pub fn fingerprint(&self, parts: &[(&str, String)]) -> Fingerprint {
        Fingerprint::new(&self.ring, parts)
    }

    /// The clock of all moments that are kept here.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Seals under the nth key of the ring from now on. All replicas have that key, so all can read
    /// what this one writes.
    pub fn write_under(&self, nth: usize) {
        self.ring.write_under(nth);
    }

    /// The index of the ring's key that seals.
    pub fn writes_under(&self) -> usize {
        self.ring.writes_under()
    }

    /// Whether other replicas change the store as well.
    pub(super) fn is_shared(&self) -> bool {
        self.redis.is_some()
    }

    /// What is kept under this token. `Err` if Redis does not answer within the store's deadline.
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

    /// What only this disk has. Writes it into Redis again, if there is one.
    fn find_on_disk(&self, token: &str, names: &Names) -> Option<StoredEntry> {
        let kept = self.disk.as_ref()?;
        let sealed = names.iter().find_map(|name| kept.entries.lock().get(name).cloned())?;
        let plain = self.ring.open(token, &sealed)?;
        if self.restore(names) { Some(StoredEntry::Restored(plain)) } else { Some(StoredEntry::Session(plain)) }
    }

    /// Copies to this disk what Redis has of a session in use.
    fn hold(&self, names: &Names, values: &[Option<Vec<u8>>]) {
        let Some(kept) = &self.disk else { return };
        for (name, sealed) in names.iter().zip(values) {
            if let Some(sealed) = sealed {
                kept.entries.lock().put(*name, sealed.clone());
                kept.disk.put(name.to_vec(), sealed.clone());
            }
        }
    }

    /// Like `find`, for a known session. Also gives when all of its user or device was last ended.
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

    /// When all of this session's user, or all of its device, was last ended.
    pub(super) async fn scope_ended_at(&self, session: &Session) -> Result<UnixMillis, StoreUnavailable> {
        let names = self.scope_names(session);
        let values = self.values(&[("ended", &names)]).await?;
        self.remember_all(&names, &values);
        Ok(self.latest_end(&names))
    }

    /// Queues a session to be kept under one of its tokens.
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

    /// Which of these sessions' entries Redis has. `None` if Redis does not answer.
    pub(super) async fn has_sessions(&self, names: &[[u8; 16]]) -> Option<Vec<bool>> {
        let (shared, prefix) = self.redis.as_ref()?;
        let keys: Vec<_> = names.iter().map(|name| named(prefix, "session", *name)).collect();
        shared.are_there(&keys).await
    }

    /// Writes into Redis again what only the disk has under these names. Says whether there was
    /// something.
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

    /// Removes the entries of a session that has not ended, since its user has too many.
    pub(super) fn forget(&self, token: &str) {
        for name in self.session_names(token) {
            self.erase(name);
        }
    }

    /// Waits for a bounded time until the queued writes are safe. Says whether they are.
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

    /// Writes all that is still queued.
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

    /// What Redis has under these names, within the store's deadline. Each list is of one kind.
    async fn values(&self, names: &[(&str, &Names)]) -> Result<Vec<Option<Vec<u8>>>, StoreUnavailable> {
        let all = names.iter().flat_map(|(kind, names)| names.iter().map(move |name| (*kind, *name)));
        let Some((shared, prefix)) = &self.redis else { return Ok(all.map(|_| None).collect()) };
        let names: Vec<String> = all.map(|(kind, name)| named(prefix, kind, name)).collect();
        shared.find_all(&names).await.ok_or(StoreUnavailable)
    }

    /// The first `ends` values belong to tombstones, the others to sessions.
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
        f.debug_struct("SessionStore").field("disk", &disk).field("redis", &redis).finish_non_exhaustive()
    }
}

/// The shortest sealed entry: a nonce and a tag. A shorter value is the moment of a tombstone.
const SHORTEST: usize = 40;

/// jellypin did not ask Redis, or Redis did not answer in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StoreUnavailable;

/// The latest of these moments.
fn latest(values: &[Option<Vec<u8>>]) -> UnixMillis {
    let moment = |value: &Vec<u8>| std::str::from_utf8(value).ok()?.parse::<UnixMillis>().ok();
    values.iter().flatten().filter_map(moment).max().unwrap_or(0)
}

fn named(prefix: &str, kind: &str, name: [u8; 16]) -> String {
    format!("{prefix}:{kind}:{:032x}", u128::from_be_bytes(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sessions::Owner;

    #[tokio::test]
    async fn an_address_displaces_only_the_ends_that_it_made() {
        let bounds = Bounds { tombstones: 1000, ..Bounds::default() };
        let store = SessionStore::new([b"key".as_slice()].into_iter(), None, bounds);
        let of = |last: u8| Owner::Address([192, 0, 2, last].into());
        (0..10).for_each(|number| store.write_tombstone(&format!("other {number}"), of(2), 1));
        (0..5000).for_each(|number| store.write_tombstone(&format!("one {number}"), of(1), 1));
        assert_eq!(store.ends(), 10 + 1000 / OF_ONE_OWNER);
        for number in 0..10 {
            assert_eq!(store.find(&format!("other {number}")).await, Ok(Some(StoredEntry::Ended)));
        }
        assert_eq!(store.find("one 4999").await, Ok(Some(StoredEntry::Ended)), "its latest stay");
    }
}
