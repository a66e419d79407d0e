//! The calls to pods that carrying needs, what pods answer, and what is counted of it.

use std::{future::Future, time::Duration};

use crate::{
    jellyfin::user_data::{Act, Id, Row, position::PlayedItem},
    pod::PodInstance,
    proxy::user_data_state::ledger::{PodView, TellOutcome, UserKey},
};

/// Calls to pods.
pub(super) trait PodCalls: Send + Sync + 'static {
    /// The pods of a pool whose processes may have rows in memory.
    fn pods(&self, pool: usize) -> Vec<PodView>;
    /// Holds what this returns while it calls the pod.
    type Permit: Send;
    fn permit(&self, at: PodInstance) -> impl Future<Output = Self::Permit> + Send;
    /// The row as the pod has it.
    fn read(&self, at: PodInstance, user: UserKey, item: Id) -> impl Future<Output = Answer<Row>> + Send;
    /// Makes the pod take a row, or a part of one. Answers the row that it has now.
    fn write_row(
        &self,
        at: PodInstance,
        user: UserKey,
        item: Id,
        row: &Row,
    ) -> impl Future<Output = Answer<Row>> + Send;
    /// Does a user's act: favourite, rating, played or unplayed.
    fn act(&self, at: PodInstance, user: UserKey, item: Id, act: &Act) -> impl Future<Output = Answer<()>> + Send;
    /// What kind of item it is, and how long.
    fn played_item(&self, at: PodInstance, user: UserKey, item: Id) -> impl Future<Output = Answer<PlayedItem>> + Send;
    /// The other versions of the item, if the pod marks them as played with it.
    fn other_versions(&self, at: PodInstance, user: UserKey, item: Id) -> impl Future<Output = Answer<Vec<Id>>> + Send;
    /// Some of the items below a folder, from the given place on; none at the end.
    fn children(
        &self,
        at: PodInstance,
        user: UserKey,
        folder: Id,
        from: usize,
    ) -> impl Future<Output = Answer<Vec<(Id, Row)>>> + Send;
    /// Counts and logs.
    fn observe(&self, event: Event);
}

/// A pod's answer.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Answer<T> {
    Got(T),
    /// It has no such item for this user.
    Missing,
    /// It did not answer, or not so.
    Failed,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    Told(PodInstance, TellOutcome),
    /// The item is gone.
    Gone(PodInstance),
    /// A write of a pod that is gone was done again on this one.
    Redone(PodInstance),
    /// A request waited for its pod to be told, and how.
    Waited(Duration, WaitOutcome),
    /// So many more pairs are kept, or fewer.
    Pairs(i64),
    /// There are more pairs than are kept.
    Dropped,
    /// A folder has more children than are told.
    TooManyChildren,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WaitOutcome {
    Told,
    TimedOut,
}
