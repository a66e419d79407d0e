//! The data transfer objects of users and of the server.

use serde_json::{Value, json};

use crate::clock;
use crate::cluster::User;
use crate::generation::Generation;
use crate::pod::Shared;

/// `UserDto`.
pub(crate) fn user(user: &User, server_id: &str) -> Value {
    let mut dto = json!({
        "Name": user.name,
        "ServerId": server_id,
        "Id": user.id,
        "HasPassword": true,
        "HasConfiguredPassword": true,
        "HasConfiguredEasyPassword": false,
        "EnableAutoLogin": false,
        "LastActivityDate": clock::now(),
        "Configuration": configuration(),
        "Policy": policy(user),
    });
    if let Some(picture) = &user.picture {
        dto["PrimaryImageTag"] = json!(picture.tag);
    }
    if let Some(time) = &user.last_log_in {
        dto["LastLoginDate"] = json!(time);
    }
    dto
}

fn configuration() -> Value {
    json!({
        "PlayDefaultAudioTrack": true,
        "SubtitleLanguagePreference": "",
        "DisplayMissingEpisodes": false,
        "GroupedFolders": [],
        "SubtitleMode": "Default",
        "DisplayCollectionsView": false,
        "EnableLocalPassword": false,
        "OrderedViews": [],
        "LatestItemsExcludes": [],
        "MyMediaExcludes": [],
        "HidePlayedInLatest": true,
        "RememberAudioSelections": true,
        "RememberSubtitleSelections": true,
        "EnableNextEpisodeAutoPlay": true,
        "CastReceiverId": "F007D354",
    })
}

fn policy(user: &User) -> Value {
    let administrator = user.administrator;
    let mut policy = json!({
        "IsAdministrator": administrator,
        "IsHidden": true,
        "EnableCollectionManagement": false,
        "EnableSubtitleManagement": false,
        "EnableLyricManagement": false,
        "IsDisabled": user.disabled,
        "EnableUserPreferenceAccess": true,
        "EnableRemoteControlOfOtherUsers": user.controls_others,
        "EnableSharedDeviceControl": user.controls_shared,
        "EnableRemoteAccess": true,
        "EnableLiveTvManagement": administrator,
        "EnableLiveTvAccess": true,
        "EnableMediaPlayback": true,
        "EnableAudioPlaybackTranscoding": true,
        "EnableVideoPlaybackTranscoding": true,
        "EnablePlaybackRemuxing": true,
        "ForceRemoteSourceTranscoding": false,
        "EnableContentDeletion": administrator || user.deletes_content,
        "EnableContentDownloading": true,
        "EnableSyncTranscoding": true,
        "EnableMediaConversion": true,
        "EnableAllDevices": user.only_devices.is_none(),
        "EnableAllChannels": true,
        "EnableAllFolders": user.all_folders,
        "InvalidLoginAttemptCount": user.invalid_log_ins,
        "LoginAttemptsBeforeLockout": -1,
        "MaxActiveSessions": user.most_sessions,
        "EnablePublicSharing": true,
        "RemoteClientBitrateLimit": 0,
        "AuthenticationProviderId": "Jellyfin.Server.Implementations.Users.DefaultAuthenticationProvider",
        "PasswordResetProviderId": "Jellyfin.Server.Implementations.Users.DefaultPasswordResetProvider",
        "SyncPlayAccess": "CreateAndJoinGroups",
    });
    for list in [
        "BlockedTags",
        "AllowedTags",
        "AccessSchedules",
        "BlockUnratedItems",
        "EnableContentDeletionFromFolders",
        "EnabledDevices",
        "EnabledChannels",
        "EnabledFolders",
        "BlockedMediaFolders",
        "BlockedChannels",
    ] {
        policy[list] = json!([]);
    }
    if let Some(devices) = &user.only_devices {
        policy["EnabledDevices"] = json!(devices);
    }
    policy
}

/// `PublicSystemInfo`.
pub(crate) fn public_info(shared: &Shared) -> Value {
    json!({
        "LocalAddress": format!("http://{}{}", shared.address(), shared.settings.base_url),
        "ServerName": shared.documents().system("ServerName").unwrap_or("Home"),
        "Version": shared.settings.generation.version(),
        "ProductName": "Jellyfin Server",
        "OperatingSystem": "",
        "Id": shared.settings.server_id,
        "StartupWizardCompleted": !shared.settings.wizard_undone,
    })
}

/// `SystemInfo`.
pub(crate) fn info(shared: &Shared) -> Value {
    let mut info = public_info(shared);
    let (root, web) = match shared.settings.generation {
        Generation::V12 => ("/jellyfin/", "/jellyfin/web/dist"),
        Generation::V10_11 => ("/jellyfin", "/jellyfin/jellyfin-web"),
    };
    let paths = [
        ("ProgramDataPath", "data"),
        ("ItemsByNamePath", "data/metadata"),
        ("CachePath", "cache"),
        ("LogPath", "log"),
        ("InternalMetadataPath", "data/metadata"),
        ("TranscodingTempPath", "cache/transcodes"),
    ];
    for (name, path) in paths {
        info[name] = json!(format!("{root}/{path}"));
    }
    info["WebPath"] = json!(web);
    let rest = json!({
        "OperatingSystemDisplayName": "",
        "HasPendingRestart": false,
        "IsShuttingDown": false,
        "SupportsLibraryMonitor": true,
        "WebSocketPortNumber": shared.address().port(),
        "CompletedInstallations": [],
        "CanSelfRestart": true,
        "CanLaunchWebBrowser": false,
        "CastReceiverApplications": [{"Id": "F007D354", "Name": "Stable"}, {"Id": "6F511C87", "Name": "Unstable"}],
        "HasUpdateAvailable": false,
        "EncoderLocation": "System",
        "SystemArchitecture": "X64",
    });
    for (name, value) in rest.as_object().into_iter().flatten() {
        info[name] = value.clone();
    }
    info
}
