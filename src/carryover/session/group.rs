//! A session's part in a SyncPlay group, which is in the memory of one pod: what keeps it there while that drains.

use std::time::Duration;

use tokio::time::Instant;

use super::{Place, Session};

/// How long a session that was brought to a pod for a group may take to become a member.
const BROUGHT: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub(super) struct InGroup {
    /// The pod in whose memory the group is that it is a member of, as its sockets here have heard.
    member: Option<Place>,
    /// Where it was brought last to make or join one, and when.
    brought: Option<(Place, Instant)>,
}

impl Session {
    /// A socket of the session has heard that it is a member of a group of this pod.
    pub fn joined(&self, place: Place) {
        self.state.lock().group.member = Some(place);
    }

    /// It is a member of none there any more.
    pub fn left(&self, place: Place) {
        self.state.lock().group.member.take_if(|member| *member == place);
    }

    /// A membership ends with the last socket.
    pub(super) fn has_no_socket(&self) {
        self.state.lock().group.member = None;
    }

    /// The session is brought to this pod to make or join a group.
    pub fn brought(&self, place: Place) {
        self.state.lock().group.brought = Some((place, Instant::now()));
    }

    /// Whether it was brought there after this moment.
    pub fn was_brought(&self, place: Place, after: Instant) -> bool {
        self.state.lock().group.brought.is_some_and(|(to, at)| to == place && at > after)
    }

    /// Whether it is a member of a group there, or was brought there for one just now.
    pub fn is_for_group(&self, place: Place) -> bool {
        let group = &self.state.lock().group;
        group.member == Some(place) || group.brought.is_some_and(|(to, at)| to == place && at.elapsed() < BROUGHT)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{
        super::tests::{place, session},
        *,
    };

    #[test]
    fn a_member_is_there_for_its_group_until_it_leaves_or_its_last_socket_ends() {
        let (session, a, b) = (Arc::new(session("own")), place("a"), place("b"));
        session.joined(a);
        assert!(session.is_for_group(a) && !session.is_for_group(b));
        session.left(b);
        assert!(session.is_for_group(a), "it has left another pod's");
        session.left(a);
        assert!(!session.is_for_group(a));
        let (one, other) = (session.socket(), session.socket());
        session.joined(a);
        drop(one);
        assert!(session.is_for_group(a), "it has a socket still");
        drop(other);
        assert!(!session.is_for_group(a));
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_brought_has_some_time_to_become_a_member() {
        let (session, a) = (session("own"), place("a"));
        let began = Instant::now();
        tokio::time::advance(Duration::from_millis(1)).await;
        session.brought(a);
        assert!(session.is_for_group(a) && session.was_brought(a, began) && !session.was_brought(a, Instant::now()));
        tokio::time::advance(BROUGHT).await;
        assert!(!session.is_for_group(a) && session.was_brought(a, began));
    }
}
