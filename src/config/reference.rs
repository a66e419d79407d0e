//! Tests: the reference of all keys. `docs/configuration.md` is for readers,
//! `config/jellypin.schema.json` for editors.
//!
//! The file's types give the keys and what each one takes.
//! The complete example gives the descriptions and the defaults.
//! `UPDATE_DOCS=1 cargo test --lib config::reference` writes both files.

mod schemas;

use std::{collections::BTreeSet, fmt::Write, fs, path::Path};

use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

use super::{changes::AT_THE_NEXT_START, file::File};

const COMPLETE: &str = include_str!("../../config/jellypin.toml");
const PAGE: &str = "docs/configuration.md";
const SCHEMA: &str = "config/jellypin.schema.json";

/// Keys that the complete example sets without a default: every configuration needs them.
const NO_DEFAULTS: [&str; 2] = ["listen.http", "pools.<pool>.pods"];

const ABOUT: &str = "<!-- Written by `UPDATE_DOCS=1 cargo test --lib config::reference`. Do not edit it by hand. -->

# Configuration

jellypin reads one TOML file, by default `/etc/jellypin/jellypin.toml`. A file needs only what
differs from the defaults: [minimal.toml](../config/minimal.toml) has six lines, and
[jellypin.toml](../config/jellypin.toml) has every key in place.

- Durations have a unit: `\"250ms\"`, `\"10s\"`, `\"1m 30s\"`. So do sizes: `\"512B\"`, `\"64KiB\"`, `\"1MiB\"`.
- A relative path starts at the folder of the file.
- An unknown key is an error. The message names the key, its line and its column.
- `jellypin check --config FILE` reads the file, tries all that it names, and starts nothing.
- A running proxy takes changes at once, by SIGHUP, `POST /reload`, or because the file has changed
  (`[reload]`): all of them, or none if one is wrong. A key that waits for the next start says so.

Editors that read JSON Schema complete and check the file: its first line is then
`#:schema jellypin.schema.json`, the path of [this schema](../config/jellypin.schema.json).
";

/// A table or a key, in the order of the complete example.
struct Entry {
    /// Like `listen.http`; `<pool>` stands for the name of any pool.
    path: String,
    is_table: bool,
    /// Its value in the example, and whether it is commented out.
    value: String,
    is_off: bool,
    /// The paragraphs of its comment.
    prose: Vec<String>,
    /// Example lines of a table whose keys are names.
    example: Vec<&'static str>,
}

fn entries() -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    let (mut table, mut prose) = (String::new(), vec![String::new()]);
    let mut follows_key = false;
    for line in COMPLETE.lines() {
        match line.strip_prefix("# ") {
            Some(rule) if rule.starts_with("---") => prose = vec![String::new()],
            Some(words) => {
                let paragraph = prose.last_mut().expect("a paragraph");
                *paragraph = format!("{paragraph} {words}").trim_start().to_owned();
            }
            None if line == "#" => prose.push(String::new()),
            None => {
                let words = std::mem::replace(&mut prose, vec![String::new()]);
                let mut words: Vec<String> = words.into_iter().filter(|paragraph| !paragraph.is_empty()).collect();
                let is_next_to_key = std::mem::replace(&mut follows_key, !line.is_empty()) && words.is_empty();
                let setting = line.strip_prefix('#').unwrap_or(line);
                let (path, value) = if setting.starts_with('[') {
                    let named = setting.trim_matches(['[', ']']);
                    table = named.replace("pools.main", "pools.<pool>").replace("pools.photos", "pools.<pool>");
                    (table.clone(), String::new())
                } else if let Some((key, value)) = setting.split_once('=')
                    && setting.starts_with(|first: char| first.is_ascii_lowercase())
                {
                    (format!("{table}.{}", key.trim()), value.trim().to_owned())
                } else {
                    continue;
                };
                // Another table of the same kind shows again what stands above.
                if entries.iter().any(|entry| entry.path == path) {
                    continue;
                }
                if let Some(before) = entries.last().filter(|before| is_next_to_key && !before.is_table) {
                    // Adjacent keys share one comment.
                    words.clone_from(&before.prose);
                }
                match entries.last_mut().filter(|entry| entry.path == table && table.ends_with(".pods")) {
                    Some(pods) => {
                        pods.prose.extend(words);
                        pods.example.push(setting);
                    }
                    None => entries.push(Entry {
                        is_table: setting.starts_with('['),
                        is_off: line.starts_with('#'),
                        path,
                        value,
                        prose: words,
                        example: Vec::new(),
                    }),
                }
            }
        }
    }
    entries
}

