//! Ground: the log, the access log and the metrics. No decision ever depends on them.
//!
//! Field names have dots and name their unit. No token, cookie or query ever appears in them.

pub mod access;
pub mod history;
pub mod metrics;
pub mod recent;

use std::path::PathBuf;

use tracing_subscriber::{EnvFilter, fmt, prelude::*};

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

/// Sends the process's log to standard error, and its last events to [`recent`]. Only the first call
/// has an effect.
pub fn start_log(config: &Config) {
    // The fallback is never used: `config` has checked the directives.
    let filter = EnvFilter::try_new(directives(&config.level)).unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = fmt::layer().with_writer(std::io::stderr).with_target(true);
    // The list of recent events is the same at every level of the log.
    let registry = tracing_subscriber::registry().with(recent::layer());
    // A second start in one process (tests) keeps the first log.
    let _ = match config.format {
        Format::Json => registry.with(lines.json().flatten_event(true).with_filter(filter)).try_init(),
        Format::Text => registry.with(lines.with_filter(filter)).try_init(),
    };
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
