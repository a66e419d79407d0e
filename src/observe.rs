//! Ground: the log, the access log and the metrics. No decision ever depends on them.
//!
//! Field names have dots and name their unit. No token, cookie or query ever appears in them.

pub mod access;
pub mod metrics;

use std::{path::PathBuf, sync::OnceLock};

use tracing_subscriber::{EnvFilter, Registry, fmt, prelude::*, reload};

/// What the proxy logs, where and in which form.
#[derive(Clone, Debug)]
pub struct Config {
    /// Directives of the log, like `info` or `jellypin::health=debug,info`. Default `info`.
    pub level: String,
    /// Default JSON.
    pub format: Format,
    /// Default standard output.
    pub access: AccessLog,
}

/// The form of log and access lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line.
    #[default]
    Json,
    /// A line for people to read.
    Text,
}

/// Where access lines go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AccessLog {
    /// Nowhere.
    Off,
    /// To standard output.
    #[default]
    Stdout,
    /// Appended to a file. SIGHUP reopens it, so that it can be rotated.
    File(PathBuf),
}

/// h2 warns about each connection that floods it, so a stranger could fill the log.
/// Its warnings are off unless the operator's directives name h2.
fn directives(level: &str) -> String {
    if level.contains("h2") { level.to_owned() } else { format!("{level},h2=error") }
}

/// Changes the level of the running log.
static LEVEL: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

/// Sends the process's log to standard error. Only the first call has an effect.
pub fn start_log(config: &Config) {
    let (filter, level) = reload::Layer::new(filter(&config.level));
    let lines = fmt::layer().with_writer(std::io::stderr).with_target(true);
    let registry = tracing_subscriber::registry().with(filter);
    // A second start in one process (tests) keeps the first log.
    let started = match config.format {
        Format::Json => registry.with(lines.json().flatten_event(true)).try_init(),
        Format::Text => registry.with(lines).try_init(),
    };
    if started.is_ok() {
        let _ = LEVEL.set(level);
    }
}

/// Gives the running log another level. Without a log of this process, nothing happens.
pub fn set_level(level: &str) {
    if let Some(handle) = LEVEL.get() {
        // It fails only if the log is gone, which is never taken down.
        let _ = handle.reload(filter(level));
    }
}

/// The fallback is never used: `config` has checked the directives.
fn filter(level: &str) -> EnvFilter {
    EnvFilter::try_new(directives(level)).unwrap_or_else(|_| EnvFilter::new("info"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h2_is_silent_unless_it_is_named() {
        assert_eq!(directives("info"), "info,h2=error");
        assert_eq!(directives("info,h2=debug"), "info,h2=debug");
    }
}
