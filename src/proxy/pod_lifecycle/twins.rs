//! Compares a pod that stands by with the one whose clients it takes over, and pods with databases of
//! their own.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use super::checks::PodChecks;
use crate::{
    jellyfin::client::{
        items,
        system::PublicInfo,
        users::{self, NamedUser},
    },
    pod::{Pod, Pool},
    proxy::pod_client::Caller,
    sessions::Token,
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
        found.extend(self.missing_items((standby, other), pool, key).await);
        found
    }

    /// The same of pods with databases of their own, which may have other ids of servers and users.
    pub async fn differences_of_twins(&self, pod: &Arc<Pod>, other: &Arc<Pod>, pool: &Pool) -> Vec<String> {
        let Some(key) = self.key() else { return Vec::new() };
        let caller = Caller::proxy(pool);
        let users = async |pod: &Arc<Pod>| {
            self.pods().call(pod, &caller, users::standings(key.as_str()).within(EACH)).await.ok()
        };
        let mut found = Vec::new();
        if let (Some(here), Some(there)) = (users(pod).await, users(other).await) {
            found.extend(of_names(&here, &there, &other.name));
        }
        found.extend(self.missing_items((pod, other), pool, key).await);
        found
    }

    async fn missing_items(&self, (pod, other): (&Arc<Pod>, &Arc<Pod>), pool: &Pool, key: &Token) -> Option<String> {
        let caller = Caller::proxy(pool);
        let Ok(sample) = self.pods().call(other, &caller, items::sample(key.as_str()).within(EACH)).await else {
            return None;
        };
        let asked = if sample.is_empty() {
            Ok(Vec::new())
        } else {
            self.pods().call(pod, &caller, items::known(&sample, key.as_str()).within(EACH)).await
        };
        let Ok(known) = asked else { return None };
        let known: HashSet<String> = known.into_iter().collect();
        let missing = sample.iter().filter(|id| !known.contains(*id)).count();
        let (all, other) = (sample.len(), &other.name);
        (missing > 0).then(|| format!("of {all} items of {other} it lacks {missing}, or has them by other ids"))
    }
}

/// Users that only one of both has, or that are disabled on one alone: their sessions stay on the other.
fn of_names(here: &[NamedUser], there: &[NamedUser], other: &str) -> Vec<String> {
    let by_name = |users: &[NamedUser]| -> HashMap<String, bool> {
        users.iter().map(|user| (user.name.to_lowercase(), user.is_disabled)).collect()
    };
    let (own, others) = (by_name(here), by_name(there));
    let count = |one: &HashMap<String, bool>, two: &HashMap<String, bool>| {
        one.keys().filter(|name| !two.contains_key(*name)).count()
    };
    let disabled = own.iter().filter(|(name, is)| others.get(*name).is_some_and(|other| other != *is)).count();
    let all = [
        (count(&others, &own), format!("users of {other} that it lacks, whose sessions cannot go on here")),
        (count(&own, &others), format!("its users that {other} lacks, whose sessions cannot go on there")),
        (disabled, format!("users that are disabled on it or on {other} alone")),
    ];
    all.into_iter().filter(|(number, _)| *number > 0).map(|(number, what)| format!("{what}: {number}")).collect()
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
    fn users_of_twins_are_compared_by_name_and_by_who_is_disabled() {
        let user = |(name, is_disabled): &(&str, bool)| NamedUser {
            name: (*name).into(),
            id: String::new(),
            is_disabled: *is_disabled,
        };
        let users = |all: &[(&str, bool)]| all.iter().map(user).collect::<Vec<_>>();
        let there = users(&[("alice", false), ("bob", false), ("carol", false)]);
        assert!(of_names(&users(&[("Alice", false), ("bob", false), ("carol", false)]), &there, "a").is_empty());
        let found = of_names(&users(&[("alice", true), ("dave", false), ("erin", false)]), &there, "a");
        let expected = [
            "users of a that it lacks, whose sessions cannot go on here: 2",
            "its users that a lacks, whose sessions cannot go on there: 2",
            "users that are disabled on it or on a alone: 1",
        ];
        assert_eq!(found, expected);
    }

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
