//! The library: items, views, and the preferences of the home page.

use http::StatusCode;
use serde_json::{Value, json};

use crate::answer::Answer;
use crate::call::Call;
use crate::catalogue::{ItemRow, Kind};
use crate::cluster::{Database, User};
use crate::generation::Generation;
use crate::identifiers::{guid_of, plain};
use crate::item_dto;
use crate::library::VIEW;
use crate::pod::Settings;
use crate::user_data::{Length, Plays, UserData};

/// `GET /Items?userId=&limit=&startIndex=&ids=&parentId=&recursive=&filters=&fields=`. Without any of `ids`, `parentId` and
/// `recursive` it is the root's two folders, and the limit does not count.
pub(crate) fn list(call: &Call) -> Answer {
    list_for(call, call.query.get("userId"))
}

/// `GET /Users/{id}/Items`, the older form.
pub(crate) fn of_user(call: &Call) -> Answer {
    list_for(call, Some(call.captured(0).to_owned()))
}

fn list_for(call: &Call, user: Option<String>) -> Answer {
    let settings = call.settings();
    let is_number = |value: &String| value.parse::<i32>().is_ok();
    for name in ["limit", "startIndex"] {
        if let Some(value) = call.query.get(name).filter(|value| !is_number(value)) {
            return Answer::invalid(name, &value);
        }
    }
    let user = match reader(call, user) {
        Ok(user) => user,
        Err(refusal) => return *refusal,
    };
    let wanted: Vec<String> = call.query.list("ids").into_iter().filter_map(plain).collect();
    if wanted.is_empty() && call.query.get("parentId").is_none() && !call.query.is_true("recursive") {
        return page(vec![view(settings), playlists(settings)], 2, 0);
    }
    if let Some(members) = members(call) {
        return listed(call, user.as_ref(), members);
    }
    let rows = call.life().shared.cluster.read(|database| database.items.clone());
    let is_wanted = |row: &ItemRow| match wanted.is_empty() {
        true => matches!(row.kind, Kind::Movie | Kind::Channel),
        false => wanted.contains(&row.id),
    };
    let is_wanted = |row: &ItemRow| row.version_of.is_none() && is_wanted(row);
    let rows = rows.into_iter().filter(|row| is_wanted(row) && is_filtered_in(call, user.as_ref(), row)).collect();
    listed(call, user.as_ref(), rows)
}

/// What is in the collection or playlist that `parentId` names. A collection's members are those that this pod keeps with it,
/// a playlist's those that the database has.
fn members(call: &Call) -> Option<Vec<ItemRow>> {
    let parent = call.query.get("parentId").and_then(|id| plain(&id))?;
    let cluster = &call.life().shared.cluster;
    let mut memory = call.life().memory();
    let row = memory.caches.by_id(cluster, &parent)?.row.clone();
    match row.kind {
        Kind::Collection => Some(rows_of(call, &row)),
        Kind::Playlist => cluster.read(|database| database.item(&parent).cloned()).map(|row| rows_of(call, &row)),
        _ => None,
    }
}

fn rows_of(call: &Call, group: &ItemRow) -> Vec<ItemRow> {
    let find = |database: &Database| {
        let members = group.members.iter().filter_map(|member| database.item(&member.item).cloned());
        members.collect()
    };
    call.life().shared.cluster.read(find)
}

/// `GET /Playlists/{id}/Items?userId=`, as the database has them.
pub(crate) fn of_playlist(call: &Call) -> Answer {
    let user = match call.acts_for(call.query.get("userId").as_deref()) {
        Ok(user) => user,
        Err(refusal) => return *refusal,
    };
    let id = call.guid(0);
    let row = call.life().shared.cluster.read(|database| database.item(&id).cloned());
    let Some(row) = row.filter(|row| row.kind == Kind::Playlist) else {
        return Answer::json_with(StatusCode::NOT_FOUND, &json!("Playlist not found"));
    };
    let answer = listed(call, Some(&user), rows_of(call, &row));
    let entries = row.members.iter().map(|member| member.entry.clone());
    answer.with_property("Items", "PlaylistItemId", entries)
}

/// A user for whom items are listed; none for an API key that names none.
fn reader(call: &Call, named: Option<String>) -> Result<Option<User>, Box<Answer>> {
    if call.user().is_none() && named.as_ref().is_none_or(String::is_empty) {
        return Ok(None);
    }
    call.acts_for(named.as_deref()).map(Some)
}

/// `filters=IsFavorite,IsPlayed…`, which the database decides.
fn is_filtered_in(call: &Call, user: Option<&User>, row: &ItemRow) -> bool {
    let filters = call.query.joined("filters").unwrap_or_default();
    let Some(user) = user.filter(|_| !filters.is_empty()) else {
        return true;
    };
    let data = call.life().shared.cluster.read(|database| database.user_data(&user.id, &row.id).cloned());
    let data = data.unwrap_or_default();
    filters.split(',').all(|filter| match filter.trim().to_ascii_lowercase().as_str() {
        "isfavorite" => data.favorite,
        "isplayed" => data.played,
        "isunplayed" => !data.played,
        "isresumable" => data.position > 0,
        _ => true,
    })
}

