//! Pods' documents of settings: what a change changed, and what of it other pods take over.
//!
//! A pod's document also names its own folders, ports and devices. So no document is copied: only
//! the keys that changed go into another pod's document, and never those that are each pod's own.

use std::{collections::BTreeMap, fmt};

use serde_json::{Map, Value};

use super::endpoint::Document;

/// The name of a document, kept longer than the request that named it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DocumentName {
    Server,
    Named(String),
    Plugin(String),
}

/// Where a value stands in a document: the keys that lead to it.
pub type KeyPath = Vec<String>;

/// New values by their place. Null stands for a value that is gone: pods leave nulls out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes(BTreeMap<KeyPath, Value>);

/// Deepest object whose keys count one by one. Below it, a value is carried as a whole.
const DEEPEST: usize = 4;

impl DocumentName {
    pub fn as_document(&self) -> Document<'_> {
        match self {
            DocumentName::Server => Document::Server,
            DocumentName::Named(name) => Document::Named(name),
            DocumentName::Plugin(id) => Document::Plugin(id),
        }
    }
}

impl From<Document<'_>> for DocumentName {
    /// The server reads names and ids in any case.
    fn from(document: Document<'_>) -> DocumentName {
        match document {
            Document::Server => DocumentName::Server,
            Document::Named(name) => DocumentName::Named(name.to_ascii_lowercase()),
            Document::Plugin(id) => DocumentName::Plugin(id.to_ascii_lowercase().replace('-', "")),
        }
    }
}

impl fmt::Display for DocumentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DocumentName::Server => f.write_str("system"),
            DocumentName::Named(name) => f.write_str(name),
            DocumentName::Plugin(id) => write!(f, "plug-in {id}"),
        }
    }
}

impl Changes {
    /// What makes `after` of `before`. Arrays count as one value.
    pub fn between(before: &Value, after: &Value) -> Changes {
        let mut changes = Changes::default();
        changes.compare(&mut Vec::new(), before, after);
        changes
    }

    /// The values that a document has now below these keys of its top.
    pub fn of_keys(document: &Value, keys: &[&str]) -> Changes {
        let value = |key: &str| document.get(key).cloned().unwrap_or_default();
        Changes(keys.iter().map(|key| (vec![(*key).to_owned()], value(key))).collect())
    }

