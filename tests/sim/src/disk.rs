//! A pod's own folders, which outlive its processes: pictures, configuration, the definitions of libraries, tasks.
//!
//! Pods that share their folders have one disk among them.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use serde_json::{Value, json};

use crate::library::VIEW;

/// A handle to the folders.
#[derive(Clone, Debug)]
pub(crate) struct Disk(Arc<Mutex<Files>>);

/// What lies there.
#[derive(Clone, Debug, Default)]
pub(crate) struct Files {
    /// Pictures by their path below the metadata folder, each with its type.
    pub(crate) pictures: HashMap<String, (Bytes, String)>,
    /// Configuration by its key; `system` is the server's own.
    pub(crate) documents: BTreeMap<String, Value>,
    /// Libraries by their name.
    pub(crate) libraries: BTreeMap<String, Library>,
    /// The triggers of scheduled tasks by the task's id.
    pub(crate) triggers: BTreeMap<String, Value>,
}

/// A folder below `root/default`: the definition of a library.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Library {
    pub(crate) id: String,
    pub(crate) kind: Option<String>,
    pub(crate) options: Value,
}

impl Disk {
    /// Folders that hold nothing but the library of the films.
    pub(crate) fn new() -> Disk {
        let options = json!({"Enabled": true, "PathInfos": [{"Path": "/jellyfin/media"}]});
        let films = Library { id: VIEW.to_owned(), kind: Some("movies".to_owned()), options };
        let files = Files { libraries: [("Movies".to_owned(), films)].into(), ..Files::default() };
        Disk(Arc::new(Mutex::new(files)))
    }

    pub(crate) fn files(&self) -> MutexGuard<'_, Files> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
