//! The configuration of one process: read from the pod's files at its start, and written to them whole.
//!
//! Another process that shares the files keeps what it read, and its next save writes that over everything.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::disk::Disk;
use crate::pod::Settings;

/// The server's own document.
pub(crate) const SYSTEM: &str = "system";

/// The document of the one plug-in that has any.
pub(crate) const PLUGIN: &str = "872a78491171458da6fb3de3d442ad30";

/// What this process has of the documents.
#[derive(Clone, Debug, Default)]
pub(crate) struct Documents {
    known: BTreeMap<String, Value>,
}

/// Why a document is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// No such document.
    Unknown,
    /// It is no object.
    Malformed,
    /// It names a folder that this pod does not have (`DirectoryNotFoundException`).
    NoSuchFolder,
}

/// The keys that name folders of the pod, which must be there.
const FOLDERS: [&str; 3] = ["CachePath", "MetadataPath", "TranscodingTempPath"];

impl Documents {
    /// Reads the files; what is not there yet is written as a new pod has it.
    pub(crate) fn read(disk: &Disk, settings: &Settings) -> Documents {
        let mut files = disk.files();
        for (key, document) in first(settings) {
            files.documents.entry(key.to_owned()).or_insert(document);
        }
        Documents { known: files.documents.clone() }
    }

    /// By its key, in any case.
    pub(crate) fn get(&self, key: &str) -> Option<&Value> {
        self.known.get(&key.to_ascii_lowercase())
    }

    /// A text of the server's own document.
    pub(crate) fn system(&self, name: &str) -> Option<&str> {
        self.get(SYSTEM)?.get(name)?.as_str()
    }

    /// Replaces a document by what is given of its properties; the others go back to their defaults.
    pub(crate) fn replace(
        &mut self,
        disk: &Disk,
        settings: &Settings,
        key: &str,
        given: &Value,
    ) -> Result<(), Refused> {
        let key = key.to_ascii_lowercase();
        let old = self.known.get(&key).ok_or(Refused::Unknown)?;
        let given = given.as_object().ok_or(Refused::Malformed)?;
        for folder in FOLDERS {
            let named = value_of(given, folder).and_then(Value::as_str).unwrap_or_default();
            let is_new = old.get(folder).and_then(Value::as_str) != Some(named);
            if is_new && !named.is_empty() && !named.starts_with(&own_folder(settings)) {
                return Err(Refused::NoSuchFolder);
            }
        }
        let mut document = defaults(&key);
        let names: Vec<String> = document.as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect();
        for name in names {
            if let Some(value) = value_of(given, &name) {
                document[&name] = value.clone();
            }
        }
        if key == PLUGIN {
            document = given.clone().into();
        }
        self.known.insert(key.clone(), document.clone());
        disk.files().documents.insert(key, document);
        Ok(())
    }
}

/// A property, its name in any case.
fn value_of<'a>(given: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    given.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

fn own_folder(settings: &Settings) -> String {
    format!("/jellyfin/{}/", settings.name)
}

/// The documents of a new pod: its folders bear its name.
fn first(settings: &Settings) -> Vec<(&'static str, Value)> {
    let own = own_folder(settings);
    let mut documents: Vec<_> =
        [SYSTEM, "network", "encoding", "branding", "metadata", "xbmcmetadata", "livetv", PLUGIN]
            .into_iter()
            .map(|key| (key, defaults(key)))
            .collect();
    for (key, document) in &mut documents {
        match *key {
            SYSTEM => {
                document["ServerName"] = json!("Home");
                document["IsStartupWizardCompleted"] = json!(true);
                document["QuickConnectAvailable"] = json!(settings.quick_connect);
                document["EnableLegacyAuthorization"] = json!(settings.legacy_authorization);
                document["CachePath"] = json!(format!("{own}cache"));
                document["MetadataPath"] = json!(format!("{own}metadata"));
            }
            "encoding" => document["TranscodingTempPath"] = json!(format!("{own}transcodes")),
            "network" => document["BaseUrl"] = json!(settings.base_url),
            _ => {}
        }
    }
    documents
}

