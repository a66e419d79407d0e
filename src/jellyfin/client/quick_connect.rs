//! QuickConnect: three calls that make a session for a user and device without a password.

use bytes::Bytes;
use http::StatusCode;
use serde_json::json;

use super::{ApiCall, ApiResponse, field, status, text};
use crate::jellyfin::authorization::Device;

/// A code for the user, and the secret that fetches the log-in.
#[derive(Clone, PartialEq, Eq)]
pub struct Initiated {
    pub code: String,
    pub secret: String,
}

/// The log-in that a secret gives.
#[derive(Clone, PartialEq, Eq)]
pub struct LogIn {
    pub token: Option<String>,
    pub user: Option<String>,
}

/// Whether the server's administrator allows QuickConnect.
pub fn is_enabled() -> ApiCall<bool> {
    ApiCall::get("/QuickConnect/Enabled", |response| {
        (response.status == StatusCode::OK).then(|| response.json() == true)
    })
}

/// Begins a log-in of a device. It must not carry the API key, or the session would get the key's
/// name. `Ok(None)`: the pod gave no code.
pub fn initiate(device: &Device) -> ApiCall<Result<Option<Initiated>, StatusCode>> {
    let read = |response: ApiResponse| {
        let codes = |json| Some(Initiated { code: text(&json, "Code")?, secret: text(&json, "Secret")? });
        Some(response.success().map(codes))
    };
    ApiCall::post("/QuickConnect/Initiate", read).as_device(device, None)
}

/// Whether this pod has given out the secret. Other pods do not know of it.
pub fn knows(secret: &str) -> ApiCall<bool> {
    let read = |response: ApiResponse| Some(response.status == StatusCode::OK);
    ApiCall::get(format!("/QuickConnect/Connect?secret={secret}"), read)
}

/// Approves a code for a user. Only an API key or the user may do that.
pub fn authorize(code: &str, user: &str, key: &str) -> ApiCall<StatusCode> {
    ApiCall::post(format!("/QuickConnect/Authorize?code={code}&userId={user}"), status).with_token(key)
}

/// Fetches the log-in of an approved code.
pub fn authenticate(secret: &str) -> ApiCall<Result<LogIn, StatusCode>> {
    let read = |response: ApiResponse| {
        let log_in = |json| {
            let user = field(&json, "User").and_then(|user| text(user, "Id"));
            LogIn { token: text(&json, "AccessToken"), user }
        };
        Some(response.success().map(log_in))
    };
    let body = Bytes::from(json!({"Secret": secret}).to_string());
    ApiCall::post("/Users/AuthenticateWithQuickConnect", read).with_body(body)
}
