//! The tombstones that this replica knows. It finds them without Redis, and writes them there again
//! when Redis has lost them.
//!
//! Their number is bounded, for all and for each owner: the user, or the address if the user is not
//! known. A user who signs in and out all day displaces only their own.

use std::collections::{HashMap, VecDeque};

use crate::sessions::UnixMillis;

/// Who is charged for it, as a keyed hash.
pub(super) type Owner = u64;

/// The owner when nobody is known.
pub(super) const NOBODY: Owner = 0;

/// When a name was ended, and whose it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tombstone {
    pub(super) at: UnixMillis,
    pub(super) owner: Owner,
}

/// A stored tombstone that was not known.
#[derive(Debug)]
pub(super) struct Learned {
    pub(super) tombstone: Tombstone,
    /// It is stored with another moment.
    pub(super) is_corrected: bool,
    /// The names that had to go for it.
    pub(super) gone: Vec<[u8; 16]>,
}

/// How far the clocks of two replicas may be apart, in milliseconds.
const APART: UnixMillis = 60_000;

fn is_in_future(at: UnixMillis, now: UnixMillis) -> bool {
    at > now.saturating_add(APART)
}

#[derive(Debug)]
pub(super) struct Tombstones {
    by_name: HashMap<[u8; 16], Tombstone, ahash::RandomState>,
    /// The names of each owner, the oldest first. Removed names may still stand there.
    by_owner: HashMap<Owner, VecDeque<[u8; 16]>, ahash::RandomState>,
    most: usize,
    most_of_one: usize,
}

impl Tombstones {
    pub(super) fn new(most: usize, most_of_one: usize) -> Tombstones {
        let most = most.max(16);
        let (by_name, by_owner) = (HashMap::default(), HashMap::default());
        Tombstones { by_name, by_owner, most, most_of_one: most_of_one.clamp(1, most) }
    }

    pub(super) fn get(&self, name: &[u8; 16]) -> Option<Tombstone> {
        self.by_name.get(name).copied()
    }

    pub(super) fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Inserts one; of the same name the later moment stays. Gives the names that had to go for it.
    pub(super) fn put(&mut self, name: [u8; 16], tombstone: Tombstone) -> Vec<[u8; 16]> {
        if let Some(known) = self.by_name.get_mut(&name) {
            known.at = known.at.max(tombstone.at);
            return Vec::new();
        }
        self.by_name.insert(name, tombstone);
        let of_one = self.by_owner.entry(tombstone.owner).or_default();
        of_one.push_back(name);
        // Those of unknown users belong to many users.
        let bound = if tombstone.owner == NOBODY { self.most / 4 } else { self.most_of_one };
        if of_one.len() > bound.max(1) {
            return self.take_oldest(tombstone.owner, 1);
        }
        if self.by_name.len() > self.most {
            let longest = self.by_owner.iter().max_by_key(|(_, names)| names.len()).map(|(owner, _)| *owner);
            return longest.map(|owner| self.take_oldest(owner, self.most / 64 + 1)).unwrap_or_default();
        }
        Vec::new()
    }

    /// Inserts a stored one, unless it is known. Gives it, and the names that had to go for it.
    ///
    /// Nothing ends in the future. Such a moment is a wrong clock's or a forgery, and would end all that
    /// begins until then. So it counts as now, once: what is known of the name already stays.
    pub(super) fn learn(&mut self, name: [u8; 16], value: &[u8], now: UnixMillis) -> Option<Learned> {
        let stored = Tombstone::read(value)?;
        let is_wrong = is_in_future(stored.at, now);
        let known = self.get(&name);
        if known.is_some_and(|known| is_wrong || known.at >= stored.at.min(now)) {
            return None;
        }
        let tombstone = Tombstone { at: stored.at.min(now), ..stored };
        Some(Learned { tombstone, is_corrected: is_wrong, gone: self.put(name, tombstone) })
    }

    /// Moves to now what ended in the future, as it seems once a clock is corrected. Gives those.
    pub(super) fn correct_all(&mut self, now: UnixMillis) -> Vec<([u8; 16], Tombstone)> {
        self.by_name.iter_mut().filter_map(|(name, stone)| Some((*name, stone.corrected(now)?))).collect()
    }

    /// The same for these names alone.
    pub(super) fn correct(&mut self, names: &[[u8; 16]], now: UnixMillis) -> Vec<([u8; 16], Tombstone)> {
        let corrected = |name: &[u8; 16]| Some((*name, self.by_name.get_mut(name)?.corrected(now)?));
        names.iter().filter_map(corrected).collect()
    }

    /// Removes those that are older than this. Gives their names.
    pub(super) fn expire(&mut self, before: UnixMillis) -> Vec<[u8; 16]> {
        let old: Vec<_> = self.by_name.iter().filter(|(_, stone)| stone.at < before).map(|(name, _)| *name).collect();
        for name in &old {
            self.by_name.remove(name);
        }
        if !old.is_empty() {
            let by_name = &self.by_name;
            self.by_owner.retain(|_, names| {
                names.retain(|name| by_name.contains_key(name));
                !names.is_empty()
            });
        }
        old
    }