/// A document as its class has it, with those properties that stories change.
fn defaults(key: &str) -> Value {
    match key {
        SYSTEM => json!({
            "LogFileRetentionDays": 3, "IsStartupWizardCompleted": false, "CachePath": "", "EnableMetrics": false,
            "MetadataPath": "", "PreferredMetadataLanguage": "en", "MetadataCountryCode": "US", "ServerName": "",
            "UICulture": "en-US", "MinResumePct": 5, "MaxResumePct": 90, "MinResumeDurationSeconds": 300,
            "LibraryMonitorDelay": 60, "QuickConnectAvailable": true, "EnableLegacyAuthorization": false,
            "RemoteClientBitrateLimit": 0, "PluginRepositories": [], "CorsHosts": ["*"], "ActivityLogRetentionDays": 30,
        }),
        "network" => json!({
            "BaseUrl": "", "EnableHttps": false, "InternalHttpPort": 8096, "PublicHttpPort": 8096, "AutoDiscovery": true,
            "EnableRemoteAccess": true, "LocalNetworkSubnets": [], "LocalNetworkAddresses": [], "KnownProxies": [],
            "PublishedServerUriBySubnet": [],
        }),
        "encoding" => json!({
            "EncodingThreadCount": -1, "TranscodingTempPath": "", "EnableThrottling": false, "HardwareAccelerationType": "none",
            "EncoderAppPath": "", "VaapiDevice": "/dev/dri/renderD128", "H264Crf": 23, "EnableHardwareEncoding": true,
        }),
        "branding" => json!({"LoginDisclaimer": null, "CustomCss": null, "SplashscreenEnabled": false}),
        "metadata" => json!({"UseFileCreationTimeForDateAdded": true}),
        "xbmcmetadata" => json!({"UserId": null, "SaveImagePathsInNfo": false}),
        "livetv" => json!({"GuideDays": null, "RecordingPath": "", "TunerHosts": [], "ListingProviders": []}),
        _ => json!({"RepositoryUrl": "https://example.org"}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::Settings;

    fn pod(name: &str) -> Settings {
        Settings { name: name.to_owned(), ..Settings::new() }
    }

    #[test]
    fn what_is_not_given_goes_back_to_its_default() {
        let (disk, a) = (Disk::new(), pod("a"));
        let mut documents = Documents::read(&disk, &a);
        assert_eq!(documents.system("CachePath"), Some("/jellyfin/a/cache"));
        assert_eq!(documents.replace(&disk, &a, SYSTEM, &json!({"serverName": "X", "Foreign": 1})), Ok(()));
        assert_eq!((documents.system("ServerName"), documents.system("CachePath")), (Some("X"), Some("")));
        assert_eq!(documents.get(SYSTEM).and_then(|document| document.get("Foreign")), None);
    }

    #[test]
    fn another_pods_folders_are_refused() {
        let (disk, a, b) = (Disk::new(), pod("a"), pod("b"));
        let mut at_b = Documents::read(&disk, &b);
        let of_a = Documents::read(&Disk::new(), &a).get("encoding").cloned().unwrap_or_default();
        assert_eq!(at_b.replace(&disk, &b, "Encoding", &of_a), Err(Refused::NoSuchFolder));
        assert_eq!(at_b.replace(&disk, &b, "nothing", &json!({})), Err(Refused::Unknown));
        assert_eq!(at_b.replace(&disk, &b, "network", &json!([])), Err(Refused::Malformed));
    }

    #[test]
    fn a_process_that_shares_the_files_writes_over_them_what_it_read() {
        let (disk, a, b) = (Disk::new(), pod("a"), pod("b"));
        let (mut at_a, mut at_b) = (Documents::read(&disk, &a), Documents::read(&disk, &b));
        assert_eq!(at_a.replace(&disk, &a, "branding", &json!({"CustomCss": "a"})), Ok(()));
        assert_eq!(at_b.get("branding").map(|branding| branding["CustomCss"].clone()), Some(Value::Null));
        assert_eq!(Documents::read(&disk, &b).get("branding").map(|it| it["CustomCss"].clone()), Some(json!("a")));
        assert_eq!(at_b.replace(&disk, &b, "branding", &json!({"LoginDisclaimer": "b"})), Ok(()));
        assert_eq!(Documents::read(&disk, &a).get("branding").map(|it| it["CustomCss"].clone()), Some(Value::Null));
    }
}
