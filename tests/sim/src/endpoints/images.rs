//! Images: anonymous and public. Where a picture's file lies is shared; the file is on the disk of the pod that took it.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::StatusCode;
use serde_json::json;

use super::item_edits::done;
use crate::answer::Answer;
use crate::call::Call;
use crate::catalogue::{ItemRow, Picture};
use crate::library::{LAST_MODIFIED, LOGO, POSTER, VIEW};

/// The types of pictures (`ImageType`).
const KINDS: [&str; 10] =
    ["Primary", "Art", "Backdrop", "Banner", "Logo", "Thumb", "Disc", "Box", "Screenshot", "Menu"];

/// `GET /Items/{id}/Images/{kind}[/{index}]`.
pub(crate) fn of_item(call: &Call) -> Answer {
    let Some(kind) = kind(call.captured(1)) else {
        return Answer::invalid("imageType", call.captured(1));
    };
    let index = index(call, 2);
    let picture = {
        let mut memory = call.life().memory();
        match memory.caches.by_id(&call.life().shared.cluster, &call.guid(0)) {
            Some(item) => pictures(&item.row, kind).nth(index).cloned(),
            None if call.guid(0) == VIEW => return shown(call, Answer::sized("image/jpeg", POSTER), 101),
            None => None,
        }
    };
    match picture {
        Some(picture) => serve(call, &picture, ("image/jpeg", POSTER)),
        None => Answer::problem(StatusCode::NOT_FOUND),
    }
}

/// `GET /UserImage?userId=` and `/Users/{id}/Images/{kind}`; a user who has set no picture has one that every pod has.
pub(crate) fn of_user(call: &Call) -> Answer {
    let named = call.captured.first().cloned().or_else(|| call.query.get("userId"));
    let id = named.and_then(|id| crate::identifiers::plain(&id)).unwrap_or_default();
    let picture = call.life().shared.cluster.read(|database| database.user(&id).and_then(|user| user.picture.clone()));
    match picture {
        Some(picture) => serve(call, &picture, ("image/png", LOGO)),
        None => shown(call, Answer::sized("image/png", LOGO), 101),
    }
}

fn serve(call: &Call, picture: &Picture, beside: (&'static str, &'static [u8])) -> Answer {
    let age = now().saturating_sub(picture.modified);
    let Some(path) = &picture.file else {
        return shown(call, Answer::sized(beside.0, beside.1), 101);
    };
    let found = call.life().shared.disk.files().pictures.get(path).cloned();
    let answer = match found {
        Some((bytes, kind)) => Answer::sized("image/png", bytes).with("content-type", &kind),
        None => Answer::error(StatusCode::NOT_FOUND),
    };
    shown(call, answer, age)
}

/// With the headers that are set before the file is looked for.
fn shown(call: &Call, answer: Answer, age: u64) -> Answer {
    let tagged = call.query.get("tag").is_some_and(|tag| !tag.is_empty());
    let is_there = answer.status == StatusCode::OK;
    let answer = answer
        .with("cache-control", if tagged { "public, max-age=31536000, immutable" } else { "public" })
        .with("vary", "Accept")
        .with("age", &age.to_string())
        .with("content-disposition", "attachment")
        .with("transfermode.dlna.org", "Interactive")
        .with("realtimeinfo.dlna.org", "DLNA.ORG_TLAG=*");
    if is_there { answer.with("last-modified", LAST_MODIFIED) } else { answer }
}

/// `GET /Items/{id}/Images`.
pub(crate) fn list(call: &Call) -> Answer {
    let mut memory = call.life().memory();
    let Some(item) = memory.caches.by_id(&call.life().shared.cluster, &call.guid(0)) else {
        return Answer::problem(StatusCode::NOT_FOUND);
    };
    let infos = item.row.pictures.iter().map(|picture| {
        json!({"ImageType": picture.kind, "ImageTag": picture.tag, "Path": picture.file, "Width": 320, "Height": 180})
    });
    Answer::json(&infos.collect())
}

