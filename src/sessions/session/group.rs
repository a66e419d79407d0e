//! A session's SyncPlay group, which is in one pod's memory. It keeps the session there while the
//! pod drains.

use std::time::Duration;

use tokio::time::Instant;

use super::{PodInstance, Session};

/// How long a session that migrated for a group may take to become a member.
const BROUGHT: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub(super) struct GroupMembership {
    /// The pod whose memory holds its group, as its sockets here have heard.
    member: Option<PodInstance>,
    /// Where it migrated last to make or join a group, and when.
    record_group_move: Option<(PodInstance, Instant)>,
}

impl Session {
    /// Records that a socket of the session heard of its membership in a group of this pod.
    pub fn record_group_joined(&self, place: PodInstance) {
        self.state.lock().group.member = Some(place);
    }

    /// Records that it is no longer a member there.
    pub fn record_group_left(&self, place: PodInstance) {
        let group = &mut self.state.lock().group;
        group.member.take_if(|member| *member == place);
        group.record_group_move.take_if(|(to, _)| *to == place);
    }

    /// A membership ends with the last socket.
    pub(super) fn clear_group(&self) {
        self.state.lock().group.member = None;
    }

    /// Records that the session migrates to this pod to make or join a group.
    pub fn record_group_move(&self, place: PodInstance) {
        self.state.lock().group.record_group_move = Some((place, Instant::now()));
    }

    /// Whether it migrated there for a group after this moment.
    pub fn moved_for_group_since(&self, place: PodInstance, after: Instant) -> bool {
        self.state.lock().group.record_group_move.is_some_and(|(to, at)| to == place && at > after)
    }

    /// Whether it is a member of a group there, or migrated there for one just now.
    pub fn is_in_group_at(&self, place: PodInstance) -> bool {
        let group = &self.state.lock().group;
        group.member == Some(place)
            || group.record_group_move.is_some_and(|(to, at)| to == place && at.elapsed() < BROUGHT)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::sessions::session::tests::{place, session};

    #[test]
    fn a_member_is_there_for_its_group_until_it_leaves_or_its_last_socket_ends() {
        let (session, a, b) = (Arc::new(session("own")), place("a"), place("b"));
        session.record_group_joined(a);
        assert!(session.is_in_group_at(a) && !session.is_in_group_at(b));
        session.record_group_left(b);
        assert!(session.is_in_group_at(a), "it has left another pod's");
        session.record_group_left(a);
        assert!(!session.is_in_group_at(a));
        let (one, other) = (session.register_socket(), session.register_socket());
        session.record_group_joined(a);
        drop(one);
        assert!(session.is_in_group_at(a), "it has a socket still");
        drop(other);
        assert!(!session.is_in_group_at(a));
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_brought_has_some_time_to_become_a_member() {
        let (session, a) = (session("own"), place("a"));
        let began = Instant::now();
        tokio::time::advance(Duration::from_millis(1)).await;
        session.record_group_move(a);
        assert!(
            session.is_in_group_at(a)
                && session.moved_for_group_since(a, began)
                && !session.moved_for_group_since(a, Instant::now())
        );
        tokio::time::advance(BROUGHT).await;
        assert!(!session.is_in_group_at(a) && session.moved_for_group_since(a, began));
    }
}
