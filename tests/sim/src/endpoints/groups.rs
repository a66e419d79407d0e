//! Collections, whose members each pod keeps with the item, and playlists, which are read from the database.

use http::StatusCode;
use serde_json::{Value, json};

use super::item_edits::done;
use crate::answer::Answer;
use crate::call::{Call, property};
use crate::catalogue::{ItemRow, Kind};
use crate::identifiers::plain;

/// `POST /Collections?name=&ids=`.
pub(crate) fn create_collection(call: &Call) -> Answer {
    if !call.is_administrator() {
        return Answer::empty(StatusCode::FORBIDDEN);
    }
    let name = call.query.get("name").unwrap_or_default();
    let row = ItemRow::group(Kind::Collection, &name, &ids(call));
    add(call, row)
}

/// `POST /Collections/{id}/Items?ids=`: the whole row is written as this pod has it.
pub(crate) fn add_to_collection(call: &Call) -> Answer {
    with_members(call, |row, items| {
        let new: Vec<String> =
            items.into_iter().filter(|item| !row.members.iter().any(|member| member.item == *item)).collect();
        row.add_members(&new);
    })
}

/// `DELETE` of the same.
pub(crate) fn remove_from_collection(call: &Call) -> Answer {
    with_members(call, |row, items| row.members.retain(|member| !items.contains(&member.item)))
}

fn with_members(call: &Call, how: impl FnOnce(&mut ItemRow, Vec<String>)) -> Answer {
    if !call.is_administrator() {
        return Answer::empty(StatusCode::FORBIDDEN);
    }
    let (items, cluster) = (ids(call), &call.life().shared.cluster);
    let mut memory = call.life().memory();
    let is_collection = |row: &ItemRow| row.kind == Kind::Collection;
    if !memory.caches.by_id(cluster, &call.guid(0)).is_some_and(|item| is_collection(&item.row)) {
        // "No collection exists with the supplied Id."
        return Answer::error(StatusCode::BAD_REQUEST);
    }
    done(memory.caches.change_item(cluster, &call.guid(0), |row| how(row, items)))
}

/// `POST /Playlists` by body, or by query as older clients do.
pub(crate) fn create_playlist(call: &Call) -> Answer {
    let body = call.json();
    let text = |name: &str| property(&body, name).and_then(Value::as_str).map(str::to_owned);
    let in_body = property(&body, "Ids").and_then(Value::as_array).cloned();
    let items = match in_body {
        Some(items) => items.iter().filter_map(|id| plain(id.as_str()?)).collect(),
        None => ids(call),
    };
    let user = match call.acts_for(text("UserId").or_else(|| call.query.get("userId")).as_deref()) {
        Ok(user) => user,
        Err(refusal) => return *refusal,
    };
    let name = text("Name").or_else(|| call.query.get("name")).unwrap_or_default();
    let row = ItemRow { owner: Some(user.id), ..ItemRow::group(Kind::Playlist, &name, &items) };
    add(call, row)
}

fn add(call: &Call, row: ItemRow) -> Answer {
    let id = row.id.clone();
    call.life().memory().caches.add_item(&call.life().shared.cluster, row);
    Answer::json(&json!({"Id": id}))
}

/// `POST /Playlists/{id}/Items?ids=&userId=`.
pub(crate) fn add_to_playlist(call: &Call) -> Answer {
    let items = ids(call);
    with_entries(call, |row| row.add_members(&items))
}

/// `DELETE /Playlists/{id}/Items?entryIds=`.
pub(crate) fn remove_from_playlist(call: &Call) -> Answer {
    let entries: Vec<String> = call.query.list("entryIds").into_iter().filter_map(plain).collect();
    with_entries(call, |row| row.members.retain(|member| !entries.contains(&member.entry)))
}

/// Changes the row that the database has now, if its owner or an administrator asks.
fn with_entries(call: &Call, how: impl FnOnce(&mut ItemRow)) -> Answer {
    let user = match call.acts_for(call.query.get("userId").as_deref()) {
        Ok(user) => user,
        Err(refusal) => return *refusal,
    };
    let id = call.guid(0);
    let changed = call.life().shared.cluster.change(|database| {
        let row = database.items.iter_mut().find(|row| row.id == id && row.kind == Kind::Playlist)?;
        let may = row.owner.as_ref() == Some(&user.id);
        if may {
            how(row);
            row.stamp();
        }
        Some(may)
    });
    match changed {
        None => Answer::json_with(StatusCode::NOT_FOUND, &json!("Playlist not found")),
        Some(true) => Answer::no_content(),
        Some(false) => Answer::empty(StatusCode::FORBIDDEN),
    }
}

/// The items of `ids=`.
fn ids(call: &Call) -> Vec<String> {
    call.query.list("ids").into_iter().filter_map(plain).collect()
}
