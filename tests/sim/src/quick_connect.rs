//! QuickConnect: codes and secrets in the memory of one process, ten minutes long.

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

/// Requests to connect, waiting and authorized.
#[derive(Debug, Default)]
pub(crate) struct QuickConnect {
    requests: Vec<Request>,
}

#[derive(Clone, Debug)]
struct Request {
    secret: String,
    code: String,
    client: Client,
    added: Instant,
    date_added: String,
    /// What the log-in will answer; the session is made when the code is authorized.
    result: Option<Value>,
}

const LIFE: Duration = Duration::from_secs(600);

impl QuickConnect {
    fn find(&mut self, fits: impl Fn(&Request) -> bool) -> Option<&mut Request> {
        self.requests.retain(|request| request.added.elapsed() < LIFE);
        self.requests.iter_mut().find(|request| fits(request))
    }
}

impl Request {
    fn dto(&self) -> Value {
        json!({
            "Authenticated": self.result.is_some(),
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
    let request = Request {
        secret: hex(&random_bytes::<32>()).to_uppercase(),
        code: format!("{:06}", u32::from_le_bytes(random_bytes::<4>()) % 1_000_000),
        client,
        added: Instant::now(),
        date_added: clock::now(),
        result: None,
    };
    let dto = request.dto();
    call.run(Code::Initiate);
    call.life().memory().quick_connect.requests.push(request);
    Answer::json(&dto)
}

/// `GET /QuickConnect/Connect?secret=`.
pub(crate) fn connect(call: &Call) -> Answer {
    if !call.settings().quick_connect {
        return disabled();
    }
    let secret = call.query.get("secret").unwrap_or_default();
    match call.life().memory().quick_connect.find(|request| request.secret == secret) {
        Some(request) => Answer::json(&request.dto()),
        None => Answer::json_with(StatusCode::NOT_FOUND, &json!("Unknown secret")),
    }
}

/// `POST /QuickConnect/Authorize?code=&userId=`: makes the session at once, on this pod.
pub(crate) fn authorize(call: &Call) -> Answer {
    if !call.settings().quick_connect {
        return disabled();
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
    let found = call.life().memory().quick_connect.find(|request| request.code == code).cloned();
    let request = match found {
        None => return Answer::error(StatusCode::NOT_FOUND),
        Some(request) if request.result.is_some() => {
            return Answer::error(StatusCode::INTERNAL_SERVER_ERROR);
        }
        Some(request) => request,
    };
    let result = users::new_session(call, &user_id, &request.client, "");
    if result.is_null() {
        return Answer::error(StatusCode::NOT_FOUND);
    }
    if let Some(request) = call.life().memory().quick_connect.find(|other| other.secret == request.secret) {
        request.result = Some(result);
    }
    Answer::json(&json!(true))
}

/// `POST /Users/AuthenticateWithQuickConnect`: the same token each time.
pub(crate) fn log_in(call: &Call) -> Answer {
    let secret = call.property("Secret").and_then(|secret| secret.as_str().map(str::to_owned)).unwrap_or_default();
    call.run(Code::LogIn);
    let result = call.life().memory().quick_connect.find(|r| r.secret == secret).and_then(|r| r.result.clone());
    match result {
        Some(result) => {
            call.run(Code::Token);
            Answer::json(&result)
        }
        None => Answer::error(StatusCode::NOT_FOUND),
    }
}

fn disabled() -> Answer {
    Answer::json_with(StatusCode::UNAUTHORIZED, &json!("Quick connect is disabled"))
}
