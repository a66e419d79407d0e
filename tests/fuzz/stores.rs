//! What is kept: the file on disk, and sealed values.

use std::{fs, path::Path, time::Duration};

use jellypin::{
    observe::metrics::Metrics,
    sessions::fingerprint::Fingerprint,
    store::{
        disk::{Bounds, Disk, Entry},
        seal::Ring,
    },
};
use proptest::{collection::vec, prelude::*};

use super::budget::{fuzz, fuzz_in_steps};

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn open(path: &Path) -> Vec<Entry> {
    let (disk, entries) = Disk::open(path, Bounds::of_all(100), Duration::ZERO, Metrics::new()).expect("a store");
    runtime().block_on(disk.finish());
    entries
}

#[test]
fn a_file_in_pieces_is_read_or_moved_aside() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store.redb");
    let (disk, _) = Disk::open(&path, Bounds::of_all(100), Duration::ZERO, Metrics::new()).expect("a store");
    (0..40_u8).for_each(|number| disk.put(vec![number; 20], vec![number; 200]));
    runtime().block_on(disk.finish());
    let sound = fs::read(&path).expect("the file");
    assert_eq!(open(&path).len(), 40);
    // Most bytes of the file are unused.
    let used: Vec<usize> = (0..sound.len()).filter(|at| sound[*at] != 0).collect();
    let changes = vec((any::<prop::sample::Index>(), any::<u8>()), 0..6);
    let length = prop_oneof![3 => Just(None), 1 => any::<prop::sample::Index>().prop_map(Some)];
    fuzz_in_steps(4, "disk", (changes, length), |(changes, length)| {
        let mut bytes = sound.clone();
        changes.iter().for_each(|(at, byte)| bytes[used[at.index(used.len())]] = *byte);
        if let Some(length) = length {
            bytes.truncate(length.index(sound.len()));
        }
        fs::write(&path, &bytes).expect("a file");
        open(&path);
        // What the store makes of it can be opened again.
        open(&path);
        Ok(())
    });
}

#[test]
fn a_sealed_value_opens_under_its_own_token_alone() {
    let ring = Ring::new([&b"key"[..]].into_iter());
    let value =
        (vec(any::<u8>(), 0..60), "[0-9a-f]{1,32}", any::<prop::sample::Index>(), 1_u8.., vec(any::<u8>(), 0..60));
    fuzz("seal", value, |(plain, token, at, change, other)| {
        let sealed = ring.seal(&token, &plain).expect("sealed");
        prop_assert_eq!(ring.open(&token, &sealed), Some(plain));
        prop_assert_eq!(ring.open(&format!("{token}0"), &sealed), None);
        let mut changed = sealed.clone();
        changed[at.index(sealed.len())] ^= change;
        prop_assert_eq!(ring.open(&token, &changed), None);
        prop_assert_eq!(ring.open(&token, &other), None);
        Ok(())
    });
}

#[test]
fn what_another_replica_says_of_itself_is_compared_without_harm() {
    let piece = "(writes|keys|api_key|pods|x)=?[a-z0-9,=]{0,6}";
    fuzz("fingerprint", (vec(piece, 0..6), vec(piece, 0..6)), |(one, other)| {
        let (one, other) = (Fingerprint::read(&one.join(" ")), Fingerprint::read(&other.join(" ")));
        let _ = (one.disagreements(&other), one.reads(&other), one.writes_under([&other].into_iter()));
        prop_assert_eq!(Fingerprint::read(&one.write()).write(), one.write());
        Ok(())
    });
}
