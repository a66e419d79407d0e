//! The server about itself: health, information, time, logs, and the bit-rate test.

use http::StatusCode;
use serde_json::json;

use crate::answer::Answer;
use crate::call::Call;
use crate::files::generated;
use crate::{clock, dto};

/// `/health`, by any method.
pub(crate) fn health(call: &Call) -> Answer {
    let controls = &call.life().shared.controls;
    if controls.database_down() {
        health_of("Unhealthy", StatusCode::SERVICE_UNAVAILABLE)
    } else if controls.degraded() {
        health_of("Degraded", StatusCode::OK)
    } else {
        health_of("Healthy", StatusCode::OK)
    }
}

/// A verdict of the health checks.
pub(crate) fn health_of(word: &'static str, status: StatusCode) -> Answer {
    Answer::text(status, "text/plain", word)
        .with("cache-control", "no-store, no-cache")
        .with("expires", "Thu, 01 Jan 1970 00:00:00 GMT")
        .with("pragma", "no-cache")
}

/// `GET /Startup/Configuration`: what the wizard asks first.
pub(crate) fn first_configuration(_: &Call) -> Answer {
    Answer::json(&json!({"UICulture": "en-US", "MetadataCountryCode": "US", "PreferredMetadataLanguage": "en"}))
}

/// `GET /Startup/User`: the name of the first user, without a password.
pub(crate) fn first_user(call: &Call) -> Answer {
    let name = call.life().shared.cluster.read(|database| database.users.first().map(|user| user.name.clone()));
    Answer::json(&json!({"Name": name}))
}

/// `POST /Startup/User`: gives the first user a name and a password.
pub(crate) fn set_first_user(call: &Call) -> Answer {
    let text = |name: &str| call.property(name).and_then(|value| value.as_str().map(str::to_owned));
    let (name, password) = (text("Name"), text("Password"));
    call.life().shared.cluster.change(|database| {
        if let (Some(user), Some(name), Some(password)) = (database.users.first_mut(), name, password) {
            user.name = name;
            user.password = password;
        }
    });
    Answer::no_content()
}

pub(crate) fn ping(_: &Call) -> Answer {
    Answer::json(&json!("Jellyfin Server"))
}

pub(crate) fn public_info(call: &Call) -> Answer {
    Answer::json(&dto::public_info(&call.life().shared))
}

pub(crate) fn info(call: &Call) -> Answer {
    Answer::json(&dto::info(&call.life().shared))
}

/// Where the server thinks the client is; with `known_proxies` it shows what `X-Forwarded-For` came to.
pub(crate) fn endpoint(call: &Call) -> Answer {
    let local = call.remote().parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    Answer::json(&json!({"IsLocal": local, "IsInNetwork": local}))
}

pub(crate) fn utc_time(call: &Call) -> Answer {
    let clock = &call.life().shared.controls.clock;
    Answer::json(&json!({"RequestReceptionTime": clock.now(), "ResponseTransmissionTime": clock.now()}))
}

/// A plug-in's endpoint, which answers what it was sent.
pub(crate) fn echo(call: &Call) -> Answer {
    Answer::json(&call.json())
}

/// `POST /System/Restart` of a local caller, who needs no log-in, or of an administrator (`LocalAccessOrRequiresElevation`).
pub(crate) fn restart(call: &Call) -> Answer {
    let is_local = call.remote().parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    if !is_local && !call.is_administrator() {
        return Answer::empty(StatusCode::FORBIDDEN);
    }
    call.life().shared.restart();
    Answer::no_content()
}

pub(crate) fn logs(call: &Call) -> Answer {
    let name = format!("log_{}.log", call.settings().name);
    Answer::json(&json!([{"DateCreated": clock::now(), "DateModified": clock::now(), "Size": 1, "Name": name}]))
}

pub(crate) fn client_log(call: &Call) -> Answer {
    let Some(client) = call.client() else {
        return Answer::error(StatusCode::BAD_REQUEST);
    };
    Answer::json(&json!({"FileName": format!("upload_{}_{}_{}.log", client.client, client.version, call.body.len())}))
}

/// `size` bytes, 1 to 100,000,000, by default 102,400.
pub(crate) fn bitrate_test(call: &Call) -> Answer {
    let size = call.query.number("size").unwrap_or(102_400);
    if !(1..=100_000_000).contains(&size) {
        return Answer::problem(StatusCode::BAD_REQUEST);
    }
    Answer::stream("application/octet-stream", generated(size))
}
