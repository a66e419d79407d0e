//! Keeps entries of one proxy in a file over its restarts.
//!
//! The proxy reads the entries once, at the start. A thread writes changes behind, in batches.
//! After a crash of the machine or the process, the file is as it was after some batch. If the file
//! cannot be read, the store moves it aside and begins a new one. If there can be no store at all,
//! the log says so once and the proxy goes on without. The store never stops the proxy from
//! starting.

mod file;

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender},
    thread::JoinHandle,
    time::{Duration, Instant, SystemTime},
};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::outcome::WriteOutcome;
use crate::observe::metrics::{Metrics, StoreOutcome};
use file::{Broken, File};

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub key: Vec<u8>,
    pub value: Vec<u8>,
    /// When it was last put, in Unix seconds.
    pub at: u64,
}

/// How many entries of each kind are kept. Entries of one kind cannot displace another's.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// Maps a key to its kind, an index into `most`.
    pub kind: fn(&[u8]) -> usize,
    pub most: Vec<usize>,
}

impl Bounds {
    /// All entries are of one kind.
    pub fn of_all(most: usize) -> Bounds {
        Bounds { kind: |_| 0, most: vec![most] }
    }
}

/// The entries on disk. All workers share it, and none waits for the disk.
#[derive(Debug)]
pub struct Disk {
    changes: SyncSender<Change>,
    writer: Mutex<Option<JoinHandle<()>>>,
    metrics: Metrics,
}

#[derive(Debug)]
enum Change {
    Put(Entry),
    Remove(Vec<u8>),
    /// Asks the writer to write soon, and to reply when everything before this is on disk.
    Mark(oneshot::Sender<()>),
    /// Asks for the same, and to close the file until [`Change::Resume`].
    Pause(oneshot::Sender<()>),
    Resume,
    End,
}

/// Changes that may wait for the disk. Further ones are dropped.
const QUEUE: usize = 8192;

impl Disk {
    /// Opens or creates the file and reads its entries, the latest first. The file keeps at most
    /// `most` entries. The writer collects changes for `gather` into one batch. A crash may cost
    /// that time, plus the time that the previous batch takes.
    ///
    /// # Errors
    /// When there can be no store here: another process holds the file, or the disk refuses.
    pub fn open(path: &Path, most: Bounds, gather: Duration, metrics: Metrics) -> io::Result<(Disk, Vec<Entry>)> {
        let (file, entries) = match open_whole(path, &most) {
            Ok(opened) => opened,
            Err(Broken::Unusable(error)) => return Err(error),
            Err(Broken::Corrupt(why)) => {
                let aside = move_aside(path)?;
                tracing::error!(
                    path = %path.display(), aside = %aside.display(), why,
                    "the store cannot be read; it was moved aside and a new one begun"
                );
                open_whole(path, &most).map_err(Broken::into_io)?
            }
        };
        let (changes, queue) = mpsc::sync_channel(QUEUE);
        let (count, path) = (metrics.clone(), path.to_owned());
        let again = move || open_whole(&path, &most).map(|(file, _)| file).map_err(Broken::into_io);
        let write = move || write(file, again, &queue, gather, &count);
        let writer = std::thread::Builder::new().name("store".to_owned()).spawn(write)?;
        Ok((Disk { changes, writer: Mutex::new(Some(writer)), metrics }, entries))
    }

    /// Queues the write of an entry.
    pub fn put(&self, key: Vec<u8>, value: Vec<u8>) {
        self.change(Change::Put(Entry { key, value, at: now() }));
    }

    /// Queues the removal of an entry.
    pub fn remove(&self, key: Vec<u8>) {
        self.change(Change::Remove(key));
    }

    /// Waits at most `at_most` until the changes so far are on disk. Returns whether they are.
    pub async fn flush(&self, at_most: Duration) -> bool {
        let (done, is_done) = oneshot::channel();
        self.changes.try_send(Change::Mark(done)).is_ok()
            && matches!(tokio::time::timeout(at_most, is_done).await, Ok(Ok(())))
    }

    /// Writes what is still queued and closes the file, so that another process can open it. Later
    /// changes wait, as far as there is room. Returns whether the file is closed.
    pub async fn pause(&self, at_most: Duration) -> bool {
        let (done, is_done) = oneshot::channel();
        self.changes.try_send(Change::Pause(done)).is_ok()
            && matches!(tokio::time::timeout(at_most, is_done).await, Ok(Ok(())))
    }

    /// Opens the file again and writes what has waited.
    pub fn resume(&self) {
        self.change(Change::Resume);
    }

    /// Writes what is still queued and closes the file. Later changes are dropped.
    pub async fn finish(&self) {
        let Some(writer) = self.writer.lock().take() else { return };
        let changes = self.changes.clone();
        let ended = tokio::task::spawn_blocking(move || {
            // If the writer has ended already, it has logged why.
            let _ = changes.send(Change::End);
            let _ = writer.join();
        });
        let _ = ended.await;
    }

    fn change(&self, change: Change) {
        if self.changes.try_send(change).is_err() {
            self.metrics.store_writes.get_or_create(&StoreOutcome { outcome: WriteOutcome::Dropped.as_str() }).inc();
        }
    }
}

/// The present time in Unix seconds.
pub fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

