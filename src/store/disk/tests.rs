//! Tests: the file over restarts, its bound, and what it does when it is broken.

use std::{
    os::unix::fs::PermissionsExt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use redb::{StorageBackend, backends::FileBackend};

use super::*;

fn open(path: &Path, most: usize) -> (Disk, Vec<Entry>) {
    Disk::open(path, Bounds::of_all(most), Duration::from_secs(1), Metrics::new()).expect("a store")
}

fn keys(entries: &[Entry]) -> Vec<&[u8]> {
    entries.iter().map(|entry| entry.key.as_slice()).collect()
}

#[tokio::test]
async fn what_was_put_is_there_after_a_restart_and_nobody_else_may_read_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("pins.redb");
    let (disk, entries) = open(&path, 100);
    assert_eq!(entries, []);
    disk.put(b"gone".to_vec(), b"1".to_vec());
    disk.put(b"kept".to_vec(), b"1".to_vec());
    disk.put(b"kept".to_vec(), b"2".to_vec());
    disk.remove(b"gone".to_vec());
    disk.finish().await;
    assert_eq!(fs::metadata(&path).expect("the file").permissions().mode() & 0o777, 0o600);
    let (disk, entries) = open(&path, 100);
    assert_eq!((keys(&entries), entries[0].value.as_slice()), (vec![&b"kept"[..]], &b"2"[..]));
    assert!(entries[0].at.abs_diff(now()) < 60);
    disk.finish().await;
}

#[tokio::test]
async fn while_it_is_paused_another_process_has_the_file_and_nothing_is_lost() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("pins.redb");
    let (disk, _) = open(&path, 100);
    disk.put(b"before".to_vec(), Vec::new());
    assert!(disk.pause(Duration::from_secs(5)).await);
    let (other, entries) = open(&path, 100);
    assert_eq!(keys(&entries), [&b"before"[..]]);
    disk.put(b"meanwhile".to_vec(), Vec::new());
    assert!(!disk.flush(Duration::from_millis(50)).await, "nothing is safe meanwhile");
    other.finish().await;
    disk.resume();
    assert!(disk.flush(Duration::from_secs(5)).await);
    disk.put(b"after".to_vec(), Vec::new());
    disk.finish().await;
    let (disk, entries) = open(&path, 100);
    assert_eq!(entries.len(), 3, "{entries:?}");
    disk.finish().await;
}

#[test]
fn the_file_is_bounded_and_the_oldest_go_first() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = File::open(&folder.path().join("pins.redb"), Bounds::of_all(32)).expect("a file");
    for at in 0..200_u64 {
        let entry = Entry { key: at.to_be_bytes().to_vec(), value: Vec::new(), at };
        file.write(&[Change::Put(entry)]).expect("written");
        assert!(file.entries().expect("entries").len() <= 32);
    }
    let entries = file.entries().expect("entries");
    let ages: Vec<u64> = entries.iter().map(|entry| entry.at).collect();
    assert!(ages.len() >= 30, "no more go than have to: {ages:?}");
    assert_eq!(ages, (200 - ages.len() as u64..200).rev().collect::<Vec<_>>(), "the latest, and the latest first");
}

#[test]
fn what_one_kind_is_filled_with_displaces_nothing_of_another() {
    let folder = tempfile::tempdir().expect("a folder");
    let bounds = Bounds { kind: |key| usize::from(key[0]), most: vec![32, 32] };
    let file = File::open(&folder.path().join("pins.redb"), bounds).expect("a file");
    let put = |kind: u8, number: u64| {
        let entry = Entry { key: [&[kind][..], &number.to_be_bytes()].concat(), value: Vec::new(), at: number };
        file.write(&[Change::Put(entry)]).expect("written");
    };
    (0..20).for_each(|number| put(0, number));
    (0..200).for_each(|number| put(1, 1000 + number));
    let entries = file.entries().expect("entries");
    assert_eq!(entries.iter().filter(|entry| entry.key[0] == 0).count(), 20, "the older ones stay");
    assert!(entries.len() <= 64 && entries.iter().any(|entry| entry.at == 1199));
}

