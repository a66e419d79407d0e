//! Ends: of a token, or of everything of a user or a device of one pool.

use super::{Names, Vault};
use crate::carryover::{Session, UnixMillis, plain_id};

/// What is ended in one pool: all of a user, or all of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::carryover) enum Whole {
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

    fn of(self, session: &Session) -> &str {
        match self {
            Whole::User => &session.user,
            Whole::Device => &session.device.id,
        }
    }

    /// A user's id in one form: with or without dashes, in any case. A device's id is what it is.
    fn normal(self, id: &str) -> String {
        match self {
            Whole::User => plain_id(id),
            Whole::Device => id.to_owned(),
        }
    }
}

impl Vault {
    /// Takes a session's entry out, and puts a tombstone beside its place.
    pub(in crate::carryover) fn bury(&self, token: &str, at: UnixMillis) {
        self.mark_ended(&self.names_of_token(token), at);
        for name in self.session_names(token) {
            self.erase("session", name);
        }
    }

    /// All of this user or device was ended at this moment. Gives the names under which that is told.
    pub(in crate::carryover) fn end(&self, whole: Whole, pool: &str, id: &str, at: UnixMillis) -> Names {
        let names = self.ring.names(whole.purpose(), &in_pool(pool, &whole.normal(id))).collect();
        self.mark_ended(&names, at);
        names
    }

    /// The names under which the end of the session's user or device is told, and kept. Those without a pool are what an earlier
    /// version has written.
    pub(in crate::carryover) fn names_of(&self, whole: Whole, session: &Session) -> Names {
        let id = whole.normal(whole.of(session));
        let names = |text: &str| self.ring.names(whole.purpose(), text).collect::<Vec<_>>();
        [names(&in_pool(&session.pool, &id)), names(&id)].concat()
    }

    pub(super) fn names_of_wholes(&self, session: &Session) -> Names {
        [self.names_of(Whole::User, session), self.names_of(Whole::Device, session)].concat()
    }

    pub(super) fn names_of_token(&self, token: &str) -> Names {
        self.ring.names("ended token", token).collect()
    }

    /// Written under every key of the ring, for replicas that have not got the newest.
    fn mark_ended(&self, names: &Names, at: UnixMillis) {
        names.iter().for_each(|name| self.write("ended", *name, at.to_string().into_bytes()));
    }
}

fn in_pool(pool: &str, id: &str) -> String {
    format!("{pool}\0{id}")
}
