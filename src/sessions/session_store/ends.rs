//! Ends: of a token, or of everything of a user or a device of one pool.

use std::time::Duration;

use super::{AT_ONCE, Names, SessionStore, Tombstone, named, tombstones};
use crate::{
    limits::network,
    sessions::{Owner, Session, UnixMillis, plain_id},
};

/// What their names on disk begin with. Names of sessions have no prefix.
const ON_DISK: &[u8] = b"ended";

/// How old a tombstone becomes before a use of its token renews it.
const RENEW: Duration = Duration::from_secs(86_400);

/// The name of an entry on disk, if it is a tombstone.
pub(super) fn name_on_disk(key: &[u8]) -> Option<[u8; 16]> {
    key.strip_prefix(ON_DISK)?.try_into().ok()
}

/// What ends as a whole in one pool: all of a user, or all of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sessions) enum EndScope {
    User,
    Device,
}

impl EndScope {
    fn purpose(self) -> &'static str {
        match self {
            EndScope::User => "ended user",
            EndScope::Device => "ended device",
        }
    }

    fn of(self, session: &Session) -> &str {
        match self {
            EndScope::User => &session.user,
            EndScope::Device => &session.device.id,
        }
    }

    /// A user's id without dashes and in lower case. A device's id stays as it is.
    fn normal(self, id: &str) -> String {
        match self {
            EndScope::User => plain_id(id),
            EndScope::Device => id.to_owned(),
        }
    }
}

impl SessionStore {
    /// Removes a session's entry, and puts a tombstone beside its place.
    pub(in crate::sessions) fn write_tombstone(&self, token: &str, owner: Owner<'_>, at: UnixMillis) {
        let owner = self.owner(owner);
        self.mark_ended(&self.tombstone_names(token), Tombstone { at, owner });
        for name in self.session_names(token) {
            self.erase(name);
        }
    }

    /// Records that all of this user or device ended at this moment. Gives the names to publish.
    pub(in crate::sessions) fn end_scope(&self, scope: EndScope, pool: &str, id: &str, at: UnixMillis) -> Names {
        let id = scope.normal(id);
        let names = self.ring.names(scope.purpose(), &in_pool(pool, &id)).collect();
        let owner = self.owner(if scope == EndScope::User { Owner::User(&id) } else { Owner::Unknown });
        self.mark_ended(&names, Tombstone { at, owner });
        names
    }

    /// A keyed hash of who is charged for a tombstone, the same on every replica.
    fn owner(&self, owner: Owner<'_>) -> u64 {
        let name = match owner {
            Owner::User(user) => self.ring.name("owner", user),
            Owner::Address(address) => self.ring.name("owner address", &network(address).to_string()),
            Owner::Unknown => return tombstones::NOBODY,
        };
        let name = name.unwrap_or_default();
        name.iter().take(8).fold(0, |owner, byte| (owner << 8) | u64::from(*byte)).max(1)
    }

    /// The names under which jellypin publishes and keeps the end of the session's user or device.
    /// An earlier version wrote those without a pool.
    pub(in crate::sessions) fn scope_names_of(&self, scope: EndScope, session: &Session) -> Names {
        let id = scope.normal(scope.of(session));
        let names = |text: &str| self.ring.names(scope.purpose(), text).collect::<Vec<_>>();
        [names(&in_pool(&session.pool, &id)), names(&id)].concat()
    }

    pub(super) fn scope_names(&self, session: &Session) -> Names {
        [self.scope_names_of(EndScope::User, session), self.scope_names_of(EndScope::Device, session)].concat()
    }

    pub(super) fn tombstone_names(&self, token: &str) -> Names {
        self.ring.names("ended token", token).collect()
    }

    /// Writes under every key of the ring, for replicas that lack the newest.
    fn mark_ended(&self, names: &Names, tombstone: Tombstone) {
        for name in names {
            let gone = self.scope_ended_at.lock().put(*name, tombstone);
            gone.into_iter().for_each(|name| self.unearth(name));
            self.write_end(*name, tombstone);
        }
    }

