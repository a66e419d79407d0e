//! Users: log-in, the users' own data, and what ends their tokens.

use http::StatusCode;
use serde_json::{Value, json};

use crate::answer::Answer;
use crate::call::{Call, property};
use crate::clock;
use crate::cluster::User;
use crate::devices::{Client, Ended};
use crate::dto;
use crate::generation::Generation;
use crate::identifiers::plain;
use crate::mint_times::Code;

/// `POST /Users/AuthenticateByName`.
pub(crate) fn log_in(call: &Call) -> Answer {
    let text = |name| call.property(name).and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default();
    let user = call.life().shared.cluster.read(|database| database.user_by_name(&text("Username")).cloned());
    log_in_as(call, user, &text("Pw"))
}

/// `POST /Users/{id}/Authenticate?pw=`.
pub(crate) fn log_in_by_id(call: &Call) -> Answer {
    let user = call.life().shared.cluster.read(|database| database.user(&call.guid(0)).cloned());
    if user.is_none() {
        return Answer::json_with(StatusCode::NOT_FOUND, &json!("User not found"));
    }
    log_in_as(call, user, &call.query.get("pw").unwrap_or_default())
}

fn log_in_as(call: &Call, user: Option<User>, password: &str) -> Answer {
    let cluster = &call.life().shared.cluster;
    let Some(client) = Client::of(&call.given) else {
        return Answer::error(StatusCode::BAD_REQUEST);
    };
    let Some(user) = user else {
        return Answer::error(StatusCode::UNAUTHORIZED);
    };
    if user.password != password {
        cluster.change(|database| {
            if let Some(user) = database.user_mut(&user.id) {
                user.invalid_log_ins += 1;
            }
        });
        return Answer::error(StatusCode::UNAUTHORIZED);
    }
    if user.disabled || !may_sign_in(call, &user, &client) {
        return Answer::error(StatusCode::FORBIDDEN);
    }
    let note = |how: fn(&mut User)| cluster.change(|database| database.user_mut(&user.id).map(how));
    cluster.change(|database| {
        if let Some(user) = database.user_mut(&user.id) {
            user.last_log_in = Some(clock::now());
        }
    });
    let name = format!("{} successfully authenticated", user.name);
    call.life().write_activity("AuthenticationSucceeded", name, &user.id, None);
    let result = new_session(call, &user.id, &client, &call.remote());
    // The answer still shows the failures before it.
    if user.invalid_log_ins > 0 {
        note(|user| user.invalid_log_ins = 0);
    }
    Answer::json(&result)
}

/// What `AuthenticateNewSessionInternal` checks of every log-in: whether the user may use the device
/// (`DeviceManager.CanAccessDevice`), and has not too many sessions on this pod.
pub(crate) fn may_sign_in(call: &Call, user: &User, client: &Client) -> bool {
    let memory = call.life().memory();
    let is_lasting = |capabilities: &Value| capabilities["SupportsPersistentIdentifier"] != false;
    let is_kept_out =
        !user.may_use_device(&client.device_id) && memory.capabilities.get(&client.device_id).is_none_or(is_lasting);
    let sessions = memory.sessions.all().into_iter().filter(|session| session.user_id == user.id).count();
    !is_kept_out && (user.most_sessions < 1 || (sessions as i64) < user.most_sessions)
}

/// `AuthenticateDirect`: ends the device's older tokens that this pod knows, mints a new one and makes the session. Gives
/// the `AuthenticationResult`, `Null` for a user who is not there.
pub(crate) fn new_session(call: &Call, user_id: &str, client: &Client, remote: &str) -> Value {
    let cluster = &call.life().shared.cluster;
    let settings = call.settings();
    let Some(user) = cluster.read(|database| database.user(user_id).cloned()) else {
        return Value::Null;
    };
    call.run(Code::Session);
    let mut guard = call.life().memory();
    let memory = &mut *guard;
    let old = memory.devices.find(|row| row.device_id == client.device_id && row.user_id == user_id);
    if !old.is_empty() {
        // A row that another pod has deleted does not keep 10.11 from minting: it catches the exception here.
        memory.devices.end(cluster, &old, Generation::V12);
        for session in memory.sessions.end_device(&client.device_id) {
            memory.sync_play.session_ended(&memory.sessions, &session);
        }
    }
    let row = memory.devices.create(cluster, user_id, client);
    let capabilities = memory.capabilities.get(&client.device_id).cloned();
    let session = memory.sessions.touch((&user.id, &user.name), client, remote, capabilities);
    let session = session.dto(settings);
    json!({
        "User": dto::user(&user, &settings.server_id),
        "SessionInfo": session,
        "AccessToken": row.token,
        "ServerId": settings.server_id,
    })
}

