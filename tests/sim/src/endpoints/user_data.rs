//! A user's data of items: favourites, what was played, ratings, and the whole row.

use http::StatusCode;
use serde_json::json;

use crate::answer::Answer;
use crate::call::{Call, property};
use crate::clock;
use crate::generation::Generation;
use crate::identifiers::plain;
use crate::user_data::{Length, UserData};
use crate::user_data_changes::announce;

/// `POST /UserFavoriteItems/{item}?userId=` and `/Users/{user}/FavoriteItems/{item}`.
pub(crate) fn favorite(call: &Call) -> Answer {
    change(call, |data, _| data.favorite = true)
}

/// `DELETE` of the same.
pub(crate) fn unfavorite(call: &Call) -> Answer {
    change(call, |data, _| data.favorite = false)
}

/// `POST /UserPlayedItems/{item}?userId=&datePlayed=` and `/Users/{user}/PlayedItems/{item}`.
pub(crate) fn mark_played(call: &Call) -> Answer {
    call.touch_session();
    let date = call.query.get("datePlayed").and_then(|date| clock::read(&date));
    let answer = change(call, |data, _| data.mark_played(date));
    if answer.status == StatusCode::OK && call.settings().generation == Generation::V12 {
        mark_other_versions(call);
    }
    answer
}

/// `DELETE` of the same.
pub(crate) fn mark_unplayed(call: &Call) -> Answer {
    call.touch_session();
    change(call, |data, _| data.mark_unplayed())
}

/// `POST /UserItems/{item}/Rating?userId=&likes=` and `/Users/{user}/Items/{item}/Rating`.
pub(crate) fn rate(call: &Call) -> Answer {
    let likes = call.query.get("likes").map(|likes| likes.eq_ignore_ascii_case("true"));
    change(call, |data, _| data.like(likes))
}

/// `DELETE` of the same.
pub(crate) fn unrate(call: &Call) -> Answer {
    change(call, |data, _| data.like(None))
}

/// `GET /UserItems/{item}/UserData?userId=` and `/Users/{user}/Items/{item}/UserData`: as this pod has it.
pub(crate) fn read(call: &Call) -> Answer {
    let (user_id, item_id) = match target(call) {
        Ok(target) => target,
        Err(refusal) => return *refusal,
    };
    let mut memory = call.life().memory();
    match memory.caches.by_id(&call.life().shared.cluster, &item_id) {
        Some(item) => Answer::json(&item.user_data(&user_id).dto(&item_id, item.row.length())),
        None => Answer::problem(StatusCode::NOT_FOUND),
    }
}

/// `POST` of the same: what is null stays as it is.
pub(crate) fn write(call: &Call) -> Answer {
    let given = call.json();
    if !given.is_object() {
        return Answer::problem(StatusCode::BAD_REQUEST);
    }
    change(call, |data, _| {
        data.update(|name| {
            let value = property(&given, name).filter(|value| !value.is_null())?;
            match (name, value.as_str()) {
                ("LastPlayedDate", Some(date)) => clock::read(date).map(|date| json!(date)),
                _ => Some(value.clone()),
            }
        });
    })
}

fn change(call: &Call, how: impl FnOnce(&mut UserData, Length)) -> Answer {
    let (user_id, item_id) = match target(call) {
        Ok(target) => target,
        Err(refusal) => return *refusal,
    };
    let (saved, length) = {
        let mut memory = call.life().memory();
        let cluster = &call.life().shared.cluster;
        let saved = memory.caches.change_user_data(cluster, &user_id, &item_id, how);
        (saved, memory.caches.cached(&item_id).map(|item| item.row.length()))
    };
    match (saved, length) {
        (Some(Ok(data)), Some(length)) => {
            announce(&call.connection.life, &user_id, &item_id);
            Answer::json(&data.dto(&item_id, length))
        }
        (Some(Err(_)), _) => Answer::error(StatusCode::INTERNAL_SERVER_ERROR),
        _ => Answer::problem(StatusCode::NOT_FOUND),
    }
}

fn mark_other_versions(call: &Call) {
    let Ok((user_id, item_id)) = target(call) else { return };
    let cluster = &call.life().shared.cluster;
    let versions = call.life().memory().caches.mark_other_versions(cluster, &user_id, &item_id);
    versions.iter().for_each(|version| announce(&call.connection.life, &user_id, version));
}

/// Whose data of which item, from a path with the user in it or with the user in the query.
fn target(call: &Call) -> Result<(String, String), Box<Answer>> {
    match &call.captured[..] {
        [user, item] => Ok((call.acts_for(Some(user))?.id, plain(item).unwrap_or_default())),
        _ => Ok((call.acts_for(call.query.get("userId").as_deref())?.id, call.guid(0))),
    }
}
