//! Tests: compare the shipped example files with the file's types.

mod live;

use std::path::Path;

use serde::{Deserialize, de::IntoDeserializer, forward_to_deserialize_any};
use toml::{Table, Value};

use super::{Environment, file, parse, secret};
use crate::app;

const COMPLETE: &str = include_str!("../../config/jellypin.toml");
const MINIMAL: &str = include_str!("../../config/minimal.toml");

struct OldKey;

impl Environment for OldKey {
    fn get(&self, name: &str) -> Option<String> {
        match name {
            "JELLYPIN_OLD_KEY" => Some("an old key that is long enough".to_owned()),
            "JELLYPIN_ADMIN_TOKEN" => Some("a token that is long enough".to_owned()),
            "JELLYPIN_API_KEY" => Some("0123456789abcdef0123456789abcdef".to_owned()),
            "JELLYPIN_SENTINEL" => Some("redis://:secret@10.0.0.32:26379".to_owned()),
            _ => None,
        }
    }
}

fn loaded(text: &str) -> app::Config {
    parse(text, Path::new("jellypin.toml"), &OldKey).unwrap_or_else(|error| panic!("{error}"))
}

/// The complete example with every key uncommented.
/// `#key` and `#[table]` are settings, `# word` is prose.
fn switched_on() -> String {
    let on = |line: &str| match line.strip_prefix('#') {
        Some(setting) if setting.starts_with(|c: char| c.is_ascii_lowercase() || c == '[') => setting.to_owned(),
        _ => line.to_owned(),
    };
    COMPLETE.lines().map(on).collect::<Vec<_>>().join("\n")
}

/// The same, with files that are there in the place of those that the example names.
fn with_files(folder: &Path) -> String {
    let (key, ca) = (folder.join("key"), folder.join("pods.pem"));
    std::fs::write(&key, "a key of more than sixteen bytes\n").expect("the key's file");
    let made = rcgen::generate_simple_self_signed(["pods".to_owned()]).expect("a certificate");
    std::fs::write(&ca, made.cert.pem()).expect("the authority's file");
    let text = switched_on().replace("/run/secrets/jellypin_key", &key.to_string_lossy());
    let users = folder.join("users");
    std::fs::write(&users, "# who may look\nbob:$2y$04$abcdefghijklmnopqrstuuyvPXIbu7xe6/CED2DzX8z6Si09MlzlW\n")
        .expect("users");
    let text = text.replace("/etc/jellypin/users", &users.to_string_lossy());
    text.replace("/etc/jellypin/pods.pem", &ca.to_string_lossy())
}

#[test]
fn the_minimal_example_is_a_listener_and_two_pods() {
    let config = loaded(MINIMAL);
    assert_eq!(MINIMAL.lines().count(), 6);
    assert_eq!((config.listen.http.len(), config.pools[0].pods.len()), (1, 2));
}

#[test]
fn what_the_complete_example_shows_uncommented_is_the_default() {
    assert_eq!(format!("{:#?}", loaded(COMPLETE)), format!("{:#?}", loaded(MINIMAL)));
}

#[test]
fn the_complete_example_is_valid_with_every_key_switched_on() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = loaded(&with_files(folder.path()));
    let keys: Vec<_> = config.affinity.keys.iter().map(|key| key.bytes()).collect();
    assert_eq!(keys, [b"a key of more than sixteen bytes".as_slice(), b"an old key that is long enough"]);
    assert_eq!(config.tls.certificates.len(), 1);
    assert_eq!(config.shown_server.public_url.as_deref(), Some("https://media.example.org"));
    let redis = config.redis.expect("a Redis");
    assert_eq!((redis.prefix.as_str(), redis.deadline.as_millis(), redis.ttl.as_secs()), ("jellypin", 30, 30 * 86_400));
    assert_eq!(config.pools[0].dns.as_ref().map(|dns| dns.port), Some(8096));
}

#[test]
fn the_complete_example_has_every_key() {
    let example: Table = switched_on().parse().expect("the example is TOML");
    for name in keys_of::<file::File>() {
        assert!(example.contains_key(*name), "[{name}] is missing");
    }
    let tables = [
        ("listen", keys_of::<file::Listen>()),
        ("listen.certificates", keys_of::<file::Certificate>()),
        ("admin", keys_of::<file::Admin>()),
        ("state", keys_of::<file::State>()),
        ("redis", keys_of::<file::Redis>()),
        ("jellyfin", keys_of::<file::Jellyfin>()),
        ("pools", keys_of::<file::Pool>()),
        ("pools.main.dns", keys_of::<file::Dns>()),
        ("pools.main.tls", &["ca", "server_name"]),
        ("pools.main.pods.f.tls", &["pin"]),
        ("pools.main.pods", keys_of::<file::PodTable>()),
        ("pools.main.pods.e.wake", keys_of::<file::Wake>()),
        ("routes", keys_of::<file::Route>()),
        ("routes.basic_auth", keys_of::<file::BasicAuth>()),
        ("routes.forward_auth", keys_of::<file::ForwardAuth>()),
        ("timeouts", keys_of::<file::Timeouts>()),
        ("limits", keys_of::<file::Limits>()),
        ("limits.log_in", keys_of::<file::LogIn>()),
        ("health", keys_of::<file::Health>()),
        ("leader", keys_of::<file::Leader>()),
        ("affinity", keys_of::<file::Affinity>()),
        ("affinity.keys", keys_of::<secret::SecretTable>()),
        ("affinity.cookie", keys_of::<file::Cookie>()),
        ("websocket", keys_of::<file::WebSocket>()),
        ("autodiscovery", keys_of::<file::Autodiscovery>()),
        ("log", keys_of::<file::Log>()),
    ];
    for (path, keys) in tables {
        let written = path.split('.').fold(vec![&example], |tables, name| {
            tables.iter().filter_map(|table| table.get(name)).flat_map(tables_in).collect()
        });
        // What a pool or a pod may have stands in one or another.
        let pods: Vec<&Table> = written.iter().flat_map(|table| table.values()).flat_map(tables_in).collect();
        let written = if path.ends_with("pods") || path == "pools" { pods } else { written };
        for key in keys {
            assert!(written.iter().any(|table| table.contains_key(*key)), "[{path}] {key} is missing");
        }
    }
}

fn tables_in(value: &Value) -> Vec<&Table> {
    match value {
        Value::Table(table) => vec![table],
        Value::Array(items) => items.iter().filter_map(Value::as_table).collect(),
        _ => Vec::new(),
    }
}

/// The keys that a derived type accepts, as serde reports them.
fn keys_of<T: for<'de> Deserialize<'de>>() -> &'static [&'static str] {
    let mut keys = &[] as &[&str];
    let _ = T::deserialize(Asks(&mut keys));
    assert!(!keys.is_empty(), "not a struct");
    keys
}

struct Asks<'a>(&'a mut &'static [&'static str]);

impl<'de> serde::Deserializer<'de> for Asks<'_> {
    type Error = serde::de::value::Error;

    fn deserialize_any<V: serde::de::Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_unit()
    }

    fn deserialize_struct<V: serde::de::Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        *self.0 = fields;
        ().into_deserializer().deserialize_any(visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}
