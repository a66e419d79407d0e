//! Where sessions are kept beyond this process: sealed, each entry under the name that only its token gives.
//!
//! There are three kinds of entries: a session under each of its tokens; the moment at which a token, or everything of a user or a
//! device, was ended (`vault/ends`); and the log-outs that are owed (`vault/owed`). An end stands beside the session and not in its place:
//! nothing that is written later, by a replica that has not heard of it or by somebody who puts an old entry back, takes it away.

mod ends;
mod owed;

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;

use super::{Session, Token, UnixMillis, now, seal::Ring};
use crate::store::{
    disk::{Disk, Entry},
    shared::{Shared, notices::Words},
};

pub(super) use ends::Whole;

/// The longest time that a change waits until it is safe.
const SAFE: Duration = Duration::from_millis(500);

/// How long one replica keeps the others from carrying the same session, unless it says so again.
const LOCK: Duration = Duration::from_secs(3);

/// The kept entries.
pub struct Vault {
    ring: Ring,
    /// What opens the log-outs that are owed: nobody else has the token by which they would be opened.
    api_key: Option<Token>,
    store: Store,
}

enum Store {
    Memory,
    /// All that is on disk, by name: read at the start, changed with it.
    Disk(Box<OnDisk>),
    Redis(Arc<Shared>, String),
}

struct OnDisk {
    disk: Disk,
    entries: Mutex<Entries>,
    /// The log-outs that were owed at the start, sealed.
    owed: Mutex<Vec<Vec<u8>>>,
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
pub(super) enum Kept {
    /// A session, opened.
    Session(Vec<u8>),
    /// It was ended.
    Ended,
}

/// A name under the ring's keys, one for each.
pub(super) type Names = Vec<[u8; 16]>;

impl Vault {
    pub fn in_memory() -> Vault {
        Vault { ring: Ring::new(std::iter::empty()), api_key: None, store: Store::Memory }
    }

    /// On disk; `entries` are what the disk held at the start, the latest first, and `most` is how many it keeps.
    pub fn on_disk<'a>(
        disk: Disk,
        entries: Vec<Entry>,
        most: usize,
        keys: impl Iterator<Item = &'a [u8]>,
        api_key: &Token,
    ) -> Vault {
        let mut known = Entries { most, ..Entries::default() };
        let mut owed = Vec::new();
        for Entry { key, value, .. } in entries.into_iter().rev() {
            match key.try_into() {
                Ok(name) => known.put(name, value),
                Err(key) if owed::is_name(&key) => owed.push(value),
                Err(_) => {}
            }
        }
        let store = Store::Disk(Box::new(OnDisk { disk, entries: Mutex::new(known), owed: Mutex::new(owed) }));
        Vault { ring: Ring::new(keys), api_key: Some(api_key.clone()), store }
    }

