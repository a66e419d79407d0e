//! Keeps in Redis what this replica knows, and writes it there again when it is gone.
//!
//! Redis may evict entries, be emptied, or come back with less than it had. So each replica checks
//! from time to time whether its sessions and tombstones are there. It checks at once when Redis
//! has lost everything.

use std::{sync::Arc, time::Duration};

use tokio::time;

use super::{keeper::Keeper, known::KnownSessions};
use crate::sessions::{
    Session,
    session::Uptime,
    session_store::{Backend, StoredEnds, StoredSessions},
};

/// Sessions that one batch looks up or writes again.
const AT_ONCE: usize = 256;

/// Pause between two batches when nothing hurries.
const REST: Duration = Duration::from_millis(50);

/// Keeps Redis complete.
pub struct Upkeep {
    pub(super) known: Arc<KnownSessions>,
    pub(super) keeper: Arc<Keeper>,
    pub(super) entries: Arc<StoredSessions>,
    pub(super) ends: Arc<StoredEnds>,
    pub(super) backend: Backend,
    pub(super) uptime: Uptime,
}

impl Upkeep {
    /// Writes again what Redis has lost of all that this replica knows. Gives how many entries.
    /// `hurries` if all may be lost.
    pub async fn mend(&self, hurries: bool) -> usize {
        self.known.tidy();
        // Tombstones first: a reader must not find a session without its end.
        let mut written = self.ends.mend().await;
        if !self.backend.is_shared() {
            return 0;
        }
        let all = self.known.all_that(|_| true);
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
            let tokens = session.tokens.all();
            let names: Vec<_> = tokens.iter().filter_map(|it| self.entries.name(it.token.as_str())).collect();
            names.into_iter().map(|name| (name, session.clone())).collect::<Vec<_>>()
        };
        let entries: Vec<_> = sessions.iter().filter(|session| !session.is_ended()).flat_map(entry).collect();
        let names: Vec<_> = entries.iter().map(|(name, _)| *name).collect();
        let Some(are_there) = self.entries.are_there(&names).await else { return 0 };
        let lost = entries.iter().zip(are_there).filter(|(_, is_there)| !is_there);
        let mut written = 0;
        let mut last: Option<&Arc<Session>> = None;
        for ((_, session), _) in lost {
            // `persist` writes all entries of a session at once.
            if !last.is_some_and(|last| Arc::ptr_eq(last, session)) {
                session.entry_lost_at.set(self.uptime.moment());
                self.keeper.persist(session);
            }
            last = Some(session);
            written += 1;
        }
        if written > 0 {
            // The queue is bounded, and these writes must push nothing out.
            self.backend.flush().await;
        }
        written
    }
}
