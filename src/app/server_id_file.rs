//! The server id that clients see: the same after a restart, and on all replicas.
//!
//! The first proxy that knows a pod chooses the id, and Redis keeps that choice for all replicas.
//! A file in the state directory keeps it for the next start, even if Redis does not answer then.

use std::{fs, io, path::PathBuf, sync::Arc, time::Duration};

use tokio::time;

use super::{Config, Error, now::Current, state};
use crate::{
    proxy::SharedState,
    server_id::{ServerId, ShownServer},
    shutdown::Shutdown,
};

/// Time between two attempts while the proxy knows no pod, or Redis does not answer.
const AGAIN: Duration = Duration::from_secs(1);

/// Where one pool's id is kept.
#[derive(Clone)]
struct IdFile {
    folder: Option<PathBuf>,
    file: Option<PathBuf>,
    /// The key in Redis.
    key: Option<String>,
}

impl IdFile {
    fn of(config: &Config, pool: &str) -> IdFile {
        let folder = config.state.clone();
        let file = folder.as_ref().map(|folder| folder.join(format!("{pool}.server-id")));
        let key = config.redis.as_ref().map(|redis| format!("{}:server-id:{pool}", redis.prefix));
        IdFile { folder, file, key }
    }

    fn read(&self) -> Result<Option<ServerId>, Error> {
        let Some(file) = &self.file else { return Ok(None) };
        let failed = |source| Error::State { path: self.folder.clone().unwrap_or_default(), source };
        match fs::read_to_string(file) {
            Ok(text) => match ServerId::parse(text.trim()) {
                Some(id) => Ok(Some(id)),
                None => Err(failed(io::Error::other(format!("{} holds no server id", file.display())))),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    fn write(&self, id: ServerId) {
        let Some(file) = &self.file else { return };
        if let Err(error) = state::write_whole(file, format!("{}\n", id.as_str()).as_bytes()) {
            tracing::error!(path = %file.display(), %error, "the server id cannot be kept; a restart may choose another");
        }
    }
}

/// The id that a pool's clients see from the start: the configured one, else an earlier run's.
pub(super) fn known(config: &Config, pool: &str) -> Result<Option<ServerId>, Error> {
    match config.shown_server.server_id {
        Some(id) => Ok(Some(id)),
        None => IdFile::of(config, pool).read(),
    }
}

/// Agrees with the other replicas on the ids of all pools, and stores them.
/// Continues in the background if that takes longer, so that the start does not wait.
pub(super) async fn keep(shared: &Arc<SharedState>, config: &Config, shutdown: &Shutdown) {
    if config.shown_server.server_id.is_some() {
        return;
    }
    for pool in &shared.pools {
        let (shown_server, place) = (pool.shown_server.clone(), IdFile::of(config, &pool.pool.name));
        if agree_on_id(shared, &shown_server, &place).await {
            continue;
        }
        let (shared, shutdown) = (shared.clone(), shutdown.clone());
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = time::sleep(AGAIN) => if agree_on_id(&shared, &shown_server, &place).await { return },
                    () = shutdown.stopping() => return,
                }
            }
        });
    }
}

/// Time between two renewals of the ids in Redis.
const RENEW: Duration = Duration::from_secs(10);

/// Writes the ids into Redis again if it has lost them, and keeps them from expiring.
/// Never returns.
pub(super) async fn renew(current: &Current) {
    loop {
        time::sleep(RENEW).await;
        let now = current.load_full();
        if now.config.shown_server.server_id.is_some() || now.config.redis.is_none() {
            continue;
        }
        for pool in now.shared.pools.iter().filter(|pool| pool.is_configured) {
            // `keep` chooses an id that is still missing.
            if pool.shown_server.id().is_some() {
                agree_on_id(&now.shared, &pool.shown_server, &IdFile::of(&now.config, &pool.pool.name)).await;
            }
        }
    }
}

/// Makes one attempt. Returns whether nothing is left to do.
async fn agree_on_id(shared: &SharedState, shown_server: &ShownServer, place: &IdFile) -> bool {
    let ours = shown_server.id();
    let agreed = match (&place.key, shared.pins.persistence.redis()) {
        (Some(key), Some(redis)) => {
            let Some(kept) = redis.walks.set_if_absent(key, ours.as_ref().map(|id| id.as_str())).await else {
                return false;
            };
            kept.and_then(|kept| ServerId::parse(&kept))
        }
        _ => ours,
    };
    let Some(id) = agreed else { return false };
    if ours != Some(id) {
        tracing::info!(server_id = id.as_str(), "clients see the server id that another replica has chosen");
        shown_server.set_id(id);
    }
    place.write(id);
    true
}
