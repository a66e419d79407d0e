//! The table beside the lists of the API, and what single rows say.

use super::{
    table::{Row, TABLE, Verb},
    *,
};
use crate::jellyfin::endpoint::{is, segments};

/// Every writing endpoint of the two releases.
const WRITING: &str = include_str!("writing_endpoints.txt");

fn of<'a>(method: &str, path: &'a str) -> Option<Scope<'a>> {
    Scope::of(&method.parse().expect("a method"), path)
}

#[test]
fn every_writing_endpoint_has_a_row_and_no_row_stands_for_nothing() {
    let listed: Vec<(&str, String)> = WRITING
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once(' '))
        .map(|(method, path)| (method, path.replace("{}", "0123456789abcdef0123456789abcdef")))
        .collect();
    assert!(listed.len() > 170, "the list is read: {}", listed.len());
    let missing: Vec<&(&str, String)> = listed.iter().filter(|(method, path)| of(method, path).is_none()).collect();
    assert!(missing.is_empty(), "no row covers {missing:#?}");
    for (first, rows) in TABLE {
        for Row(verb, below, _) in *rows {
            let verb = match verb {
                Verb::Post => Some("POST"),
                Verb::Delete => Some("DELETE"),
                Verb::Any => None,
            };
            let pattern = format!("/{first}/{below}");
            let is_listed = listed.iter().any(|(method, path)| {
                let mut parts = segments(path);
                let same = segments(&pattern).all(|part| parts.next().is_some_and(|it| part == "{}" || is(it, part)));
                same && parts.next().is_none() && verb.is_none_or(|verb| verb == *method)
            });
            assert!(is_listed, "no endpoint is {verb:?} {pattern}");
        }
    }
}

#[test]
fn a_row_says_what_is_written_where() {
    let id = "0123456789abcdef0123456789abcdef";
    let repeated = |method, path| of(method, path).and_then(Scope::act);
    let item = format!("/items/{id}");
    assert_eq!(repeated("POST", &item), Some(Act::Same { in_files: false }));
    assert_eq!(repeated("DELETE", &item), Some(Act::Items(Some(id))));
    let refresh = format!("{item}/refresh");
    assert_eq!(repeated("POST", &refresh), Some(Act::Refresh(id)));
    assert_eq!(repeated("DELETE", "/Items"), Some(Act::Items(None)));
    let image = format!("/Items/{id}/images/Backdrop/2/Index");
    assert_eq!(repeated("POST", &image), Some(Act::Images { item: id, kind: "Backdrop" }));
    let named = Act::Document { document: Document::Named("network"), keys: Keys::Changed };
    assert_eq!(repeated("POST", "/System/Configuration/network"), Some(named));
    let repositories = Act::Document { document: Document::Server, keys: Keys::These(&["PluginRepositories"]) };
    assert_eq!(repeated("POST", "/Repositories/"), Some(repositories));
    let user = format!("/Users/{id}/Images/Primary/0");
    assert_eq!(repeated("POST", &user), Some(Act::UserImage(Some(id))));
    assert_eq!(of("DELETE", &user), Some(Scope::Shared));
    let user = format!("/Users/{id}");
    assert_eq!(repeated("DELETE", &user), Some(Act::UserDeletion(id)));
    assert_eq!(of("POST", "/Users/New"), Some(Scope::Shared));
    assert_eq!(of("POST", "/SyncPlay/Join"), Some(Scope::Leader));
    assert_eq!(of("POST", "/Library/Refresh"), Some(Scope::Leader));
}

#[test]
fn what_one_pod_does_for_all() {
    let id = "0123456789abcdef0123456789abcdef";
    let path = |path: &str| path.replace("{}", id);
    for (method, what, duty) in [
        ("POST", "/Items/{}", Duty::Writer),
        ("DELETE", "/items", Duty::Writer),
        ("POST", "/Items/{}/Images/Primary", Duty::Writer),
        ("POST", "/Items/{}/Refresh", Duty::Writer),
        ("POST", "/Library/VirtualFolders", Duty::Writer),
        ("POST", "/Playlists", Duty::Writer),
        ("DELETE", "/Playlists/{}/Items", Duty::Writer),
        ("POST", "/Collections/", Duty::Writer),
        ("POST", "/Videos/{}/Subtitles", Duty::Writer),
        ("DELETE", "/Videos/{}/Subtitles/1", Duty::Writer),
        ("POST", "/System/Configuration", Duty::Writer),
        ("POST", "/System/Configuration/branding", Duty::Writer),
        ("POST", "/Repositories", Duty::Writer),
        ("POST", "/Library/Refresh", Duty::Leader),
        ("POST", "/Library/Media/Updated", Duty::Leader),
        ("POST", "/ScheduledTasks/Running/{}", Duty::Leader),
        ("GET", "/scheduledtasks", Duty::Leader),
        ("GET", "/ScheduledTasks/{}", Duty::Leader),
        ("GET", "/System/Logs/Log", Duty::Leader),
        ("GET", "/Packages", Duty::Leader),
        ("POST", "/Packages/Installed/X", Duty::Leader),
        ("POST", "/LiveTv/TunerHosts", Duty::Leader),
        ("GET", "/LiveTv/Timers/{}", Duty::Leader),
        ("GET", "/LiveTv/Channels", Duty::Any),
        ("GET", "/System/Info", Duty::Any),
        ("GET", "/Items/{}", Duty::Any),
        ("POST", "/Users/New", Duty::Any),
        ("POST", "/UserImage", Duty::Any),
        ("POST", "/UserFavoriteItems/{}", Duty::Any),
        ("POST", "/Devices/Options", Duty::Any),
        ("POST", "/Sessions/Playing", Duty::Any),
        ("POST", "/Users/{}/Policy", Duty::Any),
        ("POST", "/DisplayPreferences/usersettings", Duty::Any),
        ("POST", "/Auth/Keys", Duty::Any),
        ("POST", "/SyncPlay/New", Duty::Any),
    ] {
        assert_eq!(Scope::with_duty(&method.parse().expect("a method"), &path(what)).1, duty, "{method} {what}");
    }
}

#[test]
fn what_reads_or_is_unknown_has_no_row() {
    for (method, path) in [
        ("GET", "/Items/x"),
        ("HEAD", "/Items/x/Images/Primary"),
        ("PUT", "/System/Configuration"),
        ("POST", "/"),
        ("POST", "/Items/x/Images"),
        ("POST", "/Items/x/Images/Primary/0/Index/more"),
        ("POST", "/System/Configuration/network/more"),
        ("DELETE", "/SomePlugin/Everything"),
    ] {
        assert_eq!(of(method, path), None, "{method} {path}");
    }
}
