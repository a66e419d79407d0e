//! What must survive a restart of the proxy and is kept on disk.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use siphasher::sip128::SipHasher13;

use super::{Config, Error};
use crate::affinity::Secret;

/// The file of the cookie key that was made because none was configured.
const KEY_FILE: &str = "cookie.key";

/// The ring of keys: the configured one, else the one kept in the state directory, else one for this run.
pub(super) fn cookie_keys(config: &Config) -> Result<Vec<Secret>, Error> {
    if let Some(path) = &config.state {
        fs::create_dir_all(path).map_err(|source| Error::State { path: path.clone(), source })?;
    }
    if !config.affinity.keys.is_empty() {
        return Ok(config.affinity.keys.clone());
    }
    let Some(path) = &config.state else {
        tracing::warn!(
            "no affinity key and no state directory: after a restart, browsers are placed anew. Set [affinity] keys or [state] path"
        );
        return Ok(vec![random_key().map_err(|source| Error::State { path: "(random numbers)".into(), source })?]);
    };
    let key = kept_key(&path.join(KEY_FILE)).map_err(|source| Error::State { path: path.clone(), source })?;
    Ok(vec![key])
}

/// The seed of the hashes by which pins are found; the same in every replica with the same ring.
pub(super) fn hash_secret(keys: &[Secret]) -> (u64, u64) {
    let newest = keys.first().map_or(&b""[..], Secret::bytes);
    let hash = SipHasher13::new().hash(newest);
    (hash.h1, hash.h2)
}

fn kept_key(path: &Path) -> io::Result<Secret> {
    match fs::read(path) {
        Ok(key) if key.len() >= 32 => return Ok(Secret::new(key)),
        Ok(_) => return Err(io::Error::other(format!("{} is too short for a key", path.display()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let key = random_key()?;
    // Whole or not at all, and for nobody else's eyes.
    let fresh = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    file.write_all(key.bytes())?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    Ok(key)
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