pub(crate) fn me(call: &Call) -> Answer {
    match call.user() {
        Some(user) => Answer::json(&dto::user(user, &call.settings().server_id)),
        None => Answer::error(StatusCode::BAD_REQUEST),
    }
}

/// Nobody is shown on the log-in page: every user is hidden.
pub(crate) fn public(_: &Call) -> Answer {
    Answer::json(&json!([]))
}

pub(crate) fn list(call: &Call) -> Answer {
    let users = call.life().shared.cluster.read(|database| database.users.clone());
    Answer::json(&users.iter().map(|user| dto::user(user, &call.settings().server_id)).collect())
}

pub(crate) fn one(call: &Call) -> Answer {
    match call.life().shared.cluster.read(|database| database.user(&call.guid(0)).cloned()) {
        Some(user) => Answer::json(&dto::user(&user, &call.settings().server_id)),
        None => Answer::json_with(StatusCode::NOT_FOUND, &json!("User not found")),
    }
}

/// `POST /Users/New`.
pub(crate) fn create(call: &Call) -> Answer {
    let text = |name| call.property(name).and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default();
    let name = text("Name");
    let user = call.life().shared.cluster.change(|database| {
        if name.is_empty() || database.user_by_name(&name).is_some() {
            return None;
        }
        let user = User::new(&name, &text("Password"), false);
        database.users.push(user.clone());
        Some(user)
    });
    match user {
        Some(user) => Answer::json(&dto::user(&user, &call.settings().server_id)),
        None => Answer::error(StatusCode::BAD_REQUEST),
    }
}

/// `POST /Users?userId=` and `POST /Users/{id}` (`UpdateUser`): users may rename themselves, administrators anybody.
pub(crate) fn update(call: &Call) -> Answer {
    let named = call.captured.first().cloned().or_else(|| call.query.get("userId"));
    if let Some(named) = named.as_ref().filter(|named| plain(named).is_none()) {
        return Answer::invalid("userId", named);
    }
    let own = call.user().map(|user| user.id.clone());
    let id = named.and_then(|id| plain(&id)).or_else(|| own.clone()).unwrap_or_default();
    let Some(before) = call.life().shared.cluster.read(|database| database.user(&id).map(|user| user.name.clone()))
    else {
        return Answer::problem(StatusCode::NOT_FOUND);
    };
    if own.as_ref() != Some(&id) && !call.is_administrator() {
        return Answer::json_with(StatusCode::FORBIDDEN, &json!("User update not allowed."));
    }
    let Some(name) = call.property("Name").and_then(|name| name.as_str().map(str::to_owned)) else {
        return Answer::problem(StatusCode::BAD_REQUEST);
    };
    let is_taken = call.life().shared.cluster.change(|database| {
        let is_taken = !name.eq_ignore_ascii_case(&before) && database.user_by_name(&name).is_some();
        if let Some(user) = database.user_mut(&id).filter(|_| !is_taken) {
            user.name = name;
        }
        is_taken
    });
    if is_taken { Answer::error(StatusCode::BAD_REQUEST) } else { Answer::no_content() }
}

/// `DELETE /Users/{id}`: the user, and the tokens that this pod knows.
pub(crate) fn delete(call: &Call) -> Answer {
    let id = call.guid(0);
    if call.life().shared.cluster.read(|database| database.user(&id).is_none()) {
        return Answer::problem(StatusCode::NOT_FOUND);
    }
    // The tokens come first (`UserController.DeleteUser`): a device whose row another pod has deleted keeps 10.11 from the rest.
    let ended = end_tokens(call, &id, None);
    if let Ended::Cleanly = ended {
        call.life().shared.cluster.change(|database| database.delete_user(&id));
    }
    answer_of(ended)
}

