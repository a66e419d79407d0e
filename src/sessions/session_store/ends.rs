//! Ends that are kept: of tokens, and of everything of a user or a device.

use std::time::Duration;

use parking_lot::Mutex;

use super::{
    backend::{Backend, Names, StoreUnavailable},
    end_names::{self, EndScope},
    on_disk::ENDED,
    tombstones::{Learned, Tombstone, Tombstones},
};
use crate::sessions::{Session, UnixMillis};

/// How old a tombstone becomes before a use of its token renews it.
const RENEW: Duration = Duration::from_secs(86_400);

/// Ends that one batch looks up or writes again.
const AT_ONCE: usize = 256;

/// The ends that this replica knows, in memory and wherever entries stand.
pub(in crate::sessions) struct StoredEnds {
    backend: Backend,
    /// How long Redis keeps one.
    keep: Duration,
    tombstones: Mutex<Tombstones>,
}

impl StoredEnds {
    pub(super) fn new(backend: Backend, keep: Duration, tombstones: Tombstones) -> StoredEnds {
        StoredEnds { backend, keep, tombstones: Mutex::new(tombstones) }
    }

    /// Records that all of this user or device ended at this moment. Gives the names to publish.
    pub(in crate::sessions) fn end_scope(&self, scope: EndScope, pool: &str, id: &str, at: UnixMillis) -> Names {
        let (names, owner) = scope.names(&self.backend.ring, pool, id);
        self.mark_ended(&names, Tombstone { at, owner });
        names
    }

    /// When all of this session's user, or all of its device, was last ended.
    pub(in crate::sessions) async fn scope_ended_at(&self, session: &Session) -> Result<UnixMillis, StoreUnavailable> {
        let names = end_names::of_scopes(&self.backend.ring, session);
        let values = self.backend.values(&[("ended", &names)]).await?;
        self.remember_all(&names, &values);
        Ok(self.latest_end(&names))
    }

    /// When all of this user was last ended; only what this replica knows if Redis does not answer.
    pub(in crate::sessions) async fn user_ended_at(&self, pool: &str, user: &str) -> UnixMillis {
        let (names, _) = EndScope::User.names(&self.backend.ring, pool, user);
        if let Ok(values) = self.backend.values(&[("ended", &names)]).await {
            self.remember_all(&names, &values);
        }
        self.latest_end(&names)
    }

    /// How many ends this replica knows.
    pub(in crate::sessions) fn count(&self) -> usize {
        self.tombstones.lock().len()
    }

    /// Learns all ends that are in Redis. Says whether it has read them all.
    pub(in crate::sessions) async fn learn_all(&self) -> bool {
        let Some(redis) = &self.backend.redis else { return true };
        let start = redis.plain_key("ended", "");
        let learn = |key: &str, value: &[u8]| {
            let name = key.strip_prefix(&start).and_then(|name| u128::from_str_radix(name, 16).ok());
            name.into_iter().for_each(|name| self.remember(name.to_be_bytes(), value));
        };
        redis.store.walks.each(&start, learn).await
    }

    /// Writes again the ends that Redis has lost, and drops those too old. Gives how many it wrote.
    pub(in crate::sessions) async fn mend(&self) -> usize {
        let now = self.backend.clock.now();
        let corrected = self.backend.known_now().map(|now| self.tombstones.lock().correct_all(now));
        corrected.into_iter().flatten().for_each(|(name, tombstone)| self.write(name, tombstone));
        let oldest = now.saturating_sub(self.keep.as_millis() as u64);
        let old = self.tombstones.lock().expire(oldest);
        old.into_iter().for_each(|name| self.unearth(name));
        let Some(redis) = &self.backend.redis else { return 0 };
        let all = self.tombstones.lock().all();
        let mut written = 0;
        for some in all.chunks(AT_ONCE) {
            let keys: Vec<_> = some.iter().map(|(name, _)| redis.key("ended", *name)).collect();
            let Some(are_there) = redis.store.walks.are_there(&keys).await else { return written };
            let lost = some.iter().zip(are_there).filter(|(_, is_there)| !is_there);
            let before = written;
            for ((name, tombstone), _) in lost {
                self.write_to_redis(*name, *tombstone);
                written += 1;
            }
            if written > before {
                self.backend.flush().await;
            }
        }
        written
    }

