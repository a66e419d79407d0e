//! The table of writing endpoints, and what each row says.

use http::Method;

use super::{Act, Document, Duty, Keys, Scope};
use crate::jellyfin::endpoint::{is, segments};

/// The most segments below the first in a row.
const DEEPEST: usize = 5;

/// The row of a request, with the values of its placeholders.
pub(super) fn find<'a>(method: &Method, path: &'a str) -> Option<(How, [&'a str; 3])> {
    let verb = match *method {
        Method::POST => Verb::Post,
        Method::DELETE => Verb::Delete,
        _ => return None,
    };
    let mut all = segments(path);
    let first = all.next()?;
    let (_, rows) = TABLE.iter().find(|(name, _)| is(first, name))?;
    let mut below = [""; DEEPEST];
    let mut depth = 0;
    for segment in all {
        *below.get_mut(depth)? = segment;
        depth += 1;
    }
    rows.iter().find_map(|row| Some((row.2, row.matched(verb, &below[..depth])?)))
}

/// Whether a path reads what the leader alone keeps.
pub(super) fn is_read_of_leader(path: &str) -> bool {
    let mut rest = segments(path);
    let Some(first) = rest.next() else { return false };
    let Some((_, below)) = READ_OF_LEADER.iter().find(|(name, _)| is(first, name)) else { return false };
    let second = rest.next().unwrap_or_default();
    below.is_empty() || below.iter().any(|name| is(second, name))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Post,
    Delete,
    Any,
}

/// What a row says; numbers are placeholders of its pattern.
#[derive(Clone, Copy, Debug)]
pub(super) enum How {
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
    Refresh,
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
pub(super) struct Row(pub(super) Verb, pub(super) &'static str, pub(super) How);

impl Row {
    /// The placeholders' values, if the row is of this request.
    fn matched<'a>(&self, verb: Verb, below: &[&'a str]) -> Option<[&'a str; 3]> {
        if self.0 != Verb::Any && self.0 != verb {
            return None;
        }
        let mut ids = [""; 3];
        let mut found = 0;
        let mut parts = segments(self.1);
        for segment in below {
            match parts.next()? {
                "{}" => {
                    *ids.get_mut(found)? = segment;
                    found += 1;
                }
                part if is(segment, part) => {}
                _ => return None,
            }
        }
        parts.next().is_none().then_some(ids)
    }
}

impl How {
    pub(super) fn scope(self, ids: [&str; 3]) -> Scope<'_> {
        let [first, second, _] = ids;
        let given = |id| Some(id).filter(|id: &&str| !id.is_empty());
        Scope::Repeated(match self {
            How::Shared | How::Catalogue => return Scope::Shared,
            How::Leader | How::Task => return Scope::Leader,
            How::PerPod | How::OneFile => return Scope::PerPod,
            How::Same | How::Memory => Act::Same { in_files: false },
            How::SameFiles | How::Package => Act::Same { in_files: true },
            How::Refresh => Act::Refresh(first),
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

    pub(super) fn duty(self) -> Duty {
        use How::*;
        match self {
            Task | Package | LiveTv(_) => Duty::Leader,
            Catalogue | OneFile | Same | SameFiles | Refresh | Items | Images | RemoteImage | Splashscreen
            | Server(_) | AnyNamed | Plugin | Library | Subtitles | Lyrics => Duty::Writer,
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
pub(super) const TABLE: &[(&str, &[Row])] = {
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
                Row(Post, "{}/Refresh", Refresh),
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
