//! Keeps in Redis what this replica knows, and writes it there again when it is gone.
//!
//! Redis may evict entries, be emptied, or come back with less than it had. So each replica checks
//! from time to time whether its sessions and tombstones are there. It checks at once when Redis
//! has lost everything. Before jellypin refuses a token as unknown, it asks the other replicas: one
//! of them may know what Redis has lost.

use std::{fmt::Write, sync::Arc, time::Duration};

use tokio::time::{self, Instant};

use super::{SessionLookup, Sessions, await_sockets::OpenQuery};
use crate::sessions::{Session, session_store::AT_ONCE};

/// The longest wait for the others' answers, and so for a replica that died without telling Redis.
const THERE: Duration = Duration::from_secs(1);

/// How long jellypin does not ask the others again about a token that none of them knew.
const ASK_AGAIN: Duration = Duration::from_secs(10);

/// Pause between two batches when nothing hurries.
const REST: Duration = Duration::from_millis(50);

impl Sessions {
    /// Writes again what Redis has lost of all that this replica knows. Gives how many entries.
    /// `hurries` if all may be lost.
    pub async fn mend(&self, hurries: bool) -> usize {
        self.forget_users();
        if !self.store.is_shared() {
            self.store.mend_ends().await;
            return 0;
        }
        // Tombstones first: a reader must not find a session without its end.
        let mut written = self.store.mend_ends().await;
        let all: Vec<Arc<Session>> = self.devices.iter().map(|entry| entry.clone()).collect();
        for some in all.chunks(AT_ONCE) {
            written += self.mend_some(some).await;
            if !hurries {
                time::sleep(REST).await;
            }
        }
        written
    }

    async fn mend_some(&self, sessions: &[Arc<Session>]) -> usize {
        let entry = |session: &Arc<Session>| {
            let tokens = session.tokens();
            let names: Vec<_> = tokens.iter().filter_map(|it| self.store.session_name(it.token.as_str())).collect();
            names.into_iter().map(|name| (name, session.clone())).collect::<Vec<_>>()
        };
        let entries: Vec<_> = sessions.iter().filter(|session| !session.is_ended()).flat_map(entry).collect();
        let names: Vec<_> = entries.iter().map(|(name, _)| *name).collect();
        let Some(are_there) = self.store.has_sessions(&names).await else { return 0 };
        let lost = entries.iter().zip(are_there).filter(|(_, is_there)| !is_there);
        let mut written = 0;
        let mut last: Option<&Arc<Session>> = None;
        for ((_, session), _) in lost {
            // `persist` writes all entries of a session at once.
            if !last.is_some_and(|last| Arc::ptr_eq(last, session)) {
                session.set_entry_lost_at(self.store_second());
                self.persist(session);
            }
            last = Some(session);
            written += 1;
        }
        if written > 0 {
            // The queue is bounded, and these writes must push nothing out.
            self.store.flush().await;
        }
        written
    }

    /// Learns the ends from before this replica began, or from while Redis was away.
    pub async fn learn_ends(&self) -> bool {
        self.store.learn_ends().await
    }

    /// Tombstones that this replica knows.
    pub fn ends(&self) -> usize {
        self.store.ends()
    }

    /// Whether there are other replicas that jellypin has not just asked about this token.
    pub fn may_ask_others(&self, token: &str) -> bool {
        self.store.is_shared()
            && self.has_others()
            && self.unknown.get(&self.hash(&[token])).is_none_or(|until| until <= Instant::now())
    }

    /// Asks the other replicas about a token that neither this one nor Redis knows. A replica that
    /// knows it writes it into Redis again.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn ask_others(&self, token: &str) -> SessionLookup {
        if !self.may_ask_others(token) {
            return SessionLookup::Unknown;
        }
        let hash = self.hash(&[token]);
        let mut asked = OpenQuery::new(&self.open_queries);
        let mut words = format!("{} whose {:032x}", self.name, asked.number);
        for name in self.store.session_names(token) {
            // Writing into memory cannot fail.
            let _ = write!(words, " {:032x}", u128::from_be_bytes(name));
        }
        // The others find a token by their newest key, which may be one of the older keys here.
        for seeds in std::iter::once(&self.secret).chain(&self.older) {
            let _ = write!(words, " {:032x}", Sessions::hash_under(*seeds, &[token]));
        }
        let told = async {
            let listeners = self.store.publish_and_count(&words).await?;
            // A replica of an earlier version listens, but neither announces itself nor answers.
            let answering = listeners.min(self.others.load().len() + 1);
            asked.answered_by(answering).await;
            Some(answering)
        };
        match time::timeout(THERE, told).await {
            Ok(Some(1)) => self.unknown.insert(hash, Instant::now() + ASK_AGAIN),
            // A replica that has not answered may know it.
            Ok(None) | Err(_) => return SessionLookup::Unresolved,
            Ok(Some(_)) => {
                let found = self.lookup_store(token).await;
                if !matches!(found, SessionLookup::Unknown) {
                    return found;
                }
                self.unknown.insert(hash, Instant::now() + ASK_AGAIN);
            }
        }
        SessionLookup::Unknown
    }

    /// Answers another replica's question about a token, by its names. First writes what it knows.
    pub(super) fn say_whose(&self, names: &[u128]) {
        let Some((number, names)) = names.split_first() else { return };
        let known = names.iter().find_map(|name| self.active.get(name).map(|session| session.clone()));
        if let Some(session) = known {
            self.persist(&session);
        } else {
            let names: Vec<_> = names.iter().map(|name| name.to_be_bytes()).collect();
            self.store.restore(&names);
        }
        self.store.publish(format!("{} there {number:032x}", self.name));
    }
}
