//! Pictures: the other pod gets the files that the caller's pod has now.
//!
//! What the caller's pod shows after the act counts, not the act. A second upload of a backdrop
//! would add it twice, and a second swap of two would undo the first.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::{carrier::Carrier, outcome::Outcome};
use crate::{
    forward::Failure,
    jellyfin::{
        client::{
            images::{self, Picture, PictureSlot},
            items,
        },
        images::{Edit, Pictures, edits},
    },
    pod::Pod,
    proxy::in_step_state::PoolMemory,
};

/// What the caller's pod shows, by content.
pub(super) struct Shown {
    pictures: Pictures,
    /// A user who sees the item, for pods' answers about it.
    viewer: String,
    wanted: Vec<Content>,
}

type Content = [u8; 32];

/// Pictures of one kind that are compared. Further ones stay as they are.
const MOST: usize = 64;

fn slot(pictures: &Pictures, index: usize) -> PictureSlot {
    match pictures {
        Pictures::OfItem { item, kind } => PictureSlot::Item { item: item.clone(), kind: kind.clone(), index },
        Pictures::OfUser(user) => PictureSlot::User(user.clone()),
        Pictures::Splashscreen => PictureSlot::Splashscreen,
    }
}

impl Carrier<'_> {
    /// Reads what the caller's pod shows. `None` if it does not say.
    pub(super) async fn shown_by(&self, from: &Arc<Pod>, pictures: &Pictures, viewer: Option<String>) -> Option<Shown> {
        let viewer = match pictures {
            Pictures::OfItem { .. } => self.viewer(from, viewer).await?,
            Pictures::OfUser(_) | Pictures::Splashscreen => String::new(),
        };
        let shown = contents(self, from, pictures, &viewer).await.ok()??;
        Some(Shown { pictures: pictures.clone(), viewer, wanted: shown.into_iter().flatten().collect() })
    }

    /// Makes a pod show the same.
    pub(super) async fn show(&self, from: &Arc<Pod>, pod: &Arc<Pod>, shown: &Shown, memory: &PoolMemory) -> Outcome {
        let there = match contents(self, pod, &shown.pictures, &shown.viewer).await {
            Ok(Some(there)) => there,
            // The pod has no such item: a library of its own, or a deletion meanwhile.
            Ok(None) => return Outcome::InStep,
            Err(failure) => return Outcome::of(Err(failure)),
        };
        let mut outcome = Outcome::InStep;
        for edit in edits(&shown.wanted, &there, shown.pictures.is_list()) {
            outcome = match edit {
                Edit::Delete(index) => {
                    Outcome::of(self.call(pod, images::delete(&slot(&shown.pictures, index), self.key)).await)
                }
                Edit::Upload(index) => copy(self, from, pod, &slot(&shown.pictures, index), memory).await,
            };
            if !matches!(outcome, Outcome::Done(_)) {
                return outcome;
            }
        }
        outcome
    }
}

async fn copy(
    carrier: &Carrier<'_>,
    from: &Arc<Pod>,
    pod: &Arc<Pod>,
    slot: &PictureSlot,
    memory: &PoolMemory,
) -> Outcome {
    // The semaphore is never closed.
    let _one = memory.picture.acquire().await;
    match carrier.call(from, images::read(slot, carrier.key)).await {
        Ok(Some(picture)) => Outcome::of(carrier.call(pod, images::upload(slot, &picture, carrier.key)).await),
        // It was deleted meanwhile, and that deletion is carried too.
        Ok(None) => Outcome::InStep,
        Err(failure) => Outcome::of(Err(failure)),
    }
}

/// The contents that a pod shows, in its order. `None` without the item. A picture without a
/// file counts only where the pod lists it.
async fn contents(
    carrier: &Carrier<'_>,
    pod: &Arc<Pod>,
    pictures: &Pictures,
    viewer: &str,
) -> Result<Option<Vec<Option<Content>>>, Failure> {
    let count = match pictures {
        Pictures::OfItem { item, kind } => match carrier.call(pod, items::get(item, viewer, carrier.key)).await? {
            Some(item) => items::image_count(&item, kind).min(MOST),
            None => return Ok(None),
        },
        Pictures::OfUser(_) | Pictures::Splashscreen => 1,
    };
    let mut contents = Vec::with_capacity(count);
    for index in 0..count {
        let picture = carrier.call(pod, images::read(&slot(pictures, index), carrier.key)).await?;
        let content = picture.map(|Picture { bytes, .. }| Content::from(Sha256::digest(&bytes)));
        if content.is_some() || matches!(pictures, Pictures::OfItem { .. }) {
            contents.push(content);
        }
    }
    Ok(Some(contents))
}
