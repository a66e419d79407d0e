//! `BaseItemDto` in its three lengths: in a list, as what a session plays, and whole.

use serde_json::{Map, Value, json};

use crate::catalogue::{ItemRow, Kind};
use crate::generation::Generation;
use crate::identifiers::guid_of;
use crate::library::media_streams;
use crate::pod::Settings;

/// The properties that an item has in a list when no `fields` are asked for.
const LISTED: [&str; 16] = [
    "Name",
    "ServerId",
    "Id",
    "Container",
    "ChannelId",
    "RunTimeTicks",
    "ProductionYear",
    "IsFolder",
    "Type",
    "VideoType",
    "ImageTags",
    "BackdropImageTags",
    "ImageBlurHashes",
    "LocationType",
    "MediaType",
    "CollectionType",
];

/// What an editor may set (`ItemUpdateController.UpdateItem`), beside name and year.
pub(crate) const EDITABLE: [&str; 17] = [
    "ForcedSortName",
    "OriginalTitle",
    "CriticRating",
    "CommunityRating",
    "Overview",
    "Genres",
    "Tags",
    "Studios",
    "PremiereDate",
    "EndDate",
    "OfficialRating",
    "CustomRating",
    "LockData",
    "LockedFields",
    "ProviderIds",
    "Taglines",
    "Status",
];

/// In a list, with those `fields` of the whole that are asked for.
pub(crate) fn listed(row: &ItemRow, settings: &Settings, fields: &[String]) -> Value {
    let wanted = |name: &str| LISTED.contains(&name) || fields.iter().any(|field| field.eq_ignore_ascii_case(name));
    let Value::Object(whole) = whole(row, settings) else {
        return Value::Null;
    };
    whole.into_iter().filter(|(name, _)| wanted(name)).collect::<Map<_, _>>().into()
}

/// What a session shows as its `NowPlayingItem`.
pub(crate) fn playing(row: &ItemRow, settings: &Settings) -> Value {
    let server_id = &settings.server_id;
    let mut dto = match row.kind {
        Kind::Channel => json!({
            "Name": row.name, "ServerId": server_id, "Id": row.id, "ChannelId": null, "IsFolder": false,
            "Type": "TvChannel", "MediaType": "Video", "LocationType": "Remote",
        }),
        Kind::Collection | Kind::Playlist => json!({
            "Name": row.name, "ServerId": server_id, "Id": row.id, "ChannelId": null, "IsFolder": true,
            "Type": row.kind.names().0, "MediaType": row.kind.names().1,
            "LocationType": "FileSystem", "ChildCount": row.members.len(),
        }),
        Kind::Movie | Kind::Song | Kind::AudioBook => film(row, settings),
    };
    pictures(row, &mut dto);
    for (name, value) in &row.edited {
        if dto.get(name).is_some() {
            dto[name] = value.clone();
        }
    }
    dto
}

fn film(row: &ItemRow, settings: &Settings) -> Value {
    json!({
        "Name": row.name,
        "ServerId": settings.server_id,
        "Id": row.id,
        "DateCreated": "2026-11-01T10:00:00.0000000Z",
        "Container": "mkv",
        "ExternalUrls": [],
        "Path": row.path(),
        "EnableMediaSourceDisplay": true,
        "ChannelId": null,
        "Taglines": [],
        "Genres": [],
        "RunTimeTicks": row.run_time_ticks,
        "ProductionYear": row.year,
        "ProviderIds": {},
        "IsFolder": false,
        "ParentId": row.parent,
        "Type": row.kind.names().0,
        "Studios": [],
        "GenreItems": [],
        "LocalTrailerCount": 0,
        "SpecialFeatureCount": 0,
        "PrimaryImageAspectRatio": 16.0 / 9.0,
        "MediaStreams": media_streams(settings.generation),
        "VideoType": "VideoFile",
        "Chapters": [],
        "Trickplay": {},
        "LocationType": "FileSystem",
        "MediaType": row.kind.names().1,
        "Width": 320,
        "Height": 180,
    })
}

/// Tags by kind; those of backdrops are a list.
fn pictures(row: &ItemRow, dto: &mut Value) {
    let (mut tags, mut backdrops, mut hashes) = (json!({}), Vec::new(), json!({}));
    for picture in &row.pictures {
        if picture.kind == "Backdrop" {
            backdrops.push(picture.tag.clone());
        } else {
            tags[&picture.kind] = json!(picture.tag);
        }
        hashes[&picture.kind][&picture.tag] = json!("W~KxI~#MSgz5oM]gkSX4WVe=agjaW;X4axaiWqj?R:WXW;S5X6bY");
    }
    dto["ImageTags"] = tags;
    dto["BackdropImageTags"] = json!(backdrops);
    dto["ImageBlurHashes"] = hashes;
}

/// With every field but the user's data and the media sources.
pub(crate) fn whole(row: &ItemRow, settings: &Settings) -> Value {
    let mut dto = playing(row, settings);
    let rest = json!({
        "Etag": row.etag(),
        "CanDelete": false,
        "CanDownload": row.kind.is_file(),
        "SortName": row.name.to_lowercase(),
        "ProductionLocations": [],
        "PlayAccess": "Full",
        "RemoteTrailers": [],
        "People": [],
        "DisplayPreferencesId": guid_of(&format!("display {:?}", row.kind)),
        "Tags": [],
        "LockedFields": [],
        "LockData": false,
    });
    for (name, value) in rest.as_object().into_iter().flatten().chain(&row.edited) {
        dto[name] = value.clone();
    }
    if settings.generation == Generation::V10_11
        && let Some(dto) = dto.as_object_mut()
    {
        dto.retain(|_, value| !value.is_null());
        dto.insert("ChannelId".to_owned(), Value::Null);
    }
    dto
}
