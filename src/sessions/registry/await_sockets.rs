//! Waits until all sockets of a session are where it lives, here and at the other replicas.
//!
//! A replica asks by a word on the channel of all, behind that of the move, and Redis says how many have heard it. Each of them
//! answers when it has no socket elsewhere.

use std::{sync::Arc, time::Duration};

use dashmap::DashMap;
use tokio::{join, sync::watch, time};

use super::{Session, Sessions, replicas::random};
use crate::pod::{Pod, PodId};

/// The longest time for this replica's own sockets.
const HERE: Duration = Duration::from_secs(5);

/// The longest time for those of the others. One that has died without a word to Redis is waited for as long.
const THERE: Duration = Duration::from_secs(2);

/// What this replica has asked, by number, and how many have answered.
pub(super) type OpenQueries = DashMap<u128, watch::Sender<usize>, ahash::RandomState>;

/// What another replica wants to know.
pub(super) struct SocketQuery {
    number: u128,
    /// `None` if it is not known here.
    session: Option<Arc<Session>>,
    pod: Option<PodId>,
}

/// A question of this replica's, until it is dropped.
pub(super) struct OpenQuery<'a> {
    open_queries: &'a OpenQueries,
    pub(super) number: u128,
    answers: watch::Receiver<usize>,
}

impl Sessions {
    /// Waits until every socket of a session is attached and greeted at this pod, which it has come to live on, for a bounded
    /// time. Says whether they are, as far as Redis lets the others be asked.
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
        // This replica hears itself, and answers at once.
        asked.answered_by(listeners).await;
    }

    /// Reads a question: its number, the token and the pod.
    pub(super) fn socket_query(&self, names: &[u128]) -> Option<SocketQuery> {
        let &[number, token, pod] = names else { return None };
        let session = self.active.get(&token).map(|session| session.clone());
        let pods = self.pools.iter().flat_map(|pool| pool.pods().to_vec());
        let pod = pods.into_iter().find(|other| self.pod_hash(other) == pod).map(|pod| pod.id);
        Some(SocketQuery { number, session, pod })
    }

    /// Answers a question as soon as its session has no socket elsewhere; one that does not come in time is left unanswered.
    pub(super) async fn answer_socket_query(&self, SocketQuery { number, session, pod }: SocketQuery) {
        if let (Some(session), Some(pod)) = (session, pod)
            && session.has_sockets()
        {
            // The word of the move may have been heard while Redis did not answer.
            self.refresh(&session).await;
            if time::timeout(THERE, sockets_attached(&session, pod)).await.is_err() {
                return;
            }
        }
        self.store.publish(format!("{} there {number:032x}", self.name));
    }

    /// A replica has answered.
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
    // The session holds the sender.
    let _ = sockets.wait_for(|sockets| sockets.iter().all(|(_, at)| *at == Some(pod))).await;
}

impl<'a> OpenQuery<'a> {
    pub(super) fn new(open_queries: &'a OpenQueries) -> OpenQuery<'a> {
        let (tell, answers) = watch::channel(0);
        let number = u128::from(random());
        open_queries.insert(number, tell);
        OpenQuery { open_queries, number, answers }
    }

    /// Ends when so many have answered.
    pub(super) async fn answered_by(&mut self, listeners: usize) {
        // The sender lives as long as the question.
        let _ = self.answers.wait_for(|answers| *answers >= listeners).await;
    }
}

impl Drop for OpenQuery<'_> {
    fn drop(&mut self) {
        self.open_queries.remove(&self.number);
    }
}
