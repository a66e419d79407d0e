//! The way of a request through the pod, in the order of the real server's middleware.

mod finish;
mod watched;

use std::cell::Cell;
use std::convert::Infallible;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::request::Parts;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};

use crate::answer::{Answer, Body};
use crate::authorization::Credentials;
use crate::call::{Call, Caller, StaleRow};
use crate::endpoints::{system, web};
use crate::generation::Generation;
use crate::machine::{self, Work};
use crate::pod::Connection;
use crate::query::Query;
use crate::routes::{self, Access, Match, Route};
use crate::start_up::Phase;
use crate::{not_jellyfin, path, setup_server, single_writer, socket};
use watched::Watch;

/// Kestrel's limit of the request line.
const REQUEST_LINE_LIMIT: usize = 8 * 1024;

/// Kestrel's limit of all header fields together. That of their number is hyper's own, 100.
const FIELDS_LIMIT: usize = 32 * 1024;

/// Kestrel's limit of a request body.
const BODY_LIMIT: usize = 30_000_000;

/// How long Kestrel waits for a body that comes too slowly.
const BODY_GRACE: Duration = Duration::from_secs(5);

/// Answers one request.
pub(crate) async fn answer(connection: Connection, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let began = Instant::now();
    let watch = Watch::begin(&connection, &request);
    let head = finish::Head::of(&request, &connection);
    let health = request.uri().path().ends_with("/health");
    connection.life.shared.controls.await_http().await;
    let answer = work_on(&connection, request).await;
    if !health {
        connection.life.shared.controls.delay_first_byte().await;
    }
    let response = match answer {
        Outcome::Bare(answer) => finish::bare(answer),
        Outcome::Answered(answer) => head.finish(answer, began),
    };
    let mut response = watch.over(response, &connection);
    response.headers_mut().insert(header::DATE, connection.life.shared.controls.clock.header());
    Ok(response)
}

/// An answer, and whether the main server's common headers belong on it.
pub(crate) enum Outcome {
    Answered(Answer),
    /// From the setup server, or from a path that is not Jellyfin's.
    Bare(Answer),
}

/// Answers as soon as the machine has done what the request takes, and the database answers.
async fn work_on(connection: &Connection, request: Request<Incoming>) -> Outcome {
    if connection.is_of_setup_server() {
        return respond(connection, request).await;
    }
    let (life, uri) = (&connection.life, request.uri().clone());
    let work = match socket::is_upgrade(request.headers()) {
        true => Work::Socket,
        false => Work::of(request.method(), uri.path()),
    };
    let thread = life.processor.run(work).await;
    let settings = &life.shared.settings;
    if machine::needs_database(uri.path())
        && tokio::time::timeout(settings.database_timeout, life.shared.cluster.answers()).await.is_err()
    {
        return Outcome::Answered(match work {
            Work::Health => system::health_of("Unhealthy", StatusCode::SERVICE_UNAVAILABLE),
            _ => Answer::error(StatusCode::INTERNAL_SERVER_ERROR),
        });
    }
    if life.shared.controls.disk_full() && machine::needs_disk(request.method(), uri.path()) {
        return Outcome::Answered(Answer::error(StatusCode::INTERNAL_SERVER_ERROR));
    }
    if request.method() == Method::POST && uri.path().to_ascii_lowercase().ends_with("/triggers") {
        life.shared.controls.await_triggers().await;
    }
    let answer = respond(connection, request).await;
    drop(thread);
    if machine::is_transcoded(uri.path()) {
        let query = Query::parse(uri.query().unwrap_or_default());
        life.processor.watch(&query.get("PlaySessionId").unwrap_or_default());
        life.processor.run(Work::Transcode).await;
    }
    answer
}