    fn compare(&mut self, path: &mut KeyPath, before: &Value, after: &Value) {
        if before == after {
            return;
        }
        match (before, after) {
            (Value::Object(before), Value::Object(after)) if path.len() < DEEPEST => {
                let gone = before.keys().filter(|key| !after.contains_key(*key));
                for key in after.keys().chain(gone) {
                    path.push(key.clone());
                    let value = |of: &Map<String, Value>| of.get(key).cloned().unwrap_or_default();
                    self.compare(path, &value(before), &value(after));
                    path.pop();
                }
            }
            // A document that is no object has no keys to carry.
            _ if path.is_empty() => {}
            _ => drop(self.0.insert(path.clone(), after.clone())),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The places that change.
    pub fn paths(&self) -> impl Iterator<Item = &KeyPath> {
        self.0.keys()
    }

    /// Divides them: what other pods take over, and the places that are each pod's own.
    pub fn without_own(self, document: Document<'_>) -> (Changes, Vec<KeyPath>) {
        let (own, carried): (BTreeMap<_, _>, BTreeMap<_, _>) =
            self.0.into_iter().partition(|(path, _)| is_own(document, path));
        (Changes(carried), own.into_keys().collect())
    }

    /// Only the places that `wanted` accepts.
    #[must_use]
    pub fn filtered(mut self, wanted: impl Fn(&KeyPath) -> bool) -> Changes {
        self.0.retain(|path, _| wanted(path));
        self
    }

    /// Writes them into another pod's document. Returns whether that changed it.
    pub fn apply(&self, document: &mut Value) -> bool {
        let mut has_changed = false;
        for (path, value) in &self.0 {
            let Some((last, above)) = path.split_last() else { continue };
            let mut place = &mut *document;
            for key in above {
                if !place.is_object() {
                    *place = Value::Object(Map::new());
                }
                place = &mut place[key.as_str()];
            }
            if place.get(last).unwrap_or(&Value::Null) != value {
                if !place.is_object() {
                    *place = Value::Object(Map::new());
                }
                place[last.as_str()] = value.clone();
                has_changed = true;
            }
        }
        has_changed
    }
}

/// A place as a log shows it, like `TrickplayOptions.Interval`.
pub fn shown(path: &KeyPath) -> String {
    path.join(".")
}

/// Keys that are each pod's own, whatever document they stand in.
///
/// What ends in `Path` is found by [`is_own`]. The keys of `network.xml` say how one pod is reached,
/// and those of `encoding.xml` which hardware it has. The others tell of one installation.
const OWN: &[&str] = &[
    // Of the server.
    "IsStartupWizardCompleted",
    "IsPortAuthorized",
    "PreviousVersion",
    "PreviousVersionStr",
    // Of its network.
    "BaseUrl",
    "CertificatePassword",
    "EnableHttps",
    "EnableIPV4",
    "EnableIPV6",
    "EnablePublishedServerUriByRequest",
    "EnableUPnP",
    "LocalNetworkAddresses",
    "PublishedServerUriBySubnet",
    "RequireHttps",
    "VirtualInterfaceNames",
    "IgnoreVirtualInterfaces",
    // Of its hardware.
    "HardwareAccelerationType",
    "HardwareDecodingCodecs",
    "VaapiDevice",
    "OpenclDevice",
    "QsvDevice",
    "EncoderAppPathDisplay",
    // Of its files.
    "SplashscreenLocation",
    "MediaLocationsCreated",
];

/// Last words of keys that name a pod's folders and ports. `EnableSupport` does not end in `Port`.
const OWN_ENDINGS: &[&str] = &["Path", "Port", "PortNumber", "Directory", "Folder"];

fn is_own(document: Document<'_>, path: &KeyPath) -> bool {
    // How a pod reaches the database (`database.xml`).
    if matches!(document, Document::Named(name) if name.eq_ignore_ascii_case("database")) {
        return true;
    }
    let is_of_hardware = |key: &str| OWN.iter().any(|own| own.eq_ignore_ascii_case(key));
    let is_place =
        |key: &str| OWN_ENDINGS.iter().any(|ending| key.ends_with(ending) || key.eq_ignore_ascii_case(ending));
    // A plug-in may call its own things as Jellyfin calls a pod's.
    let is_listed = |key: &str| !matches!(document, Document::Plugin(_)) && is_of_hardware(key);
    path.iter().any(|key| is_listed(key) || is_place(key))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn carried(document: Document<'_>, before: &Value, after: &Value, other: &Value) -> Value {
        let mut other = other.clone();
        let (changes, _) = Changes::between(before, after).without_own(document);
        changes.apply(&mut other);
        other
    }

    #[test]
    fn only_what_changed_goes_into_the_other_pods_document() {
        let before = json!({"ServerName": "Home", "CachePath": "/a", "UICulture": "en", "Gone": "x"});
        let after = json!({"ServerName": "Renamed", "CachePath": "/new", "UICulture": "en"});
        let other = json!({"ServerName": "Home", "CachePath": "/b", "UICulture": "de", "Gone": "x"});
        let expected = json!({"ServerName": "Renamed", "CachePath": "/b", "UICulture": "de", "Gone": null});
        assert_eq!(carried(Document::Server, &before, &after, &other), expected);
    }

    #[test]
    fn objects_within_are_merged_and_lists_are_whole() {
        let before = json!({"TrickplayOptions": {"Interval": 1, "Qscale": 4}, "CorsHosts": ["*"]});
        let after = json!({"TrickplayOptions": {"Interval": 2, "Qscale": 4}, "CorsHosts": ["a", "b"]});
        let other = json!({"TrickplayOptions": {"Interval": 1, "Qscale": 9}, "CorsHosts": ["c"]});
        let expected = json!({"TrickplayOptions": {"Interval": 2, "Qscale": 9}, "CorsHosts": ["a", "b"]});
        assert_eq!(carried(Document::Server, &before, &after, &other), expected);
        let (changes, own) = Changes::between(&before, &after).without_own(Document::Server);
        let paths: Vec<String> = changes.paths().map(shown).collect();
        assert_eq!((paths, own.len()), (vec!["CorsHosts".to_owned(), "TrickplayOptions.Interval".to_owned()], 0));
    }

    #[test]
    fn what_is_a_pods_own_stays_its_own() {
        let own = |document: Document<'_>, key: &str| is_own(document, &vec![key.to_owned()]);
        let network = Document::Named("network");
        for key in ["InternalHttpPort", "HttpServerPortNumber", "BaseUrl", "PublishedServerUriBySubnet", "enableipv6"] {
            assert!(own(network, key), "{key}");
        }
        for key in ["TranscodingTempPath", "EncoderAppPath", "VaapiDevice", "HardwareAccelerationType"] {
            assert!(own(Document::Named("encoding"), key), "{key}");
        }
        for key in ["ServerName", "QuickConnectAvailable", "PluginRepositories", "MetadataOptions", "PathSubstitutions"]
        {
            assert!(!own(Document::Server, key), "{key}");
        }
        for key in ["KnownProxies", "LocalNetworkSubnets", "EnableRemoteAccess", "RemoteIPFilter"] {
            assert!(!own(network, key), "{key}");
        }
        assert!(own(Document::Named("Database"), "CustomProviderOptions"));
        let plugin = Document::Plugin("x");
        assert!(own(plugin, "DownloadPath") && own(plugin, "port"));
        assert!(!own(plugin, "BaseUrl") && !own(plugin, "EnableSupport"));
    }

    #[test]
    fn a_change_that_is_there_already_changes_nothing() {
        let after = json!({"A": 1, "B": {"C": 2}});
        let changes = Changes::between(&json!({}), &after);
        assert!(!changes.apply(&mut after.clone()));
        assert!(changes.apply(&mut json!({"B": 7})));
        assert!(Changes::between(&json!([1]), &json!([2])).is_empty(), "no object, no keys");
        let list = Changes::of_keys(&json!({"TunerHosts": [1], "Other": 2}), &["TunerHosts"]);
        let mut other = json!({"TunerHosts": [], "Other": 3});
        assert!(list.apply(&mut other));
        assert_eq!(other, json!({"TunerHosts": [1], "Other": 3}));
    }

    fn documents() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![Just(json!(null)), any::<bool>().prop_map(Value::from), (0_u8..3).prop_map(Value::from)];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop::collection::btree_map("[A-D]", inner, 0..4).prop_map(|map| Value::Object(map.into_iter().collect()))
        })
    }

    /// Pods leave nulls out, so a null and nothing are the same.
    fn without_nulls(value: Value) -> Value {
        match value {
            Value::Object(map) => {
                let filled = map.into_iter().map(|(key, value)| (key, without_nulls(value)));
                Value::Object(filled.filter(|(_, value)| !value.is_null()).collect())
            }
            value => value,
        }
    }

    proptest! {
        #[test]
        fn a_change_makes_of_the_old_document_the_new_one(before in documents(), after in documents()) {
            prop_assume!(before.is_object() && after.is_object());
            let mut made = before.clone();
            Changes::between(&before, &after).apply(&mut made);
            prop_assert_eq!(without_nulls(made), without_nulls(after));
        }
    }
}