impl Entry {
    /// The value of a key that the file omits; `None` if there is none, or the prose explains it.
    fn default(&self, is_required: bool) -> Option<&str> {
        let is_said = self.prose.iter().any(|paragraph| paragraph.to_lowercase().contains("default"));
        let none = self.is_table || is_required || self.is_off && is_said || NO_DEFAULTS.contains(&self.path.as_str());
        (!none).then_some(self.value.as_str())
    }
}

/// The schema of all keys, with descriptions and defaults.
fn schema(entries: &[Entry]) -> Value {
    let settings = SchemaSettings::draft07().with(|settings| settings.inline_subschemas = true);
    let mut root = settings.into_generator().into_root_schema_for::<File>().to_value();
    without_null(&mut root);
    root["title"] = json!("jellypin's configuration");
    for entry in entries {
        let (parent, key) = entry.path.rsplit_once('.').unwrap_or(("", &entry.path));
        let is_required = at(&root, parent).is_some_and(|parent| requires(parent, key));
        let default = entry.default(is_required).map(|value| {
            let value = format!("it = {value}").parse::<toml::Table>().expect("a value")["it"].clone();
            serde_json::to_value(value).expect("JSON")
        });
        let place = entry.path.split('.').try_fold(&mut root, step_mut);
        let place = place.unwrap_or_else(|| panic!("the example has {}, which no type has", entry.path));
        place["description"] = json!(entry.prose.join("\n\n"));
        if let Some(default) = default {
            place["default"] = default;
        }
    }
    root
}

fn requires(table: &Value, key: &str) -> bool {
    let table = table.get("items").unwrap_or(table);
    table["required"].as_array().is_some_and(|required| required.contains(&json!(key)))
}

fn at<'a>(root: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').filter(|name| !name.is_empty()).try_fold(root, |schema, name| {
        let schema = schema.get("items").unwrap_or(schema);
        if name == "<pool>" { schema.get("additionalProperties") } else { schema["properties"].get(name) }
    })
}

fn step_mut<'a>(schema: &'a mut Value, name: &str) -> Option<&'a mut Value> {
    let is_list = schema.get("items").is_some();
    let schema = if is_list { &mut schema["items"] } else { schema };
    if name == "<pool>" { schema.get_mut("additionalProperties") } else { schema.get_mut("properties")?.get_mut(name) }
}

/// Removes null from the schema: TOML has none, and a file omits an optional key instead.
fn without_null(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            if let Some(Value::Array(kinds)) = fields.get_mut("type") {
                kinds.retain(|kind| kind != "null");
                if let [kind] = &kinds[..] {
                    fields["type"] = kind.clone();
                }
            }
            if let Some(Value::Array(choices)) = fields.get_mut("anyOf") {
                choices.retain(|choice| choice["type"] != "null");
                if let [Value::Object(only)] = &choices[..] {
                    let only = only.clone();
                    fields.remove("anyOf");
                    fields.extend(only);
                }
            }
            fields.values_mut().for_each(without_null);
        }
        Value::Array(items) => items.iter_mut().for_each(without_null),
        _ => {}
    }
}

/// What a key takes, in words.
fn takes(schema: &Value) -> String {
    let names = |properties: &Value| {
        let names = properties.as_object().into_iter().flatten().map(|(name, _)| format!("`{name}`"));
        names.collect::<Vec<_>>().join(", ")
    };
    match (schema["title"].as_str(), schema["type"].as_str()) {
        (Some(title), _) => title.to_owned(),
        (_, Some("boolean")) => "`true` or `false`".to_owned(),
        (_, Some("array")) => format!("a list, each {}", takes(&schema["items"])),
        (_, Some("object")) if schema["properties"].is_object() => {
            format!("a table of {}", names(&schema["properties"]))
        }
        (_, Some("object")) => format!("a table of names, each {}", takes(&schema["additionalProperties"])),
        (_, Some("string")) => "a text".to_owned(),
        other => panic!("no words for {other:?}: {schema}"),
    }
}

