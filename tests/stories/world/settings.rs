//! A configuration that is written key by key, so that a story says only what it is about.

use std::collections::BTreeMap;
use std::fmt::Write;

/// Tables by their names, each with its keys and their values in TOML.
#[derive(Clone)]
pub(crate) struct Settings {
    tables: BTreeMap<String, BTreeMap<String, String>>,
    routes: String,
}

impl Default for Settings {
    fn default() -> Settings {
        let mut settings = Settings { tables: BTreeMap::new(), routes: String::new() };
        settings.set("listen.http", "\"127.0.0.1:0\"");
        settings.set("listen.workers", "2");
        settings.set("admin.listen", "\"127.0.0.1:0\"");
        settings.set("websocket.stop_stagger", "\"200ms\"");
        settings.set("timeouts.drain", "\"8s\"");
        settings
    }
}

impl Settings {
    /// Writes or replaces `table.key`; `value` is TOML.
    #[track_caller]
    pub(crate) fn set(&mut self, key: &str, value: &str) {
        let (table, key) = key.rsplit_once('.').expect("a key is `table.key`");
        self.tables.entry(table.to_owned()).or_default().insert(key.to_owned(), value.to_owned());
    }

    /// Takes a key out.
    #[track_caller]
    pub(crate) fn remove(&mut self, key: &str) {
        let (table, key) = key.rsplit_once('.').expect("a key is `table.key`");
        let found = self.tables.get_mut(table).and_then(|keys| keys.remove(key));
        assert!(found.is_some(), "{table}.{key} does not stand there");
    }

    /// Adds a `[[routes]]` table; `lines` are its keys.
    pub(crate) fn add_route(&mut self, lines: &str) {
        self.routes += "[[routes]]\n";
        self.routes += lines;
        self.routes += "\n";
    }

    /// The whole file.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for (table, keys) in &self.tables {
            // Writing into memory cannot fail.
            let _ = writeln!(text, "[{table}]");
            for (key, value) in keys {
                let _ = writeln!(text, "{key} = {value}");
            }
        }
        text + &self.routes
    }
}