async fn respond(connection: &Connection, request: Request<Incoming>) -> Outcome {
    let line = request.method().as_str().len() + request.uri().to_string().len() + "  HTTP/1.1\r\n".len();
    if line > REQUEST_LINE_LIMIT {
        return Outcome::Bare(Answer::empty(StatusCode::URI_TOO_LONG).with("connection", "close"));
    }
    let is_text = |value: &http::HeaderValue| std::str::from_utf8(value.as_bytes()).is_ok();
    let Some(path) = path::normal_form(request.uri().path()).filter(|_| request.headers().values().all(is_text)) else {
        return Outcome::Bare(Answer::empty(StatusCode::BAD_REQUEST).with("connection", "close"));
    };
    let fields: usize = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if fields > FIELDS_LIMIT {
        let too_large = Answer::empty(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
        return Outcome::Bare(too_large.with("connection", "close"));
    }
    let base_url = &connection.life.shared.settings.base_url;
    if request.uri().path().strip_prefix(base_url.as_str()).is_some_and(|path| path.starts_with("/_sim/")) {
        return Outcome::Bare(not_jellyfin::answer(request).await);
    }
    if connection.is_of_setup_server() {
        return Outcome::Bare(setup_server::answer(connection, request.uri().path()).await);
    }
    if finish::is_preflight(request.headers(), request.method()) {
        return Outcome::Answered(Answer::no_content());
    }
    let settings = &connection.life.shared.settings;
    match below_base_url(&path, &settings.base_url) {
        Err(to) => Outcome::Answered(Answer::empty(StatusCode::FOUND).with("location", &to)),
        Ok(path) => {
            let path = match settings.generation {
                Generation::V12 => path.to_owned(),
                Generation::V10_11 => match without_legacy_prefix(path) {
                    Some(path) => path,
                    None => return Outcome::Answered(Answer::error(StatusCode::BAD_REQUEST)),
                },
            };
            Outcome::Answered(main_server(connection, request, path).await)
        }
    }
}

/// The path below the base URL, or where the client is sent instead.
fn below_base_url<'a>(path: &'a str, base_url: &str) -> Result<&'a str, String> {
    let web = || format!("{base_url}/web/");
    let below = match path.get(..base_url.len()) {
        Some(start) if start.eq_ignore_ascii_case(base_url) => &path[base_url.len()..],
        _ if path.eq_ignore_ascii_case("/health") => return Err(format!("{base_url}/health")),
        _ => return Err(web()),
    };
    match below {
        "" if base_url.is_empty() => Ok("/"),
        "" => Err(web()),
        "/" => Err("web/".to_owned()),
        below if below.starts_with('/') => Ok(below),
        _ => Err(web()),
    }
}

/// 10.11 takes one prefix `/emby` or `/mediabrowser` away, without a look at the slash; `None` is no path any more.
fn without_legacy_prefix(path: &str) -> Option<String> {
    for prefix in ["/emby", "/mediabrowser"] {
        if path.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix)) {
            let rest = &path[prefix.len()..];
            return if rest.starts_with('/') || rest.is_empty() { Some(rest.to_owned()) } else { None };
        }
    }
    Some(path.to_owned())
}

async fn main_server(connection: &Connection, request: Request<Incoming>, path: String) -> Answer {
    let has_web = connection.life.shared.settings.has_web_client();
    if let Some(asset) = web::asset(&path, request.method(), request.headers()).filter(|_| has_web) {
        return asset;
    }
    let (parts, body) = request.into_parts();
    let mut call = match call_of(connection, &parts, path) {
        Ok(call) => call,
        Err(StaleRow) => return refuse(connection, Answer::error(StatusCode::INTERNAL_SERVER_ERROR), body),
    };
    if socket::is_upgrade(&call.headers) {
        return socket::open(&call, parts);
    }
    match admit(&call, &parts.method) {
        Err(answer) => refuse(connection, *answer, body),
        Ok((route, captured)) => {
            call.captured = captured;
            run(call, route, parts, body).await
        }
    }
}

fn call_of(connection: &Connection, parts: &Parts, path: String) -> Result<Call, StaleRow> {
    let life = &connection.life;
    let query = Query::parse(parts.uri.query().unwrap_or_default());
    let given = Credentials::read(&parts.headers, &query, life.shared.settings.legacy_authorization);
    if given.token.is_some() && life.shared.controls.database_down() && machine::needs_database(&path) {
        // Nobody can say whose it is. The answer is that of a stale row: 500.
        return Err(StaleRow);
    }
    let caller = Caller::look_up(life, &given)?;
    Ok(Call {
        connection: connection.clone(),
        path,
        captured: Vec::new(),
        query,
        headers: parts.headers.clone(),
        body: Bytes::new(),
        given,
        caller,
        busy_until: Cell::default(),
    })
}

