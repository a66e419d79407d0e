//! Follows what the other replicas say: of changes, and what they ask.

use std::sync::Arc;

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::time;

use super::{
    activity::is_busy,
    await_sockets::{THERE, attached, pod_hash},
    channel::{Message, Query, ReplicaChannel},
    comparer::Comparer,
    keeper::Keeper,
    keyed_hash::KeyedHash,
    known::KnownSessions,
    record::Records,
};
use crate::{
    pod::{PodId, PodInstance},
    sessions::{Session, seal::Ring, session_store::StoredSessions},
    store::redis_store::notices::ChannelEvent,
};

/// Handles messages of other replicas.
pub struct Follower {
    pub(super) known: Arc<KnownSessions>,
    pub(super) keeper: Arc<Keeper>,
    pub(super) entries: Arc<StoredSessions>,
    pub(super) comparer: Arc<Comparer>,
    pub(super) records: Records,
    pub(super) channel: Arc<ReplicaChannel>,
    pub(super) ring: Arc<Ring>,
    pub(super) hash: KeyedHash,
}

/// Another replica asks whether a session has sockets elsewhere than at a pod.
struct SocketQuery {
    number: u128,
    /// `None` if this replica does not know it.
    session: Option<Arc<Session>>,
    pod: Option<PodId>,
}

impl Follower {
    /// Handles the messages of other replicas, for ever.
    pub async fn follow(&self) {
        let Some(mut words) = self.channel.subscribe() else { return std::future::pending().await };
        let mut answering = FuturesUnordered::new();
        loop {
            tokio::select! {
                heard = words.next() => match heard {
                    ChannelEvent::Message(said) => {
                        answering.extend(self.handle(&said).await.map(|asked| self.answer_socket_query(asked)));
                    }
                    ChannelEvent::Lost => self.comparer.compare_all().await,
                },
                Some(()) = answering.next() => {}
            }
        }
    }

    /// Looks again at what a message names, and trusts nothing else in it. Gives the question, if
    /// its answer must wait.
    async fn handle(&self, said: &str) -> Option<SocketQuery> {
        let changed = match self.channel.read(said)? {
            Message::Query(Query::Where, names) => return self.socket_query(&names),
            Message::Query(Query::Whose, names) => {
                self.say_whose(&names);
                return None;
            }
            Message::Query(Query::Idle, names) => {
                self.say_if_idle(&names);
                return None;
            }
            Message::Query(Query::Groups, names) => {
                self.say_if_without_groups(&names);
                return None;
            }
            Message::Answer(number) => {
                self.channel.count_answer(number);
                return None;
            }
            Message::Token(names) => names.into_iter().filter_map(|name| self.known.of_hash(name)).collect(),
            Message::Ended(scope, names) => self.known.all_that(|session| {
                let own = scope.names_of(&self.ring, session);
                own.iter().any(|name| names.contains(&u128::from_be_bytes(*name)))
            }),
        };
        for session in changed {
            session.compared_at.set(0);
            self.comparer.compare(&session).await;
        }
        None
    }

    /// Answers another replica's question about a token, by its names. First writes what it knows.
    fn say_whose(&self, names: &[u128]) {
        let Some((number, names)) = names.split_first() else { return };
        if let Some(session) = names.iter().find_map(|name| self.known.of_hash(*name)) {
            self.keeper.persist(&session);
        } else {
            let names: Vec<_> = names.iter().map(|name| name.to_be_bytes()).collect();
            self.entries.restore(&names);
        }
        self.channel.answer(*number);
    }

    /// Answers if the client of the session with one of these names is at nothing that is known here.
    fn say_if_idle(&self, names: &[u128]) {
        let Some((number, names)) = names.split_first() else { return };
        let session = names.iter().find_map(|name| self.known.of_hash(*name));
        if session.is_none_or(|session| !is_busy(&session)) {
            self.channel.answer(*number);
        }
    }

    /// Answers if the pod with one of these names has no group of a client that is known here.
    fn say_if_without_groups(&self, names: &[u128]) {
        let Some((number, names)) = names.split_first() else { return };
        let pools = self.records.pools.load();
        let pods = pools.iter().flat_map(|pool| pool.pods().to_vec());
        let mut named = pods.filter(|pod| names.contains(&pod_hash(&self.hash, pod)));
        let has_group = named.any(|pod| {
            let place = PodInstance::of(&pod);
            self.known.of_pod(&pod).iter().any(|session| session.group.is_at(place))
        });
        if !has_group {
            self.channel.answer(*number);
        }
    }

    /// Reads a query: its number, the token and the pod.
    fn socket_query(&self, names: &[u128]) -> Option<SocketQuery> {
        let &[number, token, pod] = names else { return None };
        let pools = self.records.pools.load();
        let pods = pools.iter().flat_map(|pool| pool.pods().to_vec());
        let pod = pods.into_iter().find(|other| pod_hash(&self.hash, other) == pod).map(|pod| pod.id);
        Some(SocketQuery { number, session: self.known.of_hash(token), pod })
    }

    /// Answers a query once its session has no socket elsewhere; gives no answer after `THERE`.
    async fn answer_socket_query(&self, SocketQuery { number, session, pod }: SocketQuery) {
        if let (Some(session), Some(pod)) = (session, pod)
            && session.sockets.is_any()
        {
            // The notice of the move may have come while Redis did not answer.
            self.comparer.refresh(&session).await;
            if time::timeout(THERE, attached(&session, pod)).await.is_err() {
                return;
            }
        }
        self.channel.answer(number);
    }
}
