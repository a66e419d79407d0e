//! What a replica says of its configuration: others can check whether they agree, and no key leaks.
//!
//! Each part is a keyed hash under every key of the ring. Two replicas compare under a key that
//! both have. A hash of nothing under each key tells the keys apart. Rings need not be equal: while
//! an operator replaces keys replica by replica, one common key is enough. All replicas write under
//! the first key that all of them have.

use std::{collections::BTreeMap, fmt::Write};

use crate::store::seal::Ring;

/// The label of a disagreement about the ring of keys.
pub const RING: &str = "key_ring";

/// The label of a disagreement about the API key.
pub const API_KEY: &str = "api_key";

/// Stands for a part that is unknown or absent, and disagrees with nothing.
const NOTHING: &str = "-";

/// What a replica says of its configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fingerprint {
    /// Its keys, the newest first.
    keys: Vec<String>,
    /// The key that it writes under.
    writes: String,
    /// The hashes of each part, one for each key.
    parts: BTreeMap<String, Vec<String>>,
}

impl Fingerprint {
    /// Hashes these parts, by name. An empty part is unknown.
    pub(super) fn new(ring: &Ring, parts: &[(&str, String)]) -> Fingerprint {
        let keys: Vec<String> = ring.names("replica", "").map(short).collect();
        let writes = ring.name("replica", "").map_or_else(|| NOTHING.to_owned(), short);
        let hashes = |(name, text): &(&str, String)| {
            let under = |hash: [u8; 16]| if text.is_empty() { NOTHING.to_owned() } else { short(hash) };
            ((*name).to_owned(), ring.names(&format!("replica {name}"), text).map(under).collect())
        };
        Fingerprint { keys, writes, parts: parts.iter().map(hashes).collect() }
    }

    /// The text that other replicas read.
    pub fn write(&self) -> String {
        let mut text = format!("writes={} keys={}", self.writes, self.keys.join(","));
        for (name, hashes) in &self.parts {
            // Writing into memory cannot fail.
            let _ = write!(text, " {name}={}", hashes.join(","));
        }
        text
    }

    pub fn read(text: &str) -> Fingerprint {
        let mut read = Fingerprint::default();
        for (name, value) in text.split(' ').filter_map(|part| part.split_once('=')) {
            let hashes = || value.split(',').map(str::to_owned).collect();
            match name {
                "writes" => read.writes = value.to_owned(),
                "keys" => read.keys = hashes(),
                _ => drop(read.parts.insert(name.to_owned(), hashes())),
            }
        }
        read
    }

    /// The parts in which another replica disagrees with this one. Both must have the part.
    pub fn disagreements(&self, other: &Fingerprint) -> Vec<String> {
        let Some((ours, theirs)) = self.common_key(other) else { return vec![RING.to_owned()] };
        let differs = |(name, hashes): (&String, &Vec<String>)| {
            let (one, another) = (hashes.get(ours)?, other.parts.get(name)?.get(theirs)?);
            (one != another && one != NOTHING && another != NOTHING).then(|| name.clone())
        };
        self.parts.iter().filter_map(differs).collect()
    }

    /// Whether this replica can read what the other one writes.
    pub fn reads(&self, other: &Fingerprint) -> bool {
        self.keys.contains(&other.writes) && !self.disagreements(other).iter().any(|what| what == API_KEY)
    }

    /// The index of the first key here that all of these have; the newest, if there is none.
    pub fn writes_under<'a>(&self, others: impl Iterator<Item = &'a Fingerprint> + Clone) -> usize {
        let have_all = |key: &String| others.clone().all(|other| other.keys.contains(key));
        self.keys.iter().position(have_all).unwrap_or(0)
    }

    fn common_key(&self, other: &Fingerprint) -> Option<(usize, usize)> {
        let pair = |(ours, key)| Some((ours, other.keys.iter().position(|theirs| theirs == key)?));
        self.keys.iter().enumerate().find_map(pair)
    }
}

fn short(hash: [u8; 16]) -> String {
    format!("{:016x}", hash.iter().take(8).fold(0_u64, |all, byte| (all << 8) | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(keys: &[&str], parts: &[(&str, &str)]) -> Fingerprint {
        let parts: Vec<_> = parts.iter().map(|(name, text)| (*name, (*text).to_owned())).collect();
        Fingerprint::new(&Ring::new(keys.iter().map(|key| key.as_bytes())), &parts)
    }

    #[test]
    fn it_shows_no_key_and_is_read_as_it_was_written() {
        let print = of(&["the newest", "an older"], &[(API_KEY, "0123456789abcdef"), ("cookie", "name")]);
        let text = print.write();
        assert_eq!(Fingerprint::read(&text), print);
        for secret in ["the newest", "an older", "0123456789abcdef", "name"] {
            assert!(!text.contains(secret), "{text}");
        }
    }

    #[test]
    fn they_disagree_in_what_differs_and_only_in_what_both_know() {
        let parts = [(API_KEY, "one"), ("cookie", "name"), ("server_id", "")];
        let (one, same) = (of(&["k"], &parts), of(&["k"], &parts));
        assert!(one.disagreements(&same).is_empty() && one.reads(&same));
        let other_cookie = of(&["k"], &[(API_KEY, "one"), ("cookie", "x"), ("server_id", "7"), ("later", "1")]);
        assert_eq!(one.disagreements(&other_cookie), ["cookie"]);
        assert!(one.reads(&other_cookie));
        let other_key = of(&["k"], &[(API_KEY, "two")]);
        assert_eq!((one.disagreements(&other_key), one.reads(&other_key)), (vec![API_KEY.to_owned()], false));
        let none = of(&["k"], &[(API_KEY, "")]);
        assert!(one.reads(&none), "a replica without API key mints nothing");
        let other_ring = of(&["x"], &parts);
        assert_eq!((one.disagreements(&other_ring), one.reads(&other_ring)), (vec![RING.to_owned()], false));
    }

    #[test]
    fn a_key_is_replaced_replica_by_replica() {
        let parts = [("cookie", "name")];
        let (old, both, new) = (of(&["old"], &parts), of(&["new", "old"], &parts), of(&["new"], &parts));
        assert!(both.disagreements(&old).is_empty() && old.disagreements(&both).is_empty());
        assert!(both.reads(&old) && !old.reads(&both), "one that writes under the new key already");
        assert_eq!(both.writes_under([&old, &both].into_iter()), 1, "so it writes under the old one");
        assert_eq!(both.writes_under([&both, &new].into_iter()), 0);
        assert_eq!(both.writes_under(std::iter::empty()), 0);
        assert_eq!(old.disagreements(&new), [RING]);
        let ring = Ring::new([b"new".as_slice(), b"old"].into_iter());
        ring.write_under(1);
        assert!(old.reads(&Fingerprint::new(&ring, &[])));
    }
}
