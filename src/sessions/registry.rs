//! All sessions of this process, and what it does with them beside its replicas.
//!
//! A session that is unused for long leaves memory, and the store brings it back. An end is for
//! good. It leaves a tombstone under every token, or the moment at which all of a user or device
//! ended. Each part below owns one matter; a caller takes the part that it needs.

pub mod activity;
pub mod announcer;
pub mod await_sockets;
pub mod capabilities;
mod channel;
pub mod comparer;
pub mod ends;
pub mod follower;
pub mod groups;
pub mod keeper;
mod keyed_hash;
pub mod known;
pub mod log_ins;
pub mod lookup;
pub mod other_replicas;
pub mod pending_logouts;
mod quota;
mod record;
pub mod replicas;
mod stored;
pub mod strangers;
mod tables;
pub mod upkeep;

use std::sync::{Arc, atomic::AtomicU32};

use super::{
    Bounds,
    session::{Common, Room, Uptime},
    session_store::{Backend, MigrationLocks, ReplicaBus, SessionStore},
};
use crate::pod::Pools;
use activity::Activity;
use announcer::Announcer;
use await_sockets::SocketWait;
use capabilities::Capabilities;
use channel::ReplicaChannel;
use comparer::Comparer;
use ends::Ends;
use follower::Follower;
use groups::GroupLeaders;
use keeper::Keeper;
use keyed_hash::KeyedHash;
use known::KnownSessions;
use log_ins::LogIns;
use lookup::Lookup;
use other_replicas::OtherReplicas;
use pending_logouts::PendingLogouts;
use record::Records;
use replicas::Replicas;
use strangers::Strangers;
use upkeep::Upkeep;

pub use known::SessionLookup;
pub use stored::StoreSays;

/// The sessions, and what is known of other tokens. Shared by all workers; only `async fn`s wait.
pub struct Sessions {
    /// The sessions in memory, found by token, device or pod.
    pub known: Arc<KnownSessions>,
    /// Keeps sessions in the store.
    pub keeper: Arc<Keeper>,
    /// Finds tokens that this process does not know in the store.
    pub lookup: Arc<Lookup>,
    /// Asks the other replicas about a token that not even the store knows.
    pub other_replicas: OtherReplicas,
    /// Compares sessions with what other replicas keep.
    pub comparer: Arc<Comparer>,
    /// Begins sessions.
    pub log_ins: LogIns,
    /// Ends tokens, sessions, users and devices.
    pub ends: Arc<Ends>,
    /// The ended tokens that a pod may still know.
    pub pending_logouts: Arc<PendingLogouts>,
    /// What clients without a known session said of themselves.
    pub capabilities: Arc<Capabilities>,
    /// The leaders that may have SyncPlay groups.
    pub groups: GroupLeaders,
    /// Keep two replicas from migrating one session.
    pub locks: MigrationLocks,
    /// What clients are at, here and at the other replicas.
    pub activity: Activity,
    /// Waits for a session's sockets, here and at the other replicas.
    pub socket_wait: SocketWait,
    /// The other replicas that are present.
    pub replicas: Arc<Replicas>,
    /// Announces this replica.
    pub announcer: Announcer,
    /// Handles the messages of the other replicas.
    pub follower: Follower,
    /// Writes again what Redis has lost.
    pub upkeep: Arc<Upkeep>,
    /// Where all of it stands.
    pub backend: Backend,
    bus: ReplicaBus,
}

