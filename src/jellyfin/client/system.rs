//! The server itself: its health, who it is, and what a key may do there.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{StatusCode, header};

use super::{ApiCall, ApiResponse, text};

/// The path of a pod's health, below the BaseUrl. Its answer is plain text.
pub const HEALTH: &str = "/health";

/// The path of a question that needs no database, below the BaseUrl.
pub const PING: &str = "/System/Ping";

/// What a pod says of itself to anybody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublicInfo {
    Known(ServerInfo),
    /// The pod is still starting, or has lost its database.
    Starting,
    /// Another program answers, or Jellyfin does under another path.
    Other {
        status: StatusCode,
        location: Option<String>,
    },
}

/// A server's id, version and name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerInfo {
    pub id: String,
    pub version: String,
    /// Empty until the server is set up.
    pub name: String,
    /// Whether its set-up wizard was completed, as it believes.
    pub is_set_up: Option<bool>,
}

/// Who the server is.
pub fn public_info() -> ApiCall<PublicInfo> {
    ApiCall::get("/System/Info/Public", |response| {
        let json = response.json();
        Some(match (response.status, text(&json, "Id"), text(&json, "Version")) {
            (StatusCode::OK, Some(id), Some(version)) => {
                let name = text(&json, "ServerName").unwrap_or_default();
                let is_set_up = super::field(&json, "StartupWizardCompleted").and_then(serde_json::Value::as_bool);
                PublicInfo::Known(ServerInfo { id, version, name, is_set_up })
            }
            (StatusCode::SERVICE_UNAVAILABLE, ..) => PublicInfo::Starting,
            (status, ..) => {
                let location = response.headers.get(header::LOCATION).and_then(|to| to.to_str().ok());
                PublicInfo::Other { status, location: location.map(str::to_owned) }
            }
        })
    })
}

/// Whether the pod's own check of itself is good.
pub fn is_healthy() -> ApiCall<bool> {
    ApiCall::get(HEALTH, |response| Some(response.status == StatusCode::OK && response.body.trim_ascii() == b"Healthy"))
}

/// What the pod's clock says.
pub fn clock() -> ApiCall<SystemTime> {
    ApiCall::get(PING, |response| httpdate::parse_http_date(response.headers.get(header::DATE)?.to_str().ok()?).ok())
}

/// Whether the pod accepts this token or key.
pub fn accepts(token: &str) -> ApiCall<bool> {
    let read = |response: ApiResponse| match response.status {
        StatusCode::OK => Some(true),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Some(false),
        _ => None,
    };
    ApiCall::get("/System/Info", read).with_token(token)
}

/// Whether the pod takes the client for one of its own network.
pub fn is_local(token: &str) -> ApiCall<bool> {
    let read = |response: ApiResponse| {
        (response.status == StatusCode::OK).then(|| super::field(&response.json(), "IsInNetwork") == Some(&true.into()))
    };
    ApiCall::get("/System/Endpoint", read).with_token(token)
}

/// Whether the pod grants this key administrator rights. The activity log demands them.
pub fn may_administer(token: &str) -> ApiCall<bool> {
    let read = |response: ApiResponse| Some(response.status == StatusCode::OK);
    ApiCall::get("/System/ActivityLog/Entries?limit=1", read).with_token(token)
}

/// The id of the newest entry of the activity log; nothing stands in an empty one.
pub fn newest_activity(key: &str) -> ApiCall<Bytes> {
    let read = |response: ApiResponse| {
        let page = response.success().ok()?;
        let newest = super::field(&page, "Items")?.as_array()?.first().and_then(|entry| super::field(entry, "Id"));
        Some(newest.map_or_else(Bytes::new, |id| id.to_string().into()))
    };
    ApiCall::get("/System/ActivityLog/Entries?limit=1", read).with_token(key)
}

/// The tasks that administrators see, as the pod writes them.
pub fn tasks(key: &str) -> ApiCall<Bytes> {
    let read = |response: ApiResponse| {
        response.success().ok().filter(serde_json::Value::is_array)?;
        Some(response.body)
    };
    ApiCall::get("/ScheduledTasks?isHidden=false", read).with_token(key)
}
/// Restarts the pod.
pub fn restart(key: &str) -> ApiCall<StatusCode> {
    ApiCall::post("/System/Restart", super::status).with_token(key)
}

/// What clients ask first, for a pod whose code has not run yet.
pub fn first_requests(key: &str) -> Vec<ApiCall<StatusCode>> {
    const FIRST: [&str; 7] = [
        "/System/Info",
        "/Users",
        "/Branding/Configuration",
        "/Library/VirtualFolders",
        "/Items?Recursive=true&Limit=1&Fields=MediaSources",
        "/Sessions",
        "/SyncPlay/List",
    ];
    FIRST.iter().map(|target| ApiCall::get(*target, super::status).with_token(key).within(COLD)).collect()
}

/// Longest time for the first answer of a kind.
const COLD: Duration = Duration::from_secs(20);
