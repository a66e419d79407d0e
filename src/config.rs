//! The configuration: one TOML file, lowered to each room's own `Config`.
//!
//! The file's types (`config/file`) mirror what an operator writes and are seen by nobody outside; every check is made here,
//! so that a room's `Config` can be believed. The first problem ends the reading and is told with its place.

use std::{ffi::OsStr, path::Path};

use crate::app;

mod bind;
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

pub use bind::cannot_bind;
pub use error::Error;

/// Reads, checks and lowers a configuration file. Nothing is opened or bound but the file itself and the files of secrets
/// that it names.
pub fn load(path: &Path, environment: &dyn Environment) -> Result<app::Config, Error> {
    let bytes = std::fs::read(path).map_err(|cause| Error::unreadable(path, &cause))?;
    let text = std::str::from_utf8(&bytes).map_err(|cause| Error::not_utf8(path, &bytes[..cause.valid_up_to()]))?;
    parse(text, path, environment)
}

/// The same for a text at hand. `file_name` stands in messages by its last part; relative paths in the text start at its
/// folder.
pub fn parse(text: &str, file_name: &Path, environment: &dyn Environment) -> Result<app::Config, Error> {
    let file = toml::from_str(text).map_err(|cause| explain::explain(text, file_name, &cause))?;
    let folder = file_name.parent().unwrap_or(Path::new(""));
    lower::lower(file, folder, environment).map_err(|fault| Error::at(text, file_name, fault))
}

/// The variables that a configuration may name. A trait, so that tests never touch the process's own.
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
