//! Users: whose a token is, and what changes of a user end sessions.

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};

use super::{ApiCall, ApiResponse, encoded, field, text};
use crate::jellyfin::{authorization::Device, session_list::Viewer};

/// The longest list of users, in bytes. One takes some 2 KiB.
const LONGEST_LIST: usize = 16 << 20;

/// A pod's answer about a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenStatus {
    /// The pod knows the token. An API key has no user.
    Known {
        user: Option<String>,
        /// The user's name.
        name: Option<String>,
        is_administrator: bool,
    },
    Unknown,
}

/// Whose token this is. A pod fails once at a token whose row another pod has deleted.
pub fn who_am_i(token: &str) -> ApiCall<TokenStatus> {
    ApiCall::get("/Users/Me", token_status).with_token(token).repeated_once()
}

/// Who asks for a list of sessions. `None` if the pod does not say.
pub fn viewer(token: &str) -> ApiCall<Viewer> {
    let read = |response: ApiResponse| match response.status {
        StatusCode::OK => Viewer::of_user(&response.json()),
        // An API key has no user.
        StatusCode::BAD_REQUEST => Some(Viewer::Key),
        _ => None,
    };
    ApiCall::get("/Users/Me", read).with_token(token).repeated_once()
}

fn token_status(response: ApiResponse) -> Option<TokenStatus> {
    match response.status {
        StatusCode::OK => {
            let me = response.json();
            let is_administrator = field(&me, "Policy").and_then(|policy| field(policy, "IsAdministrator"));
            let is_administrator = is_administrator == Some(&true.into());
            Some(TokenStatus::Known { user: text(&me, "Id"), name: text(&me, "Name"), is_administrator })
        }
        StatusCode::UNAUTHORIZED => Some(TokenStatus::Unknown),
        // An API key has no user; or the user may not sign in now or from there.
        StatusCode::BAD_REQUEST | StatusCode::FORBIDDEN => {
            Some(TokenStatus::Known { user: None, name: None, is_administrator: false })
        }
        _ => None,
    }
}

/// A user, as the list of users has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedUser {
    pub id: String,
    pub is_administrator: bool,
    pub is_disabled: bool,
}

impl ListedUser {
    fn read(json: &Value) -> Option<ListedUser> {
        let has = |right: &str| field(json, "Policy").and_then(|policy| field(policy, right)) == Some(&true.into());
        let (is_administrator, is_disabled) = (has("IsAdministrator"), has("IsDisabled"));
        Some(ListedUser { id: text(json, "Id")?, is_administrator, is_disabled })
    }
}

/// One user; `None` if there is none.
pub fn one(id: &str, key: &str) -> ApiCall<Option<ListedUser>> {
    let read = |response: ApiResponse| match response.success() {
        Ok(json) => ListedUser::read(&json).map(Some),
        Err(StatusCode::NOT_FOUND | StatusCode::BAD_REQUEST) => Some(None),
        Err(_) => None,
    };
    ApiCall::get(format!("/Users/{}", encoded(id)), read).with_token(key)
}

/// All users.
pub fn list(key: &str) -> ApiCall<Vec<ListedUser>> {
    let read = |response: ApiResponse| {
        let json = response.success().ok()?;
        Some(json.as_array()?.iter().filter_map(ListedUser::read).collect())
    };
    ApiCall::get("/Users", read).with_token(key).up_to(LONGEST_LIST)
}

/// The names and ids of all users.
pub fn names(key: &str) -> ApiCall<Vec<(String, String)>> {
    let read = |response: ApiResponse| {
        let users = response.success().ok()?;
        let named = |user: &Value| Some((text(user, "Name")?, text(user, "Id")?));
        Some(users.as_array()?.iter().filter_map(named).collect())
    };
    ApiCall::get("/Users", read).with_token(key).up_to(LONGEST_LIST)
}

/// A user, as a pod that has users of its own has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedUser {
    pub name: String,
    pub id: String,
    pub is_disabled: bool,
}

