//! What a pod reports about itself, once the prober has asked it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32, Ordering},
};

use arc_swap::ArcSwapOption;

use super::Epoch;

/// What a pod reports about itself in `GET /System/Info/Public`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// The server's id, 32 lower-case hex digits.
    pub id: String,
    pub version: String,
    /// The server's name, which its administrator gives it.
    pub name: String,
    /// Whether its set-up wizard was completed, as it believes.
    pub is_set_up: Option<bool>,
}

/// The latest that a pod has reported.
pub struct ReportedInfo {
    latest: ArcSwapOption<Info>,
    may_be_legacy: AtomicBool,
    /// The first epoch of the server with the latest id, if another one was there before.
    server_since: AtomicU32,
}

impl ReportedInfo {
    pub(super) fn new() -> ReportedInfo {
        ReportedInfo {
            latest: ArcSwapOption::empty(),
            may_be_legacy: AtomicBool::new(true),
            server_since: AtomicU32::new(0),
        }
    }

    pub fn latest(&self) -> Option<Arc<Info>> {
        self.latest.load_full()
    }

    /// Passes the info to `look` without a new reference; for the request path.
    pub fn with<T>(&self, look: impl FnOnce(&Info) -> T) -> Option<T> {
        self.latest.load().as_deref().map(look)
    }

    /// Whether the pod's version is before 12.0, or may be because it has not reported one yet.
    pub fn may_be_legacy(&self) -> bool {
        self.may_be_legacy.load(Ordering::Relaxed)
    }

    /// Stores what the pod reported.
    pub fn set(&self, info: Info) {
        self.may_be_legacy.store(info.version.starts_with("10."), Ordering::Relaxed);
        self.latest.store(Some(Arc::new(info)));
    }

    /// Another server than before answers at the pod's address from this epoch on.
    pub fn record_other_server(&self, from: Epoch) {
        self.server_since.store(from.0, Ordering::Relaxed);
    }

    /// Whether another server than in that epoch answers there now.
    pub fn is_other_server_than_in(&self, epoch: Epoch) -> bool {
        self.server_since.load(Ordering::Relaxed) > epoch.0
    }

    /// The pod's set-up wizard was completed just now.
    pub fn record_set_up(&self) {
        if let Some(info) = self.latest() {
            self.latest.store(Some(Arc::new(Info { is_set_up: Some(true), ..(*info).clone() })));
        }
    }
}