/// A page of these rows, each with the user's data as this pod lists it.
fn listed(call: &Call, user: Option<&User>, rows: Vec<ItemRow>) -> Answer {
    let (settings, cluster) = (call.settings(), &call.life().shared.cluster);
    let fields: Vec<String> = call.query.joined("fields").unwrap_or_default().split(',').map(str::to_owned).collect();
    let total = rows.len();
    let number = |name| call.query.number(name).map(|number| usize::try_from(number).unwrap_or(total));
    let start = number("startIndex").unwrap_or(0);
    let mut memory = call.life().memory();
    let shown = rows.into_iter().skip(start).take(number("limit").unwrap_or(total)).map(|row| {
        let mut dto = item_dto::listed(&row, settings, &fields);
        if let Some(user) = user {
            let data = memory.caches.listed_user_data(cluster, settings.generation, &user.id, &row.id);
            dto["UserData"] = data.dto(&row.id, row.length());
        }
        dto
    });
    let shown = shown.collect();
    page(shown, total, start)
}

/// `GET /UserItems/Resume?userId=` and `/Users/{id}/Items/Resume`: what the database says was begun.
pub(crate) fn resume(call: &Call) -> Answer {
    let named = call.captured.first().cloned().or_else(|| call.query.get("userId"));
    let user = match call.acts_for(named.as_deref()) {
        Ok(user) => user,
        Err(refusal) => return *refusal,
    };
    let rows = call.life().shared.cluster.read(|database| {
        let is_begun = |id: &str| database.user_data(&user.id, id).is_some_and(|data| data.position > 0);
        let begun = |row: &&ItemRow| row.version_of.is_none() && is_begun(&row.id);
        let mut rows: Vec<ItemRow> = database.items.iter().filter(begun).cloned().collect();
        let last_played =
            |row: &ItemRow| database.user_data(&user.id, &row.id).and_then(|data| data.last_played.clone());
        rows.sort_by_key(|row| std::cmp::Reverse(last_played(row)));
        rows
    });
    listed(call, Some(&user), rows)
}

fn page(items: Vec<Value>, total: usize, start: usize) -> Answer {
    Answer::json(&json!({"Items": items, "TotalRecordCount": total, "StartIndex": start}))
}

/// `GET /Items/{id}?userId=`: as this pod has it.
pub(crate) fn one(call: &Call) -> Answer {
    item(call, call.query.get("userId").as_deref(), &call.guid(0))
}

/// `GET /Users/{id}/Items/{item}`, the older form.
pub(crate) fn one_of_user(call: &Call) -> Answer {
    item(call, Some(call.captured(0)), &call.guid(1))
}

/// `GET /Items/{id}/Ancestors?userId=`: the item's library, whether or not a user is named.
pub(crate) fn ancestors(call: &Call) -> Answer {
    if let Err(refusal) = reader(call, call.query.get("userId")) {
        return *refusal;
    }
    let settings = call.settings();
    match call.life().memory().caches.by_id(&call.life().shared.cluster, &call.guid(0)) {
        Some(_) => Answer::json(&json!([view(settings)])),
        None if call.guid(0) == VIEW => Answer::json(&json!([])),
        None => Answer::problem(StatusCode::NOT_FOUND),
    }
}

fn item(call: &Call, named: Option<&str>, id: &str) -> Answer {
    let user = match call.acts_for(named) {
        Ok(user) => user,
        Err(refusal) => return *refusal,
    };
    let settings = call.settings();
    let mut memory = call.life().memory();
    match memory.caches.by_id(&call.life().shared.cluster, id) {
        Some(item) => {
            let mut dto = item_dto::whole(&item.row, settings);
            dto["UserData"] = item.user_data(&user.id).dto(id, item.row.length());
            dto["CanDelete"] = json!(user.administrator);
            if item.row.kind.is_file() {
                dto["MediaSources"] = media_sources(call, &item.row);
            }
            Answer::json(&dto)
        }
        None if id == VIEW => Answer::json(&view(settings)),
        None => Answer::problem(StatusCode::NOT_FOUND),
    }
}

/// The item's own, then those of its other versions.
fn media_sources(call: &Call, row: &ItemRow) -> Value {
    let others = call.life().shared.cluster.read(|database| {
        let others = database.other_versions(&row.id);
        others.iter().filter_map(|id| database.item(id).cloned()).collect::<Vec<_>>()
    });
    std::iter::once(row).chain(&others).map(|row| super::playback::media_source(call, row)).collect()
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
    let libraries = call.life().memory().libraries.clone();
    let views: Vec<Value> = libraries
        .iter()
        .map(|(name, library)| {
            let mut view = view.clone();
            if library.id != VIEW {
                view["CollectionType"] = json!(library.kind);
                view["ImageTags"] = json!({});
                view["ImageBlurHashes"] = json!({});
                view["Id"] = json!(library.id);
                view["UserData"] = UserData::default().dto(&library.id, FOLDER);
            }
            view["Name"] = json!(name);
            view
        })
        .collect();
    let total = views.len();
    page(views, total, 0)
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

const FOLDER: Length = Length { ticks: None, can_be_played: false, plays: Plays::ByPercent };

fn folder(settings: &Settings, name: &str, id: &str, kind: &str, collection: &str) -> Value {
    json!({
        "Name": name, "ServerId": settings.server_id, "Id": id, "ChannelId": null, "IsFolder": true, "Type": kind,
        "UserData": UserData::default().dto(id, FOLDER), "CollectionType": collection, "ImageTags": {}, "BackdropImageTags": [],
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