/// Opens and reads. A damaged file shows in reading it, by an error or a panic of the library.
fn open_whole(path: &Path, most: &Bounds) -> Result<(File, Vec<Entry>), Broken> {
    let read = std::panic::catch_unwind(|| {
        let file = File::open(path, most.clone())?;
        let entries = file.entries()?;
        Ok((file, entries))
    });
    read.unwrap_or_else(|_| Err(Broken::Corrupt("reading it ended in a panic".to_owned())))
}

/// Renames a broken file to a name that no earlier one has.
fn move_aside(path: &Path) -> io::Result<PathBuf> {
    let mut aside = path.with_extension("corrupt");
    let mut number = 1;
    while aside.exists() {
        number += 1;
        aside = path.with_extension(format!("corrupt-{number}"));
    }
    fs::rename(path, &aside)?;
    Ok(aside)
}

/// The first pause before a failed write is tried again. It doubles: each attempt reads all.
const TRY_AGAIN: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The writer thread: gathers changes and writes them until the queue ends. After an error the
/// library writes no more. So the thread keeps the failed changes and tries again with the file
/// reopened.
fn write(
    file: File,
    again: impl Fn() -> io::Result<File>,
    queue: &Receiver<Change>,
    time: Duration,
    metrics: &Metrics,
) {
    let count = |outcome: WriteOutcome, count: usize| {
        metrics.store_writes.get_or_create(&StoreOutcome { outcome: outcome.as_str() }).inc_by(count as u64);
    };
    let mut goes_on = true;
    let mut has_failed = false;
    let mut file = Some(file);
    let mut unwritten: Vec<Change> = Vec::new();
    let mut pause = TRY_AGAIN;
    let (mut is_paused, mut is_resumed) = (false, false);
    while goes_on {
        if is_paused {
            match queue.recv() {
                Ok(Change::Resume) => (is_paused, is_resumed) = (false, true),
                Ok(Change::End) | Err(_) => goes_on = false,
                Ok(change) if is_entry(&change) && unwritten.len() < QUEUE => unwritten.push(change),
                Ok(change) => count(WriteOutcome::Dropped, usize::from(is_entry(&change))),
            }
            continue;
        }
        let (changes, more) = match unwritten.is_empty() {
            _ if std::mem::take(&mut is_resumed) => (Vec::new(), true),
            true => gather(queue, time),
            false => wait(queue, pause),
        };
        goes_on = more;
        unwritten.extend(changes);
        if unwritten.is_empty() {
            continue;
        }
        let surplus = unwritten.len().saturating_sub(QUEUE);
        count(WriteOutcome::Dropped, unwritten.drain(..surplus).filter(is_entry).count());
        let written = match file.take().map_or_else(&again, Ok) {
            Ok(opened) => opened.write(&unwritten).map(|()| file = Some(opened)).map_err(io::Error::other),
            Err(error) => Err(error),
        };
        match written {
            Ok(()) => {
                pause = TRY_AGAIN;
                if std::mem::take(&mut has_failed) {
                    tracing::info!("the store is written again");
                }
                count(WriteOutcome::Written, unwritten.iter().filter(|change| is_entry(change)).count());
                for change in unwritten.drain(..) {
                    // The waiting caller may have given up.
                    match change {
                        Change::Mark(done) => drop(done.send(())),
                        Change::Pause(done) => {
                            file = None;
                            is_paused = done.send(()).is_ok();
                        }
                        _ => {}
                    }
                }
            }
            Err(error) => {
                // Drop the marks: no caller may take unwritten changes for safe.
                unwritten.retain(is_entry);
                if has_failed {
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                if !std::mem::replace(&mut has_failed, true) {
                    tracing::error!(%error, "the store cannot be written; what is new waits in memory");
                }
            }
        }
    }
    count(WriteOutcome::Dropped, unwritten.len());
}

fn is_entry(change: &Change) -> bool {
    matches!(change, Change::Put(_) | Change::Remove(_))
}

/// Collects changes for this time, as far as there is room. Returns whether more may come.
fn wait(queue: &Receiver<Change>, time: Duration) -> (Vec<Change>, bool) {
    let (end, mut changes) = (Instant::now() + time, Vec::new());
    loop {
        if changes.len() >= QUEUE {
            return (changes, true);
        }
        match queue.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(Change::End) | Err(RecvTimeoutError::Disconnected) => return (changes, false),
            Err(RecvTimeoutError::Timeout) => return (changes, true),
            // Drop the mark: a later reply would only say that nothing is safe.
            Ok(change) if is_entry(&change) => changes.push(change),
            Ok(_) => {}
        }
    }
}

/// Waits for a change and collects further ones for some time. Returns whether more may come.
fn gather(queue: &Receiver<Change>, time: Duration) -> (Vec<Change>, bool) {
    let mut changes = match queue.recv() {
        Ok(Change::End) | Err(_) => return (Vec::new(), false),
        Ok(first) => vec![first],
    };
    if matches!(changes[..], [Change::Mark(_) | Change::Pause(_)]) {
        return (changes, true);
    }
    let end = Instant::now() + time;
    while changes.len() < QUEUE {
        match queue.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(Change::End) | Err(RecvTimeoutError::Disconnected) => return (changes, false),
            Ok(change) => {
                let is_awaited = matches!(change, Change::Mark(_) | Change::Pause(_));
                changes.push(change);
                if is_awaited {
                    break;
                }
            }
            Err(RecvTimeoutError::Timeout) => break,
        }
    }
    (changes, true)
}

#[cfg(test)]
mod tests;
