//! Messages between replicas. They name sessions by keyed hashes only, and a replica that hears one
//! looks for itself at what it names.

use std::fmt::Write;

use dashmap::DashMap;
use tokio::sync::watch;

use super::keyed_hash::KeyedHash;
use crate::{
    sessions::session_store::{EndScope, ReplicaBus},
    store::redis_store::notices::Messages,
};

/// This replica's open queries by number, and how many replicas have answered.
type OpenQueries = DashMap<u128, watch::Sender<usize>, ahash::RandomState>;

/// This replica's side of the common channel.
pub(super) struct ReplicaChannel {
    /// This replica's name in its messages to the others.
    pub(super) name: String,
    bus: ReplicaBus,
    hash: KeyedHash,
    open_queries: OpenQueries,
}

/// What a replica may ask the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Query {
    /// Whether they have sockets of a session elsewhere than at a pod.
    Where,
    /// Whose a token is.
    Whose,
    /// Whether a session's client is at nothing, as far as they know.
    Idle,
    /// Whether a pod has no SyncPlay groups, as far as they know.
    Groups,
}

/// A message of another replica, and the names in it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// A session with this token has changed.
    Token(Vec<u128>),
    /// All of a user or device ended.
    Ended(EndScope, Vec<u128>),
    /// A question. Its number stands first.
    Query(Query, Vec<u128>),
    /// An answer to the question of this number.
    Answer(u128),
}

/// A query of this replica, open until it is dropped.
struct OpenQuery<'a> {
    open_queries: &'a OpenQueries,
    number: u128,
    answers: watch::Receiver<usize>,
}

impl ReplicaChannel {
    /// Under a name that no other replica has.
    pub(super) fn new(bus: ReplicaBus, hash: KeyedHash) -> ReplicaChannel {
        ReplicaChannel { name: format!("{:016x}", random()), bus, hash, open_queries: DashMap::default() }
    }

    /// The others receive only the token's keyed hash, and look up what has changed.
    pub(super) fn token_changed(&self, token: &str) {
        self.bus.publish(|| format!("{} token {:032x}", self.name, self.hash.of(&[token])));
    }

    /// All of a user or device ended, under these names.
    pub(super) fn scope_ended(&self, scope: EndScope, names: &[[u8; 16]]) {
        self.bus.publish(|| {
            let mut message = format!("{} {}", self.name, if scope == EndScope::User { "user" } else { "device" });
            for name in names {
                // Writing into memory cannot fail.
                let _ = write!(message, " {:032x}", u128::from_be_bytes(*name));
            }
            message
        });
    }

    /// Asks all replicas. Redis says how many listen, and `answering` how many of these answer.
    /// Returns that number when so many have. `None` if Redis does not answer.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub(super) async fn ask_replicas(
        &self,
        query: Query,
        names: impl Iterator<Item = u128>,
        answering: impl FnOnce(usize) -> usize,
    ) -> Option<usize> {
        let mut asked = OpenQuery::new(&self.open_queries);
        let mut message = format!("{} {} {:032x}", self.name, query.as_str(), asked.number);
        for name in names {
            // Writing into memory cannot fail.
            let _ = write!(message, " {name:032x}");
        }
        let answering = answering(self.bus.publish_and_count(&message).await?);
        // This replica receives its own query, and answers at once.
        asked.answered_by(answering).await;
        Some(answering)
    }

    /// Answers another replica's question.
    pub(super) fn answer(&self, number: u128) {
        self.bus.publish(|| format!("{} there {number:032x}", self.name));
    }

    /// Counts the answer of a replica.
    pub(super) fn count_answer(&self, number: u128) {
        if let Some(asked) = self.open_queries.get(&number) {
            asked.send_modify(|answers| *answers += 1);
        }
    }

    /// Receives the messages of all replicas, this one's among them. `None` without Redis.
    pub(super) fn subscribe(&self) -> Option<Messages> {
        self.bus.subscribe()
    }

    /// Reads a message. `None` if it is none, or if it is this replica's own and asks nothing.
    pub(super) fn read(&self, said: &str) -> Option<Message> {
        let mut words = said.split(' ');
        let (from, kind) = (words.next()?, words.next()?);
        let names: Vec<u128> = words.filter_map(|word| u128::from_str_radix(word, 16).ok()).collect();
        let all = [Query::Where, Query::Whose, Query::Idle, Query::Groups];
        let query = all.into_iter().find(|query| query.as_str() == kind);
        if from == self.name {
            // The count of listeners includes this replica, so it counts its own answer here.
            return query.and(names.first()).map(|number| Message::Answer(*number));
        }
        match (query, kind) {
            (Some(query), _) => Some(Message::Query(query, names)),
            (None, "token") => Some(Message::Token(names)),
            (None, "user") => Some(Message::Ended(EndScope::User, names)),
            (None, "device") => Some(Message::Ended(EndScope::Device, names)),
            (None, "there") => names.first().map(|number| Message::Answer(*number)),
            _ => None,
        }
    }
}

impl Query {
    fn as_str(self) -> &'static str {
        match self {
            Query::Where => "where",
            Query::Whose => "whose",
            Query::Idle => "idle",
            Query::Groups => "groups",
        }
    }
}

impl<'a> OpenQuery<'a> {
    fn new(open_queries: &'a OpenQueries) -> OpenQuery<'a> {
        let (tell, answers) = watch::channel(0);
        let number = u128::from(random());
        open_queries.insert(number, tell);
        OpenQuery { open_queries, number, answers }
    }

    /// Returns when so many replicas have answered.
    async fn answered_by(&mut self, listeners: usize) {
        // It does not fail: the sender lives as long as the query.
        let _ = self.answers.wait_for(|answers| *answers >= listeners).await;
    }
}

impl Drop for OpenQuery<'_> {
    fn drop(&mut self) {
        self.open_queries.remove(&self.number);
    }
}

/// A number by which replicas tell their messages apart.
fn random() -> u64 {
    let mut bytes = [0; 8];
    // Without randomness replicas may mistake each other's messages for their own; comparing helps.
    let _ = getrandom::fill(&mut bytes);
    u64::from_be_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sessions::session_store::SessionStore;

    #[test]
    fn a_message_is_read_and_of_ones_own_only_what_asks() {
        let channel = ReplicaChannel::new(SessionStore::in_memory().into_parts().bus, KeyedHash::new(&[]));
        let own = channel.name.clone();
        for (said, read) in [
            ("other token 1f", Some(Message::Token(vec![31]))),
            ("other user 1 2", Some(Message::Ended(EndScope::User, vec![1, 2]))),
            ("other device 1", Some(Message::Ended(EndScope::Device, vec![1]))),
            ("other where 7 8 9", Some(Message::Query(Query::Where, vec![7, 8, 9]))),
            ("other whose 7", Some(Message::Query(Query::Whose, vec![7]))),
            ("other idle 7 8", Some(Message::Query(Query::Idle, vec![7, 8]))),
            ("other groups 7 8", Some(Message::Query(Query::Groups, vec![7, 8]))),
            ("other there 7", Some(Message::Answer(7))),
            ("other dances 7", None),
            ("other", None),
            (&*format!("{own} whose 7 8"), Some(Message::Answer(7))),
            (&*format!("{own} token 7"), None),
            (&*format!("{own} there 7"), None),
        ] {
            assert_eq!(channel.read(said), read, "{said}");
        }
    }
}