    /// Writes under every key of the ring, for replicas that lack the newest.
    pub(super) fn mark_ended(&self, names: &Names, tombstone: Tombstone) {
        for name in names {
            let gone = self.tombstones.lock().put(*name, tombstone);
            gone.into_iter().for_each(|name| self.unearth(name));
            self.write(*name, tombstone);
        }
    }

    /// Whether this replica knows that one of these was ended. Renews a tombstone whose token a
    /// client still presents.
    pub(super) fn is_ended(&self, names: &Names) -> bool {
        let now = self.backend.clock.now();
        let mut is_ended = false;
        for name in names {
            let Some(known) = self.tombstones.lock().get(name) else { continue };
            is_ended = true;
            if u128::from(now.saturating_sub(known.at)) > RENEW.as_millis() {
                self.mark_ended(&vec![*name], Tombstone { at: now, ..known });
            }
        }
        is_ended
    }

    /// When one of these was last ended, as far as this replica knows.
    pub(super) fn latest_end(&self, names: &Names) -> UnixMillis {
        // The clock may just have been corrected.
        let corrected = self.backend.known_now().map(|now| self.tombstones.lock().correct(names, now));
        corrected.into_iter().flatten().for_each(|(name, tombstone)| self.write(name, tombstone));
        let ended = self.tombstones.lock();
        names.iter().filter_map(|name| Some(ended.get(name)?.at)).max().unwrap_or(0)
    }

    /// Remembers what Redis said of these names, whatever becomes of Redis.
    pub(super) fn remember_all(&self, names: &Names, values: &[Option<Vec<u8>>]) {
        for (name, value) in names.iter().zip(values) {
            if let Some(value) = value {
                self.remember(*name, value);
            }
        }
    }

    /// Remembers a tombstone, in memory and on this disk.
    fn remember(&self, name: [u8; 16], value: &[u8]) {
        let learned = self.tombstones.lock().learn(name, value, self.backend.known_now().unwrap_or(UnixMillis::MAX));
        let Some(Learned { tombstone, is_corrected, gone }) = learned else { return };
        if is_corrected {
            // The other replicas would take the wrong moment for later ones.
            self.write_to_redis(name, tombstone);
        }
        if let Some(kept) = &self.backend.disk {
            gone.into_iter().for_each(|name| kept.disk.remove([ENDED, &name].concat()));
            kept.disk.put([ENDED, &name].concat(), tombstone.write());
        }
    }

    fn write(&self, name: [u8; 16], tombstone: Tombstone) {
        if let Some(kept) = &self.backend.disk {
            kept.disk.put([ENDED, &name].concat(), tombstone.write());
        }
        self.write_to_redis(name, tombstone);
    }

    fn write_to_redis(&self, name: [u8; 16], tombstone: Tombstone) {
        if let Some(redis) = &self.backend.redis {
            redis.store.queue.put_for(redis.key("ended", name), tombstone.write(), self.keep);
        }
    }

    /// Removes a tombstone that is one too many, or too old.
    fn unearth(&self, name: [u8; 16]) {
        if let Some(kept) = &self.backend.disk {
            kept.disk.remove([ENDED, &name].concat());
        }
        if let Some(redis) = &self.backend.redis {
            redis.store.queue.remove(redis.key("ended", name));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sessions::{Bounds, session_store::SessionStore};

    #[tokio::test]
    async fn a_user_who_seems_to_have_ended_in_a_year_signs_in_again_now() {
        let store = || SessionStore::new([b"key".as_slice()].into_iter(), None, Bounds::default()).into_parts();
        let (known, unknown) = (store(), store());
        let names = known.ends.end_scope(EndScope::User, "main", "alice", known.backend.clock.now());
        let in_a_year = known.backend.clock.now() + 365 * 86_400_000;
        for store in [known, unknown] {
            let look = || {
                names.iter().for_each(|name| store.ends.remember(*name, in_a_year.to_string().as_bytes()));
                store.ends.latest_end(&names)
            };
            let ended = look();
            assert!(ended > 0 && ended <= store.backend.clock.now());
            let born = ended + 1;
            until_after(&store.backend, born);
            assert!(look() < born, "a session that began since lives");
        }
    }

    fn until_after(backend: &Backend, moment: UnixMillis) {
        while backend.clock.now() <= moment {
            std::thread::yield_now();
        }
    }
}
