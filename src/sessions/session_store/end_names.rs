//! The names under which ends stand: of a token, or of everything of a user or a device of one
//! pool. Also the names of those who are charged for them.

use super::{backend::Names, tombstones};
use crate::{
    limits::network,
    sessions::{Owner, Session, plain_id},
    store::seal::Ring,
};

/// What ends as a whole in one pool: all of a user, or all of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sessions) enum EndScope {
    User,
    Device,
}

impl EndScope {
    /// The names of a user's or device's end, and the owner of its tombstone.
    pub(super) fn names(self, ring: &Ring, pool: &str, id: &str) -> (Names, tombstones::Owner) {
        let id = self.normal(id);
        let owner = if self == EndScope::User { Owner::User(&id) } else { Owner::Unknown };
        (ring.names(self.purpose(), &in_pool(pool, &id)).collect(), owner_name(ring, owner))
    }

    /// The names under which jellypin publishes and keeps the end of the session's user or device.
    /// An earlier version wrote those without a pool.
    pub(in crate::sessions) fn names_of(self, ring: &Ring, session: &Session) -> Names {
        let id = self.normal(match self {
            EndScope::User => &session.user,
            EndScope::Device => &session.device.id,
        });
        let names = |text: &str| ring.names(self.purpose(), text).collect::<Vec<_>>();
        [names(&in_pool(&session.pool, &id)), names(&id)].concat()
    }

    fn purpose(self) -> &'static str {
        match self {
            EndScope::User => "ended user",
            EndScope::Device => "ended device",
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

/// The names of a token's end.
pub(super) fn of_token(ring: &Ring, token: &str) -> Names {
    ring.names("ended token", token).collect()
}

/// The names of both ends that include this session.
pub(super) fn of_scopes(ring: &Ring, session: &Session) -> Names {
    [EndScope::User.names_of(ring, session), EndScope::Device.names_of(ring, session)].concat()
}

/// A keyed hash of who is charged for a tombstone, the same on every replica.
pub(super) fn owner_name(ring: &Ring, owner: Owner<'_>) -> tombstones::Owner {
    let name = match owner {
        Owner::User(user) => ring.name("owner", user),
        Owner::Address(address) => ring.name("owner address", &network(address).to_string()),
        Owner::Unknown => return tombstones::NOBODY,
    };
    let name = name.unwrap_or_default();
    name.iter().take(8).fold(0, |owner, byte| (owner << 8) | u64::from(*byte)).max(1)
}

fn in_pool(pool: &str, id: &str) -> String {
    format!("{pool}\0{id}")
}
