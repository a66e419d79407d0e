//! Ground: the log, the access lines and the metrics. Nothing here is ever read to decide anything.
//!
//! Fields are dotted and carry their unit. A token, a cookie or a query never reaches any of it.

pub mod access;
pub mod metrics;

use std::path::PathBuf;

use tracing_subscriber::{EnvFilter, fmt, prelude::*};

/// What is written down, where and how.
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
    /// A line to be read by people.
    Text,
}

/// Where the line of each request goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AccessLog {
    /// Nowhere.
    Off,
    /// To standard output.
    #[default]
    Stdout,
    /// Appended to; opened anew on SIGHUP, so that it can be rotated.
    File(PathBuf),
}

/// h2 warns of each connection that floods it, which a stranger could fill the log with. Who wants to read it names it.
fn directives(level: &str) -> String {
    if level.contains("h2") { level.to_owned() } else { format!("{level},h2=error") }
}

/// Sends the process's log to standard error. The first call counts.
pub fn start_log(config: &Config) {
    // `config` has checked the directives.
    let filter = EnvFilter::try_new(directives(&config.level)).unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = fmt::layer().with_writer(std::io::stderr).with_target(true);
    let registry = tracing_subscriber::registry().with(filter);
    // A second start in one process (tests) keeps the first log.
    let _ = match config.format {
        Format::Json => registry.with(lines.json().flatten_event(true)).try_init(),
        Format::Text => registry.with(lines).try_init(),
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
