//! Where sessions are kept beyond this process: sealed, each entry under the name that only its token gives.
//!
//! There are three kinds of entries: a session under each of its tokens, a tombstone in the place of one, and the moment at which
//! everything of a user or a device was ended.

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use parking_lot::Mutex;

use super::{UnixMillis, seal::Ring};
use crate::store::{
    disk::{Disk, Entry},
    shared::Shared,
};

/// What stands in the place of a session that was ended.
const TOMBSTONE: &[u8] = b"ended";

/// The longest time that a change waits until it is safe.
const SAFE: Duration = Duration::from_millis(500);

/// How long one replica may keep the others from carrying the same session.
const LOCK: Duration = Duration::from_secs(10);

/// The kept entries.
pub struct Vault {
    ring: Ring,
    place: Place,
}

enum Place {
    Memory,
    /// All that is on disk, by name: read at the start, changed with it.
    Disk(Box<(Disk, Mutex<Entries>)>),
    Redis(Arc<Shared>, String),
}

type Entries = HashMap<Vec<u8>, Vec<u8>, ahash::RandomState>;

/// An entry as it is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    /// A session, opened.
    Session(Vec<u8>),
    Tombstone,
}

/// What is ended as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whole {
    User,
    Device,
}

impl Whole {
    fn purpose(self) -> &'static str {
        match self {
            Whole::User => "ended user",
            Whole::Device => "ended device",
        }
    }
}

impl Vault {
    pub fn in_memory() -> Vault {
        Vault { ring: Ring::new(std::iter::empty()), place: Place::Memory }
    }

