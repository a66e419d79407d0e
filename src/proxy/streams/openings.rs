//! Live streams that are being opened for a client again: one call for all of its requests.

use dashmap::{DashMap, Entry};
use tokio::sync::watch;

/// The openings under way, by a hash of the client and the live stream.
#[derive(Default)]
pub(in crate::proxy) struct Openings(DashMap<u128, watch::Receiver<()>, ahash::RandomState>);

/// Whether a caller opens a live stream for a client, or waits for the one that does.
pub(in crate::proxy) enum OpeningRole<'a> {
    Lead(Opening<'a>),
    Follow(watch::Receiver<()>),
}

/// The opening of a live stream. Those that follow wait until it is dropped.
pub(in crate::proxy) struct Opening<'a> {
    openings: &'a Openings,
    key: u128,
    _under_way: watch::Sender<()>,
}

impl Openings {
    /// Joins the one opening with this key. The first caller leads, the others follow.
    pub(in crate::proxy) fn join(&self, key: u128) -> OpeningRole<'_> {
        match self.0.entry(key) {
            Entry::Occupied(opening) => OpeningRole::Follow(opening.get().clone()),
            Entry::Vacant(place) => {
                let (under_way, ended) = watch::channel(());
                place.insert(ended);
                OpeningRole::Lead(Opening { openings: self, key, _under_way: under_way })
            }
        }
    }
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        self.openings.0.remove(&self.key);
    }
}
