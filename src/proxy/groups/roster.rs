//! Who is in a group: the clients whose sockets this process serves, and the names of all users.

use std::sync::Arc;

use parking_lot::Mutex;

use super::line::Line;
use crate::sessions::{Device, Session};

/// Members of one group that are remembered. Further ones leave it with its pod.
const MOST_MEMBERS: usize = 256;

/// A client in a group.
#[derive(Clone)]
pub(in crate::proxy) struct Member {
    pub(in crate::proxy) session: Arc<Session>,
    /// As what the client has dialled: pods know the member by it.
    pub(in crate::proxy) device: Device,
    pub(in crate::proxy) ignores_wait: bool,
    pub(super) line: Arc<Line>,
}

/// A group's members.
#[derive(Default)]
pub(in crate::proxy) struct Roster {
    members: Mutex<Vec<Member>>,
    /// The names of its users, those of other replicas' members too.
    names: Mutex<Vec<String>>,
    /// Those of them who were in it before its last move.
    returning: Mutex<Vec<String>>,
}

impl Roster {
    /// The members that this process serves.
    pub(in crate::proxy) fn members(&self) -> Vec<Member> {
        self.members.lock().clone()
    }

    /// How many users are in the group.
    pub(in crate::proxy) fn users(&self) -> usize {
        self.names.lock().len()
    }

    /// A member says whether the others must wait for it.
    pub(in crate::proxy) fn set_ignores_wait(&self, session: &Arc<Session>, ignores: bool) {
        let mut members = self.members.lock();
        let of_session = members.iter_mut().filter(|member| Arc::ptr_eq(&member.session, session));
        of_session.for_each(|member| member.ignores_wait = ignores);
    }

    pub(super) fn has(&self, session: &Arc<Session>) -> bool {
        self.members.lock().iter().any(|member| Arc::ptr_eq(&member.session, session))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.members.lock().is_empty()
    }

    /// Returns whether there is room.
    pub(super) fn add(&self, member: Member) -> bool {
        let mut members = self.members.lock();
        if members.iter().any(|other| Arc::ptr_eq(&other.line, &member.line)) {
            return true;
        }
        let has_room = members.len() < MOST_MEMBERS;
        if has_room {
            members.push(member);
        }
        has_room
    }

    pub(super) fn remove(&self, line: &Arc<Line>) {
        self.members.lock().retain(|other| !Arc::ptr_eq(&other.line, line));
    }

    pub(super) fn has_line(&self, line: &Arc<Line>) -> bool {
        self.members.lock().iter().any(|other| Arc::ptr_eq(&other.line, line))
    }

    pub(super) fn set_names(&self, names: Vec<String>) {
        *self.names.lock() = names;
    }

    pub(super) fn add_name(&self, name: &str) {
        let mut names = self.names.lock();
        if names.len() < MOST_MEMBERS && !names.iter().any(|other| other == name) {
            names.push(name.to_owned());
        }
    }

    /// The group moves: who joins it next may have been in it before.
    pub(super) fn begin_return(&self) {
        let names = self.names.lock().clone();
        *self.returning.lock() = names;
    }

    /// Whether this user was in the group before its last move.
    pub(super) fn is_returning(&self, name: &str) -> bool {
        self.returning.lock().iter().any(|other| other == name)
    }

    pub(super) fn remove_name(&self, name: &str) {
        self.names.lock().retain(|other| other != name);
    }
}
