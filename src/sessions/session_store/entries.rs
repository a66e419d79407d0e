//! Sessions that are kept: each sealed under every one of its tokens.

use std::sync::Arc;

use super::{
    backend::{Backend, Names, StoreUnavailable},
    end_names,
    ends::StoredEnds,
    tombstones::Tombstone,
};
use crate::sessions::{Owner, Session, UnixMillis};

/// The sessions, wherever entries stand. A token's end takes its session away.
pub(in crate::sessions) struct StoredSessions {
    backend: Backend,
    ends: Arc<StoredEnds>,
}

/// An entry as the store finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::sessions) enum StoredEntry {
    /// A session, opened.
    Session(Vec<u8>),
    /// A session that Redis had lost, and with it perhaps what another replica had kept.
    Restored(Vec<u8>),
    /// A tombstone.
    Ended,
}

impl StoredSessions {
    pub(super) fn new(backend: Backend, ends: Arc<StoredEnds>) -> StoredSessions {
        StoredSessions { backend, ends }
    }

    /// What is kept under this token. `Err` if Redis does not answer within the store's deadline.
    pub(in crate::sessions) async fn find(&self, token: &str) -> Result<Option<StoredEntry>, StoreUnavailable> {
        let (ended, sessions) = (end_names::of_token(&self.backend.ring, token), self.names(token));
        if self.ends.is_ended(&ended) {
            return Ok(Some(StoredEntry::Ended));
        }
        let values = self.backend.values(&[("ended", &ended), ("session", &sessions)]).await?;
        let (of_ended, of_sessions) = values.split_at(ended.len());
        self.ends.remember_all(&ended, of_ended);
        if let Some(kept) = self.open_entry(token, &values, ended.len()) {
            self.hold(&sessions, of_sessions);
            return Ok(Some(kept));
        }
        Ok(self.find_on_disk(token, &sessions))
    }

    /// Like `find`, for a known session. Also gives when all of its user or device was last ended.
    pub(in crate::sessions) async fn find_for_refresh(
        &self,
        token: &str,
        session: &Session,
    ) -> Result<(Option<StoredEntry>, UnixMillis), StoreUnavailable> {
        let (ended, sessions) = (end_names::of_token(&self.backend.ring, token), self.names(token));
        let wholes = end_names::of_scopes(&self.backend.ring, session);
        let values = self.backend.values(&[("ended", &ended), ("session", &sessions), ("ended", &wholes)]).await?;
        let (own, of_wholes) = values.split_at(ended.len() + sessions.len());
        self.ends.remember_all(&ended, &own[..ended.len()]);
        self.ends.remember_all(&wholes, of_wholes);
        let is_ended = self.ends.is_ended(&ended);
        let kept = if is_ended { Some(StoredEntry::Ended) } else { self.open_entry(token, own, ended.len()) };
        Ok((kept, self.ends.latest_end(&wholes)))
    }

    /// Queues a session to be kept under one of its tokens.
    pub(in crate::sessions) fn put(&self, token: &str, plain: &[u8]) {
        if let Some(sealed) = self.backend.ring.seal(token, plain)
            && let Some(name) = self.name(token)
        {
            if let Some(kept) = &self.backend.disk {
                kept.entries.lock().put(name, sealed.clone());
                kept.disk.put(name.to_vec(), sealed.clone());
            }
            if let Some(redis) = &self.backend.redis {
                redis.store.queue.put(redis.key("session", name), sealed);
            }
        }
    }

    /// Removes a token's session, and puts a tombstone beside its place. `owner` is charged for it.
    pub(in crate::sessions) fn end(&self, token: &str, owner: Owner<'_>, at: UnixMillis) {
        let owner = end_names::owner_name(&self.backend.ring, owner);
        self.ends.mark_ended(&end_names::of_token(&self.backend.ring, token), Tombstone { at, owner });
        self.forget(token);
    }

    /// Removes the entries of a session that has not ended, since its user has too many.
    pub(in crate::sessions) fn forget(&self, token: &str) {
        for name in self.names(token) {
            if let Some(kept) = &self.backend.disk {
                kept.entries.lock().remove(&name);
                kept.disk.remove(name.to_vec());
            }
            if let Some(redis) = &self.backend.redis {
                redis.store.queue.remove(redis.key("session", name));
            }
        }
    }

    /// The name under which a token's session is written.
    pub(in crate::sessions) fn name(&self, token: &str) -> Option<[u8; 16]> {
        self.backend.ring.name("session", token)
    }

    /// The names under which a token's session may stand.
    pub(in crate::sessions) fn names(&self, token: &str) -> Names {
        self.backend.ring.names("session", token).collect()
    }

    /// Which of these sessions' entries Redis has. `None` if Redis does not answer.
    pub(in crate::sessions) async fn are_there(&self, names: &[[u8; 16]]) -> Option<Vec<bool>> {
        let redis = self.backend.redis.as_ref()?;
        let keys: Vec<_> = names.iter().map(|name| redis.key("session", *name)).collect();
        redis.store.walks.are_there(&keys).await
    }

    /// Writes into Redis again what only the disk has under these names. Says whether there was
    /// something.
    pub(in crate::sessions) fn restore(&self, names: &[[u8; 16]]) -> bool {
        let (Some(redis), Some(kept)) = (&self.backend.redis, &self.backend.disk) else { return false };
        let entries = kept.entries.lock();
        let found: Vec<_> = names.iter().filter_map(|name| Some((*name, entries.get(name)?.clone()))).collect();
        drop(entries);
        let is_some = !found.is_empty();
        for (name, sealed) in found {
            redis.store.queue.put(redis.key("session", name), sealed);
        }
        is_some
    }

    /// What only this disk has. Writes it into Redis again, if there is one.
    fn find_on_disk(&self, token: &str, names: &Names) -> Option<StoredEntry> {
        let kept = self.backend.disk.as_ref()?;
        let sealed = names.iter().find_map(|name| kept.entries.lock().get(name).cloned())?;
        let plain = self.backend.ring.open(token, &sealed)?;
        if self.restore(names) { Some(StoredEntry::Restored(plain)) } else { Some(StoredEntry::Session(plain)) }
    }

    /// Copies to this disk what Redis has of a session in use.
    fn hold(&self, names: &Names, values: &[Option<Vec<u8>>]) {
        let Some(kept) = &self.backend.disk else { return };
        for (name, sealed) in names.iter().zip(values) {
            if let Some(sealed) = sealed {
                kept.entries.lock().put(*name, sealed.clone());
                kept.disk.put(name.to_vec(), sealed.clone());
            }
        }
    }

    /// The first `ends` values belong to tombstones, the others to sessions.
    fn open_entry(&self, token: &str, values: &[Option<Vec<u8>>], ends: usize) -> Option<StoredEntry> {
        let (ended, sessions) = values.split_at(ends);
        if ended.iter().any(Option::is_some) {
            return Some(StoredEntry::Ended);
        }
        sessions.iter().flatten().find_map(|sealed| self.backend.ring.open(token, sealed)).map(StoredEntry::Session)
    }
}
