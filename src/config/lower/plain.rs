//! What a pool whose pods are not Jellyfin's cannot have, and what only it has.

use crate::{
    config::{
        error::Fault,
        file::{Pool, PoolKind},
        value::{Spanned, Written},
    },
    pod::Check,
};

/// How its pods are looked at. For a pool of the other kind this is no question.
///
/// # Errors
/// A key is of the other kind of pool.
pub(super) fn check(pool: &Pool) -> Result<Check, Fault> {
    let path = pool.health_path.as_ref();
    match (pool.kind.0, path) {
        (PoolKind::Jellyfin, None) => Ok(Check::Jellyfin),
        (PoolKind::Jellyfin, Some(path)) => {
            Err(Fault::new(path.span(), "Jellyfin's own health page is asked; this is for `kind = \"http\"`"))
        }
        (PoolKind::Http, path) => match of_jellyfin(pool) {
            Some(fault) => Err(fault),
            None => Ok(path.map_or(Check::Connection, |path| Check::Path(path.get_ref().0.0.clone()))),
        },
    }
}

/// The first key that only pools of Jellyfin's have.
fn of_jellyfin(pool: &Pool) -> Option<Fault> {
    let fault = |at, key: &str| Fault::new(at, format!("`{key}` is for Jellyfin's pods, and this pool has other ones"));
    let of_pool = [
        pool.base_path.as_ref().map(|value| (value.span(), "base_path")),
        pool.leader_key.as_ref().map(|value| (value.span(), "leader_key")),
        pool.writer.as_ref().map(|value| (value.span(), "writer")),
        pool.database.as_ref().map(|value| (value.span(), "database")),
    ];
    if let Some((at, key)) = of_pool.into_iter().flatten().next() {
        return Some(fault(at, key));
    }
    pool.pods.values().find_map(|spanned: &Spanned<_>| {
        let pod = spanned.get_ref();
        let of_pod = [
            pod.instance_id.as_ref().map(|value: &Spanned<Written<_>>| (value.span(), "instance_id")),
            pod.api_key.as_ref().map(|_| (spanned.span(), "api_key")),
            pod.standby.then(|| (spanned.span(), "standby")),
            pod.wake.as_ref().map(|table| (table.at.clone(), "wake")),
            pod.idle_after.as_ref().map(|value| (value.span(), "idle_after")),
        ];
        of_pod.into_iter().flatten().next().map(|(at, key)| fault(at, key))
    })
}