/// `POST /Users/Password?userId=` and `POST /Users/{id}/Password`: every other token of the user that this pod knows ends.
pub(crate) fn change_password(call: &Call) -> Answer {
    let named = call.captured.first().cloned().or_else(|| call.query.get("userId"));
    if let Some(named) = named.as_ref().filter(|named| plain(named).is_none()) {
        return Answer::invalid("userId", named);
    }
    let own = call.user().map(|user| user.id.clone());
    let Some(id) = named.and_then(|id| plain(&id)).or_else(|| own.clone()) else {
        return Answer::error(StatusCode::BAD_REQUEST);
    };
    let is_own = own.as_ref() == Some(&id);
    if !is_own && !call.is_administrator() {
        return Answer::json_with(StatusCode::FORBIDDEN, &json!("User is not allowed to update the password."));
    }
    let text = |name| call.property(name).and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default();
    let right = call.life().shared.cluster.change(|database| {
        let user = database.user_mut(&id)?;
        let right = user.password == text("CurrentPw") || (!is_own && call.is_administrator());
        if right {
            user.password = text("NewPw");
        }
        Some(right)
    });
    match right {
        None => Answer::json_with(StatusCode::NOT_FOUND, &json!("User not found")),
        Some(false) => Answer::json_with(StatusCode::FORBIDDEN, &json!("Invalid user or password entered.")),
        Some(true) => answer_of(end_tokens(call, &id, call.given.token.as_deref())),
    }
}

/// `POST /Users/{id}/Policy`: a user who is newly disabled loses the tokens that this pod knows. One who is no administrator
/// any more keeps them; the last administrator stays one. Of the rest only some switches count.
pub(crate) fn change_policy(call: &Call) -> Answer {
    let (id, policy) = (call.guid(0), call.json());
    let disable = property(&policy, "IsDisabled").is_some_and(|value| value == true);
    let all_folders = property(&policy, "EnableAllFolders").is_none_or(|value| value != false);
    let switch = |name| property(&policy, name).and_then(Value::as_bool);
    let devices = property(&policy, "EnabledDevices").and_then(Value::as_array).cloned().unwrap_or_default();
    let devices: Vec<String> = devices.iter().filter_map(|id| id.as_str().map(str::to_owned)).collect();
    let newly = call.life().shared.cluster.change(|database| {
        let administrators = database.users.iter().filter(|user| user.administrator).count();
        let user = database.user_mut(&id)?;
        if user.administrator && switch("IsAdministrator") == Some(false) && administrators == 1 {
            return Some(None);
        }
        user.administrator = switch("IsAdministrator").unwrap_or(user.administrator);
        user.all_folders = all_folders;
        user.controls_others = switch("EnableRemoteControlOfOtherUsers").unwrap_or(user.controls_others);
        user.controls_shared = switch("EnableSharedDeviceControl").unwrap_or(user.controls_shared);
        user.deletes_content = switch("EnableContentDeletion").unwrap_or(user.deletes_content);
        user.only_devices = (switch("EnableAllDevices") == Some(false)).then_some(devices);
        user.most_sessions = property(&policy, "MaxActiveSessions").and_then(Value::as_i64).unwrap_or_default();
        Some(Some(disable && !std::mem::replace(&mut user.disabled, disable)))
    });
    match newly {
        None => Answer::problem(StatusCode::NOT_FOUND),
        Some(None) => {
            let words = "There must be at least one user in the system with administrative access.";
            Answer::json_with(StatusCode::FORBIDDEN, &json!(words))
        }
        Some(Some(false)) => Answer::no_content(),
        Some(Some(true)) => answer_of(end_tokens(call, &id, None)),
    }
}

fn end_tokens(call: &Call, user_id: &str, but: Option<&str>) -> Ended {
    let mut guard = call.life().memory();
    let memory = &mut *guard;
    let rows = memory.devices.find(|row| row.user_id == user_id && Some(row.token.as_str()) != but);
    let ended = memory.devices.end(&call.life().shared.cluster, &rows, call.settings().generation);
    for row in rows {
        for session in memory.sessions.end_device(&row.device_id) {
            memory.sync_play.session_ended(&memory.sessions, &session);
        }
    }
    ended
}

fn answer_of(ended: Ended) -> Answer {
    match ended {
        Ended::Cleanly => Answer::no_content(),
        Ended::WithError => Answer::error(StatusCode::INTERNAL_SERVER_ERROR),
    }
}

pub(crate) fn forgot_password(_: &Call) -> Answer {
    Answer::json(&json!({"Action": "ContactAdmin"}))
}
