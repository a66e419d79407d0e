//! One migration: which session, to which pod, and on whose behalf.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::{MigrationRequest, Migrator};
use crate::{pod::Pod, sessions::Session};

/// One migration, run by this worker.
pub(super) struct Migration {
    pub(super) migrator: Arc<Migrator>,
    pub(super) session: Arc<Session>,
    pub(super) pod: Arc<Pod>,
    pub(super) migration_request: MigrationRequest,
    /// Cancelled as soon as a request waits for this migration.
    pub(super) urgent: CancellationToken,
}