    fn write_end(&self, name: [u8; 16], tombstone: Tombstone) {
        if let Some(kept) = &self.disk {
            kept.disk.put([ON_DISK, &name].concat(), tombstone.write());
        }
        self.write_end_to_redis(name, tombstone);
    }

    fn write_end_to_redis(&self, name: [u8; 16], tombstone: Tombstone) {
        if let Some((shared, prefix)) = &self.redis {
            shared.put_for(named(prefix, "ended", name), tombstone.write(), self.bounds.tombstone_keep);
        }
    }

    /// Removes a tombstone that is one too many, or too old.
    fn unearth(&self, name: [u8; 16]) {
        if let Some(kept) = &self.disk {
            kept.disk.remove([ON_DISK, &name].concat());
        }
        if let Some((shared, prefix)) = &self.redis {
            shared.remove(named(prefix, "ended", name));
        }
    }

    /// Whether this replica knows that one of these was ended. Renews a tombstone whose token a
    /// client still presents.
    pub(super) fn is_ended(&self, names: &Names) -> bool {
        let now = self.clock.now();
        let mut is_ended = false;
        for name in names {
            let Some(known) = self.scope_ended_at.lock().get(name) else { continue };
            is_ended = true;
            if u128::from(now.saturating_sub(known.at)) > RENEW.as_millis() {
                self.mark_ended(&vec![*name], Tombstone { at: now, ..known });
            }
        }
        is_ended
    }

    /// When one of these was last ended, as far as this replica knows.
    pub(super) fn latest_end(&self, names: &Names) -> UnixMillis {
        let ended = self.scope_ended_at.lock();
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
    pub(super) fn remember(&self, name: [u8; 16], value: &[u8]) {
        let Some(tombstone) = Tombstone::read(value) else { return };
        let mut ended = self.scope_ended_at.lock();
        if ended.get(&name).is_some_and(|known| known.at >= tombstone.at) {
            return;
        }
        let gone = ended.put(name, tombstone);
        drop(ended);
        if let Some(kept) = &self.disk {
            gone.into_iter().for_each(|name| kept.disk.remove([ON_DISK, &name].concat()));
            kept.disk.put([ON_DISK, &name].concat(), tombstone.write());
        }
    }

    /// How many ends this replica knows.
    pub(in crate::sessions) fn ends(&self) -> usize {
        self.scope_ended_at.lock().len()
    }

    /// Learns all ends that are in Redis. Says whether it has read them all.
    pub(in crate::sessions) async fn learn_ends(&self) -> bool {
        let Some((shared, prefix)) = &self.redis else { return true };
        let start = format!("{prefix}:ended:");
        let learn = |key: &str, value: &[u8]| {
            let name = key.strip_prefix(&start).and_then(|name| u128::from_str_radix(name, 16).ok());
            name.into_iter().for_each(|name| self.remember(name.to_be_bytes(), value));
        };
        shared.walk(&start, learn).await
    }

    /// Writes again the ends that Redis has lost, and drops those too old. Gives how many it wrote.
    pub(in crate::sessions) async fn mend_ends(&self) -> usize {
        let oldest = self.clock.now().saturating_sub(self.bounds.tombstone_keep.as_millis() as u64);
        let old = self.scope_ended_at.lock().expire(oldest);
        old.into_iter().for_each(|name| self.unearth(name));
        let Some((shared, prefix)) = &self.redis else { return 0 };
        let all = self.scope_ended_at.lock().all();
        let mut written = 0;
        for some in all.chunks(AT_ONCE) {
            let keys: Vec<_> = some.iter().map(|(name, _)| named(prefix, "ended", *name)).collect();
            let Some(are_there) = shared.are_there(&keys).await else { return written };
            let lost = some.iter().zip(are_there).filter(|(_, is_there)| !is_there);
            let before = written;
            for ((name, tombstone), _) in lost {
                self.write_end_to_redis(*name, *tombstone);
                written += 1;
            }
            if written > before {
                self.flush().await;
            }
        }
        written
    }
}

fn in_pool(pool: &str, id: &str) -> String {
    format!("{pool}\0{id}")
}
