//! Who sees what a request writes: every pod at once, or only the pod that did it; and which pod
//! does it for all.
//!
//! Pods share a database, and each keeps files and caches of its own. One row of the table stands
//! for each writing endpoint of 10.11 and 12.0; a test compares them with the API's own lists.
//! Reading requests match no row, and neither do endpoints of plug-ins. What is read of the leader
//! alone stands in a table of its own.
//!
//! Sources: measurements on real pods (jellyfin-on-the-wire.md, VI.2) and, where those are silent,
//! the controllers and managers that a row names.

use http::Method;

use super::{is, segments};

/// Who sees the effect of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope<'a> {
    /// It is in the database, and every pod reads it there.
    Shared,
    /// Other pods must be told, or they go on with what they have in memory and files.
    Repeated(Act<'a>),
    /// Only the leader can do it, and jellypin sends it there.
    Leader,
    /// It concerns what one pod runs or keeps for itself.
    PerPod,
}

/// Which pod does it for all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Duty {
    /// None: the caller's own pod does it.
    #[default]
    Any,
    /// The pod that writes the catalogue, in a pool where one alone does. There the others fail at
    /// it, do half of it, or answer as if they had done it.
    Writer,
    /// The same, and else the leader, so that what is shown is what was set: tasks and their runs,
    /// plug-ins to be installed, logs, backups, recordings to come.
    Leader,
}