/// The names and ids of all users, and who is disabled.
pub fn standings(key: &str) -> ApiCall<Vec<NamedUser>> {
    let read = |response: ApiResponse| {
        let users = response.success().ok()?;
        let named = |user: &Value| {
            let is_disabled = field(user, "Policy").and_then(|policy| field(policy, "IsDisabled"));
            let is_disabled = is_disabled == Some(&true.into());
            Some(NamedUser { name: text(user, "Name")?, id: text(user, "Id")?, is_disabled })
        };
        Some(users.as_array()?.iter().filter_map(named).collect())
    };
    ApiCall::get("/Users", read).with_token(key).up_to(LONGEST_LIST)
}

/// A pod's answer to a name and a password.
#[derive(Clone, PartialEq, Eq)]
pub enum PasswordCheck {
    /// Both are right. The pod has made a session, which is to be ended by its token.
    Right {
        id: String,
        name: String,
        is_administrator: bool,
        token: String,
    },
    Refused,
}

/// Signs in to find out whether a password is right.
pub fn check_password(name: &str, password: &str) -> ApiCall<PasswordCheck> {
    let read = |response: ApiResponse| match response.status {
        StatusCode::OK => {
            let answer = response.json();
            let user = field(&answer, "User")?;
            let is_administrator = field(user, "Policy").and_then(|policy| field(policy, "IsAdministrator"));
            Some(PasswordCheck::Right {
                id: text(user, "Id")?,
                name: text(user, "Name")?,
                is_administrator: is_administrator == Some(&true.into()),
                token: text(&answer, "AccessToken")?,
            })
        }
        // 403: the user is disabled, or may not sign in now or from there.
        StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Some(PasswordCheck::Refused),
        _ => None,
    };
    let body = json!({"Username": name, "Pw": password}).to_string();
    ApiCall::post("/Users/AuthenticateByName", read).as_device(&sign_in_device(), None).with_body(body.into())
}

/// The device of a password's check. A pod keeps one session for each user on it, and it is ended.
fn sign_in_device() -> Device {
    Device {
        client: "jellypin".into(),
        name: "jellypin sign-in".into(),
        id: "jellypin-sign-in".into(),
        version: env!("CARGO_PKG_VERSION").into(),
    }
}

/// Changes a user's password. `body` is that of the user's own request.
pub fn change_password(user: &str, body: Bytes) -> ApiCall<ApiResponse> {
    ApiCall::post(format!("/Users/Password?userId={user}"), Some).with_body(body)
}

/// The password change as a client sends it that already knows the new password. It has
/// `CurrentPw`, `NewPw` and `ResetPassword`, and nothing else. `None` if the body is ambiguous.
pub fn repeated_password_change(body: &[u8]) -> Option<Bytes> {
    let json: Value = serde_json::from_slice(body).ok()?;
    let new = only(&json, "NewPw")?;
    let reset = only(&json, "ResetPassword")?;
    Some(Bytes::from(json!({"CurrentPw": new, "NewPw": new, "ResetPassword": reset == true}).to_string()))
}

/// Whether the request resets a password, in the only reading of it. The server ends no session
/// then (`UserController.UpdateUserPassword`).
pub fn resets_password(body: &[u8]) -> bool {
    let json = serde_json::from_slice::<Value>(body).ok();
    json.as_ref().and_then(|json| only(json, "ResetPassword")).is_some_and(|reset| *reset == true)
}

/// A field by its name in any case: null if it is missing, `None` if it occurs twice.
fn only<'a>(json: &'a Value, name: &str) -> Option<&'a Value> {
    let mut named = json.as_object()?.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value);
    let first = named.next().unwrap_or(&Value::Null);
    named.next().is_none().then_some(first)
}

/// Whether a policy disables its user, in any reading of it.
pub fn disables(policy: &[u8]) -> bool {
    let Ok(Value::Object(policy)) = serde_json::from_slice(policy) else { return false };
    policy.iter().any(|(key, value)| key.eq_ignore_ascii_case("IsDisabled") && *value == true)
}
