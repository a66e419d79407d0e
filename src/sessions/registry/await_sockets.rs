//! Waits until all sockets of a session are at its home, here and at the other replicas.
//!
//! A replica publishes a query on the common channel, after the notice of the move. Redis says how
//! many replicas received it. Each of them answers when it has no socket elsewhere.

use std::{sync::Arc, time::Duration};

use dashmap::DashMap;
use tokio::{join, sync::watch, time};

use super::{Session, Sessions, random::random};
use crate::pod::{Pod, PodId};

/// The longest wait for this replica's own sockets.
const HERE: Duration = Duration::from_secs(5);

/// The longest wait for those of the others, and so for a replica that died without telling Redis.
const THERE: Duration = Duration::from_secs(2);

/// This replica's open queries by number, and how many replicas have answered.
pub(super) type OpenQueries = DashMap<u128, watch::Sender<usize>, ahash::RandomState>;

/// A query of another replica.
pub(super) struct SocketQuery {
    number: u128,
    /// `None` if this replica does not know it.
    session: Option<Arc<Session>>,
    pod: Option<PodId>,
}

/// A query of this replica, open until it is dropped.
pub(super) struct OpenQuery<'a> {
    open_queries: &'a OpenQueries,
    pub(super) number: u128,
    answers: watch::Receiver<usize>,
}

impl Sessions {
    /// Waits for a bounded time until this pod, the session's new home, has greeted all of its
    /// sockets. Says whether it has, as far as Redis lets jellypin ask the others.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn await_sockets(&self, session: &Session, pod: &Pod) -> bool {
        let here = time::timeout(HERE, sockets_attached(session, pod.id));
        let there = time::timeout(THERE, self.await_remote_sockets(session, pod));
        let (here, there) = join!(here, there);
        here.is_ok() && there.is_ok()
    }

    async fn await_remote_sockets(&self, session: &Session, pod: &Pod) {
        let Some(own) = session.client_token().filter(|_| self.store.is_shared()) else { return };
        let mut asked = OpenQuery::new(&self.open_queries);
        let (token, pod) = (self.hash(&[own.as_str()]), self.pod_hash(pod));
        let words = format!("{} where {:032x} {token:032x} {pod:032x}", self.name, asked.number);
        let Some(listeners) = self.store.publish_and_count(&words).await else { return };
        // This replica receives its own query, and answers at once.
        asked.answered_by(listeners).await;
    }

    /// Reads a query: its number, the token and the pod.
    pub(super) fn socket_query(&self, names: &[u128]) -> Option<SocketQuery> {
        let &[number, token, pod] = names else { return None };
        let session = self.active.get(&token).map(|session| session.clone());
        let pods = self.pools.iter().flat_map(|pool| pool.pods().to_vec());
        let pod = pods.into_iter().find(|other| self.pod_hash(other) == pod).map(|pod| pod.id);
        Some(SocketQuery { number, session, pod })
    }

    /// Answers a query once its session has no socket elsewhere; gives no answer after `THERE`.
    pub(super) async fn answer_socket_query(&self, SocketQuery { number, session, pod }: SocketQuery) {
        if let (Some(session), Some(pod)) = (session, pod)
            && session.has_sockets()
        {
            // The notice of the move may have come while Redis did not answer.
            self.refresh(&session).await;
            if time::timeout(THERE, sockets_attached(&session, pod)).await.is_err() {
                return;
            }
        }
        self.store.publish(format!("{} there {number:032x}", self.name));
    }

    /// Counts the answer of a replica.
    pub(super) fn count_answer(&self, number: u128) {
        if let Some(asked) = self.open_queries.get(&number) {
            asked.send_modify(|answers| *answers += 1);
        }
    }

    fn pod_hash(&self, pod: &Pod) -> u128 {
        self.hash(&[&pod.pool, &pod.name])
    }
}

async fn sockets_attached(session: &Session, pod: PodId) {
    let mut sockets = session.sockets();
    // It does not fail: the session holds the sender.
    let _ = sockets.wait_for(|sockets| sockets.iter().all(|(_, at)| *at == Some(pod))).await;
}

impl<'a> OpenQuery<'a> {
    pub(super) fn new(open_queries: &'a OpenQueries) -> OpenQuery<'a> {
        let (tell, answers) = watch::channel(0);
        let number = u128::from(random());
        open_queries.insert(number, tell);
        OpenQuery { open_queries, number, answers }
    }

    /// Returns when so many replicas have answered.
    pub(super) async fn answered_by(&mut self, listeners: usize) {
        // It does not fail: the sender lives as long as the query.
        let _ = self.answers.wait_for(|answers| *answers >= listeners).await;
    }
}

impl Drop for OpenQuery<'_> {
    fn drop(&mut self) {
        self.open_queries.remove(&self.number);
    }
}
