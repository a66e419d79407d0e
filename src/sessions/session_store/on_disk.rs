//! The sessions on this machine's disk, as known in memory.

use std::collections::{BTreeMap, HashMap};

use parking_lot::Mutex;

use crate::store::disk::Disk;

/// What the names of tombstones on disk begin with.
pub(super) const ENDED: &[u8] = b"ended";

/// What the names of pending log-outs on disk begin with.
pub(super) const PENDING_LOGOUT: &[u8] = b"pending_logout";

/// What an entry on disk is, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DiskEntry {
    /// The names of sessions have no prefix.
    Session([u8; 16]),
    End([u8; 16]),
    PendingLogout,
}

pub(super) struct OnDisk {
    pub(super) disk: Disk,
    /// All sessions on disk, by name. Read at the start, and changed along with the disk.
    pub(super) entries: Mutex<Entries>,
    /// The log-outs that were pending at the start, sealed.
    pub(super) pending_logouts: Mutex<Vec<Vec<u8>>>,
}

/// What is on disk, in the order of writing. The oldest go first, as they do on disk.
#[derive(Default)]
pub(super) struct Entries {
    by_name: HashMap<[u8; 16], (u64, Vec<u8>), ahash::RandomState>,
    by_age: BTreeMap<u64, [u8; 16]>,
    count: u64,
    most: usize,
}

impl DiskEntry {
    /// `None` if jellypin wrote no such name.
    pub(super) fn of(key: &[u8]) -> Option<DiskEntry> {
        if let Ok(name) = key.try_into() {
            return Some(DiskEntry::Session(name));
        }
        if let Some(name) = key.strip_prefix(ENDED) {
            return name.try_into().ok().map(DiskEntry::End);
        }
        key.starts_with(PENDING_LOGOUT).then_some(DiskEntry::PendingLogout)
    }
}

impl Entries {
    /// None yet, and at most so many.
    pub(super) fn bounded(most: usize) -> Entries {
        Entries { most, ..Entries::default() }
    }

    pub(super) fn get(&self, name: &[u8; 16]) -> Option<&Vec<u8>> {
        self.by_name.get(name).map(|(_, value)| value)
    }

    pub(super) fn put(&mut self, name: [u8; 16], value: Vec<u8>) {
        self.remove(&name);
        self.count += 1;
        self.by_age.insert(self.count, name);
        self.by_name.insert(name, (self.count, value));
        while self.by_name.len() > self.most
            && let Some((_, oldest)) = self.by_age.pop_first()
        {
            self.by_name.remove(&oldest);
        }
    }

    pub(super) fn remove(&mut self, name: &[u8; 16]) {
        if let Some((at, _)) = self.by_name.remove(name) {
            self.by_age.remove(&at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_disk_is_known_within_the_same_bound_the_oldest_gone() {
        let mut entries = Entries::bounded(3);
        for number in 0..5_u8 {
            entries.put([number; 16], vec![number]);
            entries.put([0; 16], vec![number]);
        }
        assert_eq!(entries.by_name.len(), 3);
        assert_eq!(entries.by_age.len(), 3);
        assert_eq!(entries.get(&[0; 16]), Some(&vec![4]), "what is put again is young again");
        assert!(entries.get(&[4; 16]).is_some() && entries.get(&[2; 16]).is_none());
        entries.remove(&[0; 16]);
        assert_eq!((entries.by_name.len(), entries.by_age.len()), (2, 2));
    }
}
