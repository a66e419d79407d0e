//! The other replicas that are present, and what an operator should know of them.

use arc_swap::ArcSwap;

use crate::sessions::fingerprint::{API_KEY, RING};

/// The parts in which replicas may differ, as labels.
pub const PARTS: [&str; 7] = [RING, API_KEY, "cookie", "pods", "server_id", "leader", "tombstone_keep"];

/// The other replicas, as last heard.
#[derive(Debug, Default)]
pub struct Replicas {
    others: ArcSwap<Vec<Replica>>,
}

/// Another replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replica {
    pub name: String,
    /// The parts in which it disagrees with this one.
    pub disagrees: Vec<String>,
    /// Whether this replica can read what it writes.
    pub is_read: bool,
}

impl Replicas {
    pub fn others(&self) -> Vec<Replica> {
        self.others.load().to_vec()
    }

    pub fn has_others(&self) -> bool {
        self.count() > 0
    }

    pub fn count(&self) -> usize {
        self.others.load().len()
    }

    /// Whether another replica writes what this one cannot read. Meanwhile this one mints nothing,
    /// since that would end what the other has minted. It tells no client to log in again.
    pub fn is_apart(&self) -> bool {
        self.others.load().iter().any(|replica| !replica.is_read)
    }

    pub(super) fn set(&self, others: Vec<Replica>) {
        self.others.store(others.into());
    }
}

/// What an operator should know of a disagreement.
pub fn sentence(what: &str, is_read: bool) -> String {
    let which = match what {
        RING => "another replica has none of this one's [affinity] keys",
        API_KEY => "another replica has another [jellyfin] api_key",
        "cookie" => "another replica has another [affinity.cookie] name",
        "pods" => "another replica has other pools, or pods of other names",
        "server_id" => "another replica shows another server id",
        "leader" => "another replica has another [leader] mode",
        "tombstone_keep" => "another replica has another [limits] tombstone_keep",
        _ => "another replica is configured otherwise",
    };
    let then = if is_read {
        "replicas are to be configured alike"
    } else {
        "it cannot read what that one writes, so that it migrates no session; give all replicas the same"
    };
    format!("{which}: {then}")
}