/// Routing, authorization, and the message of a server that is still starting, in this order.
fn admit(call: &Call, method: &Method) -> Result<(&'static Route, Vec<String>), Box<Answer>> {
    let generation = call.settings().generation;
    let starting = call.life().phase() == Phase::Core;
    let (route, captured) = match routes::find(method, &call.path, generation) {
        Match::None if starting => return Err(setup_server::still_starting(generation).into()),
        Match::None => return Err(Answer::empty(StatusCode::NOT_FOUND).into()),
        Match::WrongMethod(allowed) => {
            return Err(Answer::empty(StatusCode::METHOD_NOT_ALLOWED).with("allow", &allowed).into());
        }
        Match::Route(route, captured) => (route, captured),
    };
    match refusal(call, route.access) {
        Some(refusal) => Err(refusal.into()),
        None if starting && !route.while_starting => Err(setup_server::still_starting(generation).into()),
        None => match route.invalid_guid(&captured) {
            Some((name, value)) => Err(Answer::invalid(name, value).into()),
            None => Ok((route, captured)),
        },
    }
}

/// Answers without having looked at the body, which is read and thrown away beside it: Kestrel keeps the connection of a
/// large upload that way.
fn refuse(connection: &Connection, answer: Answer, mut body: Incoming) -> Answer {
    if !body.is_end_stream() {
        connection.life.spawn(async move { while let Some(Ok(_)) = body.frame().await {} });
    }
    answer
}

/// The authorization middleware.
fn refusal(call: &Call, access: Access) -> Option<Answer> {
    let refused = |status| Some(Answer::empty(status));
    match (access, &call.caller) {
        (Access::Anonymous, _) => None,
        // Its handler looks for a user with an empty id and throws.
        (Access::SyncPlay { .. }, Caller::Nobody | Caller::ApiKey { .. } | Caller::Disabled | Caller::Orphan) => {
            Some(Answer::error(StatusCode::BAD_REQUEST))
        }
        (Access::FirstTimeSetup, _) if call.settings().wizard_undone => None,
        (_, Caller::Nobody | Caller::Disabled) => refused(StatusCode::UNAUTHORIZED),
        (_, Caller::Orphan) => refused(StatusCode::FORBIDDEN),
        (Access::Authorized, _) => None,
        (Access::Administrator | Access::FirstTimeSetup, _) if call.is_administrator() => None,
        (Access::Administrator | Access::FirstTimeSetup, _) => refused(StatusCode::FORBIDDEN),
        (Access::SyncPlay { in_group: false }, _) => None,
        (Access::SyncPlay { in_group: true }, Caller::User { .. }) => {
            call.touch_session();
            let user = call.user().map(|user| user.id.clone()).unwrap_or_default();
            let is_active = call.life().memory().sync_play.is_active(&user);
            if is_active { None } else { refused(StatusCode::FORBIDDEN) }
        }
    }
}

/// Gathers a body, or nothing where the client has sent nothing of it within Kestrel's grace (`MinRequestBodyDataRate`).
async fn in_time(mut body: Limited<Incoming>) -> Option<Result<Bytes, <Limited<Incoming> as http_body::Body>::Error>> {
    let first = match tokio::time::timeout(BODY_GRACE, body.frame()).await {
        Err(_) => return None,
        Ok(None) => return Some(Ok(Bytes::new())),
        Ok(Some(first)) => first,
    };
    Some(match (first, body.collect().await) {
        (Err(error), _) | (_, Err(error)) => Err(error),
        (Ok(first), Ok(rest)) => {
            let first = first.into_data().unwrap_or_default();
            let rest = rest.to_bytes();
            Ok(if rest.is_empty() { first } else { [first, rest].concat().into() })
        }
    })
}

async fn run(mut call: Call, route: &Route, parts: Parts, body: Incoming) -> Answer {
    let limit = route.body_limit.unwrap_or(BODY_LIMIT);
    let too_large = || Answer::empty(StatusCode::PAYLOAD_TOO_LARGE).with("connection", "close");
    let declared = parts.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|length| length > limit as u64) {
        return too_large();
    }
    if parts.method != Method::GET && parts.method != Method::HEAD {
        let Some(gathered) = in_time(Limited::new(body, limit)).await else {
            return Answer::empty(StatusCode::REQUEST_TIMEOUT).with("connection", "close");
        };
        call.body = match gathered {
            Ok(body) => body,
            Err(error) if error.is::<LengthLimitError>() => return too_large(),
            Err(_) => return Answer::error(StatusCode::BAD_REQUEST),
        };
    }
    let answer = single_writer::answer(&call, &parts.method, route);
    if let Some(ready) = call.busy_until.get() {
        tokio::time::sleep_until(ready.into()).await;
    }
    call.life().shared.notify_changed();
    answer
}