    /// In the Redis of all replicas, whose keys begin with `prefix`.
    pub fn in_redis<'a>(
        shared: Arc<Shared>,
        prefix: &str,
        keys: impl Iterator<Item = &'a [u8]>,
        api_key: &Token,
    ) -> Vault {
        let store = Store::Redis(shared, prefix.to_owned());
        Vault { ring: Ring::new(keys), api_key: Some(api_key.clone()), store }
    }

    /// Whether other replicas change it as well.
    pub(super) fn is_shared(&self) -> bool {
        matches!(self.store, Store::Redis(..))
    }

    /// What is kept under this token, in Redis within the store's deadline. `Err` where Redis does not answer.
    pub(super) async fn find(&self, token: &str) -> Result<Option<Kept>, Silent> {
        let (ended, sessions) = (self.names_of_token(token), self.session_names(token));
        let values = self.values(&[("ended", &ended), ("session", &sessions)]).await?;
        Ok(self.kept(token, &values, ended.len()))
    }

    /// The same for a session that is known: what is kept of it, and when all of its user or device was ended last.
    pub(super) async fn review(&self, token: &str, session: &Session) -> Result<(Option<Kept>, UnixMillis), Silent> {
        let (ended, sessions) = (self.names_of_token(token), self.session_names(token));
        let wholes = self.names_of_wholes(session);
        let values = self.values(&[("ended", &ended), ("session", &sessions), ("ended", &wholes)]).await?;
        let (own, wholes) = values.split_at(ended.len() + sessions.len());
        Ok((self.kept(token, own, ended.len()), latest(wholes)))
    }

    /// When all of this session's user, and all of its device, was ended last.
    pub(super) async fn ended(&self, session: &Session) -> Result<UnixMillis, Silent> {
        Ok(latest(&self.values(&[("ended", &self.names_of_wholes(session))]).await?))
    }

    /// Keeps a session under one of its tokens, some time soon.
    pub(super) fn put(&self, token: &str, plain: &[u8]) {
        if let Some(sealed) = self.ring.seal(token, plain)
            && let Some(name) = self.ring.names("session", token).next()
        {
            self.write("session", name, sealed);
        }
    }

    /// Tells the other replicas, after all that was written so far.
    pub(super) fn tell(&self, words: String) {
        if let Store::Redis(shared, prefix) = &self.store {
            shared.tell(channel(prefix), words);
        }
    }

    /// The same, and gives how many replicas listen, this one among them. `None` where they are not to be told, or Redis does not
    /// say.
    pub(super) async fn ask(&self, words: &str) -> Option<usize> {
        match &self.store {
            Store::Redis(shared, prefix) => shared.ask(&channel(prefix), words).await,
            Store::Memory | Store::Disk(..) => None,
        }
    }

    /// Hears what the other replicas tell, and this one. `None` where there are none.
    pub(super) fn hear(&self) -> Option<Words> {
        match &self.store {
            Store::Redis(shared, prefix) => Some(shared.hear(channel(prefix))),
            Store::Memory | Store::Disk(..) => None,
        }
    }

    /// Waits until what was told is safe, for a bounded time. Says whether it is.
    pub(super) async fn is_safe(&self) -> bool {
        match &self.store {
            Store::Memory => true,
            Store::Disk(kept) => kept.disk.flush(SAFE).await,
            Store::Redis(shared, _) => shared.flush(SAFE).await,
        }
    }

    /// Keeps other replicas from carrying the session of this token. `false` while another does; where they cannot be told,
    /// the way is free.
    pub(super) async fn lock(&self, token: &str) -> bool {
        let Some((shared, key)) = self.lock_of(token) else { return true };
        shared.claim(&key, LOCK).await.unwrap_or(true)
    }

    /// Makes the lock last from now on.
    pub(super) async fn relock(&self, token: &str) {
        if let Some((shared, key)) = self.lock_of(token) {
            shared.prolong(&key, LOCK).await;
        }
    }

    pub(super) fn unlock(&self, token: &str) {
        if let Some((shared, key)) = self.lock_of(token) {
            shared.remove(key);
        }
    }

    /// The key of the lock on the session of this token, in the Redis of all replicas; `None` where there are none.
    fn lock_of(&self, token: &str) -> Option<(&Shared, String)> {
        let Store::Redis(shared, prefix) = &self.store else { return None };
        let name = self.ring.names("carry", token).next()?;
        Some((shared, named(prefix, "carry", name)))
    }

    /// Marks something with this moment, for all replicas; nothing where there are none.
    pub(super) fn mark(&self, what: &str, of: &str) {
        if let Store::Redis(shared, prefix) = &self.store {
            shared.put(format!("{prefix}:{what}:{of}"), now().to_string().into_bytes());
        }
    }

    /// Whether a replica has marked it within this time.
    pub(super) async fn is_marked(&self, what: &str, of: &str, within: Duration) -> bool {
        let Store::Redis(shared, prefix) = &self.store else { return false };
        let found = shared.find_all(&[format!("{prefix}:{what}:{of}")]).await.unwrap_or_default();
        u128::from(now().saturating_sub(latest(&found))) < within.as_millis()
    }

    /// Writes what is still to be written.
    pub async fn finish(&self) {
        match &self.store {
            Store::Memory => {}
            Store::Disk(kept) => kept.disk.finish().await,
            Store::Redis(shared, _) => shared.finish().await,
        }
    }

    fn session_names(&self, token: &str) -> Names {
        self.ring.names("session", token).collect()
    }

    /// The values of these names, each list of which is of one kind; in Redis within the store's deadline.
    async fn values(&self, names: &[(&str, &Names)]) -> Result<Vec<Option<Vec<u8>>>, Silent> {
        let all = names.iter().flat_map(|(kind, names)| names.iter().map(move |name| (*kind, *name)));
        match &self.store {
            Store::Memory => Ok(all.map(|_| None).collect()),
            Store::Disk(kept) => {
                let entries = kept.entries.lock();
                Ok(all.map(|(_, name)| entries.get(&name).cloned()).collect())
            }
            Store::Redis(shared, prefix) => {
                let names: Vec<String> = all.map(|(kind, name)| named(prefix, kind, name)).collect();
                shared.find_all(&names).await.ok_or(Silent)
            }
        }
    }

    /// The first `ends` values tell of an end, the others are sessions.
    fn kept(&self, token: &str, values: &[Option<Vec<u8>>], ends: usize) -> Option<Kept> {
        let (ended, sessions) = values.split_at(ends);
        if ended.iter().any(Option::is_some) {
            return Some(Kept::Ended);
        }
        sessions.iter().flatten().find_map(|sealed| self.ring.open(token, sealed)).map(Kept::Session)
    }

    fn write(&self, kind: &str, name: [u8; 16], value: Vec<u8>) {
        match &self.store {
            Store::Memory => {}
            Store::Disk(kept) => {
                kept.entries.lock().put(name, value.clone());
                kept.disk.put(name.to_vec(), value);
            }
            Store::Redis(shared, prefix) => shared.put(named(prefix, kind, name), value),
        }
    }

    fn erase(&self, kind: &str, name: [u8; 16]) {
        match &self.store {
            Store::Memory => {}
            Store::Disk(kept) => {
                kept.entries.lock().remove(&name);
                kept.disk.remove(name.to_vec());
            }
            Store::Redis(shared, prefix) => shared.remove(named(prefix, kind, name)),
        }
    }
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.store {
            Store::Memory => "Vault(memory)",
            Store::Disk(..) => "Vault(disk)",
            Store::Redis(..) => "Vault(Redis)",
        })
    }
}

/// Redis was not asked, or has not answered in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Silent;

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
