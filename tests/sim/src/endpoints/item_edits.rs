//! What changes items: the metadata editor, deletion, and the calls that only start work.

use http::StatusCode;
use serde_json::{Value, json};

use crate::answer::Answer;
use crate::caches::ItemIsGone;
use crate::call::{Call, property};
use crate::generation::Generation;
use crate::identifiers::plain;
use crate::item_dto::EDITABLE;
use crate::single_writer;

/// `POST /Items/{id}` with the item's whole document (`ItemUpdateController`): what it leaves out is emptied.
pub(crate) fn edit(call: &Call) -> Answer {
    let document = call.json();
    let Some(name) = property(&document, "Name").and_then(Value::as_str) else {
        return Answer::problem(StatusCode::BAD_REQUEST);
    };
    let mut memory = call.life().memory();
    let changed = memory.caches.change_item(&call.life().shared.cluster, &call.guid(0), |row| {
        name.clone_into(&mut row.name);
        let year = property(&document, "ProductionYear").and_then(Value::as_i64);
        row.year = year.and_then(|year| i32::try_from(year).ok()).unwrap_or(0);
        let given = |name: &str| Some((name.to_owned(), property(&document, name)?.clone()));
        row.edited = EDITABLE.iter().filter_map(|name| given(name)).filter(|(_, value)| !value.is_null()).collect();
    });
    done(changed)
}

/// `DELETE /Items/{id}`; without the right it is the 401 that has a body. By an id that this pod has read it works once more
/// after another pod has done it.
pub(crate) fn delete(call: &Call) -> Answer {
    delete_all(call, &[call.guid(0)])
}

/// `DELETE /Items?ids=`.
pub(crate) fn delete_many(call: &Call) -> Answer {
    delete_all(call, &call.query.list("ids").into_iter().filter_map(plain).collect::<Vec<_>>())
}

fn delete_all(call: &Call, ids: &[String]) -> Answer {
    let mut memory = call.life().memory();
    let cluster = &call.life().shared.cluster;
    for id in ids {
        // `ArgumentException`: no item has an empty id.
        if call.settings().generation == Generation::V10_11 && id.bytes().all(|digit| digit == b'0') {
            return Answer::error(StatusCode::BAD_REQUEST);
        }
        if memory.caches.by_id(cluster, id).is_none() {
            return Answer::problem(StatusCode::NOT_FOUND);
        }
        // `BaseItem.CanDelete`.
        if !call.is_administrator() && !call.user().is_some_and(|user| user.deletes_content) {
            return Answer::json_with(StatusCode::UNAUTHORIZED, &json!("Unauthorized access"));
        }
        memory.caches.delete_item(cluster, id);
    }
    Answer::no_content()
}

/// `POST /Items/{id}/Refresh`: it is queued, and what this pod has of the item stays. A library is an item too, and is
/// scanned.
pub(crate) fn refresh(call: &Call) -> Answer {
    let mut memory = call.life().memory();
    if memory.libraries.values().any(|library| library.id == call.guid(0)) {
        return Answer::no_content();
    }
    match memory.caches.by_id(&call.life().shared.cluster, &call.guid(0)) {
        Some(_) => Answer::no_content(),
        None => Answer::problem(StatusCode::NOT_FOUND),
    }
}

/// `POST /Videos/{id}/Subtitles` (`UploadSubtitle`): a file, and a refresh of the item, which only a pod that writes does.
pub(crate) fn upload_subtitle(call: &Call) -> Answer {
    let (id, body) = (call.guid(0), call.json());
    let Some(language) = property(&body, "Language").and_then(Value::as_str) else {
        return Answer::problem(StatusCode::BAD_REQUEST);
    };
    if call.life().memory().caches.by_id(&call.life().shared.cluster, &id).is_none() {
        return Answer::problem(StatusCode::NOT_FOUND);
    }
    if !single_writer::is_writer(call) {
        return Answer::no_content();
    }
    let mut memory = call.life().memory();
    done(memory.caches.change_item(&call.life().shared.cluster, &id, |row| row.subtitles.push(language.to_owned())))
}

/// `POST /Library/Refresh`: a scan begins with the folders of libraries that are on the disk by now
/// (`LibraryManager.ValidateTopLibraryFolders`).
pub(crate) fn scan(call: &Call) -> Answer {
    let libraries = call.life().shared.disk.files().libraries.clone();
    call.life().memory().libraries = libraries;
    Answer::no_content()
}

/// `POST /Library/Media/Updated`: taken, and of no consequence here.
pub(crate) fn media_updated(_: &Call) -> Answer {
    Answer::no_content()
}

/// What became of a change of an item.
pub(crate) fn done(changed: Option<Result<(), ItemIsGone>>) -> Answer {
    match changed {
        Some(Ok(())) => Answer::no_content(),
        Some(Err(ItemIsGone)) => Answer::error(StatusCode::INTERNAL_SERVER_ERROR),
        None => Answer::problem(StatusCode::NOT_FOUND),
    }
}
