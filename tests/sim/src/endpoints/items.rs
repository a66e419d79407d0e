//! The library: items, views, and the preferences of the home page.

use http::StatusCode;
use serde_json::{Value, json};

use crate::answer::Answer;
use crate::call::Call;
use crate::generation::Generation;
use crate::identifiers::guid_of;
use crate::library::{Item, VIEW, user_data};
use crate::pod::Settings;

/// `GET /Items?limit=&startIndex=&ids=&parentId=&recursive=`. Without any of the last three it is the root's two folders,
/// and the limit does not count.
pub(crate) fn list(call: &Call) -> Answer {
    let settings = call.settings();
    let is_number = |value: &String| value.parse::<i32>().is_ok();
    for name in ["limit", "startIndex"] {
        if let Some(value) = call.query.get(name).filter(|value| !is_number(value)) {
            return Answer::invalid(name, &value);
        }
    }
    let wanted = call.query.joined("ids").unwrap_or_default().to_lowercase().replace('-', "");
    if wanted.is_empty() && call.query.get("parentId").is_none() && !call.query.is_true("recursive") {
        return page(vec![view(settings), playlists(settings)], 2, 0);
    }
    let items = Item::ALL.iter().filter(|item| wanted.is_empty() || wanted.contains(item.id()));
    let all: Vec<Value> = items.map(|item| item.dto(settings)).collect();
    let total = all.len();
    let number = |name| call.query.number(name).map(|number| usize::try_from(number).unwrap_or(total));
    let start = number("startIndex").unwrap_or(0);
    let shown = all.into_iter().skip(start).take(number("limit").unwrap_or(total)).collect();
    page(shown, total, start)
}

fn page(items: Vec<Value>, total: usize, start: usize) -> Answer {
    Answer::json(&json!({"Items": items, "TotalRecordCount": total, "StartIndex": start}))
}

/// `GET /Users/{id}/Items`, the older form.
pub(crate) fn of_user(call: &Call) -> Answer {
    list(call)
}

/// `GET /Items/{id}`.
pub(crate) fn one(call: &Call) -> Answer {
    item(call, &call.guid(0))
}

/// `GET /Users/{id}/Items/{item}`, the older form.
pub(crate) fn one_of_user(call: &Call) -> Answer {
    item(call, &call.guid(1))
}

fn item(call: &Call, id: &str) -> Answer {
    match Item::of(id) {
        Some(item) => {
            let mut dto = item.dto(call.settings());
            dto["UserData"] = user_data(id);
            dto["MediaSources"] = json!([super::playback::media_source(call, item)]);
            Answer::json(&dto)
        }
        None if id == VIEW => Answer::json(&view(call.settings())),
        None => Answer::problem(StatusCode::NOT_FOUND),
    }
}

/// `DELETE /Items/{id}`: nothing is ever deleted; without the right it is the 401 that has a body.
pub(crate) fn delete(call: &Call) -> Answer {
    if Item::of(&call.guid(0)).is_none() {
        Answer::problem(StatusCode::NOT_FOUND)
    } else if call.is_administrator() {
        Answer::no_content()
    } else {
        Answer::json_with(StatusCode::UNAUTHORIZED, &json!("Unauthorized access"))
    }
}

/// `GET /UserViews`.
pub(crate) fn views(call: &Call) -> Answer {
    let settings = call.settings();
    let mut view = view(settings);
    let mut rest = json!({
        "Etag": "d90c78dfd12d57c110e06d77e3a0df56", "DateCreated": "2026-11-01T10:00:00.0000000Z", "CanDelete": false,
        "CanDownload": false, "SortName": "movies", "ExternalUrls": [], "EnableMediaSourceDisplay": true,
        "Path": "/jellyfin/data/jellyfin/default/Movies", "Taglines": [], "Genres": [], "PlayAccess": "Full",
        "RemoteTrailers": [], "ProviderIds": {}, "ParentId": "e9d5075a555c1cbc394eec4cef295274", "People": [],
        "Studios": [], "GenreItems": [], "LocalTrailerCount": 0, "ChildCount": 3, "SpecialFeatureCount": 0,
        "DisplayPreferencesId": VIEW, "Tags": [], "LockedFields": [], "LockData": false,
        "DateLastMediaAdded": "2026-11-01T10:00:00.0000000Z",
    });
    if settings.generation == Generation::V12 {
        rest["Chapters"] = json!([]);
        rest["PrimaryImageAspectRatio"] = json!(16.0 / 9.0);
    }
    for (name, value) in rest.as_object().into_iter().flatten() {
        view[name] = value.clone();
    }
    page(vec![view], 1, 0)
}

fn view(settings: &Settings) -> Value {
    let mut view = folder(settings, "Movies", VIEW, "CollectionFolder", "movies");
    if settings.generation == Generation::V12 {
        let tag = "131778be5af028beb4ace991f3729fa4";
        view["ImageTags"] = json!({"Primary": tag});
        view["ImageBlurHashes"] = json!({"Primary": {tag: "WMB|Qp#fIUuwoM]hkUX5WVagagjbE0X4x[jKWWj=RoWVbbW=X7bF"}});
    }
    view
}

fn playlists(settings: &Settings) -> Value {
    folder(settings, "Playlists", "1071671e7bffa0532e930debee501d2e", "ManualPlaylistsFolder", "playlists")
}

fn folder(settings: &Settings, name: &str, id: &str, kind: &str, collection: &str) -> Value {
    json!({
        "Name": name, "ServerId": settings.server_id, "Id": id, "ChannelId": null, "IsFolder": true, "Type": kind,
        "UserData": user_data(id), "CollectionType": collection, "ImageTags": {}, "BackdropImageTags": [],
        "ImageBlurHashes": {}, "LocationType": "FileSystem", "MediaType": "Unknown",
    })
}

/// An empty page.
pub(crate) fn none(_: &Call) -> Answer {
    Answer::json(&json!({"Items": [], "TotalRecordCount": 0, "StartIndex": 0}))
}

pub(crate) fn none_as_list(_: &Call) -> Answer {
    Answer::json(&json!([]))
}

/// `GET /DisplayPreferences/{id}?client=`.
pub(crate) fn display_preferences(call: &Call) -> Answer {
    let client = call.query.get("client").unwrap_or_default();
    Answer::json(&json!({
        "Id": crate::identifiers::dashed(&guid_of(call.captured(0))),
        "SortBy": "SortName",
        "RememberIndexing": false,
        "PrimaryImageHeight": 250,
        "PrimaryImageWidth": 250,
        "CustomPrefs": {
            "chromecastVersion": "stable", "skipForwardLength": "30000", "skipBackLength": "10000",
            "enableNextVideoInfoOverlay": "False", "tvhome": null, "dashboardTheme": null,
        },
        "ScrollDirection": "Horizontal",
        "ShowBackdrop": true,
        "RememberSorting": false,
        "SortOrder": "Ascending",
        "ShowSidebar": false,
        "Client": client,
    }))
}

/// Takes what it is given and answers 204.
pub(crate) fn keep_nothing(_: &Call) -> Answer {
    Answer::no_content()
}
