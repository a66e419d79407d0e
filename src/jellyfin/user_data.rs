//! A user's data of an item: favourite, rating, played, play count, last played, position. A pod
//! keeps it as one row, and always writes the row whole (`UserDataManager.SaveUserData`).

pub mod done;
pub mod position;

use std::fmt;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use position::PlayedItem;

/// The id of a user or an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(u128);

/// A part of a row that some writes set and others leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Field {
    Favorite,
    /// `Rating`, and `Likes`, which the server derives from it.
    Rating,
    Played,
    PlayCount,
    LastPlayed,
    Position,
}

/// A set of fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fields(u8);

/// A row as a pod answers it, or the part of a row that a pod is to take. The server leaves out
/// what is null, and leaves what it is not given.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row(Map<String, Value>);

/// A write that can be done again on another pod, should its own pod be gone.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    Favorite(bool),
    /// `None` removes the rating.
    Likes(Option<bool>),
    /// With the date that the client gave, if any.
    Played(Option<String>),
    Unplayed,
    /// The part of the row that the client gave.
    Update(Row),
    /// Playback began.
    Started,
    /// Playback has come to this position, in ticks of 100 ns.
    Reached(i64),
    /// Playback ended at a position that the client did not report: the server takes it for the
    /// end.
    Ended,
}

impl Id {
    /// Reads an id as ASP.NET does: in any case, with or without dashes, in braces or parentheses.
    pub fn read(text: &str) -> Option<Id> {
        let text = text.trim();
        let inner = text.strip_prefix('{').and_then(|text| text.strip_suffix('}'));
        let inner = inner.or_else(|| text.strip_prefix('(').and_then(|text| text.strip_suffix(')'))).unwrap_or(text);
        if !super::syntax::is_id(inner) {
            return None;
        }
        let digits = inner.chars().filter_map(|digit| digit.to_digit(16));
        Some(Id(digits.fold(0, |id, digit| id << 4 | u128::from(digit)))).filter(|id| id.0 != 0)
    }
}

impl Id {
    /// Which of so many parts of a table the id belongs to.
    pub fn shard(self, of: usize) -> usize {
        // Ids are hashes or random, so their last digits are spread evenly.
        usize::try_from(self.0 % of as u128).unwrap_or_default()
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl Field {
    pub const ALL: [Field; 6] =
        [Field::Favorite, Field::Rating, Field::Played, Field::PlayCount, Field::LastPlayed, Field::Position];

    /// Its names in a row.
    fn names(self) -> &'static [&'static str] {
        match self {
            Field::Favorite => &["IsFavorite"],
            Field::Rating => &["Likes", "Rating"],
            Field::Played => &["Played"],
            Field::PlayCount => &["PlayCount"],
            Field::LastPlayed => &["LastPlayedDate"],
            Field::Position => &["PlaybackPositionTicks"],
        }
    }
}

impl Fields {
    pub const NONE: Fields = Fields(0);
    /// What the server computes for a folder, and what a mark of a folder changes in its children.
    pub const PLAY_STATE: Fields = Fields::of(&[Field::Played, Field::PlayCount, Field::LastPlayed, Field::Position]);

    pub const fn of(fields: &[Field]) -> Fields {
        let (mut set, mut at) = (0, 0);
        while at < fields.len() {
            set |= 1 << fields[at] as u8;
            at += 1;
        }
        Fields(set)
    }

    pub fn contains(self, field: Field) -> bool {
        self.0 & 1 << field as u8 != 0
    }

    #[must_use]
    pub fn with(self, other: Fields) -> Fields {
        Fields(self.0 | other.0)
    }

    /// Whether the other set has all of them.
    pub fn is_within(self, other: Fields) -> bool {
        self.0 & !other.0 == 0
    }

    /// Whether the sets have a field in common.
    pub fn meets(self, other: Fields) -> bool {
        self.0 & other.0 != 0
    }

    #[must_use]
    pub fn without(self, other: Fields) -> Fields {
        Fields(self.0 & !other.0)
    }

    /// All other fields.
    #[must_use]
    pub fn complement(self) -> Fields {
        Field::ALL.into_iter().filter(|field| !self.contains(*field)).collect()
    }

    pub fn iter(self) -> impl Iterator<Item = Field> {
        Field::ALL.into_iter().filter(move |field| self.contains(*field))
    }
}

impl FromIterator<Field> for Fields {
    fn from_iter<I: IntoIterator<Item = Field>>(fields: I) -> Fields {
        fields.into_iter().fold(Fields::NONE, |set, field| set.with(Fields::of(&[field])))
    }
}

impl Row {
    /// A row as a pod answers it.
    pub fn read(answer: Value) -> Option<Row> {
        let Value::Object(row) = answer else { return None };
        (row.contains_key("IsFavorite") && row.contains_key("PlayCount")).then_some(Row(row))
    }

