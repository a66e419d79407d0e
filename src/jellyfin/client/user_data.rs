//! A user's data of items, for the API key: read on one pod, written on another.

use http::StatusCode;
use serde_json::Value;

use super::{ApiCall, ApiResponse, encoded};
use crate::jellyfin::user_data::{
    Act, Id, Row,
    position::{PlayedItem, ResumeLimits},
};

/// Children of a folder that one call asks for.
const PAGE: usize = 100;

/// Versions of a film that are told.
const MOST_VERSIONS: usize = 64;

/// A pod's answer about an item.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer<T> {
    Got(T),
    /// It has no such item for this user.
    Missing,
    Refused(StatusCode),
}

/// The row as the pod has it.
pub fn row(user: Id, item: Id) -> ApiCall<Answer<Row>> {
    ApiCall::get(format!("/UserItems/{item}/UserData?userId={user}"), read_row)
}

/// Makes the pod take a row or a part of it, in memory and in the database. It tells the user's
/// sockets. The answer is the row that it has now.
pub fn write(user: Id, item: Id, row: &Row) -> ApiCall<Answer<Row>> {
    ApiCall::post(format!("/UserItems/{item}/UserData?userId={user}"), read_row).with_body(row.to_body())
}

/// Does what a user did. `None` if only a client's report can do that.
pub fn act(user: Id, item: Id, act: &Act) -> Option<ApiCall<Answer<()>>> {
    let at = |path: &str| format!("/{}?userId={user}", path.replace("{}", &item.to_string()));
    Some(match act {
        Act::Favorite(true) => ApiCall::post(at("UserFavoriteItems/{}"), done),
        Act::Favorite(false) => ApiCall::delete(at("UserFavoriteItems/{}"), done),
        Act::Likes(Some(likes)) => ApiCall::post(format!("{}&likes={likes}", at("UserItems/{}/Rating")), done),
        Act::Likes(None) => ApiCall::delete(at("UserItems/{}/Rating"), done),
        Act::Played(None) => ApiCall::post(at("UserPlayedItems/{}"), done),
        Act::Played(Some(date)) => {
            ApiCall::post(format!("{}&datePlayed={}", at("UserPlayedItems/{}"), encoded(date)), done)
        }
        Act::Unplayed => ApiCall::delete(at("UserPlayedItems/{}"), done),
        Act::Update(_) | Act::Started | Act::Reached(_) | Act::Ended => return None,
    })
}

/// What kind of item it is, and how long. Lists have no versions, so the item is asked for by its id.
pub fn played_item(user: Id, item: Id) -> ApiCall<Answer<PlayedItem>> {
    ApiCall::get(one(user, item), |response| {
        Some(answered(&response, |json| json.get("Type").is_some().then(|| PlayedItem::of(json))))
    })
}

/// All versions of a video: each is an item, and a media source of all of them.
pub fn versions(user: Id, item: Id) -> ApiCall<Answer<Vec<Id>>> {
    ApiCall::get(one(user, item), |response| Some(answered(&response, versions_of)))
}

fn one(user: Id, item: Id) -> String {
    format!("/Items/{item}?userId={user}")
}

fn versions_of(item: &Value) -> Option<Vec<Id>> {
    let is_video = item.get("MediaType")?.as_str()? == "Video" && item.get("Type")? != "TvChannel";
    let sources = item.get("MediaSources").and_then(Value::as_array).filter(|_| is_video);
    let ids = sources.into_iter().flatten().filter_map(|source| Id::read(source.get("Id")?.as_str()?));
    Some(ids.take(MOST_VERSIONS).collect())
}

/// From where to where the server resumes what was played.
pub fn resume_limits() -> ApiCall<Answer<ResumeLimits>> {
    ApiCall::get("/System/Configuration", |response| Some(answered(&response, |json| Some(ResumeLimits::of(json)))))
}

/// Some of the items below a folder with their rows, from the given place on; none at the end.
pub fn children(user: Id, folder: Id, from: usize) -> ApiCall<Answer<Vec<(Id, Row)>>> {
    let target = format!(
        "/Items?parentId={folder}&recursive=true&userId={user}&filters=IsNotFolder&startIndex={from}&limit={PAGE}\
         &enableImages=false&enableUserData=true&enableTotalRecordCount=false"
    );
    ApiCall::get(target, |response| {
        let child =
            |item: &Value| Some((Id::read(item.get("Id")?.as_str()?)?, Row::read(item.get("UserData")?.clone())?));
        Some(answered(&response, |json| Some(json.get("Items")?.as_array()?.iter().filter_map(child).collect())))
    })
}

fn read_row(response: ApiResponse) -> Option<Answer<Row>> {
    Some(answered(&response, |json| Row::read(json.clone())))
}

fn done(response: ApiResponse) -> Option<Answer<()>> {
    Some(answered(&response, |_| Some(())))
}

fn answered<T>(response: &ApiResponse, read: impl FnOnce(&Value) -> Option<T>) -> Answer<T> {
    match response.status {
        StatusCode::NOT_FOUND => Answer::Missing,
        status if status.is_success() => read(&response.json()).map_or(Answer::Refused(status), Answer::Got),
        status => Answer::Refused(status),
    }
}
