//! The kinds of keys that clients are known by.

/// What a key is a key of. Keys of different kinds never collide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// An access token or API key.
    Token = 1,
    /// A device's id.
    Device = 2,
    /// A `PlaySessionId`.
    PlaySession = 3,
    /// A `LiveStreamId`, alone or with its viewer's device, or the id of the file of a live stream
    /// or recording.
    LiveStream = 4,
    /// The 32 hex digits that name a live playlist's segments.
    Playlist = 5,
    /// A QuickConnect code or secret, or the state of a single sign-on.
    QuickConnect = 6,
    /// A user's id: the pod that the user lives on.
    User = 7,
    /// A user's name, for log-ins whose user is not known.
    UserName = 8,
}

impl Kind {
    /// Whether the pin holds only for the pod's memory, and ends with its process. Tokens and
    /// devices have rows in the database, which a restarted pod reads.
    pub(super) fn ends_with_epoch(self) -> bool {
        matches!(self, Kind::PlaySession | Kind::LiveStream | Kind::Playlist | Kind::QuickConnect)
    }
}
