//! The plug-in for single sign-on (`9p4/jellyfin-plugin-sso`): what it has begun is in the memory of one process.
//!
//! OpenID: `start` makes a state and sends the browser to the provider; the provider sends it back with the state and a code, to a
//! page whose script posts the state to `Auth` and gets the `AuthenticationResult`. SAML keeps no state: all that is needed
//! comes with the provider's answer. The provider itself is not here: its code is the name of the user who has signed in there.

use std::collections::HashMap;

use http::StatusCode;
use serde_json::{Value, json};

use crate::answer::Answer;
use crate::call::Call;
use crate::devices::Client;
use crate::endpoints::users;
use crate::identifiers::{hex, random_bytes};
use crate::query::Query;

/// The one provider that is configured.
const PROVIDER: &str = "idp";

/// The flows that have begun, by state.
#[derive(Debug, Default)]
pub(crate) struct SingleSignOn {
    states: HashMap<String, Option<String>>,
}

/// The plug-in is not installed, or knows no such provider.
fn refused(call: &Call, status: StatusCode) -> Option<Answer> {
    if !call.settings().single_sign_on {
        return Some(Answer::empty(StatusCode::NOT_FOUND));
    }
    let known = call.captured(0).eq_ignore_ascii_case(PROVIDER);
    (!known).then(|| match status {
        // An `ArgumentException`.
        StatusCode::INTERNAL_SERVER_ERROR => Answer::error(StatusCode::BAD_REQUEST),
        status => Answer::json_with(status, &json!("No matching provider found")),
    })
}

/// `GET /sso/OID/start/{provider}`, and `p` of old.
pub(crate) fn start(call: &Call) -> Answer {
    if let Some(refusal) = refused(call, StatusCode::INTERNAL_SERVER_ERROR) {
        return refusal;
    }
    let state = hex(&random_bytes::<16>());
    call.life().memory().single_sign_on.states.insert(state.clone(), None);
    let back = if call.path.to_ascii_lowercase().contains("/start/") { "redirect" } else { "r" };
    let host = call.header("host").unwrap_or_default();
    let to = format!(
        "https://idp.example/authorize?response_type=code&nonce={}&state={state}&redirect_uri=http%3A%2F%2F{host}%2Fsso%2FOID%2F{back}%2F{PROVIDER}",
        hex(&random_bytes::<16>())
    );
    Answer::empty(StatusCode::FOUND).with("location", &to)
}

/// `GET /sso/OID/redirect/{provider}?state=&code=`: a state that is not there is an exception that nobody catches.
pub(crate) fn come_back(call: &Call) -> Answer {
    if let Some(refusal) = refused(call, StatusCode::BAD_REQUEST) {
        return refusal;
    }
    let Some(state) = call.query.get("state") else { return Answer::error(StatusCode::BAD_REQUEST) };
    let mut memory = call.life().memory();
    let Some(user) = memory.single_sign_on.states.get_mut(&state) else {
        return Answer::error(StatusCode::INTERNAL_SERVER_ERROR);
    };
    let Some(code) = call.query.get("code") else {
        return Answer::text(StatusCode::BAD_REQUEST, "text/plain", "access_denied Try logging in again.");
    };
    *user = Some(code);
    page(&state)
}

/// `POST /sso/OID/Auth/{provider}`.
pub(crate) fn log_in(call: &Call) -> Answer {
    if let Some(refusal) = refused(call, StatusCode::BAD_REQUEST) {
        return refusal;
    }
    let user = call.life().memory().single_sign_on.states.get(&data(call)).cloned().flatten();
    match user {
        Some(user) => log_in_as(call, &user),
        None => Answer::problem(StatusCode::INTERNAL_SERVER_ERROR),
    }
}

/// `GET /sso/OID/States`.
pub(crate) fn states(call: &Call) -> Answer {
    let memory = call.life().memory();
    let states = &memory.single_sign_on.states;
    Answer::json(&states.iter().map(|(state, user)| (state.clone(), json!({"Username": user}))).collect::<Value>())
}

/// `GET /sso/OID/GetNames`.
pub(crate) fn names(_: &Call) -> Answer {
    Answer::json(&json!([PROVIDER]))
}

/// `GET /sso/SAML/start/{provider}`, and `p` of old.
pub(crate) fn start_saml(call: &Call) -> Answer {
    if let Some(refusal) = refused(call, StatusCode::INTERNAL_SERVER_ERROR) {
        return refusal;
    }
    Answer::empty(StatusCode::FOUND).with("location", "https://idp.example/saml?SAMLRequest=none")
}

/// `POST /sso/SAML/post/{provider}`, and `p` of old, with a form.
pub(crate) fn come_back_saml(call: &Call) -> Answer {
    if let Some(refusal) = refused(call, StatusCode::BAD_REQUEST) {
        return refusal;
    }
    match Query::parse(&String::from_utf8_lossy(&call.body)).get("SAMLResponse") {
        Some(response) => page(&response),
        None => Answer::error(StatusCode::BAD_REQUEST),
    }
}

/// `POST /sso/SAML/Auth/{provider}`.
pub(crate) fn log_in_saml(call: &Call) -> Answer {
    match refused(call, StatusCode::BAD_REQUEST) {
        Some(refusal) => refusal,
        None => log_in_as(call, &data(call)),
    }
}

/// `POST /sso/OID/Link/{provider}/{user}`: by the user's own token, and the state of a flow that has come back.
pub(crate) fn link(call: &Call) -> Answer {
    if let Some(refusal) = refused(call, StatusCode::BAD_REQUEST) {
        return refusal;
    }
    let is_own = call.user().is_some_and(|user| user.id == call.guid(1));
    if !is_own && !call.is_administrator() {
        return Answer::empty(StatusCode::FORBIDDEN);
    }
    let known = call.life().memory().single_sign_on.states.get(&data(call)).is_some_and(Option::is_some);
    if known { Answer::no_content() } else { Answer::problem(StatusCode::INTERNAL_SERVER_ERROR) }
}

fn data(call: &Call) -> String {
    call.property("data").and_then(|data| data.as_str().map(str::to_owned)).unwrap_or_default()
}

fn page(data: &str) -> Answer {
    let text = format!("<!DOCTYPE html><html><script>var data = '{data}';</script></html>");
    Answer::text(StatusCode::OK, "text/html", text).with("cache-control", "no-store,no-cache")
}

fn log_in_as(call: &Call, user: &str) -> Answer {
    let text = |name| call.property(name).and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default();
    let client = Client {
        client: text("appName"),
        device: text("deviceName"),
        device_id: text("deviceId"),
        version: text("appVersion"),
    };
    let user = call.life().shared.cluster.read(|database| database.user_by_name(user).map(|user| user.id.clone()));
    let Some(user) = user else { return Answer::error(StatusCode::INTERNAL_SERVER_ERROR) };
    Answer::json(&users::new_session(call, &user, &client, &call.remote()))
}
