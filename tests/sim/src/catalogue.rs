//! The rows of the items' table, which all pods share: what an item is called, what was edited, its pictures, its members.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::clock;
use crate::identifiers::{guid_of, random_guid};
use crate::library::{BULK, CHANNEL, FILM, Item, SEGMENT_TICKS, SEGMENTS, VIEW};
use crate::user_data::{Length, Plays};

/// A row of the items' table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ItemRow {
    pub(crate) id: String,
    pub(crate) kind: Kind,
    pub(crate) name: String,
    /// The name of its file, which an edit does not change.
    pub(crate) file_name: String,
    pub(crate) run_time_ticks: Option<i64>,
    pub(crate) year: i32,
    /// The folder that it lies in.
    pub(crate) parent: String,
    /// The item of which this is another version (`PrimaryVersionId`): no list has it.
    #[serde(default)]
    pub(crate) version_of: Option<String>,
    /// What an editor has set, by its name in the item's document.
    pub(crate) edited: Map<String, Value>,
    pub(crate) pictures: Vec<Picture>,
    /// The members of a collection or playlist, in order.
    pub(crate) members: Vec<Member>,
    /// The languages of subtitles that were uploaded.
    #[serde(default)]
    pub(crate) subtitles: Vec<String>,
    /// Whose playlist it is.
    pub(crate) owner: Option<String>,
    /// When the row was written last; the ETag is made of it.
    pub(crate) saved: String,
}

/// What an item is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Kind {
    Movie,
    Song,
    AudioBook,
    Channel,
    Collection,
    Playlist,
}

impl Kind {
    /// Whether it is one file that is played.
    pub(crate) fn is_file(self) -> bool {
        matches!(self, Kind::Movie | Kind::Song | Kind::AudioBook)
    }

    /// `Type` and `MediaType` of its document.
    pub(crate) fn names(self) -> (&'static str, &'static str) {
        match self {
            Kind::Movie => ("Movie", "Video"),
            Kind::Song => ("Audio", "Audio"),
            Kind::AudioBook => ("AudioBook", "Audio"),
            Kind::Channel => ("TvChannel", "Video"),
            Kind::Collection => ("BoxSet", "Unknown"),
            Kind::Playlist => ("Playlist", "Video"),
        }
    }
}

/// One picture of an item: the row says where its file lies, not that a pod has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Picture {
    /// `Primary`, `Backdrop` and so on.
    pub(crate) kind: String,
    pub(crate) tag: String,
    /// The file's place in a pod's own metadata folder; `None` for one that lies beside the film, where every pod has it.
    pub(crate) file: Option<String>,
    /// When, in seconds since 1970.
    pub(crate) modified: u64,
}

/// An entry of a collection or playlist.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Member {
    pub(crate) entry: String,
    pub(crate) item: String,
}

/// The tag of the poster that lies beside every film.
const POSTER_TAG: &str = "3e73498deed313b456bac557cd7953b6";

impl Picture {
    /// A picture that a pod has taken into its own folder; its tag is made of place and time.
    pub(crate) fn new(kind: &str, file: &str, modified: u64) -> Picture {
        Picture {
            kind: kind.to_owned(),
            tag: guid_of(&format!("{file} {}", clock::now())),
            file: Some(file.to_owned()),
            modified,
        }
    }
}

impl ItemRow {
    /// The rows of a new cluster.
    pub(crate) fn first() -> Vec<ItemRow> {
        let ticks = Some((SEGMENT_TICKS * SEGMENTS.len() as u64) as i64);
        let film = |id: &str, item: Item, year| ItemRow::film(id, item.name(), ticks, year);
        let channel = ItemRow {
            kind: Kind::Channel,
            run_time_ticks: None,
            parent: String::new(),
            pictures: Vec::new(),
            ..film(CHANNEL, Item::Channel, 0)
        };
        vec![film(FILM, Item::Film, 2021), film(BULK, Item::Bulk, 2022), channel]
    }

    /// A film, with the poster beside it.
    fn film(id: &str, name: &str, run_time_ticks: Option<i64>, year: i32) -> ItemRow {
        let poster =
            Picture { kind: "Primary".to_owned(), tag: POSTER_TAG.to_owned(), file: None, modified: 1_793_527_200 };
        ItemRow {
            id: id.to_owned(),
            kind: Kind::Movie,
            name: name.to_owned(),
            file_name: name.to_owned(),
            run_time_ticks,
            year,
            parent: VIEW.to_owned(),
            version_of: None,
            edited: Map::new(),
            pictures: vec![poster],
            members: Vec::new(),
            subtitles: Vec::new(),
            owner: None,
            saved: clock::now(),
        }
    }

    /// A film that a scan has found.
    pub(crate) fn found(name: &str, length: Duration) -> ItemRow {
        let ticks = i64::try_from(length.as_nanos() / 100).unwrap_or(i64::MAX);
        ItemRow::film(&guid_of(&format!("film {name}")), name, Some(ticks), 2024)
    }

    /// A song or an audio book of this length, in a folder that no list of films shows; a film may have no length.
    pub(crate) fn of_kind(kind: Kind, name: &str, length: Option<Duration>) -> ItemRow {
        let row = ItemRow::found(&format!("{kind:?} {name}"), length.unwrap_or_default());
        let parent = if kind == Kind::Movie { VIEW.to_owned() } else { guid_of("music") };
        ItemRow {
            kind,
            name: name.to_owned(),
            parent,
            run_time_ticks: row.run_time_ticks.filter(|_| length.is_some()),
            ..row
        }
    }

    /// Another version of a film: an item of its own.
    pub(crate) fn version(primary: &ItemRow, name: &str) -> ItemRow {
        let row = ItemRow::found(&format!("{} {name}", primary.name), Duration::ZERO);
        ItemRow { run_time_ticks: primary.run_time_ticks, version_of: Some(primary.id.clone()), ..row }
    }

    /// A collection or playlist of these items.
    pub(crate) fn group(kind: Kind, name: &str, items: &[String]) -> ItemRow {
        let id = match kind {
            // Made of the type and the folder's path below the pod's own, which is named after the collection
            // (`LibraryManager.GetNewItemId`): a second one of the name takes the place of the first.
            Kind::Collection => guid_of(&format!("collection {name}")),
            _ => random_guid(),
        };
        let mut row = ItemRow { kind, parent: String::new(), ..ItemRow::film(&id, name, None, 0) };
        row.pictures.clear();
        row.add_members(items);
        row
    }

    pub(crate) fn add_members(&mut self, items: &[String]) {
        let member = |item: &String| Member { entry: random_guid(), item: item.clone() };
        self.members.extend(items.iter().map(member));
    }

    /// Stamps the row: it is about to be written.
    pub(crate) fn stamp(&mut self) {
        self.saved = clock::now();
    }

    /// `BaseItem.GetEtag`: made of when it was saved last.
    pub(crate) fn etag(&self) -> String {
        guid_of(&format!("{} {}", self.id, self.saved))
    }

    pub(crate) fn path(&self) -> String {
        format!("/jellyfin/media/{0}/{0}.mkv", self.file_name)
    }

    pub(crate) fn length(&self) -> Length {
        let plays = match self.kind {
            Kind::Song => Plays::FromStart,
            Kind::AudioBook => Plays::ByMinutes,
            _ => Plays::ByPercent,
        };
        Length { ticks: self.run_time_ticks, can_be_played: self.kind.is_file(), plays }
    }
}