#[tokio::test]
async fn a_corrupt_file_is_moved_aside_and_a_new_one_begun() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("pins.redb");
    let (disk, _) = open(&path, 1000);
    for i in 0..1000_u32 {
        disk.put(i.to_be_bytes().to_vec(), b"main/a".to_vec());
    }
    disk.finish().await;
    let whole = fs::read(&path).expect("the file");
    let mut scratched = whole.clone();
    for byte in scratched.iter_mut().skip(4096) {
        *byte ^= 0x55;
    }
    let broken: [&[u8]; 4] = [b"no file of ours", &whole[..100], &whole[..whole.len() / 2], &scratched];
    for (number, broken) in broken.into_iter().enumerate() {
        fs::write(&path, broken).expect("written");
        let (disk, entries) = open(&path, 100);
        assert_eq!(entries, [], "case {number}");
        disk.put(b"new".to_vec(), b"1".to_vec());
        disk.finish().await;
        let (disk, entries) = open(&path, 100);
        assert_eq!(keys(&entries), [b"new"], "case {number}");
        disk.finish().await;
        let aside = if number == 0 { "pins.corrupt".to_owned() } else { format!("pins.corrupt-{}", number + 1) };
        assert_eq!(fs::read(folder.path().join(aside)).expect("what was moved aside").len(), broken.len());
    }
}

#[tokio::test]
async fn a_file_in_use_is_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("pins.redb");
    let (disk, _) = open(&path, 100);
    let error = Disk::open(&path, Bounds::of_all(100), Duration::ZERO, Metrics::new()).expect_err("no second store");
    assert!(error.to_string().contains("another process"), "{error}");
    assert_eq!(fs::read_dir(folder.path()).expect("the folder").count(), 1, "nothing is moved aside");
    disk.finish().await;
}

/// A disk that may be full.
#[derive(Debug)]
struct Full(FileBackend, Arc<AtomicBool>);

impl Full {
    fn file(path: &Path, is_full: &Arc<AtomicBool>) -> Result<File, Broken> {
        let file = fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        File::over(Full(FileBackend::new(file)?, is_full.clone()), Bounds::of_all(100))
    }

    fn room(&self) -> Result<(), io::Error> {
        let is_full = self.1.load(Ordering::SeqCst);
        if is_full { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

impl StorageBackend for Full {
    fn len(&self) -> Result<u64, io::Error> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        self.room()?;
        self.0.set_len(len)
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        self.room()?;
        self.0.write(offset, data)
    }

    fn close(&self) -> Result<(), io::Error> {
        self.0.close()
    }
}

#[tokio::test]
async fn what_a_full_disk_has_not_taken_is_written_when_there_is_room_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let (path, is_full) = (folder.path().join("sessions.redb"), Arc::new(AtomicBool::new(false)));
    let again = {
        let (path, is_full) = (path.clone(), is_full.clone());
        move || Full::file(&path, &is_full).map_err(Broken::into_io)
    };
    let (changes, queue) = mpsc::sync_channel(QUEUE);
    let first = again().expect("a file");
    let writer = std::thread::spawn(move || write(first, again, &queue, Duration::ZERO, &Metrics::new()));
    let disk = Disk { changes, writer: Mutex::new(Some(writer)), metrics: Metrics::new() };
    is_full.store(true, Ordering::SeqCst);
    disk.put(b"met no room".to_vec(), b"1".to_vec());
    assert!(!disk.flush(Duration::from_secs(10)).await, "nobody is told that it is safe");
    is_full.store(false, Ordering::SeqCst);
    disk.put(b"met room".to_vec(), b"1".to_vec());
    disk.finish().await;
    let (disk, entries) = open(&path, 100);
    let mut keys = keys(&entries);
    keys.sort();
    assert_eq!(keys, [&b"met no room"[..], b"met room"]);
    disk.finish().await;
}
