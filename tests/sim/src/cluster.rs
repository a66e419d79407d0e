//! What all pods of a cluster share: the users, the API keys and the token rows of one database.
//!
//! In memory for pods of one process, or in a directory for pods of several. A pod reads users and API keys here at each
//! request; token rows it loads once at its start, as Jellyfin does.

mod database;
mod file;

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

pub(crate) use database::{Database, DeviceRow, Stored, User};

use serde_json::{Value, json};

use crate::catalogue::ItemRow;
use crate::disk::Disk;
use crate::identifiers::guid_of;
use crate::single_writer::Seat;
use crate::user_data::UserData;
use file::DatabaseFile;

/// The shared database; clones are handles to the same one.
#[derive(Clone, Debug)]
pub struct Cluster {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    database: Mutex<Database>,
    file: Option<DatabaseFile>,
    /// The folders of the pods that share theirs.
    disk: Disk,
    hangs: watch::Sender<bool>,
    /// What each question takes, in microseconds.
    takes_us: AtomicU64,
    seat: Mutex<Seat>,
}

impl Shared {
    fn new(database: Database, file: Option<DatabaseFile>) -> Arc<Shared> {
        let (database, hangs) = (Mutex::new(database), watch::Sender::new(false));
        Arc::new(Shared {
            database,
            file,
            disk: Disk::new(),
            hangs,
            takes_us: AtomicU64::new(0),
            seat: Mutex::default(),
        })
    }
}

impl Cluster {
    /// A database in memory with the users alice, bob, root (administrator) and user0 to user999.
    ///
    /// Passwords: `alice-pw`, `bob-pw`, `root-pw`, and `pw` for the numbered ones.
    pub fn new() -> Cluster {
        Cluster { shared: Shared::new(Database::fresh(), None) }
    }

    /// The database kept in `dir`, made there if it is missing; processes that open the same directory share it.
    ///
    /// # Errors
    /// When the directory cannot be made, read or written, or holds something else.
    pub fn open(dir: &Path) -> io::Result<Cluster> {
        let file = DatabaseFile::open(dir)?;
        let mut database = Database::default();
        file.change(&mut database, |_| ())?;
        Ok(Cluster { shared: Shared::new(database, Some(file)) })
    }

    /// The API key that every pod accepts, 32 hex.
    pub fn api_key(&self) -> String {
        self.read(|database| database.api_keys.first().map(|key| key.token.clone()).unwrap_or_default())
    }

    /// The id of a user, 32 hex.
    pub fn user_id(&self, name: &str) -> Option<String> {
        self.read(|database| database.user_by_name(name).map(|user| user.id.clone()))
    }

    /// Every access token that has a row, in the order of minting.
    pub fn tokens(&self) -> Vec<String> {
        self.read(|database| database.devices.iter().map(|row| row.token.clone()).collect())
    }

    /// Deletes the row of a token, as another pod does that this one does not hear of.
    pub fn delete_row(&self, token: &str) {
        self.change(|database| database.devices.retain(|row| row.token != token));
    }

    /// Gives a user another password; no token ends.
    pub fn set_password(&self, user_id: &str, password: &str) {
        self.change(|database| database.user_mut(user_id).map(|user| password.clone_into(&mut user.password)));
    }

    /// On: the database takes questions and answers none, for all pods of this process.
    pub fn hang_database(&self, on: bool) {
        self.shared.hangs.send_replace(on);
    }

    /// Each question takes the database so long, for all pods of this process.
    pub fn slow_database(&self, time: Duration) {
        self.shared.takes_us.store(u64::try_from(time.as_micros()).unwrap_or(u64::MAX), Ordering::SeqCst);
    }

    /// Ends when the database answers.
    pub(crate) async fn answers(&self) {
        let takes = Duration::from_micros(self.shared.takes_us.load(Ordering::SeqCst));
        if !takes.is_zero() {
            tokio::time::sleep(takes).await;
        }
        let mut hangs = self.shared.hangs.subscribe();
        // The sender lives as long as the cluster.
        let _ = hangs.wait_for(|hangs| !hangs).await;
    }

    /// The row that the database has of a user (by name) and an item.
    pub fn user_data(&self, user: &str, item: &str) -> Option<UserData> {
        let user = self.user_id(user)?;
        self.read(|database| database.user_data(&user, item).cloned())
    }

    /// A film of this length that a scan has found, which every pod sees at once; gives its id. It cannot be played, only
    /// reported on.
    pub fn add_film(&self, name: &str, length: Duration) -> String {
        let row = ItemRow::found(name, length);
        let id = row.id.clone();
        self.change(|database| database.items.push(row));
        id
    }

    /// The pod that writes the catalogue, where one alone does ([`PodBuilder::single_writer`](crate::PodBuilder)).
    pub fn writer(&self) -> Option<String> {
        self.seat().writer().map(str::to_owned)
    }

    /// Another pod writes from now on, as after a restart of the database.
    pub fn move_writer(&self, pod: &str) {
        self.seat().move_to(pod);
    }

    pub(crate) fn seat(&self) -> MutexGuard<'_, Seat> {
        self.shared.seat.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn disk(&self) -> &Disk {
        &self.shared.disk
    }

    /// The item's document as the database has it: its name and what was edited. `None` without such an item.
    pub fn item(&self, id: &str) -> Option<Value> {
        self.read(|database| {
            let row = database.item(id)?;
            let mut document = Value::Object(row.edited.clone());
            document["Name"] = json!(row.name);
            document["Subtitles"] = json!(row.subtitles);
            document["Members"] = json!(row.members.iter().map(|member| &member.item).collect::<Vec<_>>());
            document["ImageTags"] = json!(row.pictures.iter().map(|picture| &picture.tag).collect::<Vec<_>>());
            Some(document)
        })
    }

    /// Looks at the database as it is now.
    pub(crate) fn read<T>(&self, look: impl FnOnce(&Database) -> T) -> T {
        let mut database = self.shared.database.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = &self.shared.file {
            // An unreadable file leaves what was read last: a pod goes on with what its own memory holds.
            let _ = file.refresh(&mut database);
        }
        look(&database)
    }

    /// Changes the database.
    pub(crate) fn change<T>(&self, how: impl FnOnce(&mut Database) -> T) -> T {
        let mut database = self.shared.database.lock().unwrap_or_else(PoisonError::into_inner);
        match &self.shared.file {
            None => how(&mut database),
            Some(file) => match file.change(&mut database, how) {
                Ok(result) => result,
                // Losing a row silently would make a test lie.
                Err(error) => panic!("the cluster's directory cannot be written: {error}"),
            },
        }
    }
}

impl Default for Cluster {
    fn default() -> Self {
        Cluster::new()
    }
}

/// The id that a name has in every cluster, so that processes and runs agree.
fn id_of_name(kind: &str, name: &str) -> String {
    guid_of(&format!("jellyfin-sim {kind} {name}"))
}
