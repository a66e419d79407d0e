//! SyncPlay in a client's name: a group that is made again on another pod.

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};

use super::{ApiCall, ApiResponse, field, status, text};
use crate::jellyfin::{
    authorization::Device,
    sync_play::{Queue, dashed, group_id},
};

/// A member of a group: its device, and the token by which the pod knows it.
#[derive(Clone, Copy)]
pub struct Member<'a> {
    pub device: &'a Device,
    pub token: &'a str,
}

/// Makes a group, and gives its id in the form that jellypin keeps.
pub fn new(member: Member<'_>, name: &str) -> ApiCall<Option<String>> {
    let read = |response: ApiResponse| {
        let id = response.success().ok().and_then(|group| text(&group, "GroupId"));
        Some(id.and_then(|id| group_id(&id)))
    };
    in_name_of(member, ApiCall::post("/SyncPlay/New", read), json!({"GroupName": name}))
}

/// Joins a group.
pub fn join(member: Member<'_>, group: &str) -> ApiCall<StatusCode> {
    in_name_of(member, ApiCall::post("/SyncPlay/Join", status), json!({"GroupId": dashed(group)}))
}

/// What a pod shows a client of its groups, as the pod writes it; `None` if it shows nothing.
/// `group`: one of them; otherwise the list.
pub fn look(member: Member<'_>, group: Option<&str>) -> ApiCall<Option<Bytes>> {
    let read = |response: ApiResponse| Some((response.status == StatusCode::OK).then_some(response.body));
    let path = group.map_or_else(|| "/SyncPlay/List".to_owned(), |group| format!("/SyncPlay/{}", dashed(group)));
    ApiCall::get(path, read).as_device(member.device, Some(member.token))
}

/// How many users are in a group.
pub fn participants(member: Member<'_>, group: &str) -> ApiCall<usize> {
    let read = |response: ApiResponse| {
        let group = response.success().ok()?;
        Some(field(&group, "Participants")?.as_array()?.len())
    };
    ApiCall::get(format!("/SyncPlay/{}", dashed(group)), read).as_device(member.device, Some(member.token))
}

/// Lets a group play this queue from this place on.
pub fn set_queue(member: Member<'_>, queue: &Queue, position: i64) -> ApiCall<StatusCode> {
    let items: Vec<String> = queue.items.iter().map(|id| dashed(id)).collect();
    let body = json!({"PlayingQueue": items, "PlayingItemPosition": queue.index, "StartPositionTicks": position});
    in_name_of(member, ApiCall::post("/SyncPlay/SetNewQueue", status), body)
}

/// Says that a member is ready to go on at a place of this entry of the queue.
pub fn ready(member: Member<'_>, entry: &str, (when, position, plays): (&str, i64, bool)) -> ApiCall<StatusCode> {
    let body = json!({"When": when, "PositionTicks": position, "IsPlaying": plays, "PlaylistItemId": dashed(entry)});
    in_name_of(member, ApiCall::post("/SyncPlay/Ready", status), body)
}

pub fn pause(member: Member<'_>) -> ApiCall<StatusCode> {
    in_name_of(member, ApiCall::post("/SyncPlay/Pause", status), json!({}))
}

pub fn unpause(member: Member<'_>) -> ApiCall<StatusCode> {
    in_name_of(member, ApiCall::post("/SyncPlay/Unpause", status), json!({}))
}

pub fn set_repeat_mode(member: Member<'_>, mode: &str) -> ApiCall<StatusCode> {
    in_name_of(member, ApiCall::post("/SyncPlay/SetRepeatMode", status), json!({"Mode": mode}))
}

/// Says that the others need not wait for a member.
pub fn ignore_wait(member: Member<'_>) -> ApiCall<StatusCode> {
    in_name_of(member, ApiCall::post("/SyncPlay/SetIgnoreWait", status), json!({"IgnoreWait": true}))
}

fn in_name_of<T>(member: Member<'_>, call: ApiCall<T>, body: Value) -> ApiCall<T> {
    call.as_device(member.device, Some(member.token)).with_body(Bytes::from(body.to_string()))
}