    /// The part of a row that a client's `POST` sets. Names may be in any case; null sets nothing.
    pub(super) fn given(body: &[u8]) -> Option<Row> {
        let Ok(Value::Object(given)) = serde_json::from_slice(body) else { return None };
        let names = || Field::ALL.into_iter().flat_map(Field::names);
        let known = |(name, value): (String, Value)| {
            let name = names().find(|known| known.eq_ignore_ascii_case(&name))?;
            (!value.is_null()).then(|| ((*name).to_owned(), value))
        };
        Some(Row(given.into_iter().filter_map(known).collect()))
    }

    /// Whether the row is a folder's: the server computes whether that is played.
    pub fn is_folder(&self) -> bool {
        self.0.contains_key("UnplayedItemCount")
    }

    /// The fields that have a value.
    pub fn fields(&self) -> Fields {
        Field::ALL.into_iter().filter(|field| field.names().iter().any(|name| self.0.contains_key(*name))).collect()
    }

    /// Takes one field as another row has it.
    pub fn take(&mut self, field: Field, from: &Row) {
        for name in field.names() {
            match from.0.get(*name) {
                Some(value) => self.0.insert((*name).to_owned(), value.clone()),
                None => self.0.remove(*name),
            };
        }
    }

    /// The row without these fields: a pod that is given it leaves them as they are.
    #[must_use]
    pub fn without(mut self, fields: Fields) -> Row {
        fields.iter().flat_map(Field::names).for_each(|name| {
            self.0.remove(*name);
        });
        self
    }

    /// Whether a report of a position has set `Played`: the server then keeps no position.
    pub fn has_ended(&self) -> bool {
        let is = |name: &str, value: Value| self.0.get(name) == Some(&value);
        is("Played", true.into()) && is("PlaybackPositionTicks", 0.into())
    }

    pub fn set_played(&mut self) {
        self.0.insert("Played".to_owned(), Value::Bool(true));
    }

    /// The fields that have no value here and one in the pod's answer. An update cannot remove it.
    pub fn left_over(&self, answer: &Row, but: Fields) -> Fields {
        let removable = Fields::of(&[Field::Rating, Field::LastPlayed]);
        let has = |row: &Row, field: Field| field.names().iter().any(|name| row.0.contains_key(*name));
        removable.iter().filter(|field| !but.contains(*field) && !has(self, *field) && has(answer, *field)).collect()
    }

    /// The body of the `POST` that makes a pod take it.
    pub fn to_body(&self) -> Bytes {
        // Computed by the server, and different for each pod's set of children.
        let computed = ["UnplayedItemCount", "PlayedPercentage"];
        let given: Map<String, Value> = self
            .0
            .iter()
            .filter(|(name, _)| !computed.contains(&name.as_str()))
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect();
        Bytes::from(Value::Object(given).to_string())
    }

    /// What playback that began at this time makes of the row, unless it was played since
    /// `counted_since` already.
    pub fn after_start(&self, at: &str, counted_since: &str, item: PlayedItem) -> Row {
        let counted = self.0.get("LastPlayedDate").and_then(Value::as_str).is_some_and(|last| last >= counted_since);
        let count = self.0.get("PlayCount").and_then(Value::as_i64).unwrap_or_default();
        let mut row = item.started();
        if !counted {
            row.0.extend(Row::of(&[("PlayCount", json!(count + 1)), ("LastPlayedDate", json!(at))]).0);
        }
        row
    }

    /// What an end without a position makes of the row.
    pub fn at_end() -> Row {
        Row::of(&[("PlaybackPositionTicks", json!(0)), ("Played", json!(true))])
    }

    fn of(values: &[(&str, Value)]) -> Row {
        Row(values.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect())
    }
}

impl Act {
    /// The fields that it sets. It writes all of them, and with them the pod's whole row.
    pub fn sets(&self) -> Fields {
        use Field::{Favorite, LastPlayed, PlayCount, Played, Position, Rating};
        match self {
            Act::Favorite(_) => Fields::of(&[Favorite]),
            Act::Likes(_) => Fields::of(&[Rating]),
            Act::Played(_) | Act::Unplayed => Fields::PLAY_STATE,
            Act::Update(row) => row.fields(),
            Act::Started => Fields::of(&[Played, PlayCount, LastPlayed]),
            Act::Reached(_) => Fields::of(&[Position]),
            Act::Ended => Fields::of(&[Played, PlayCount, Position]),
        }
    }

