//! The last events of jellypin's own log, for operators who look at the dashboard.
//!
//! What is fit for the log is fit for this list: it holds the same words and the same fields.
//! Access lines never come here.

use std::{
    collections::VecDeque,
    fmt::{self, Write},
    sync::Arc,
    time::SystemTime,
};

use parking_lot::Mutex;
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
};
use tracing_subscriber::{
    Layer,
    filter::{Filtered, Targets},
    layer::Context,
    registry::LookupSpan,
};

/// Events that are kept.
const MOST: usize = 500;

/// Fields of an event that are kept, and bytes of each text.
const MOST_FIELDS: usize = 16;
const LONGEST: usize = 400;

/// The events of this process: a log belongs to a process, not to one proxy in it.
static RECENT: Recent = Recent { events: Mutex::new(Ring { newest: 0, last: VecDeque::new() }) };

/// The last events, the oldest first.
#[derive(Debug)]
pub struct Recent {
    /// Locked for a push, or to copy a few references.
    events: Mutex<Ring>,
}

#[derive(Debug)]
struct Ring {
    newest: u64,
    last: VecDeque<Arc<RecentEvent>>,
}

/// One line of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecentEvent {
    /// Its number in this process; the first is 1.
    pub number: u64,
    pub at: SystemTime,
    /// `info`, `warn` or `error`.
    pub level: &'static str,
    pub message: String,
    pub fields: Vec<(&'static str, String)>,
}

/// The events of this process.
pub fn recent() -> &'static Recent {
    &RECENT
}

/// Collects jellypin's own events of level INFO and above.
pub fn layer<S>() -> Filtered<Collector, Targets, S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    Collector.with_filter(Targets::new().with_target("jellypin", LevelFilter::INFO))
}

impl Recent {
    /// The number of the newest event; 0 if there is none.
    pub fn newest(&self) -> u64 {
        self.events.lock().newest
    }

    /// What is kept of the events after this number, the oldest first.
    pub fn since(&self, number: u64) -> Vec<Arc<RecentEvent>> {
        let ring = self.events.lock();
        ring.last.iter().filter(|event| event.number > number).cloned().collect()
    }

    fn push(&self, mut event: RecentEvent) {
        let mut ring = self.events.lock();
        ring.newest += 1;
        event.number = ring.newest;
        if ring.last.len() >= MOST {
            ring.last.pop_front();
        }
        ring.last.push_back(Arc::new(event));
    }
}

/// The layer that fills the list.
#[derive(Debug)]
pub struct Collector;

impl<S: Subscriber> Layer<S> for Collector {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut read = Reading::default();
        event.record(&mut read);
        let level = match *event.metadata().level() {
            tracing::Level::ERROR => "error",
            tracing::Level::WARN => "warn",
            _ => "info",
        };
        let Reading { message, fields } = read;
        RECENT.push(RecentEvent { number: 0, at: SystemTime::now(), level, message, fields });
    }
}

#[derive(Default)]
struct Reading {
    message: String,
    fields: Vec<(&'static str, String)>,
}

impl Reading {
    fn keep(&mut self, field: &Field, text: String) {
        if field.name() == "message" {
            self.message = text;
        } else if self.fields.len() < MOST_FIELDS {
            self.fields.push((field.name(), text));
        }
    }
}

impl Visit for Reading {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.keep(field, value[..value.floor_char_boundary(LONGEST)].to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = Bounded::default();
        // It ends early at a long value; what was written before stays.
        let _ = write!(text, "{value:?}");
        self.keep(field, text.0);
    }
}

/// A text that takes no more than [`LONGEST`].
#[derive(Default)]
struct Bounded(String);

impl Write for Bounded {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        let room = LONGEST - self.0.len();
        self.0.push_str(&more[..more.floor_char_boundary(room)]);
        if more.len() > room { Err(fmt::Error) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[test]
    fn the_list_has_the_logs_own_events_bounded_in_number_and_length() {
        let subscriber = tracing_subscriber::registry().with(layer());
        let before = recent().newest();
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(pod.name = "a", count = 3, "pod is draining");
            tracing::debug!("not for operators");
            tracing::info!(target: "h2", "of a library");
            tracing::warn!(error = %"ü".repeat(LONGEST), "long");
        });
        let events = recent().since(before);
        let of = |message: &str| events.iter().find(|event| event.message == message).cloned();
        let draining = of("pod is draining").expect("the event");
        assert_eq!((draining.level, &draining.fields[0]), ("info", &("pod.name", "a".to_owned())));
        assert_eq!(draining.fields[1], ("count", "3".to_owned()));
        assert!(of("not for operators").is_none() && of("of a library").is_none());
        assert_eq!(of("long").expect("the event").fields[0].1.len(), LONGEST, "no character is cut in two");
    }

    #[test]
    fn the_oldest_events_go_first() {
        let list = Recent { events: Mutex::new(Ring { newest: 0, last: VecDeque::new() }) };
        let event = |message: String| RecentEvent {
            number: 0,
            at: SystemTime::UNIX_EPOCH,
            level: "info",
            message,
            fields: Vec::new(),
        };
        (0..MOST + 7).for_each(|nth| list.push(event(nth.to_string())));
        let kept = list.since(0);
        assert_eq!((kept.len(), list.newest()), (MOST, MOST as u64 + 7));
        assert_eq!((kept[0].number, &*kept[0].message), (8, "7"));
        assert_eq!(list.since(list.newest() - 2).len(), 2);
    }
}