    pub(super) fn all(&self) -> Vec<([u8; 16], Tombstone)> {
        self.by_name.iter().map(|(name, stone)| (*name, *stone)).collect()
    }

    fn take_oldest(&mut self, owner: Owner, count: usize) -> Vec<[u8; 16]> {
        let Some(names) = self.by_owner.get_mut(&owner) else { return Vec::new() };
        let gone: Vec<_> = names.drain(..count.min(names.len())).collect();
        for name in &gone {
            self.by_name.remove(name);
        }
        if names.is_empty() {
            self.by_owner.remove(&owner);
        }
        gone
    }
}

impl Tombstone {
    fn corrected(&mut self, now: UnixMillis) -> Option<Tombstone> {
        is_in_future(self.at, now).then(|| {
            self.at = now;
            *self
        })
    }

    /// The stored form: the moment, and the owner if known.
    pub(super) fn write(self) -> Vec<u8> {
        let Tombstone { at, owner } = self;
        if owner == NOBODY { at.to_string() } else { format!("{at} {owner:016x}") }.into_bytes()
    }

    pub(super) fn read(bytes: &[u8]) -> Option<Tombstone> {
        let text = std::str::from_utf8(bytes).ok()?;
        let (at, owner) = match text.split_once(' ') {
            Some((at, owner)) => (at, Owner::from_str_radix(owner, 16).ok()?),
            None => (text, NOBODY),
        };
        Some(Tombstone { at: at.parse().ok()?, owner })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: u32) -> [u8; 16] {
        u128::from(number).to_be_bytes()
    }

    #[test]
    fn one_user_displaces_only_his_own() {
        let mut stones = Tombstones::new(1000, 100);
        let put = |stones: &mut Tombstones, number: u32, owner| stones.put(name(number), Tombstone { at: 1, owner });
        (0..50).for_each(|number| drop(put(&mut stones, number, 7)));
        let gone: usize = (1000..3000).map(|number| put(&mut stones, number, 8).len()).sum();
        assert_eq!((stones.len(), gone), (150, 1900));
        assert!((0..50).all(|number| stones.get(&name(number)).is_some()), "those of the other stay");
        assert!(stones.get(&name(1000)).is_none() && stones.get(&name(2999)).is_some(), "his oldest go");
        (5000..9000).for_each(|number| drop(put(&mut stones, number, NOBODY)));
        assert_eq!(stones.len(), 400, "what nobody is known for has a quarter");
        (0..100_000_u32).for_each(|number| drop(put(&mut stones, 10_000 + number, 100 + u64::from(number / 90))));
        assert!(stones.len() <= 1000 && stones.by_owner.values().map(VecDeque::len).sum::<usize>() == stones.len());
    }

    #[test]
    fn nothing_ends_in_the_future_and_a_wrong_moment_counts_once() {
        const NOW: UnixMillis = 1_000_000_000;
        const YEAR: UnixMillis = 365 * 86_400_000;
        let text = |at: UnixMillis| Tombstone { at, owner: 3 }.write();
        let at = |stones: &Tombstones| stones.get(&name(1)).map(|stone| stone.at);
        let mut stones = Tombstones::new(100, 100);
        let learned = stones.learn(name(1), &text(NOW + YEAR), NOW).expect("news");
        assert_eq!((learned.tombstone.at, learned.is_corrected, at(&stones)), (NOW, true, Some(NOW)));
        assert!(stones.learn(name(1), &text(NOW + YEAR), NOW + 9_000).is_none());
        assert_eq!(at(&stones), Some(NOW), "what begins after the first look lives");
        let learned = stones.learn(name(1), &text(NOW + 10_000), NOW + 9_000).expect("news");
        assert_eq!((learned.is_corrected, at(&stones)), (false, Some(NOW + 9_000)), "another's clock is a bit ahead");
        assert!(stones.learn(name(1), &text(NOW + 5_000), NOW + 20_000).is_none(), "the later stands");

        // The clock was a day ahead when the user ended, and is corrected.
        stones.put(name(2), Tombstone { at: NOW + YEAR, owner: 3 });
        let corrected = stones.correct(&[name(1), name(2), name(3)], NOW);
        assert_eq!(corrected, [(name(2), Tombstone { at: NOW, owner: 3 })]);
        assert_eq!(stones.get(&name(2)).map(|stone| stone.at), Some(NOW));
        assert!(stones.correct_all(NOW + 1).is_empty());
    }

    #[test]
    fn they_run_out_and_are_kept_as_text() {
        let mut stones = Tombstones::new(100, 100);
        stones.put(name(1), Tombstone { at: 10, owner: 3 });
        stones.put(name(2), Tombstone { at: 20, owner: 3 });
        stones.put(name(1), Tombstone { at: 5, owner: 3 });
        assert_eq!(stones.get(&name(1)).map(|stone| stone.at), Some(10), "the later stands");
        assert_eq!(stones.expire(15), [name(1)]);
        assert_eq!((stones.len(), stones.by_owner[&3].len()), (1, 1));
        for stone in [Tombstone { at: 12, owner: NOBODY }, Tombstone { at: 12, owner: 0xab }] {
            assert_eq!(Tombstone::read(&stone.write()), Some(stone));
        }
        assert_eq!(Tombstone::read(b"x"), None);
    }
}
