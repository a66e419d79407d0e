//! Playback reports: `POST /Sessions/Playing*`.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::answer::Answer;
use crate::call::{Call, property};
use crate::clock;
use crate::generation::Generation;
use crate::identifiers::{dashed, plain};
use crate::library::VIEW;
use crate::sessions::Playing;

/// `POST /Sessions/Playing`.
pub(crate) fn started(call: &Call) -> Answer {
    note(call);
    announce_user_data(call, 0);
    Answer::no_content()
}

/// `POST /Sessions/Playing/Progress`.
pub(crate) fn progress(call: &Call) -> Answer {
    note(call);
    Answer::no_content()
}

/// `POST /Sessions/Playing/Stopped`.
pub(crate) fn stopped(call: &Call) -> Answer {
    let report = call.json();
    if let Some(id) = call.touch_session() {
        let mut memory = call.life().memory();
        if let Some(session) = memory.sessions.get_mut(&id) {
            session.playing = None;
        }
        if let Some(play_session) = property(&report, "PlaySessionId").and_then(|value| value.as_str()) {
            memory.jobs.end(None, Some(play_session));
        }
        memory.sessions.note_change();
    }
    announce_user_data(call, property(&report, "PositionTicks").and_then(serde_json::Value::as_i64).unwrap_or(0));
    Answer::no_content()
}

/// `POST /Sessions/Playing/Ping?playSessionId=`: keeps a transcode alive, if this pod has it.
pub(crate) fn ping(call: &Call) -> Answer {
    ping_job(call, &call.query.get("playSessionId").unwrap_or_default());
    Answer::no_content()
}

fn ping_job(call: &Call, play_session: &str) {
    let mut memory = call.life().memory();
    memory.jobs.end_idle(call.settings().job_idle);
    memory.jobs.ping(play_session);
}

fn note(call: &Call) {
    let report = call.json();
    if let Some(play_session) = property(&report, "PlaySessionId").and_then(|value| value.as_str()) {
        ping_job(call, play_session);
    }
    let Some(id) = call.touch_session() else {
        return;
    };
    let item_id = property(&report, "ItemId").and_then(|id| plain(id.as_str()?)).unwrap_or_default();
    let number = |name| property(&report, name).and_then(serde_json::Value::as_i64).unwrap_or(0);
    let playing = Playing {
        item_id,
        position: number("PositionTicks"),
        at: Instant::now(),
        paused: property(&report, "IsPaused").is_some_and(|value| value == true),
        report,
    };
    let mut memory = call.life().memory();
    if let Some(session) = memory.sessions.get_mut(&id) {
        session.playing = Some(playing);
    }
    memory.sessions.note_change();
}

/// `UserDataChanged` to the user's sockets; the real server gathers changes for half a second first.
fn announce_user_data(call: &Call, position: i64) {
    let Some(user) = call.user() else {
        return;
    };
    let item = call.property("ItemId").and_then(|id| plain(id.as_str()?)).unwrap_or_default();
    let mut data = json!({
        "UserId": user.id,
        "UserDataList": [{
            "PlaybackPositionTicks": position,
            "PlayCount": 1,
            "IsFavorite": false,
            "LastPlayedDate": clock::now(),
            "Played": false,
            "Key": dashed(&item),
            "ItemId": item,
        }, {
            "UnplayedItemCount": 2,
            "PlaybackPositionTicks": 0,
            "PlayCount": 0,
            "IsFavorite": false,
            "Played": false,
            "Key": dashed(VIEW),
            "ItemId": VIEW,
        }],
    });
    if call.settings().generation == Generation::V12 {
        data["UserDataList"][1]["PlayedPercentage"] = json!(0);
    }
    let user_id = user.id.clone();
    let life = std::sync::Arc::clone(&call.connection.life);
    let gathering: Duration = call.settings().keep_alive / 120;
    call.life().spawn(async move {
        tokio::time::sleep(gathering).await;
        life.memory().sessions.send_to_user(&user_id, "UserDataChanged", &data);
    });
}