impl Sessions {
    /// No sessions yet, at most `most` tokens in memory. `seeds` key the hashes that find them, the
    /// newest first; other replicas may name tokens by the older ones.
    pub fn new(
        most: usize,
        bounds: Bounds,
        seeds: &[(u64, u64)],
        pools: impl Into<Pools>,
        store: SessionStore,
    ) -> Self {
        let store = store.into_parts();
        let (backend, uptime) = (store.backend, Uptime::start());
        let common = Common { clock: backend.clock.clone(), room: Room::of(bounds.notes), uptime };
        let hash = KeyedHash::new(seeds);
        let records = Records::new(pools.into(), common.clone());
        let known = Arc::new(KnownSessions::new(most, bounds.of_one_user, hash.clone(), uptime));
        let replicas = Arc::new(Replicas::default());
        let channel = Arc::new(ReplicaChannel::new(store.bus.clone(), hash.clone()));
        let keeper = Arc::new(Keeper {
            known: known.clone(),
            entries: store.entries.clone(),
            records: records.clone(),
            channel: channel.clone(),
            backend: backend.clone(),
        });
        let pending_logouts =
            Arc::new(PendingLogouts::new(store.pending_logouts, store.entries.clone(), records.clone()));
        let ends = Arc::new(Ends {
            known: known.clone(),
            keeper: keeper.clone(),
            entries: store.entries.clone(),
            stored: store.ends.clone(),
            pending_logouts: pending_logouts.clone(),
            channel: channel.clone(),
            clock: backend.clock.clone(),
        });
        let comparer = Arc::new(Comparer {
            known: known.clone(),
            keeper: keeper.clone(),
            entries: store.entries.clone(),
            records: records.clone(),
            ends: ends.clone(),
            replicas: replicas.clone(),
            backend: backend.clone(),
            missed: AtomicU32::new(0),
        });
        let lookup = Arc::new(Lookup {
            known: known.clone(),
            keeper: keeper.clone(),
            entries: store.entries.clone(),
            stored_ends: store.ends.clone(),
            records: records.clone(),
            ends: ends.clone(),
            comparer: comparer.clone(),
            replicas: replicas.clone(),
            backend: backend.clone(),
            strangers: Strangers::new(hash.clone(), lookup::ASK_AGAIN),
        });
        let capabilities = Arc::new(Capabilities::new(known.clone(), keeper.clone(), hash.clone()));
        let upkeep = Arc::new(Upkeep {
            known: known.clone(),
            keeper: keeper.clone(),
            entries: store.entries.clone(),
            ends: store.ends.clone(),
            backend: backend.clone(),
            uptime,
        });
        Sessions {
            other_replicas: OtherReplicas {
                lookup: lookup.clone(),
                entries: store.entries.clone(),
                channel: channel.clone(),
                replicas: replicas.clone(),
                hash: hash.clone(),
                backend: backend.clone(),
                unknown: Strangers::new(hash.clone(), other_replicas::ASK_AGAIN),
            },
            log_ins: LogIns {
                known: known.clone(),
                keeper: keeper.clone(),
                entries: store.entries.clone(),
                lookup: lookup.clone(),
                ends: ends.clone(),
                pending_logouts: pending_logouts.clone(),
                capabilities: capabilities.clone(),
                common,
            },
            groups: GroupLeaders::new(store.bus.clone()),
            activity: Activity { channel: channel.clone(), hash: hash.clone(), replicas: replicas.clone() },
            socket_wait: SocketWait { channel: channel.clone(), hash: hash.clone(), backend: backend.clone() },
            announcer: Announcer {
                replicas: replicas.clone(),
                name: channel.name.clone(),
                bus: store.bus.clone(),
                ring: backend.ring.clone(),
                ends: store.ends,
                upkeep: upkeep.clone(),
            },
            follower: Follower {
                known: known.clone(),
                keeper: keeper.clone(),
                entries: store.entries,
                comparer: comparer.clone(),
                records,
                channel,
                ring: backend.ring.clone(),
                hash,
            },
            known,
            keeper,
            lookup,
            comparer,
            ends,
            pending_logouts,
            capabilities,
            replicas,
            locks: store.locks,
            upkeep,
            backend,
            bus: store.bus,
        }
    }

    /// This replica's name in its messages to the others.
    pub fn name(&self) -> &str {
        &self.announcer.name
    }

    /// Tells the other replicas that this one leaves.
    pub async fn depart(&self) {
        self.bus.depart(self.name()).await;
    }
}
