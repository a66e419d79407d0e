//! Whether clients are at something that a move would disturb, as far as any replica knows.
//!
//! Only the replica with a client's socket knows its SyncPlay group, and only the one that its
//! reports pass knows what it plays. So a replica asks the others before it moves who seems idle.
//! Those who know of nothing answer. Silence means that one of them may know of something.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, stream};
use tokio::time;

use super::{
    channel::{Query, ReplicaChannel},
    keyed_hash::KeyedHash,
    replicas::Replicas,
};
use crate::{pod::Pod, sessions::Session};

/// The longest wait for the answers. A replica that has nothing against a move answers at once.
const THERE: Duration = Duration::from_secs(1);

/// Questions at once.
const AT_ONCE: usize = 16;

/// Asks what clients are at.
pub struct Activity {
    pub(super) channel: Arc<ReplicaChannel>,
    pub(super) hash: KeyedHash,
    pub(super) replicas: Arc<Replicas>,
}

impl Activity {
    /// Those of these sessions that play nothing and are in no SyncPlay group, as far as any
    /// replica knows. Without an answer of all replicas a session is not among them.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn idle(&self, sessions: Vec<Arc<Session>>) -> Vec<Arc<Session>> {
        let here: Vec<_> = sessions.into_iter().filter(|session| !is_busy(session)).collect();
        if !self.replicas.has_others() {
            return here;
        }
        let asked = stream::iter(here).map(async |session: Arc<Session>| {
            let own = session.tokens.own()?;
            let names: Vec<u128> = self.hash.under_all(&[own.as_str()]).collect();
            self.all_answer(Query::Idle, names).await.then_some(session)
        });
        asked.buffer_unordered(AT_ONCE).filter_map(async |session| session).collect().await
    }

    /// Whether no other replica knows a member of a SyncPlay group on this pod.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn is_without_groups(&self, pod: &Pod) -> bool {
        let names = self.hash.under_all(&[&pod.pool, &pod.name]).collect();
        !self.replicas.has_others() || self.all_answer(Query::Groups, names).await
    }

    /// Whether all replicas have nothing against it.
    async fn all_answer(&self, query: Query, names: Vec<u128>) -> bool {
        // A replica of an earlier version listens, but neither announces itself nor answers.
        let answering = |listeners: usize| listeners.min(self.replicas.count() + 1);
        let asked = time::timeout(THERE, self.channel.ask_replicas(query, names.into_iter(), answering)).await;
        matches!(asked, Ok(Some(_)))
    }
}

/// Whether the session's client plays something or is in a SyncPlay group, as this replica knows.
pub fn is_busy(session: &Session) -> bool {
    session.calls.is_playing() || session.home().is_some_and(|home| session.group.is_at(home))
}