fn page(entries: &[Entry], schema: &Value) -> String {
    let mut page = ABOUT.to_owned();
    for entry in entries {
        let Entry { path, prose, example, .. } = entry;
        let place = at(schema, path).expect("a key of the schema");
        let (parent, key) = path.rsplit_once('.').unwrap_or(("", path));
        let is_required = at(schema, parent).is_some_and(|parent| requires(parent, key));
        let brackets = if place["type"] == "array" { ("[[", "]]") } else { ("[", "]") };
        // Writing to a `String` cannot fail.
        let _ = match entry.is_table {
            true => writeln!(page, "\n## `{}{path}{}`", brackets.0, brackets.1),
            false => writeln!(page, "\n### `{path}`"),
        };
        if !entry.is_table || !example.is_empty() {
            let mut line = format!("Takes {}.", takes(place));
            if is_required {
                line += " Required.";
            }
            if let Some(default) = entry.default(is_required) {
                let _ = write!(line, " Default: `{default}`.");
            }
            if let Some((_, why)) = AT_THE_NEXT_START.iter().find(|(key, _)| key == path) {
                let _ = write!(line, " A change waits for the next start: {why}.");
            }
            let _ = writeln!(page, "\n{}", wrapped(&line));
        }
        for paragraph in prose {
            let _ = writeln!(page, "\n{}", wrapped(paragraph));
        }
        if !example.is_empty() {
            let _ = writeln!(page, "\n```toml\n[{}]\n{}\n```", path.replace("<pool>", "main"), example.join("\n"));
        }
    }
    page
}

/// Wraps a text at 100 columns.
fn wrapped(text: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let line = lines.last_mut().expect("a line");
        match line.chars().count() {
            0 => line.push_str(word),
            length if length + 1 + word.chars().count() <= 100 => *line += &format!(" {word}"),
            _ => lines.push(word.to_owned()),
        }
    }
    lines.join("\n")
}

/// Compares a file of the repository with its expected text, or writes it.
fn hold(name: &str, expected: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, expected).expect("the file is written");
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    let differs = found.lines().zip(expected.lines()).find(|(found, expected)| found != expected);
    let advice = "run `UPDATE_DOCS=1 cargo test --lib config::reference`";
    assert!(found == expected, "{name} is not what the configuration's types say; {advice}. {differs:#?}");
}

#[test]
fn the_reference_is_what_the_types_and_the_example_say() {
    let entries = entries();
    let schema = schema(&entries);
    hold(SCHEMA, &format!("{}\n", serde_json::to_string_pretty(&schema).expect("JSON")));
    hold(PAGE, &page(&entries, &schema));
}

#[test]
fn every_key_of_the_types_has_words() {
    let entries = entries();
    let schema = schema(&entries);
    let has_words: BTreeSet<&str> = entries.iter().map(|entry| entry.path.as_str()).collect();
    let mut keys = Vec::new();
    keys_of(&schema, "", &has_words, &mut keys);
    assert!(keys.len() > 60, "the keys are found: {keys:?}");
    for key in keys {
        let entry = entries.iter().find(|entry| entry.path == key);
        let is_explained = entry.is_some_and(|entry| !entry.prose.is_empty());
        assert!(is_explained, "{key} has no words in config/jellypin.toml");
    }
}

/// Collects the keys of a table, and of its sub-tables that have a header of their own.
/// An inline table counts as one key.
fn keys_of(schema: &Value, path: &str, headers: &BTreeSet<&str>, keys: &mut Vec<String>) {
    let schema = schema.get("items").unwrap_or(schema);
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let tables = inner.get("items").unwrap_or(inner)["properties"].is_object();
        if path == "pools" {
            keys_of(&inner["additionalProperties"], "pools.<pool>", headers, keys);
        } else if tables && is_header(headers, &path) {
            keys_of(inner, &path, headers, keys);
        } else {
            keys.push(path);
        }
    }
}

fn is_header(headers: &BTreeSet<&str>, path: &str) -> bool {
    headers.iter().any(|header| header.strip_prefix(path).is_some_and(|rest| rest.starts_with('.')))
}
