//! Hashes by which sessions are found, and by which replicas name tokens to each other.

use std::{hash::Hasher, sync::Arc};

use siphasher::sip128::{Hasher128, SipHasher24};

/// A keyed hash. Cheap to clone.
#[derive(Clone)]
pub(super) struct KeyedHash {
    seed: (u64, u64),
    /// The seeds of older keys, by which other replicas may name tokens.
    older: Arc<[(u64, u64)]>,
}

impl KeyedHash {
    /// `seeds` are the ring's, the newest first.
    pub(super) fn new(seeds: &[(u64, u64)]) -> KeyedHash {
        let (seed, older) = seeds.split_first().map_or(((0, 0), &[][..]), |(seed, older)| (*seed, older));
        KeyedHash { seed, older: older.into() }
    }

    pub(super) fn of(&self, parts: &[&str]) -> u128 {
        under(self.seed, parts)
    }

    /// The hashes under every key, the newest first.
    pub(super) fn under_all(&self, parts: &[&str]) -> impl Iterator<Item = u128> {
        std::iter::once(&self.seed).chain(&*self.older).map(move |seed| under(*seed, parts))
    }
}

fn under(seed: (u64, u64), parts: &[&str]) -> u128 {
    let mut hasher = SipHasher24::new_with_keys(seed.0, seed.1);
    for part in parts {
        hasher.write(part.as_bytes());
        hasher.write_u8(0);
    }
    hasher.finish128().as_u128()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_key_names_what_a_replica_finds_by_it_as_its_newest() {
        let (both, old) = (KeyedHash::new(&[(1, 2), (3, 4)]), KeyedHash::new(&[(3, 4)]));
        assert_eq!(both.under_all(&["t"]).collect::<Vec<_>>(), [both.of(&["t"]), old.of(&["t"])]);
        assert_ne!(both.of(&["a", "b"]), both.of(&["ab"]), "parts do not run together");
    }
}
