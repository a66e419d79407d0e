//! The file: a table of entries, each with the time of its last use. A full table drops the oldest.

use std::{fs::OpenOptions, io, os::unix::fs::OpenOptionsExt, path::Path};

use redb::{
    Database, DatabaseError, ReadableDatabase, ReadableTable, ReadableTableMetadata, StorageBackend, StorageError,
    Table, TableDefinition, backends::FileBackend,
};

use super::{Bounds, Change, Entry};

const ENTRIES: TableDefinition<'_, &[u8], (u64, &[u8])> = TableDefinition::new("entries");

/// Memory for cached pages of the file, in bytes.
const CACHE: usize = 8 << 20;

pub(super) struct File {
    database: Database,
    most: Bounds,
}

/// Why a file cannot be used.
#[derive(Debug)]
pub(super) enum Broken {
    /// Its contents make no sense.
    Corrupt(String),
    /// It cannot be opened or used.
    Unusable(io::Error),
}

impl File {
    /// Opens or creates the file and checks all of it. Only its owner may read it.
    pub(super) fn open(path: &Path, most: Bounds) -> Result<File, Broken> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        File::over(FileBackend::new(file)?, most)
    }

    pub(super) fn over(backend: impl StorageBackend, most: Bounds) -> Result<File, Broken> {
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE).set_check_integrity_on_open(true);
        Ok(File { database: builder.create_with_backend(backend)?, most })
    }

    /// All entries, the latest first.
    pub(super) fn entries(&self) -> Result<Vec<Entry>, Broken> {
        // Creates the table in a new file.
        self.write(&[]).map_err(Broken::from)?;
        let transaction = self.database.begin_read().map_err(redb::Error::from)?;
        let table = transaction.open_table(ENTRIES).map_err(redb::Error::from)?;
        let mut entries = Vec::new();
        for entry in table.iter().map_err(redb::Error::from)? {
            let (key, value) = entry.map_err(redb::Error::from)?;
            let (at, bytes) = value.value();
            entries.push(Entry { key: key.value().to_vec(), value: bytes.to_vec(), at });
        }
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.at));
        Ok(entries)
    }

    /// Writes all of these changes, in their order, or none.
    pub(super) fn write(&self, changes: &[Change]) -> Result<(), redb::Error> {
        let transaction = self.database.begin_write()?;
        {
            let mut table = transaction.open_table(ENTRIES)?;
            for change in changes {
                match change {
                    Change::Put(entry) => {
                        table.insert(entry.key.as_slice(), (entry.at, entry.value.as_slice()))?;
                    }
                    Change::Remove(key) => {
                        table.remove(key.as_slice())?;
                    }
                    Change::Mark(_) | Change::Pause(_) | Change::Resume | Change::End => {}
                }
            }
            self.make_room(&mut table)?;
        }
        transaction.commit()?;
        Ok(())
    }

    /// Removes the oldest of each kind, and a sixteenth more: one walk over the whole file then
    /// serves many changes.
    fn make_room(&self, table: &mut Table<'_, &[u8], (u64, &[u8])>) -> Result<(), redb::Error> {
        let Bounds { kind, most } = &self.most;
        let count = table.len()? as usize;
        if count <= most.iter().sum() {
            return Ok(());
        }
        let mut ages = vec![Vec::new(); most.len()];
        for entry in table.iter()? {
            let (key, value) = entry?;
            if let Some(ages) = ages.get_mut(kind(key.value())) {
                ages.push((value.value().0, key.value().to_vec()));
            }
        }
        for (mut ages, most) in ages.into_iter().zip(most) {
            if ages.len() <= *most {
                continue;
            }
            let gone = (ages.len() - most + most / 16).clamp(1, ages.len());
            ages.select_nth_unstable(gone - 1);
            for (_, key) in &ages[..gone] {
                table.remove(key.as_slice())?;
            }
        }
        Ok(())
    }
}

impl Broken {
    pub(super) fn into_io(self) -> io::Error {
        match self {
            Broken::Corrupt(why) => io::Error::other(why),
            Broken::Unusable(error) => error,
        }
    }
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Broken {
        Broken::Unusable(error)
    }
}

impl From<DatabaseError> for Broken {
    fn from(error: DatabaseError) -> Broken {
        match error {
            DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
                Broken::Unusable(io::Error::other("another process uses it"))
            }
            DatabaseError::Storage(StorageError::Io(error)) if !is_of_content(&error) => Broken::Unusable(error),
            other => Broken::Corrupt(other.to_string()),
        }
    }
}

impl From<redb::Error> for Broken {
    fn from(error: redb::Error) -> Broken {
        match error {
            redb::Error::Io(error) if !is_of_content(&error) => Broken::Unusable(error),
            other => Broken::Corrupt(other.to_string()),
        }
    }
}

/// By these kinds the library reports a file that is too short, or not its own.
fn is_of_content(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
}