/// `POST /Items/{id}/Images/{kind}[/{index}]`, the picture in base64. A backdrop without an index is one more.
pub(crate) fn upload(call: &Call) -> Answer {
    let Some(kind) = kind(call.captured(1)) else {
        return Answer::invalid("imageType", call.captured(1));
    };
    let id = call.guid(0);
    {
        let mut memory = call.life().memory();
        if memory.caches.by_id(&call.life().shared.cluster, &id).is_none() {
            return Answer::problem(StatusCode::NOT_FOUND);
        }
    }
    let (bytes, content_type) = match picture_of(call) {
        Ok(picture) => picture,
        Err(refusal) => return *refusal,
    };
    let at = call.captured.get(2).map(|_| index(call, 2));
    let mut memory = call.life().memory();
    let mut file = String::new();
    let changed = memory.caches.change_item(&call.life().shared.cluster, &id, |row| {
        let count = pictures(row, kind).count();
        let place = at.unwrap_or(if kind == "Backdrop" { count } else { 0 });
        file = format!("library/{id}/{}{place}", kind.to_ascii_lowercase());
        let picture = Picture::new(kind, &file, now());
        let old = row.pictures.iter_mut().filter(|picture| picture.kind == kind).nth(place);
        match old {
            Some(old) => *old = picture,
            None => row.pictures.push(picture),
        }
    });
    call.life().shared.disk.files().pictures.insert(file, (bytes, content_type));
    done(changed)
}

/// `DELETE /Items/{id}/Images/{kind}[/{index}]`.
pub(crate) fn remove(call: &Call) -> Answer {
    let Some(kind) = kind(call.captured(1)) else {
        return Answer::invalid("imageType", call.captured(1));
    };
    let index = index(call, 2);
    let mut memory = call.life().memory();
    let mut gone = None;
    let changed = memory.caches.change_item(&call.life().shared.cluster, &call.guid(0), |row| {
        let at = row.pictures.iter().enumerate().filter(|(_, picture)| picture.kind == kind).nth(index);
        if let Some(at) = at.map(|(at, _)| at) {
            gone = row.pictures.remove(at).file;
        }
    });
    if let Some(file) = gone {
        call.life().shared.disk.files().pictures.remove(&file);
    }
    done(changed)
}

/// `POST /UserImage?userId=` and `/Users/{id}/Images/{kind}`.
pub(crate) fn upload_of_user(call: &Call) -> Answer {
    let named = call.captured.first().cloned().or_else(|| call.query.get("userId"));
    let user = match call.acts_for(named.as_deref()) {
        Ok(user) => user,
        Err(refusal) => return *refusal,
    };
    let (bytes, content_type) = match picture_of(call) {
        Ok(picture) => picture,
        Err(refusal) => return *refusal,
    };
    let file = format!("users/{}/profile", user.name);
    call.life().shared.disk.files().pictures.insert(file.clone(), (bytes, content_type));
    let picture = Picture::new("Profile", &file, now());
    call.life().shared.cluster.change(|database| {
        if let Some(user) = database.user_mut(&user.id) {
            user.picture = Some(picture);
        }
    });
    Answer::no_content()
}

/// `DELETE` of the same.
pub(crate) fn remove_of_user(call: &Call) -> Answer {
    let named = call.captured.first().cloned().or_else(|| call.query.get("userId"));
    let user = match call.acts_for(named.as_deref()) {
        Ok(user) => user,
        Err(refusal) => return *refusal,
    };
    let gone = call.life().shared.cluster.change(|database| database.user_mut(&user.id)?.picture.take());
    if let Some(file) = gone.and_then(|picture| picture.file) {
        call.life().shared.disk.files().pictures.remove(&file);
    }
    Answer::no_content()
}

/// The picture that a request brings, and its type.
fn picture_of(call: &Call) -> Result<(Bytes, String), Box<Answer>> {
    let content_type = call.header("content-type").unwrap_or_default().to_owned();
    if !content_type.starts_with("image/") {
        return Err(Answer::json_with(StatusCode::BAD_REQUEST, &json!("Incorrect ContentType.")).into());
    }
    match BASE64.decode(&call.body) {
        Ok(bytes) => Ok((bytes.into(), content_type)),
        Err(_) => Err(Answer::error(StatusCode::INTERNAL_SERVER_ERROR).into()),
    }
}

fn pictures<'a>(row: &'a ItemRow, kind: &'a str) -> impl Iterator<Item = &'a Picture> {
    row.pictures.iter().filter(move |picture| picture.kind == kind)
}

fn kind(text: &str) -> Option<&'static str> {
    KINDS.into_iter().find(|kind| kind.eq_ignore_ascii_case(text))
}

fn index(call: &Call, at: usize) -> usize {
    let by_path = call.captured.get(at).and_then(|index| index.parse().ok());
    by_path.or_else(|| call.query.get("imageIndex")?.parse().ok()).unwrap_or(0)
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
