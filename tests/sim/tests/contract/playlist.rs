//! Compares two HLS playlists line by line: the same tags, the same paths, the same query fields in the same order.

use crate::difference::{Difference, Kind};
use crate::names::Names;
use crate::url;

/// Every difference between the playlists; a recorded one may be cut off by `…`, and is compared so far.
pub(crate) fn compare(recorded: &str, seen: &str, names: &mut Names) -> Vec<Difference> {
    let mut found = Vec::new();
    let cut = recorded.ends_with('…');
    let mut recorded: Vec<&str> = recorded.lines().collect();
    if cut {
        recorded.pop();
    }
    let seen: Vec<&str> = seen.lines().collect();
    if seen.len() < recorded.len() || (!cut && seen.len() > recorded.len()) {
        let detail = format!("recorded {} lines, seen {}", recorded.len(), seen.len());
        found.push(Difference::new(Kind::Length, "playlist", detail));
    }
    for (recorded, seen) in recorded.into_iter().zip(seen) {
        line(recorded, seen, names, &mut found);
    }
    found
}

fn line(recorded: &str, seen: &str, names: &mut Names, found: &mut Vec<Difference>) {
    match (recorded.strip_prefix('#'), seen.strip_prefix('#')) {
        (Some(recorded), Some(seen)) => tag(recorded, seen, found),
        (None, None) => found.extend(url::compare("playlist", recorded, seen, names)),
        _ => found.push(shape("playlist", recorded, seen)),
    }
}

fn tag(recorded: &str, seen: &str, found: &mut Vec<Difference>) {
    let name = |line: &str| line.split(':').next().unwrap_or(line).to_owned();
    if name(recorded) != name(seen) {
        found.push(shape("playlist", recorded, seen));
    } else if recorded != seen {
        let at = format!("playlist #{}", name(recorded));
        found.push(value(&at, recorded, seen));
    }
}

fn shape(at: &str, recorded: &str, seen: &str) -> Difference {
    let detail = format!("recorded {recorded:?}, seen {seen:?}");
    Difference::new(Kind::Shape, at, detail)
}

fn value(at: &str, recorded: &str, seen: &str) -> Difference {
    let detail = format!("recorded {recorded:?}, seen {seen:?}");
    Difference::new(Kind::Value, at, detail)
}
