//! What one process of a pod holds in its own memory, and loses with its end.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::Value;
use tokio::sync::watch;

use crate::caches::Caches;
use crate::devices::Devices;
use crate::disk::Library;
use crate::live_streams::LiveStreams;
use crate::mint_times::Compiled;
use crate::quick_connect::QuickConnect;
use crate::scheduled_tasks::Tasks;
use crate::sessions::Sessions;
use crate::single_sign_on::SingleSignOn;
use crate::sync_play::SyncPlay;
use crate::transcoding::Jobs;
use crate::user_data_changes::UserDataChanges;

/// The memory of a process.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    pub(crate) devices: Devices,
    pub(crate) sessions: Sessions,
    /// The capabilities that a device posted, kept over the end of its session.
    pub(crate) capabilities: HashMap<String, Value>,
    /// The names that administrators gave to devices, as this process knows them.
    pub(crate) device_names: BTreeMap<String, Option<String>>,
    pub(crate) jobs: Jobs,
    pub(crate) live_streams: LiveStreams,
    pub(crate) compiled: Compiled,
    pub(crate) quick_connect: QuickConnect,
    pub(crate) sync_play: SyncPlay,
    pub(crate) single_sign_on: SingleSignOn,
    pub(crate) caches: Caches,
    /// The libraries as this process knows them.
    pub(crate) libraries: BTreeMap<String, Library>,
    /// The users that the database had when the process began.
    pub(crate) users_at_start: HashSet<String>,
    pub(crate) user_data_changes: UserDataChanges,
    pub(crate) tasks: Tasks,
    /// Counts the entries of the activity log that this process has written.
    pub(crate) activity_changes: watch::Sender<u64>,
}
