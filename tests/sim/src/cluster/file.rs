//! The database in a directory: one JSON file, replaced whole by a rename, and a lock file for those who change it.
//!
//! Readers take no lock: a rename is atomic, and a look at the file's inode tells whether it was replaced.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::Database;

/// Where the database is kept.
#[derive(Debug)]
pub(super) struct DatabaseFile {
    database: PathBuf,
    lock: PathBuf,
    seen: Mutex<Option<Stamp>>,
}

/// What tells one state of the file from the next; an inode alone may come back after two renames.
type Stamp = (u64, u64, i64, i64);

impl DatabaseFile {
    pub(super) fn open(dir: &Path) -> io::Result<DatabaseFile> {
        fs::create_dir_all(dir)?;
        Ok(DatabaseFile { database: dir.join("cluster.json"), lock: dir.join("cluster.lock"), seen: Mutex::new(None) })
    }

    /// Reads the file again if another process has replaced it.
    pub(super) fn refresh(&self, database: &mut Database) -> io::Result<()> {
        let now = stamp(&self.database)?;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if *seen != Some(now) {
            *database = serde_json::from_slice(&fs::read(&self.database)?).map_err(io::Error::other)?;
            *seen = Some(now);
        }
        Ok(())
    }

    /// Changes the newest state under the lock and writes it; a missing file begins as a fresh cluster.
    pub(super) fn change<T>(&self, database: &mut Database, how: impl FnOnce(&mut Database) -> T) -> io::Result<T> {
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&self.lock)?;
        lock.lock()?;
        match self.refresh(database) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => *database = Database::fresh(),
            Err(error) => return Err(error),
        }
        let result = how(database);
        let part = self.database.with_extension("part");
        fs::write(&part, serde_json::to_vec(database).map_err(io::Error::other)?)?;
        fs::rename(&part, &self.database)?;
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(stamp(&self.database)?);
        Ok(result)
    }
}

fn stamp(path: &Path) -> io::Result<Stamp> {
    let about = fs::metadata(path)?;
    Ok((about.ino(), about.size(), about.mtime(), about.mtime_nsec()))
}

#[cfg(test)]
mod tests {
    use super::super::{Cluster, DeviceRow};

    #[test]
    fn two_openings_of_a_directory_share_rows_and_keys() -> std::io::Result<()> {
        let dir = tempfile::tempdir()?;
        let one = Cluster::open(dir.path())?;
        let other = Cluster::open(dir.path())?;
        assert_eq!(one.api_key(), other.api_key());
        let row = DeviceRow {
            row: 0,
            token: "t".to_owned(),
            user_id: String::new(),
            client: String::new(),
            version: String::new(),
            device: String::new(),
            device_id: String::new(),
            last_activity: String::new(),
        };
        let row = one.change(|database| database.insert(row));
        assert_eq!(other.tokens(), ["t"]);
        other.change(|database| database.delete(row.row));
        assert!(one.tokens().is_empty());
        Ok(())
    }
}
