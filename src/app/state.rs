//! What survives a restart of the proxy or is shared with its replicas: keys, pins and sessions.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    sync::Arc,
    time::Duration,
};

use hmac::{Hmac, Mac};
use sha2::Sha256;

use super::{Config, Error};
use crate::{
    affinity::{Secret, persistence::Persistence},
    observe::metrics::Metrics,
    pod::Pools,
    sessions::session_store::SessionStore,
    shutdown::Shutdown,
    store::{
        disk::{self, Disk, Entry},
        redis_store::RedisStore,
        sealed_documents::SealedDocuments,
    },
};

/// The file of the cookie key that the proxy makes if the operator configures none.
const KEY_FILE: &str = "cookie.key";

/// The file of the pins, for a proxy without Redis.
const PINS_FILE: &str = "pins.redb";

/// How long pin changes are batched. A crash may lose them, but a lost pin costs only a request.
/// Session changes wait only for a disk write under way: a lost session means a new log-in.
const GATHER_PINS: Duration = Duration::from_secs(1);

/// The file of the sessions. It exists beside Redis too.
const SESSIONS_FILE: &str = "sessions.redb";

/// The key ring: the configured keys, else the key in the state directory, else one for this run.
pub(super) fn cookie_keys(config: &Config) -> Result<Vec<Secret>, Error> {
    if let Some(path) = &config.state {
        fs::create_dir_all(path).map_err(|source| Error::State { path: path.clone(), source })?;
    }
    if !config.affinity.keys.is_empty() {
        return Ok(config.affinity.keys.clone());
    }
    let Some(path) = &config.state else {
        return Ok(vec![random_key().map_err(|source| Error::State { path: "(random numbers)".into(), source })?]);
    };
    let key = kept_key(&path.join(KEY_FILE)).map_err(|source| Error::State { path: path.clone(), source })?;
    Ok(vec![key])
}

/// Whether the process makes the key of its cookies, and keeps it nowhere.
pub(super) fn makes_own_key(config: &Config) -> bool {
    config.affinity.keys.is_empty() && config.state.is_none()
}

/// Seeds of the hashes that find pins, one for each key of the ring, newest first.
/// They reveal nothing about the keys.
pub(super) fn hash_secrets(keys: &[Secret]) -> Vec<(u64, u64)> {
    let seed = |key: &Secret| {
        // Cannot fail: HMAC takes keys of any length.
        let mut mac = Hmac::<Sha256>::new_from_slice(key.bytes()).ok()?;
        mac.update(b"jellypin hash");
        let mac = mac.finalize().into_bytes();
        let half = |part: &[u8]| part.iter().fold(0, |half, byte| (half << 8) | u64::from(*byte));
        Some((half(&mac[..8]), half(&mac[8..16])))
    };
    keys.iter().filter_map(seed).collect()
}

/// The Redis that all replicas share, if there is one.
pub(super) fn redis_store(
    config: &Config,
    metrics: &Metrics,
    shutdown: &Shutdown,
) -> Result<Option<Arc<RedisStore>>, Error> {
    let Some(redis) = &config.redis else { return Ok(None) };
    Ok(Some(Arc::new(RedisStore::start(redis, metrics.clone(), shutdown)?)))
}

/// The documents of this house in Redis, sealed by the key ring.
pub(super) fn sealed_documents(
    config: &Config,
    keys: &[Secret],
    redis: Option<Arc<RedisStore>>,
) -> Option<SealedDocuments> {
    let with_prefix = redis.zip(config.redis.as_ref().map(|redis| redis.prefix.clone()));
    SealedDocuments::new(with_prefix, keys.iter().map(Secret::bytes))
}

/// Where pins outlive this process, with the entries of an earlier run.
/// That is Redis, else the state directory, else nowhere.
pub(super) fn persistence(
    config: &Config,
    keys: &[Secret],
    shared: Option<Arc<RedisStore>>,
    pools: Pools,
    metrics: &Metrics,
) -> (Persistence, Vec<Entry>) {
    if let (Some(redis), Some(shared)) = (&config.redis, shared) {
        return (Persistence::with_replicas(shared, &redis.prefix, keys, pools), Vec::new());
    }
    match disk(config, PINS_FILE, GATHER_PINS, disk::Bounds::of_all(config.affinity.max_pins), metrics) {
        Some((disk, entries)) => (Persistence::on_disk(disk, pools), entries),
        None => (Persistence::in_memory(), Vec::new()),
    }
}

/// Where sessions are kept if session migration is on: the state directory, and Redis.
pub(super) fn session_store(
    config: &Config,
    keys: &[Secret],
    shared: Option<Arc<RedisStore>>,
    metrics: &Metrics,
) -> SessionStore {
    let api_key = config.migration.api_key.as_ref();
    let mut session_store = SessionStore::new(keys.iter().map(Secret::bytes), api_key, config.migration.bounds);
    // After a restart this replica finds here what Redis has lost.
    if api_key.is_some() {
        let bounds = SessionStore::bounds_on_disk(config.affinity.max_pins, config.migration.bounds);
        if let Some((disk, entries)) = disk(config, SESSIONS_FILE, Duration::ZERO, bounds, metrics) {
            session_store = session_store.on_disk(disk, entries, config.affinity.max_pins);
        }
    }
    match (&config.redis, shared) {
        (Some(redis), Some(shared)) => session_store.in_redis(shared, &redis.prefix),
        _ => session_store,
    }
}

/// Opens a file of the state directory and reads its entries.
fn disk(
    config: &Config,
    file: &str,
    gather: Duration,
    bounds: disk::Bounds,
    metrics: &Metrics,
) -> Option<(Disk, Vec<Entry>)> {
    let path = config.state.as_ref()?.join(file);
    let opened = Disk::open(&path, bounds, gather, metrics.clone());
    opened
        .inspect_err(|error| {
            tracing::error!(path = %path.display(), %error, "nothing can be kept on disk; a restart will forget it");
        })
        .ok()
}

/// Checks that the files of an earlier run are usable.
pub(super) fn check(folder: &Path) -> io::Result<()> {
    for file in [KEY_FILE, PINS_FILE, SESSIONS_FILE] {
        let path = folder.join(file);
        match OpenOptions::new().read(true).write(true).open(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(io::Error::new(error.kind(), format!("{file}: {error}")));
            }
            Ok(_) if file == KEY_FILE => drop(kept_key(&path)?),
            _ => {}
        }
    }
    Ok(())
}

fn kept_key(path: &Path) -> io::Result<Secret> {
    match fs::read(path) {
        Ok(key) if key.len() >= 32 => return Ok(Secret::new(key)),
        Ok(_) => return Err(io::Error::other(format!("{} is too short for a key", path.display()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let key = random_key()?;
    write_whole(path, key.bytes())?;
    Ok(key)
}

/// Writes a file whole or not at all. Only its owner may read it.
pub(super) fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let fresh = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&fresh, path)
}

fn random_key() -> io::Result<Secret> {
    let mut key = [0_u8; 32];
    getrandom::fill(&mut key).map_err(io::Error::other)?;
    Ok(Secret::new(key))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_nobody_else_may_read_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(KEY_FILE);
        let key = kept_key(&path).expect("a key");
        assert_eq!(kept_key(&path).expect("a key"), key);
        assert_eq!(fs::metadata(&path).expect("a file").permissions().mode() & 0o777, 0o600);
        fs::write(&path, "short").expect("written");
        assert!(kept_key(&path).is_err());
    }
}
