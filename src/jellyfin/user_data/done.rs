//! What a row must contain after acts that are known to be done.

use serde_json::{Value, json};

use super::{Act, Field, Fields, Row, position::PlayedItem};

/// A row with what these acts have set, the latest last. Counts and dates stay as they are: only pods
/// know them. So does what playback sets, if the item is not known.
pub fn after<'a>(mut row: Row, acts: impl IntoIterator<Item = &'a Act>, item: Option<PlayedItem>) -> Row {
    for act in acts {
        match act {
            Act::Likes(None) => row = row.without(Fields::of(&[Field::Rating])),
            // The user may have given a number.
            Act::Likes(Some(likes)) if row.0.get("Likes") == Some(&json!(likes)) => {}
            act => row.0.extend(set_by(act, item).0),
        }
    }
    row
}

fn set_by(act: &Act, item: Option<PlayedItem>) -> Row {
    match act {
        Act::Favorite(is) => Row::of(&[("IsFavorite", json!(is))]),
        Act::Likes(likes) => {
            let rating = if *likes == Some(true) { 10.0 } else { 1.0 };
            Row::of(&[("Likes", json!(likes)), ("Rating", json!(rating))])
        }
        Act::Played(_) | Act::Ended => Row::at_end(),
        Act::Unplayed => Row::of(&[("Played", json!(false)), ("PlaybackPositionTicks", json!(0))]),
        Act::Update(part) => part.clone(),
        Act::Started => item.map(PlayedItem::started).unwrap_or_default(),
        Act::Reached(ticks) => item.map(|item| item.at(*ticks)).unwrap_or_default(),
    }
}

/// Whether the item must be known to tell whether the row has what this act has set.
pub fn needs_item(row: &Row, act: &Act) -> bool {
    match act {
        Act::Started => true,
        Act::Reached(ticks) => row.0.get("PlaybackPositionTicks") != Some(&json!(ticks)),
        _ => false,
    }
}

/// The fields in which rows differ.
pub fn differing(one: &Row, other: &Row) -> Fields {
    let is_same = |name: &&str| match (one.0.get(*name), other.0.get(*name)) {
        // Whole numbers are written with and without a fraction.
        (Some(Value::Number(one)), Some(Value::Number(other))) => one.as_f64() == other.as_f64(),
        (one, other) => one == other,
    };
    Field::ALL.into_iter().filter(|field| !field.names().iter().all(is_same)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 36_000_000_000;

    fn row(json: Value) -> Row {
        Row::read(json).expect("a row")
    }

    #[test]
    fn acts_that_are_done_are_in_the_row() {
        let before = || {
            row(json!({"IsFavorite": false, "PlayCount": 2, "Played": false, "PlaybackPositionTicks": 7, "Rating": 4}))
        };
        let film = PlayedItem { runtime: Some(HOUR), ..PlayedItem::default() };
        let after = |acts: &[Act]| after(before(), acts, Some(film));
        let differ = |acts: &[Act]| differing(&before(), &after(acts));
        assert_eq!(differ(&[]), Fields::NONE);
        assert_eq!(differ(&[Act::Favorite(true)]), Fields::of(&[Field::Favorite]));
        assert_eq!(differ(&[Act::Favorite(true), Act::Favorite(false)]), Fields::NONE);
        assert_eq!(differ(&[Act::Likes(None)]), Fields::of(&[Field::Rating]));
        assert_eq!(after(&[Act::Likes(Some(true))]).0["Rating"], json!(10.0));
        assert_eq!(differ(&[Act::Played(None)]), Fields::of(&[Field::Played, Field::Position]));
        assert_eq!(after(&[Act::Ended, Act::Reached(HOUR / 2)]).0["PlaybackPositionTicks"], json!(HOUR / 2));
        assert_eq!(super::after(before(), &[Act::Reached(HOUR / 2)], None), before());
        assert!(needs_item(&before(), &Act::Reached(8)) && !needs_item(&before(), &Act::Reached(7)));
    }

    #[test]
    fn a_number_that_means_the_same_is_the_same() {
        let rated = row(json!({"IsFavorite": false, "PlayCount": 2, "Likes": true, "Rating": 8.0}));
        assert_eq!(after(rated.clone(), &[Act::Likes(Some(true))], None), rated);
        let whole = row(json!({"IsFavorite": false, "PlayCount": 2.0, "Likes": true, "Rating": 8}));
        assert_eq!(differing(&rated, &whole), Fields::NONE);
    }
}
