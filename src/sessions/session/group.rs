//! A session's SyncPlay group, which is in one pod's memory. It keeps the session there while the
//! pod drains.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::pod::PodInstance;

/// How long a session that migrated for a group may take to become a member.
const BROUGHT: Duration = Duration::from_secs(10);

/// A session's membership in a group.
#[derive(Debug, Default)]
pub struct Group(Mutex<Membership>);

#[derive(Debug, Default)]
struct Membership {
    /// The pod whose memory holds its group, as its sockets here have heard.
    member: Option<PodInstance>,
    /// Where it migrated last to make or join a group, and when.
    moved: Option<(PodInstance, Instant)>,
}

impl Group {
    /// Records that a socket of the session heard of its membership in a group of this pod.
    pub fn record_joined(&self, place: PodInstance) {
        self.0.lock().member = Some(place);
    }

    /// Records that it is no longer a member there.
    pub fn record_left(&self, place: PodInstance) {
        let mut group = self.0.lock();
        group.member.take_if(|member| *member == place);
        group.moved.take_if(|(to, _)| *to == place);
    }

    /// Records that the session migrates to this pod to make or join a group.
    pub fn record_move(&self, place: PodInstance) {
        self.0.lock().moved = Some((place, Instant::now()));
    }

    /// Whether it migrated there for a group after this moment.
    pub fn moved_since(&self, place: PodInstance, after: Instant) -> bool {
        self.0.lock().moved.is_some_and(|(to, at)| to == place && at > after)
    }

    /// Whether it is a member of a group there, or migrated there for one just now.
    pub fn is_at(&self, place: PodInstance) -> bool {
        let group = self.0.lock();
        group.member == Some(place) || group.moved.is_some_and(|(to, at)| to == place && at.elapsed() < BROUGHT)
    }

    /// A membership ends with the last socket.
    pub(super) fn clear(&self) {
        self.0.lock().member = None;
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
        session.group.record_joined(a);
        assert!(session.group.is_at(a) && !session.group.is_at(b));
        session.group.record_left(b);
        assert!(session.group.is_at(a), "it has left another pod's");
        session.group.record_left(a);
        assert!(!session.group.is_at(a));
        let (one, other) = (session.register_socket(), session.register_socket());
        session.group.record_joined(a);
        drop(one);
        assert!(session.group.is_at(a), "it has a socket still");
        drop(other);
        assert!(!session.group.is_at(a));
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_brought_has_some_time_to_become_a_member() {
        let (session, a) = (session("own"), place("a"));
        let began = Instant::now();
        tokio::time::advance(Duration::from_millis(1)).await;
        session.group.record_move(a);
        assert!(
            session.group.is_at(a)
                && session.group.moved_since(a, began)
                && !session.group.moved_since(a, Instant::now())
        );
        tokio::time::advance(BROUGHT).await;
        assert!(!session.group.is_at(a) && session.group.moved_since(a, began));
    }
}
