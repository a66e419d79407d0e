//! The configuration: one TOML file, lowered to each room's own `Config`.
//!
//! The file's types (`config/file`) mirror the file and stay private to this room.
//! All checks are made here, so that other rooms can trust their `Config`.
//! Loading stops at the first problem and reports its place.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
};

use crate::{app, discovery};

mod admin_only;
mod bind;
mod changes;
mod error;
mod explain;
mod file;
mod key_path;
mod lower;
mod names;
mod pod_url;
mod public_url;
mod secret;
mod units;
mod value;

#[cfg(test)]
mod example;
#[cfg(test)]
mod reference;

pub use admin_only::{load_admin, load_admin_listener};
pub use bind::cannot_bind;
pub use changes::{Change, Keys};
pub use error::Error;

/// Reads, checks and lowers a configuration file.
/// Opens only this file, and the secrets, users and pods' authorities that it names, and binds nothing.
pub fn load(path: &Path, environment: &dyn Environment) -> Result<app::Config, Error> {
    let bytes = std::fs::read(path).map_err(|cause| Error::unreadable(path, &cause))?;
    let text = std::str::from_utf8(&bytes).map_err(|cause| Error::not_utf8(path, &bytes[..cause.valid_up_to()]))?;
    parse(text, path, environment)
}

/// A configuration, and what a later one is compared with.
pub struct Loaded {
    pub config: app::Config,
    pub keys: Keys,
    /// The files that were read, or that the proxy will read, the configuration's own first.
    pub files: Vec<PathBuf>,
    /// Those of them that hold nothing but a secret.
    pub secrets: Vec<PathBuf>,
}

/// As [`load`], with all keys.
pub fn load_with_keys(path: &Path, environment: &dyn Environment) -> Result<Loaded, Error> {
    let config = load(path, environment)?;
    let folder = path.parent().unwrap_or(Path::new(""));
    // A text that has changed since is looked at again.
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let keys = config.tls.certificates.iter().map(|pair| pair.key.clone());
    let secrets: Vec<PathBuf> = keys.chain(changes::secret_files(&text, folder)).collect();
    let chains = config.tls.certificates.iter().map(|pair| pair.chain.clone());
    let ca = config.redis.iter().filter_map(|redis| redis.ca.clone());
    let pools = config.pools.iter().chain(&config.plain_pools);
    let ca = ca.chain(pools.flat_map(discovery::PoolConfig::authorities));
    let files = std::iter::once(path.to_owned()).chain(chains).chain(ca).chain(secrets.iter().cloned()).collect();
    Ok(Loaded { config, keys: Keys::read(&text, folder, environment), files, secrets })
}

/// As [`load`], for a text in memory. Messages show the last part of `file_name`.
/// Relative paths in the text start at its folder.
pub fn parse(text: &str, file_name: &Path, environment: &dyn Environment) -> Result<app::Config, Error> {
    let file = toml::from_str(text).map_err(|cause| explain::explain(text, file_name, &cause))?;
    let folder = file_name.parent().unwrap_or(Path::new(""));
    lower::lower(file, folder, environment).map_err(|fault| Error::at(text, file_name, fault))
}

/// Environment variables for secrets. A trait, so that tests never touch the process's own.
pub trait Environment {
    fn get(&self, name: &str) -> Option<String>;
}

/// The environment of this process.
#[derive(Clone, Copy, Debug)]
pub struct ProcessEnvironment;

impl Environment for ProcessEnvironment {
    fn get(&self, name: &str) -> Option<String> {
        std::env::var_os(OsStr::new(name))?.into_string().ok()
    }
}
