//! QuickConnect: codes and secrets in the memory of one process, ten minutes long.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use http::StatusCode;
use serde_json::{Value, json};

use crate::answer::Answer;
use crate::call::{Call, Caller};
use crate::clock;
use crate::devices::Client;
use crate::endpoints::users;
use crate::identifiers::{hex, plain, random_bytes};
use crate::mint_times::Code;

/// Requests to connect and the log-ins that came of them.
///
/// A code has six digits and is not looked for among the others: a new request takes over the code of an older one, which then
/// nobody can ask for or authorize any more.
#[derive(Debug, Default)]
pub(crate) struct QuickConnect {
    /// By code.
    requests: HashMap<String, Request>,
    /// What the log-ins will answer, by secret. The session is made when the code is authorized.
    authorized: HashMap<String, (Instant, Value)>,
}

#[derive(Clone, Debug)]
struct Request {
    secret: String,
    code: String,
    client: Client,
    added: Instant,
    date_added: String,
    is_authenticated: bool,
}

const LIFE: Duration = Duration::from_secs(600);

impl QuickConnect {
    fn expire(&mut self) {
        self.requests.retain(|_, request| request.added.elapsed() < LIFE);
        self.authorized.retain(|_, (since, _)| since.elapsed() < LIFE);
    }
}

/// 100000 to 999999.
pub(crate) fn new_code() -> String {
    (100_000 + u32::from_le_bytes(random_bytes::<4>()) % 900_000).to_string()
}

impl Request {
    fn dto(&self) -> Value {
        json!({
            "Authenticated": self.is_authenticated,
            "Secret": self.secret,
            "Code": self.code,
            "DeviceId": self.client.device_id,
            "DeviceName": self.client.device,
            "AppName": self.client.client,
            "AppVersion": self.client.version,
            "DateAdded": self.date_added,
        })
    }
}

/// `GET /QuickConnect/Enabled`.
pub(crate) fn enabled(call: &Call) -> Answer {
    Answer::json(&json!(call.settings().quick_connect))
}

/// `POST /QuickConnect/Initiate`, in 10.11 by GET as well.
pub(crate) fn initiate(call: &Call) -> Answer {
    if !call.settings().quick_connect {
        return disabled();
    }
    let Some(mut client) = Client::of(&call.given) else {
        return Answer::error(StatusCode::BAD_REQUEST);
    };
    if let Caller::ApiKey { app } = &call.caller {
        client.client.clone_from(app);
    }
    call.run(Code::Initiate);
    let memory = &mut call.life().memory().quick_connect;
    memory.expire();
    let code = call.life().shared.controls.shared_code().unwrap_or_else(new_code);
    let request = Request {
        secret: hex(&random_bytes::<32>()).to_uppercase(),
        code,
        client,
        added: Instant::now(),
        date_added: clock::now(),
        is_authenticated: false,
    };
    let dto = request.dto();
    memory.requests.insert(request.code.clone(), request);
    Answer::json(&dto)
}

/// `GET /QuickConnect/Connect?secret=`.
pub(crate) fn connect(call: &Call) -> Answer {
    if !call.settings().quick_connect {
        return disabled();
    }
    let secret = call.query.get("secret").unwrap_or_default();
    let memory = &mut call.life().memory().quick_connect;
    memory.expire();
    match memory.requests.values().find(|request| request.secret == secret) {
        Some(request) => Answer::json(&request.dto()),
        None => Answer::json_with(StatusCode::NOT_FOUND, &json!("Unknown secret")),
    }
}

/// `POST /QuickConnect/Authorize?code=&userId=`: makes the session at once, on this pod.
pub(crate) fn authorize(call: &Call) -> Answer {
    if !call.settings().quick_connect {
        return disabled();
    }
    if let Some(named) = call.query.get("userId").filter(|named| plain(named).is_none()) {
        return Answer::invalid("userId", &named);
    }
    let own = call.user().map(|user| user.id.clone());
    let user_id = match call.query.get("userId").and_then(|id| plain(&id)) {
        Some(id) if own.as_ref() != Some(&id) && !call.is_administrator() => {
            return Answer::error(StatusCode::FORBIDDEN);
        }
        Some(id) => id,
        None => match own {
            Some(id) => id,
            None => return Answer::error(StatusCode::BAD_REQUEST),
        },
    };
    call.run(Code::Authorize);
    let code = call.query.get("code").unwrap_or_default();
    call.life().memory().quick_connect.expire();
    let found = call.life().memory().quick_connect.requests.get(&*code).cloned();
    let mut request = match found {
        None => return Answer::error(StatusCode::NOT_FOUND),
        Some(request) if request.is_authenticated => return Answer::error(StatusCode::INTERNAL_SERVER_ERROR),
        Some(request) => request,
    };
    let user = call.life().shared.cluster.read(|database| database.user(&user_id).cloned());
    if user.is_some_and(|user| !users::may_sign_in(call, &user, &request.client)) {
        return Answer::error(StatusCode::FORBIDDEN);
    }
    let result = users::new_session(call, &user_id, &request.client, "");
    if result.is_null() {
        return Answer::error(StatusCode::NOT_FOUND);
    }
    let memory = &mut call.life().memory().quick_connect;
    memory.authorized.insert(request.secret.clone(), (Instant::now(), result));
    request.is_authenticated = true;
    memory.requests.insert(request.code.clone(), request);
    Answer::json(&json!(true))
}

/// `POST /Users/AuthenticateWithQuickConnect`: the same token each time.
pub(crate) fn log_in(call: &Call) -> Answer {
    let secret = call.property("Secret").and_then(|secret| secret.as_str().map(str::to_owned)).unwrap_or_default();
    call.run(Code::LogIn);
    call.life().memory().quick_connect.expire();
    let authorized = call.life().memory().quick_connect.authorized.get(&secret).cloned();
    match authorized {
        Some((_, result)) => {
            call.run(Code::Token);
            Answer::json(&result)
        }
        None => Answer::error(StatusCode::NOT_FOUND),
    }
}

fn disabled() -> Answer {
    Answer::json_with(StatusCode::UNAUTHORIZED, &json!("Quick connect is disabled"))
}
