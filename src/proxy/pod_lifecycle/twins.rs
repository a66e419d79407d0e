//! Compares a pod that stands by with the one whose clients it takes over.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use super::checks::PodChecks;
use crate::{
    jellyfin::client::{items, system::PublicInfo, users},
    pod::{Pod, Pool},
    proxy::pod_client::Caller,
};

/// Longest time for each list. A pod that has just started takes its time.
const EACH: Duration = Duration::from_secs(30);

impl PodChecks {
    /// In what a pod that stands by differs from another, as far as that costs clients something:
    /// the server's id, users, and the ids of some items. Empty also without an API key, or where a
    /// pod does not answer.
    pub async fn differences(&self, standby: &Arc<Pod>, other: &Arc<Pod>, pool: &Pool) -> Vec<String> {
        let Some(key) = self.key() else { return Vec::new() };
        let mut found = Vec::new();
        let (one, two) = (self.public_info(standby, pool).await, self.public_info(other, pool).await);
        if let (Some(PublicInfo::Known(one)), Some(PublicInfo::Known(two))) = (&one, &two)
            && one.id != two.id
        {
            found.push(format!("its server id is not that of {}", other.name));
        }
        let caller = Caller::proxy(pool);
        let names =
            async |pod: &Arc<Pod>| self.pods().call(pod, &caller, users::names(key.as_str()).within(EACH)).await.ok();
        if let (Some(here), Some(there)) = (names(standby).await, names(other).await) {
            found.extend(of_users(&here, &there, &other.name));
        }
        let Ok(sample) = self.pods().call(other, &caller, items::sample(key.as_str()).within(EACH)).await else {
            return found;
        };
        let asked = if sample.is_empty() {
            Ok(Vec::new())
        } else {
            self.pods().call(standby, &caller, items::known(&sample, key.as_str()).within(EACH)).await
        };
        let Ok(known) = asked else { return found };
        let known: HashSet<String> = known.into_iter().collect();
        let missing = sample.iter().filter(|id| !known.contains(*id)).count();
        if missing > 0 {
            found.push(format!(
                "of {} items of {} it lacks {missing}, or has them by other ids",
                sample.len(),
                other.name
            ));
        }
        found
    }
}

/// Users that are missing, or have another id: their sessions cannot go on there.
fn of_users(here: &[(String, String)], there: &[(String, String)], other: &str) -> Vec<String> {
    let here: HashMap<&str, &str> = here.iter().map(|(name, id)| (name.as_str(), id.as_str())).collect();
    let (mut missing, mut different) = (0, 0);
    for (name, id) in there {
        match here.get(name.as_str()) {
            None => missing += 1,
            Some(known) if known != id => different += 1,
            Some(_) => {}
        }
    }
    let mut found = Vec::new();
    if missing > 0 {
        found.push(format!("of {} users of {other} it lacks {missing}", there.len()));
    }
    if different > 0 {
        found.push(format!("of {} users of {other} it has {different} by other ids", there.len()));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_compared_by_name_and_id() {
        let users = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs.iter().map(|(name, id)| ((*name).to_owned(), (*id).to_owned())).collect()
        };
        let there = users(&[("alice", "1"), ("bob", "2")]);
        assert!(of_users(&there, &there, "a").is_empty());
        assert_eq!(of_users(&users(&[("alice", "1")]), &there, "a"), ["of 2 users of a it lacks 1"]);
        assert_eq!(
            of_users(&users(&[("alice", "1"), ("bob", "3")]), &there, "a"),
            ["of 2 users of a it has 1 by other ids"]
        );
    }
}
