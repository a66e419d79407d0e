//! What differs between two configurations, key by key, and which keys wait for the next start.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};
use toml::{Table, Value};

use super::Environment;

/// Keys that a running process does not take, and why. The reference has these sentences.
pub(super) const AT_THE_NEXT_START: [(&str, &str); 13] = [
    ("listen.workers", "each worker is a thread with sockets of its own"),
    ("state.path", "the files there are open as long as the process runs"),
    ("redis.prefix", "all that is kept in Redis has it in its name"),
    ("redis.max_keys", "the census of Redis is made for it"),
    ("redis.max_memory", "the census of Redis is made for it"),
    ("limits.pins", "the tables in memory are made for it"),
    ("limits.pins_per_address", "the tables in memory are made for it"),
    ("limits.sessions_per_user", "the tables in memory are made for it"),
    ("limits.notes", "the tables in memory are made for it"),
    ("limits.tombstones", "the tables in memory are made for it"),
    ("limits.tombstone_keep", "the tables in memory are made for it"),
    ("pools.<pool>.base_path", "the pods' probes and their clients' sessions stand on it"),
    ("pools.<pool>.database", "clients' sessions and users' ids stand on it"),
];

/// Why a whole `[redis]` that comes or goes waits.
const NO_OTHER_STORE: &str = "what is kept stays in its store as long as the process runs";

/// Keys whose values nobody may see.
const SECRETS: [&str; 5] = ["affinity.keys", "redis.url", "redis.sentinels", "admin.token", "jellyfin.api_key"];

/// The same of any pod. A URL that wakes one is often all that somebody needs to do so.
const SECRETS_OF_PODS: [&str; 3] = [".api_key", ".wake.authorization", ".wake.url"];

/// Whether nobody may see the value of a key.
pub(super) fn is_secret(path: &str) -> bool {
    SECRETS.contains(&path) || SECRETS_OF_PODS.iter().any(|end| path.starts_with("pools.") && path.ends_with(end))
}

/// Whether a key's value has secrets in it: routes may name users.
fn holds_secrets(path: &str, value: &Value) -> bool {
    let names_users = |route: &Value| route.get("basic_auth").is_some();
    is_secret(path) || path == "routes" && value.as_array().is_some_and(|routes| routes.iter().any(names_users))
}

/// The keys that a configuration sets, with their values. A secret is kept as a hash.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keys(BTreeMap<String, Setting>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Setting {
    Shown(String),
    Secret([u8; 32]),
}

/// A key that differs. Its `Display` is `limits.pins: 1000 → 2000`, with a reason if it waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub key: String,
    from: Option<Setting>,
    to: Option<Setting>,
    /// Why it waits for the next start, if it does.
    pub waits: Option<&'static str>,
}

impl Keys {
    /// Reads the keys of a text that is a good configuration.
    pub(super) fn read(text: &str, folder: &Path, environment: &dyn Environment) -> Keys {
        let mut keys = BTreeMap::new();
        collect("", &text.parse::<Table>().unwrap_or_default(), &mut |path, value| {
            let setting = match holds_secrets(path, value) {
                true => Setting::Secret(hidden(value, folder, environment)),
                false => Setting::Shown(value.to_string()),
            };
            keys.insert(path.to_owned(), setting);
        });
        Keys(keys)
    }

    /// What another configuration has otherwise.
    pub fn changes(&self, new: &Keys) -> Vec<Change> {
        let has_store = |keys: &Keys| keys.0.keys().any(|key| key.starts_with("redis."));
        let moves_store = has_store(self) != has_store(new);
        let names: std::collections::BTreeSet<&String> = self.0.keys().chain(new.0.keys()).collect();
        let change = |key: &String| {
            let (from, to) = (self.0.get(key).cloned(), new.0.get(key).cloned());
            let is_of_store = key.starts_with("redis.") || key == "leader.mode" && !is_own_leader(to.as_ref());
            let waits = match moves_store && is_of_store {
                true => Some(NO_OTHER_STORE),
                false => why_it_waits(key),
            };
            (from != to).then(|| Change { key: key.clone(), from, to, waits })
        };
        names.into_iter().filter_map(change).collect()
    }

    /// These keys after a reload: those that wait keep their values, so the next look names them
    /// again.
    #[must_use]
    pub fn after(&self, new: &Keys) -> Keys {
        let mut keys = new.clone();
        for change in self.changes(new).into_iter().filter(|change| change.waits.is_some()) {
            match change.from {
                Some(before) => drop(keys.0.insert(change.key, before)),
                None => drop(keys.0.remove(&change.key)),
            }
        }
        keys
    }
}

/// The files of secrets that a text names.
pub(super) fn secret_files(text: &str, folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    collect("", &text.parse::<Table>().unwrap_or_default(), &mut |path, value| {
        if holds_secrets(path, value) {
            sources(value, "file", &mut |name| files.push(folder.join(name)));
        }
    });
    files
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} → {}", self.key, shown(self.from.as_ref()), shown(self.to.as_ref()))?;
        match self.waits {
            Some(why) => write!(f, " (at the next start: {why})"),
            None => Ok(()),
        }
    }
}

fn shown(setting: Option<&Setting>) -> &str {
    match setting {
        None => "(default)",
        Some(Setting::Shown(value)) => value,
        Some(Setting::Secret(_)) => "(secret)",
    }
}

/// Whether this mode finds leaders without Redis.
fn is_own_leader(mode: Option<&Setting>) -> bool {
    let Some(Setting::Shown(mode)) = mode else { return true };
    !matches!(mode.trim_matches('"'), "follow" | "elect")
}

pub(super) fn why_it_waits(key: &str) -> Option<&'static str> {
    let is_meant = |pattern: &str| match pattern.split_once("<pool>") {
        Some((start, end)) => key.starts_with(start) && key.ends_with(end),
        None => key == pattern,
    };
    AT_THE_NEXT_START.iter().find(|(pattern, _)| is_meant(pattern)).map(|(_, why)| *why)
}

/// Calls `found` for each key below a table. A secret's own table is one value.
pub(super) fn collect(path: &str, table: &Table, found: &mut impl FnMut(&str, &Value)) {
    for (name, value) in table {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        match value {
            Value::Table(inner) if !is_secret(&path) => collect(&path, inner, found),
            other => found(&path, other),
        }
    }
}

/// A hash of a secret: of its text, or of what its file or variable has now.
fn hidden(value: &Value, folder: &Path, environment: &dyn Environment) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(value.to_string());
    sources(value, "file", &mut |name| hash.update(std::fs::read(folder.join(name)).unwrap_or_default()));
    sources(value, "env", &mut |name| hash.update(environment.get(name).unwrap_or_default()));
    hash.finalize().into()
}

/// Calls `found` for what a secret, or each of a list, names by this key.
fn sources(value: &Value, kind: &str, found: &mut impl FnMut(&str)) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| sources(item, kind, found)),
        Value::Table(table) => {
            if let Some(name) = table.get(kind).and_then(Value::as_str) {
                found(name);
            }
            if let Some(users) = table.get("basic_auth") {
                sources(users, kind, found);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests;
