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

mod table;

use http::Method;

use table::{find, is_read_of_leader};

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
    /// `POST /Items/{id}/Refresh`: by the same request, unless the item is a library. That would be a
    /// second scan beside the first.
    Refresh(&'a str),
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

    /// The scope with the duty: which pod does it for all.
    pub fn with_duty(method: &Method, path: &'a str) -> (Option<Scope<'a>>, Duty) {
        match find(method, path) {
            Some((how, ids)) => (Some(how.scope(ids)), how.duty()),
            None if matches!(*method, Method::GET | Method::HEAD) && is_read_of_leader(path) => (None, Duty::Leader),
            None => (None, Duty::Any),
        }
    }

    /// The act that makes other pods see it.
    pub fn act(self) -> Option<Act<'a>> {
        match self {
            Scope::Repeated(act) => Some(act),
            Scope::Shared | Scope::Leader | Scope::PerPod => None,
        }
    }
}

#[cfg(test)]
mod tests;