/// How the other pods are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act<'a> {
    /// By the same request. A second execution does no harm. A pod that starts afterwards reads the
    /// rest from the database, but not what `in_files` says.
    Same { in_files: bool },
    /// `DELETE /Items/{id}`, `DELETE /Items?ids=`: by one deletion for each item. A pod that does
    /// not know one of several ids stops there.
    Items(Option<&'a str>),
    /// The pictures of one kind: by their files.
    Images { item: &'a str, kind: &'a str },
    /// A downloaded picture, whose kind the query names: by its file.
    RemoteImage { item: &'a str },
    /// A user's picture: by its file. The path or the query names the user.
    UserImage(Option<&'a str>),
    /// The splash screen: by its file.
    Splashscreen,
    /// A file of settings: by the keys that changed.
    Document { document: Document<'a>, keys: Keys },
    /// A library, which is a folder of files: by what differs from the caller's pod.
    Library,
    /// Subtitles or lyrics, by the same request, unless they stand beside the media, which all pods
    /// share.
    Sidecar { item: &'a str, option: &'static str },
    /// `DELETE /Users/{id}`: the other pods forget the user's devices first.
    UserDeletion(&'a str),
    /// Favourites, ratings and what was played.
    UserData,
    /// Sessions end; `proxy/revoke` tells all pods.
    Revocation,
}

/// A file of settings that each pod keeps for itself and reads at its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Document<'a> {
    /// `system.xml`, as `/System/Configuration` shows it.
    Server,
    /// `/System/Configuration/{key}`.
    Named(&'a str),
    /// `/Plugins/{id}/Configuration`.
    Plugin(&'a str),
}

/// The keys of a document that an endpoint can change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys {
    /// Any: the document before the request tells which did.
    Changed,
    These(&'static [&'static str]),
}

impl<'a> Scope<'a> {
    /// Reads the scope from a method and a path below the BaseUrl; `None` if nothing is written, as
    /// far as is known. `path` is in the canonical form.
    pub fn of(method: &Method, path: &'a str) -> Option<Scope<'a>> {
        let (how, ids) = find(method, path)?;
        Some(how.scope(ids))
    }

    /// The act that makes other pods see it.
    pub fn act(self) -> Option<Act<'a>> {
        match self {
            Scope::Repeated(act) => Some(act),
            Scope::Shared | Scope::Leader | Scope::PerPod => None,
        }
    }
}

impl Duty {
    /// Reads the duty from a method and a path below the BaseUrl, in the canonical form.
    pub fn of(method: &Method, path: &str) -> Duty {
        if matches!(*method, Method::GET | Method::HEAD) {
            return if is_read_of_leader(path) { Duty::Leader } else { Duty::Any };
        }
        find(method, path).map_or(Duty::Any, |(how, _)| how.duty())
    }
}

fn find<'a>(method: &Method, path: &'a str) -> Option<(How, [&'a str; 3])> {
    let verb = match *method {
        Method::POST => Verb::Post,
        Method::DELETE => Verb::Delete,
        _ => return None,
    };
    let mut rest = segments(path);
    let first = rest.next()?;
    let (_, rows) = TABLE.iter().find(|(name, _)| is(first, name))?;
    rows.iter().find_map(|row| Some((row.2, row.matched(verb, rest.clone())?)))
}

fn is_read_of_leader(path: &str) -> bool {
    let mut rest = segments(path);
    let Some(first) = rest.next() else { return false };
    let Some((_, below)) = READ_OF_LEADER.iter().find(|(name, _)| is(first, name)) else { return false };
    let second = rest.next().unwrap_or_default();
    below.is_empty() || below.iter().any(|name| is(second, name))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Post,
    Delete,
    Any,
}

/// What a row says; numbers are placeholders of its pattern.
#[derive(Clone, Copy, Debug)]
enum How {
    Shared,
    /// The same, and the catalogue's.
    Catalogue,
    Leader,
    /// Only the leader or the writer does it.
    Task,
    PerPod,
    /// A file that belongs to the catalogue.
    OneFile,
    Same,
    /// The same, and not of the catalogue.
    Memory,
    /// The same, and it also writes files.
    SameFiles,
    /// The same, which the leader or the writer does first.
    Package,
    Items,
    Images,
    RemoteImage,
    UserImage,
    Splashscreen,
    Server(Keys),
    AnyNamed,
    LiveTv(Keys),
    Plugin,
    Library,
    Subtitles,
    Lyrics,
    UserDeletion,
    UserData,
    Revocation,
}

/// A verb, the path below the first segment, and what holds there. `{}` stands for one segment.
struct Row(Verb, &'static str, How);

impl Row {
    /// The placeholders' values, if the row is of this request.
    fn matched<'a>(&self, verb: Verb, mut rest: impl Iterator<Item = &'a str>) -> Option<[&'a str; 3]> {
        if self.0 != Verb::Any && self.0 != verb {
            return None;
        }
        let mut ids = [""; 3];
        let mut found = 0;
        for part in segments(self.1) {
            let segment = rest.next()?;
            if part == "{}" {
                *ids.get_mut(found)? = segment;
                found += 1;
            } else if !is(segment, part) {
                return None;
            }
        }
        rest.next().is_none().then_some(ids)
    }
}

impl How {
    fn scope(self, ids: [&str; 3]) -> Scope<'_> {
        let [first, second, _] = ids;
        let given = |id| Some(id).filter(|id: &&str| !id.is_empty());
        Scope::Repeated(match self {
            How::Shared | How::Catalogue => return Scope::Shared,
            How::Leader | How::Task => return Scope::Leader,
            How::PerPod | How::OneFile => return Scope::PerPod,
            How::Same | How::Memory => Act::Same { in_files: false },
            How::SameFiles | How::Package => Act::Same { in_files: true },
            How::Items => Act::Items(given(first)),
            How::Images => Act::Images { item: first, kind: second },
            How::RemoteImage => Act::RemoteImage { item: first },
            How::UserImage => Act::UserImage(given(first)),
            How::Splashscreen => Act::Splashscreen,
            How::Server(keys) => Act::Document { document: Document::Server, keys },
            How::LiveTv(keys) => Act::Document { document: Document::Named("livetv"), keys },
            How::AnyNamed => Act::Document { document: Document::Named(first), keys: Keys::Changed },
            How::Plugin => Act::Document { document: Document::Plugin(first), keys: Keys::Changed },
            How::Library => Act::Library,
            How::Subtitles => Act::Sidecar { item: first, option: "SaveSubtitlesWithMedia" },
            How::Lyrics => Act::Sidecar { item: first, option: "SaveLyricsWithMedia" },
            How::UserDeletion => Act::UserDeletion(first),
            How::UserData => Act::UserData,
            How::Revocation => Act::Revocation,
        })
    }

    fn duty(self) -> Duty {
        use How::*;
        match self {
            Task | Package | LiveTv(_) => Duty::Leader,
            Catalogue | OneFile | Same | SameFiles | Items | Images | RemoteImage | Splashscreen | Server(_)
            | AnyNamed | Plugin | Library | Subtitles | Lyrics => Duty::Writer,
            // What the leader alone can answer has a way of its own.
            Shared | Leader | PerPod | Memory | UserImage | UserDeletion | UserData | Revocation => Duty::Any,
        }
    }
}

const TUNERS: How = How::LiveTv(Keys::These(&["TunerHosts"]));
const LISTINGS: How = How::LiveTv(Keys::These(&["ListingProviders"]));

/// What the leader keeps for itself and shows: by the first segment, and by the second, where not
/// all below the first is of that kind.
const READ_OF_LEADER: &[(&str, &[&str])] = &[
    ("Backup", &[]),
    (
        "LiveTv",
        &["ChannelMappingOptions", "GuideInfo", "ListingProviders", "SeriesTimers", "Timers", "TunerHosts", "Tuners"],
    ),
    ("Packages", &[]),
    ("ScheduledTasks", &[]),
    ("System", &["Logs"]),
];

/// By the first segment. In each group literal paths stand before placeholders, as ASP.NET prefers
/// them.
const TABLE: &[(&str, &[Row])] = {
    use How::*;
    use Verb::{Any, Delete, Post};
    &[
        (
            "Audio",
            &[
                Row(Post, "{}/Lyrics", Lyrics),
                // The rows of the database are gone, so no other pod finds the file any more. It would
                // find its own instead.
                Row(Delete, "{}/Lyrics", OneFile),
                Row(Post, "{}/RemoteSearch/Lyrics/{}", Lyrics),
            ],
        ),
        ("Auth", &[Row(Post, "Keys", Shared), Row(Delete, "Keys/{}", Shared)]),
        ("Backup", &[Row(Post, "Create", Task), Row(Post, "Restore", Task)]),
        ("Branding", &[Row(Post, "Splashscreen", Splashscreen), Row(Delete, "Splashscreen", SameFiles)]),
        ("ClientLog", &[Row(Post, "Document", PerPod)]),
        // A collection is an item that pods keep in memory, with a folder of its own. The id comes
        // from the folder's name, and only missing members are added
        // (`CollectionManager.CreateCollectionAsync`, `AddToCollectionAsync`).
        ("Collections", &[Row(Post, "", SameFiles), Row(Any, "{}/Items", Same)]),
        // `DeviceManager` keeps the options of all devices in memory.
        ("Devices", &[Row(Post, "Options", Memory), Row(Delete, "", Revocation)]),
        ("DisplayPreferences", &[Row(Post, "{}", Shared)]),
        ("Environment", &[Row(Post, "ValidatePath", PerPod)]),
        (
            "Items",
            &[
                // A search changes nothing.
                Row(Post, "RemoteSearch/Apply/{}", Same),
                Row(Post, "RemoteSearch/{}", PerPod),
                Row(Delete, "", Items),
                Row(Any, "{}/Images/{}", Images),
                Row(Any, "{}/Images/{}/{}", Images),
                Row(Post, "{}/Images/{}/{}/Index", Images),
                Row(Post, "{}/RemoteImages/Download", RemoteImage),
                Row(Post, "{}/RemoteSearch/Subtitles/{}", Subtitles),
                // It is kept in the server's settings, by the item's path (`UpdateItemContentType`).
                Row(Post, "{}/ContentType", Server(Keys::These(&["ContentTypes"]))),
                Row(Post, "{}/Refresh", Same),
                Row(Post, "{}/PlaybackInfo", PerPod),
                Row(Post, "{}", Same),
                Row(Delete, "{}", Items),
            ],
        ),
        (
            "Library",
            &[
                // A scan's findings are in the database. Two scans at once would add the same items.
                Row(Post, "Refresh", Task),
                Row(Post, "Media/Updated", Task),
                Row(Post, "Movies/Added", Task),
                Row(Post, "Movies/Updated", Task),
                Row(Post, "Series/Added", Task),
                Row(Post, "Series/Updated", Task),
                Row(Any, "VirtualFolders", Library),
                Row(Post, "VirtualFolders/Name", Library),
                Row(Any, "VirtualFolders/Paths", Library),
                Row(Post, "VirtualFolders/Paths/Update", Library),
                Row(Post, "VirtualFolders/LibraryOptions", Library),
            ],
        ),
        ("LiveStreams", &[Row(Post, "Open", PerPod), Row(Post, "Close", PerPod)]),
        (
            "LiveTv",
            &[
                // Their ids are made up by the pod, so the document is carried and not the request
                // (`TunerHostManager.SaveTunerHost`, `ListingsManager.SaveListingProvider`).
                Row(Any, "TunerHosts", TUNERS),
                Row(Any, "ListingProviders", LISTINGS),
                Row(Post, "ChannelMappings", LISTINGS),
                // Each pod would record what a repeated timer names, and list its own timers alone.
                Row(Post, "Timers", Task),
                Row(Any, "Timers/{}", Task),
                Row(Post, "SeriesTimers", Task),
                Row(Any, "SeriesTimers/{}", Task),
                Row(Delete, "Recordings/{}", Same),
                Row(Post, "Tuners/{}/Reset", Task),
                Row(Post, "Programs", PerPod),
            ],
        ),
        ("Packages", &[Row(Post, "Installed/{}", Package), Row(Delete, "Installing/{}", Task)]),
        ("PlayingItems", &[Row(Any, "{}", UserData), Row(Post, "{}/Progress", UserData)]),
        (
            "Playlists",
            &[
                Row(Post, "", Catalogue),
                Row(Post, "{}", Catalogue),
                Row(Any, "{}/Items", Catalogue),
                Row(Post, "{}/Items/{}/Move/{}", Catalogue),
                Row(Any, "{}/Users/{}", Catalogue),
            ],
        ),
        (
            "Plugins",
            &[
                Row(Post, "{}/Configuration", Plugin),
                Row(Post, "{}/Manifest", PerPod),
                Row(Post, "{}/{}/Enable", SameFiles),
                Row(Post, "{}/{}/Disable", SameFiles),
                Row(Delete, "{}", SameFiles),
                Row(Delete, "{}/{}", SameFiles),
            ],
        ),
        ("QuickConnect", &[Row(Post, "Authorize", Leader), Row(Post, "Initiate", Leader)]),
        ("Repositories", &[Row(Post, "", Server(Keys::These(&["PluginRepositories"])))]),
        ("ScheduledTasks", &[Row(Any, "Running/{}", Task), Row(Post, "{}/Triggers", Task)]),
        (
            "Sessions",
            &[
                Row(Post, "Logout", Revocation),
                Row(Post, "Playing", UserData),
                Row(Post, "Playing/Progress", UserData),
                Row(Post, "Playing/Stopped", UserData),
                Row(Post, "Playing/Ping", PerPod),
                Row(Post, "Capabilities", PerPod),
                Row(Post, "Capabilities/Full", PerPod),
                Row(Post, "Viewing", PerPod),
                Row(Post, "{}/Command", PerPod),
                Row(Post, "{}/Command/{}", PerPod),
                Row(Post, "{}/Message", PerPod),
                Row(Post, "{}/Playing", PerPod),
                Row(Post, "{}/Playing/{}", PerPod),
                Row(Post, "{}/System/{}", PerPod),
                Row(Post, "{}/Viewing", PerPod),
                Row(Any, "{}/User/{}", PerPod),
            ],
        ),
        (
            "Startup",
            &[
                Row(Post, "Complete", PerPod),
                Row(Post, "Configuration", PerPod),
                Row(Post, "RemoteAccess", PerPod),
                Row(Post, "User", PerPod),
            ],
        ),
        ("SyncPlay", &[Row(Post, "{}", Leader)]),
        (
            "System",
            &[
                Row(Post, "Configuration", Server(Keys::Changed)),
                Row(Post, "Configuration/{}", AnyNamed),
                Row(Post, "MediaEncoder/Path", PerPod),
                Row(Post, "Ping", PerPod),
                Row(Post, "Restart", PerPod),
                Row(Post, "Shutdown", PerPod),
            ],
        ),
        ("UserFavoriteItems", &[Row(Any, "{}", UserData)]),
        // Users are read in the database, so a picture that is gone is gone everywhere.
        ("UserImage", &[Row(Post, "", UserImage), Row(Delete, "", Shared)]),
        ("UserItems", &[Row(Any, "{}/Rating", UserData), Row(Post, "{}/UserData", UserData)]),
        ("UserPlayedItems", &[Row(Any, "{}", UserData)]),
        (
            "Users",
            &[
                Row(Post, "AuthenticateByName", PerPod),
                Row(Post, "AuthenticateWithQuickConnect", Leader),
                Row(Post, "Configuration", Shared),
                Row(Post, "ForgotPassword", PerPod),
                Row(Post, "ForgotPassword/Pin", PerPod),
                Row(Post, "New", Shared),
                Row(Post, "Password", Revocation),
                Row(Post, "", Shared),
                Row(Post, "{}", Shared),
                Row(Delete, "{}", UserDeletion),
                Row(Post, "{}/Authenticate", PerPod),
                Row(Post, "{}/Configuration", Shared),
                Row(Post, "{}/EasyPassword", Shared),
                Row(Post, "{}/Password", Revocation),
                Row(Post, "{}/Policy", Revocation),
                Row(Any, "{}/FavoriteItems/{}", UserData),
                Row(Any, "{}/PlayedItems/{}", UserData),
                Row(Any, "{}/PlayingItems/{}", UserData),
                Row(Post, "{}/PlayingItems/{}/Progress", UserData),
                Row(Any, "{}/Items/{}/Rating", UserData),
                Row(Post, "{}/Items/{}/UserData", UserData),
                Row(Post, "{}/Images/{}", UserImage),
                Row(Post, "{}/Images/{}/{}", UserImage),
                Row(Delete, "{}/Images/{}", Shared),
                Row(Delete, "{}/Images/{}/{}", Shared),
            ],
        ),
        (
            "Videos",
            &[
                Row(Delete, "ActiveEncodings", PerPod),
                Row(Post, "MergeVersions", Same),
                Row(Delete, "{}/AlternateSources", Same),
                Row(Post, "{}/Subtitles", Subtitles),
                // The index is that of the database, where another subtitle has it by now.
                Row(Delete, "{}/Subtitles/{}", OneFile),
            ],
        ),
    ]
};

#[cfg(test)]
mod tests {
    use super::*;

    /// Every writing endpoint of the two releases.
    const WRITING: &str = include_str!("scope/writing_endpoints.txt");

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
                    let same =
                        segments(&pattern).all(|part| parts.next().is_some_and(|it| part == "{}" || is(it, part)));
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
            assert_eq!(Duty::of(&method.parse().expect("a method"), &path(what)), duty, "{method} {what}");
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
}