    /// Whether it may also set `Played`, and never unsets it: the server decides by the position.
    pub fn may_end(&self) -> bool {
        matches!(self, Act::Reached(ticks) if *ticks > 0)
    }

    /// Whether it may set `Played` for good: the server then marks the other versions too.
    pub fn may_finish(&self) -> bool {
        self.may_end() || matches!(self, Act::Played(_) | Act::Ended)
    }

    /// Whether it changes the children of a folder.
    pub fn reaches_children(&self) -> bool {
        matches!(self, Act::Played(_) | Act::Unplayed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(json: Value) -> Row {
        Row::read(json).expect("a row")
    }

    #[test]
    fn an_id_is_read_in_each_form_and_written_in_one() {
        let id = Id::read("822FE8D1-8540-41a9-bbb5-4c051f96824d").expect("an id");
        assert_eq!(id.to_string(), "822fe8d1854041a9bbb54c051f96824d");
        for same in ["822fe8d1854041a9bbb54c051f96824d", "{822fe8d1-8540-41a9-bbb5-4c051f96824d}"] {
            assert_eq!(Id::read(same), Some(id));
        }
        for none in ["", "me", "00000000-0000-0000-0000-000000000000", "822fe8d1854041a9bbb54c051f96824"] {
            assert_eq!(Id::read(none), None, "{none}");
        }
    }

    #[test]
    fn a_row_takes_fields_of_another_and_leaves_out_what_is_not_told() {
        let mut one = row(json!({"IsFavorite": false, "PlayCount": 2, "Likes": true, "Rating": 10.0, "Key": "k"}));
        let other = row(json!({"IsFavorite": true, "PlayCount": 0, "Played": true}));
        one.take(Field::Favorite, &other);
        one.take(Field::Rating, &other);
        assert_eq!(one, row(json!({"IsFavorite": true, "PlayCount": 2, "Key": "k"})));
        let part = one.clone().without(Fields::of(&[Field::Favorite]));
        assert_eq!(&part.to_body()[..], br#"{"Key":"k","PlayCount":2}"#);
        let folder = row(json!({"IsFavorite": true, "PlayCount": 0, "UnplayedItemCount": 3, "PlayedPercentage": 1.5}));
        assert!(folder.is_folder() && !one.is_folder());
        assert_eq!(&folder.to_body()[..], br#"{"IsFavorite":true,"PlayCount":0}"#);
    }

    #[test]
    fn what_an_update_cannot_remove_is_found() {
        let sent = row(json!({"IsFavorite": true, "PlayCount": 0}));
        let answer = row(json!({"IsFavorite": true, "PlayCount": 0, "Likes": true, "LastPlayedDate": "2026"}));
        assert_eq!(sent.left_over(&answer, Fields::NONE), Fields::of(&[Field::Rating, Field::LastPlayed]));
        assert_eq!(sent.left_over(&answer, Fields::of(&[Field::Rating])), Fields::of(&[Field::LastPlayed]));
        assert_eq!(answer.left_over(&sent, Fields::NONE), Fields::NONE);
    }

    #[test]
    fn an_update_sets_what_its_body_names() {
        let given = Row::given(br#"{"isfavorite":true,"PlayCount":null,"Rating":7.5,"ItemId":"x"}"#).expect("a body");
        assert_eq!(Act::Update(given.clone()).sets(), Fields::of(&[Field::Favorite, Field::Rating]));
        assert_eq!(&given.to_body()[..], br#"{"IsFavorite":true,"Rating":7.5}"#);
        assert_eq!(Row::given(b"[]"), None);
    }

    #[test]
    fn a_start_counts_once() {
        let before =
            row(json!({"IsFavorite": false, "PlayCount": 2, "LastPlayedDate": "2026-01-01T00:00:00.0000000Z"}));
        let after =
            before.after_start("2026-02-01T00:00:00.0000000Z", "2026-01-31T23:59:00.0000000Z", PlayedItem::default());
        assert_eq!(
            &after.to_body()[..],
            br#"{"LastPlayedDate":"2026-02-01T00:00:00.0000000Z","PlayCount":3,"Played":false}"#
        );
        assert_eq!(
            before.after_start("2026-01-01T00:00:30.0000000Z", "2025-12-31T23:59:30.0000000Z", PlayedItem::default()),
            Row::of(&[("Played", json!(false))]),
            "it is counted already"
        );
    }
}
