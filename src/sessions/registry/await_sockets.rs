//! Waits until all sockets of a session are at its home, here and at the other replicas.
//!
//! A replica publishes a query on the common channel, after the notice of the move. Redis says how
//! many replicas received it. Each of them answers when it has no socket elsewhere.

use std::{sync::Arc, time::Duration};

use tokio::{join, time};

use super::{
    channel::{Query, ReplicaChannel},
    keyed_hash::KeyedHash,
};
use crate::{
    pod::{Pod, PodId},
    sessions::{Session, session_store::Backend},
};

/// The longest wait for this replica's own sockets.
const HERE: Duration = Duration::from_secs(5);

/// The longest wait for those of the others, and so for a replica that died without telling Redis.
pub(super) const THERE: Duration = Duration::from_secs(2);

/// Waits for sockets.
pub struct SocketWait {
    pub(super) channel: Arc<ReplicaChannel>,
    pub(super) hash: KeyedHash,
    pub(super) backend: Backend,
}

impl SocketWait {
    /// Waits for a bounded time until this pod, the session's new home, has greeted all of its
    /// sockets. Says whether it has, as far as Redis lets jellypin ask the others.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn all_at(&self, session: &Session, pod: &Pod) -> bool {
        let here = time::timeout(HERE, attached(session, pod.id));
        let there = time::timeout(THERE, self.all_remote_at(session, pod));
        let (here, there) = join!(here, there);
        here.is_ok() && there.is_ok()
    }

    async fn all_remote_at(&self, session: &Session, pod: &Pod) {
        let Some(own) = session.tokens.own().filter(|_| self.backend.is_shared()) else { return };
        let names = [self.hash.of(&[own.as_str()]), pod_hash(&self.hash, pod)];
        self.channel.ask_replicas(Query::Where, names.into_iter(), |listeners| listeners).await;
    }
}

/// Returns when this pod has greeted all of the session's sockets here.
pub(super) async fn attached(session: &Session, pod: PodId) {
    let mut sockets = session.sockets.places();
    // It does not fail: the session holds the sender.
    let _ = sockets.wait_for(|sockets| sockets.iter().all(|(_, at)| *at == Some(pod))).await;
}

/// A pod in messages between replicas.
pub(super) fn pod_hash(hash: &KeyedHash, pod: &Pod) -> u128 {
    hash.of(&[&pod.pool, &pod.name])
}