    /// On disk; `entries` are what the disk held at the start.
    pub fn on_disk<'a>(disk: Disk, entries: Vec<Entry>, keys: impl Iterator<Item = &'a [u8]>) -> Vault {
        let entries = entries.into_iter().map(|entry| (entry.key, entry.value)).collect();
        Vault { ring: Ring::new(keys), place: Place::Disk(Box::new((disk, Mutex::new(entries)))) }
    }

    /// In the Redis of all replicas, whose keys begin with `prefix`.
    pub fn in_redis<'a>(shared: Arc<Shared>, prefix: &str, keys: impl Iterator<Item = &'a [u8]>) -> Vault {
        Vault { ring: Ring::new(keys), place: Place::Redis(shared, prefix.to_owned()) }
    }

    /// Whether other replicas change it as well.
    pub(super) fn is_shared(&self) -> bool {
        matches!(self.place, Place::Redis(..))
    }

    /// What is kept under this token on disk; nothing is waited for.
    pub(super) fn look(&self, token: &str) -> Option<Kept> {
        let Place::Disk(kept) = &self.place else { return None };
        let entries = kept.1.lock();
        let found = self.ring.names("session", token).find_map(|name| entries.get(&name[..]).cloned());
        drop(entries);
        self.opened(token, found?)
    }

    /// What is kept under this token in Redis, within the store's deadline. `Err` where Redis does not answer.
    pub(super) async fn find(&self, token: &str) -> Result<Option<Kept>, Silent> {
        let Place::Redis(shared, prefix) = &self.place else { return Ok(self.look(token)) };
        let names: Vec<String> = self.ring.names("session", token).map(|name| named(prefix, "session", name)).collect();
        let found = shared.find_all(&names).await.ok_or(Silent)?;
        Ok(found.into_iter().flatten().next().and_then(|value| self.opened(token, value)))
    }

    /// When all of this user, and all of this device, was ended last.
    pub(super) async fn ended(&self, user: &str, device: &str) -> Result<UnixMillis, Silent> {
        let of = |whole: Whole, id: &str| self.ring.names(whole.purpose(), &normal(whole, id)).collect::<Vec<_>>();
        let names = [of(Whole::User, user), of(Whole::Device, device)].concat();
        let values: Vec<Vec<u8>> = match &self.place {
            Place::Memory => Vec::new(),
            Place::Disk(kept) => {
                let entries = kept.1.lock();
                names.iter().filter_map(|name| entries.get(&name[..]).cloned()).collect()
            }
            Place::Redis(shared, prefix) => {
                let names: Vec<String> = names.iter().map(|name| named(prefix, "ended", *name)).collect();
                shared.find_all(&names).await.ok_or(Silent)?.into_iter().flatten().collect()
            }
        };
        let moment = |value: &Vec<u8>| std::str::from_utf8(value).ok()?.parse::<UnixMillis>().ok();
        Ok(values.iter().filter_map(moment).max().unwrap_or(0))
    }

    /// Keeps a session under one of its tokens, some time soon.
    pub(super) fn put(&self, token: &str, plain: &[u8]) {
        if let Some(sealed) = self.ring.seal(token, plain) {
            self.store(token, sealed);
        }
    }

    /// Puts a tombstone in the place of a session.
    pub(super) fn bury(&self, token: &str) {
        self.store(token, TOMBSTONE.to_vec());
    }

    /// All of this user or device was ended at this moment.
    pub(super) fn end(&self, whole: Whole, id: &str, at: UnixMillis) {
        let Some(name) = self.ring.names(whole.purpose(), &normal(whole, id)).next() else { return };
        self.write("ended", name, at.to_string().into_bytes());
    }

    /// Waits until what was told is safe, for a bounded time. Says whether it is.
    pub(super) async fn is_safe(&self) -> bool {
        match &self.place {
            Place::Memory => true,
            Place::Disk(kept) => kept.0.flush(SAFE).await,
            Place::Redis(shared, _) => shared.flush(SAFE).await,
        }
    }

    /// Keeps other replicas from carrying the session of this token. `false` while another does; where they cannot be told,
    /// the way is free.
    pub(super) async fn lock(&self, token: &str) -> bool {
        let Place::Redis(shared, prefix) = &self.place else { return true };
        let Some(name) = self.ring.names("carry", token).next() else { return true };
        shared.claim(&named(prefix, "carry", name), LOCK).await.unwrap_or(true)
    }

    pub(super) fn unlock(&self, token: &str) {
        if let Place::Redis(shared, prefix) = &self.place
            && let Some(name) = self.ring.names("carry", token).next()
        {
            shared.remove(named(prefix, "carry", name));
        }
    }

    /// Tells the other replicas something; nobody where there are none.
    pub(super) fn tell(&self, what: &str, of: &str, value: &[u8]) {
        if let Place::Redis(shared, prefix) = &self.place {
            shared.put(format!("{prefix}:{what}:{of}"), value.to_vec());
        }
    }

    pub(super) fn untell(&self, what: &str, of: &str) {
        if let Place::Redis(shared, prefix) = &self.place {
            shared.remove(format!("{prefix}:{what}:{of}"));
        }
    }

    /// Whether another replica has told it.
    pub(super) async fn is_told(&self, what: &str, of: &str) -> bool {
        let Place::Redis(shared, prefix) = &self.place else { return false };
        let found = shared.find_all(&[format!("{prefix}:{what}:{of}")]).await;
        found.is_some_and(|values| values.iter().any(Option::is_some))
    }

    /// Writes what is still to be written.
    pub async fn finish(&self) {
        match &self.place {
            Place::Memory => {}
            Place::Disk(kept) => kept.0.finish().await,
            Place::Redis(shared, _) => shared.finish().await,
        }
    }

    fn opened(&self, token: &str, value: Vec<u8>) -> Option<Kept> {
        if value == TOMBSTONE { Some(Kept::Tombstone) } else { self.ring.open(token, &value).map(Kept::Session) }
    }

    fn store(&self, token: &str, value: Vec<u8>) {
        let Some(name) = self.ring.names("session", token).next() else { return };
        self.write("session", name, value);
    }

    fn write(&self, kind: &str, name: [u8; 16], value: Vec<u8>) {
        match &self.place {
            Place::Memory => {}
            Place::Disk(kept) => {
                kept.1.lock().insert(name.to_vec(), value.clone());
                kept.0.put(name.to_vec(), value);
            }
            Place::Redis(shared, prefix) => shared.put(named(prefix, kind, name), value),
        }
    }
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.place {
            Place::Memory => "Vault(memory)",
            Place::Disk(..) => "Vault(disk)",
            Place::Redis(..) => "Vault(Redis)",
        })
    }
}

/// Redis was not asked, or has not answered in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Silent;

fn named(prefix: &str, kind: &str, name: [u8; 16]) -> String {
    format!("{prefix}:{kind}:{:032x}", u128::from_be_bytes(name))
}

/// A user's id in one form: with or without dashes, in any case. A device's id is what it is.
fn normal(whole: Whole, id: &str) -> String {
    match whole {
        Whole::User => super::sessions::plain_id(id),
        Whole::Device => id.to_owned(),
    }
}
