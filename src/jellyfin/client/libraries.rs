//! Libraries, which are folders of each pod, and the scan that looks through them.

use std::time::Duration;

use bytes::Bytes;
use http::{StatusCode, header};
use serde_json::{Value, json};

use super::{ApiCall, ApiResponse, encoded, field, status};
use crate::jellyfin::libraries::{self, Library, Step};

/// A pod waits a second or more after each change, for its watchers of folders.
const PATIENCE: Duration = Duration::from_secs(30);

/// Longest time for the question whether a pod writes. A pod that has just started, or has too little
/// processor time, takes seconds for any answer.
const LONGEST_QUESTION: Duration = Duration::from_secs(10);

/// A pod's libraries.
pub fn list(key: &str) -> ApiCall<Vec<Library>> {
    let read = |response: ApiResponse| libraries::read(&response.success().ok()?);
    ApiCall::get("/Library/VirtualFolders", read).with_token(key)
}

/// Carries out one step, without a scan.
pub fn carry_out(step: &Step<'_>, key: &str) -> ApiCall<StatusCode> {
    const FOLDERS: &str = "/Library/VirtualFolders";
    let post = |target: String, body: Value| ApiCall::post(target, status).with_body(Bytes::from(body.to_string()));
    let call = match step {
        Step::Add(Library { name, kind, options, .. }) => {
            let kind = kind.as_deref().map_or(String::new(), |kind| format!("&collectionType={}", encoded(kind)));
            let target = format!("{FOLDERS}?name={}{kind}&refreshLibrary=false", encoded(name));
            post(target, json!({"LibraryOptions": options}))
        }
        Step::Remove(name) => ApiCall::delete(format!("{FOLDERS}?name={}&refreshLibrary=false", encoded(name)), status),
        Step::Rename { from, to } => {
            let target = format!("{FOLDERS}/Name?name={}&newName={}&refreshLibrary=false", encoded(from), encoded(to));
            ApiCall::post(target, status)
        }
        Step::AddPath { library, path } => {
            let body = json!({"Name": library, "PathInfo": {"Path": path}});
            post(format!("{FOLDERS}/Paths?refreshLibrary=false"), body)
        }
        Step::RemovePath { library, path } => {
            let (name, path) = (encoded(library), encoded(path));
            ApiCall::delete(format!("{FOLDERS}/Paths?name={name}&path={path}&refreshLibrary=false"), status)
        }
        Step::SetOptions { id, options } | Step::Touch { id, options } => {
            post(format!("{FOLDERS}/LibraryOptions"), json!({"Id": id, "LibraryOptions": options}))
        }
    };
    call.with_token(key).within(PATIENCE)
}

/// Whether a pod scans its libraries now.
pub fn is_scanning(key: &str) -> ApiCall<bool> {
    let read = |response: ApiResponse| {
        let json = response.success().ok()?;
        let is_scan = |task: &&Value| field(task, "Key").is_some_and(|key| key == "RefreshLibrary");
        let scan = json.as_array()?.iter().find(is_scan)?;
        Some(field(scan, "State").is_some_and(|state| state != "Idle"))
    };
    ApiCall::get("/ScheduledTasks", read).with_token(key)
}

/// Whether a pod writes the catalogue, by a change of no folder at all. A pod that leaves it to
/// another answers 503; so does a starting one, but with a page or a `Retry-After`.
pub fn may_write(key: &str) -> ApiCall<bool> {
    let read = |response: ApiResponse| {
        let kind = response.headers.get(header::CONTENT_TYPE).map_or(&b""[..], |kind| kind.as_bytes());
        let is_json = kind.starts_with(b"application/");
        match response.status {
            StatusCode::NO_CONTENT => Some(true),
            StatusCode::SERVICE_UNAVAILABLE if is_json && !response.headers.contains_key(header::RETRY_AFTER) => {
                Some(false)
            }
            _ => None,
        }
    };
    let none = Bytes::from_static(br#"{"Updates":[]}"#);
    ApiCall::post("/Library/Media/Updated", read).with_token(key).with_body(none).within(LONGEST_QUESTION)
}

/// Starts a scan of all libraries.
pub fn scan(key: &str) -> ApiCall<StatusCode> {
    ApiCall::post("/Library/Refresh", status).with_token(key)
}
