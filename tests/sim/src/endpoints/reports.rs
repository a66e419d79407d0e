//! Playback reports: `POST /Sessions/Playing*`, and the older `/PlayingItems/{id}` by query.

use http::StatusCode;
use serde_json::{Map, Value, json};

use crate::answer::Answer;
use crate::call::{Call, property};
use crate::identifiers::plain;
use crate::playback_state::{self, Report};

/// `POST /Sessions/Playing`.
pub(crate) fn started(call: &Call) -> Answer {
    report(call, playback_state::started)
}

/// `POST /Sessions/Playing/Progress`.
pub(crate) fn progress(call: &Call) -> Answer {
    report(call, playback_state::progress)
}

/// `POST /Sessions/Playing/Stopped`.
pub(crate) fn stopped(call: &Call) -> Answer {
    let given = call.json();
    let failed = property(&given, "Failed").is_some_and(|value| value == true);
    let play_session =
        property(&given, "PlaySessionId").and_then(|value| value.as_str()).unwrap_or_default().to_owned();
    let report = Report {
        item_id: property(&given, "ItemId").and_then(|id| plain(id.as_str()?)).unwrap_or_default(),
        position: property(&given, "PositionTicks").and_then(Value::as_i64),
        is_paused: false,
        given,
    };
    stop(call, &report, failed, &play_session)
}

/// `POST /Sessions/Playing/Ping?playSessionId=`: keeps a transcode alive, if this pod has it.
pub(crate) fn ping(call: &Call) -> Answer {
    ping_job(call, &call.query.get("playSessionId").unwrap_or_default());
    Answer::no_content()
}

/// `POST /PlayingItems/{id}` and `POST /Users/{user}/PlayingItems/{id}`, whose user does not count.
pub(crate) fn started_by_query(call: &Call) -> Answer {
    report_by_query(call, playback_state::started)
}

/// `POST /PlayingItems/{id}/Progress?positionTicks=`.
pub(crate) fn progress_by_query(call: &Call) -> Answer {
    report_by_query(call, playback_state::progress)
}

/// `DELETE /PlayingItems/{id}?positionTicks=`.
pub(crate) fn stopped_by_query(call: &Call) -> Answer {
    let play_session = call.query.get("playSessionId").unwrap_or_default();
    stop(call, &report_of_query(call), false, &play_session)
}

type Apply = fn(&std::sync::Arc<crate::pod::Life>, &str, Report);

fn report(call: &Call, apply: Apply) -> Answer {
    let given = call.json();
    if let Some(play_session) = property(&given, "PlaySessionId").and_then(|value| value.as_str()) {
        ping_job(call, play_session);
    }
    let report = Report {
        item_id: property(&given, "ItemId").and_then(|id| plain(id.as_str()?)).unwrap_or_default(),
        position: property(&given, "PositionTicks").and_then(Value::as_i64),
        is_paused: property(&given, "IsPaused").is_some_and(|value| value == true),
        given,
    };
    if let Some(session) = call.touch_session() {
        apply(&call.connection.life, &session, report);
    }
    Answer::no_content()
}

fn report_by_query(call: &Call, apply: Apply) -> Answer {
    if let Some(play_session) = call.query.get("playSessionId") {
        ping_job(call, &play_session);
    }
    if let Some(session) = call.touch_session() {
        apply(&call.connection.life, &session, report_of_query(call));
    }
    Answer::no_content()
}

fn report_of_query(call: &Call) -> Report {
    let mut given = Map::new();
    given.insert("CanSeek".to_owned(), json!(call.query.is_true("canSeek")));
    given.insert("IsMuted".to_owned(), json!(call.query.is_true("isMuted")));
    if let Some(source) = call.query.get("mediaSourceId") {
        given.insert("MediaSourceId".to_owned(), json!(source));
    }
    Report {
        item_id: call.guid(call.captured.len() - 1),
        position: call.query.get("positionTicks").and_then(|ticks| ticks.parse().ok()),
        is_paused: call.query.is_true("isPaused"),
        given: given.into(),
    }
}

fn stop(call: &Call, report: &Report, failed: bool, play_session: &str) -> Answer {
    if !play_session.is_empty() {
        call.life().memory().jobs.hear_of(play_session);
        call.life().memory().jobs.end(None, Some(play_session));
    }
    let session = call.touch_session();
    if report.position.is_some_and(|position| position < 0) {
        return Answer::error(StatusCode::BAD_REQUEST);
    }
    if let Some(session) = session {
        playback_state::stopped(&call.connection.life, &session, report, failed);
    }
    Answer::no_content()
}

fn ping_job(call: &Call, play_session: &str) {
    let mut memory = call.life().memory();
    memory.jobs.end_idle(call.settings().job_idle);
    memory.jobs.hear_of(play_session);
    memory.jobs.ping(play_session);
}
