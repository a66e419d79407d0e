//! Ground: the log, the access log and the metrics. No decision ever depends on them.
//!
//! Field names have dots and name their unit. No token, cookie or query ever appears in them.

pub mod access;
pub mod history;
pub mod metrics;
pub mod recent;

use std::{
    fmt,
    path::PathBuf,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use tracing::{Event, Subscriber};
use tracing_subscriber::{
    EnvFilter,
    fmt::{
        self as layer, FmtContext,
        format::{FormatEvent, FormatFields, Writer},
    },
    prelude::*,
    registry::LookupSpan,
    reload,
};

/// What the proxy logs, where and in which form.
#[derive(Clone, Debug)]
pub struct Config {
    /// Directives of the log, like `info` or `jellypin::health=debug,info`. Default `info`.
    pub level: String,
    /// Default JSON.
    pub format: Format,
    /// Default standard output.
    pub access: AccessLog,
    /// Whether answers say how long their requests waited for a pod. Default false.
    pub server_timing: bool,
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

/// Changes the running log; set by its start.
static RUNNING: OnceLock<Running> = OnceLock::new();

/// What of the running log a reload may change.
struct Running {
    set_level: Box<dyn Fn(EnvFilter) + Send + Sync>,
    form: Form,
}

/// The form of the lines, which may change between two of them.
#[derive(Clone, Default)]
struct Form {
    is_text: Arc<AtomicBool>,
}

impl<S, N> FormatEvent<S, N> for Form
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let form = layer::format();
        match self.is_text.load(Ordering::Relaxed) {
            true => form.format_event(context, writer, event),
            false => form.json().flatten_event(true).format_event(context, writer, event),
        }
    }
}

/// Sends the process's log to standard error, and its last events to [`recent`]. Only the first call
/// has an effect.
pub fn start_log(config: &Config) {
    let (filter, level) = reload::Layer::new(filter(&config.level));
    let form = Form::default();
    form.is_text.store(config.format == Format::Text, Ordering::Relaxed);
    let lines = layer::layer().event_format(form.clone()).with_writer(std::io::stderr).with_filter(filter);
    // The list of recent events is the same at every level of the log.
    let registry = tracing_subscriber::registry().with(recent::layer()).with(lines);
    // A second start in one process (tests) keeps the first log.
    if registry.try_init().is_ok() {
        // It fails only if the log is gone, which is never taken down.
        let set_level = Box::new(move |filter| drop(level.reload(filter)));
        let _ = RUNNING.set(Running { set_level, form });
    }
}

/// Gives the running log another level and form. Without a log of this process, nothing happens.
pub fn change_log(config: &Config) {
    if let Some(running) = RUNNING.get() {
        (running.set_level)(filter(&config.level));
        running.form.is_text.store(config.format == Format::Text, Ordering::Relaxed);
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
