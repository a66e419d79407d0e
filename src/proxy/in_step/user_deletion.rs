//! A user's deletion: the other pods forget the user's devices first.
//!
//! A pod that has a device of a deleted user in memory answers `/Devices` with 404 until it
//! restarts, and cannot delete that device either. So jellypin deletes the devices before the user.
//! If the caller's pod then refuses, the user is signed out on the other pods for nothing. To avoid
//! that, jellypin first checks what such a refusal would be for.

use std::sync::Arc;

use futures_util::future::join_all;

use super::{
    carrier::Carrier,
    outcome::{Outcome, PodOutcome, Skip},
};
use crate::{
    jellyfin::client::{
        devices::{self, DeviceRow},
        users,
    },
    pod::Pod,
    sessions::plain_id,
};

impl Carrier<'_> {
    /// Deletes a user's devices on all pods but the caller's. Only for an administrator.
    pub(super) async fn forget_devices(&self, own: &Arc<Pod>, others: &[Arc<Pod>], user: &str) -> Vec<PodOutcome> {
        let user = plain_id(user);
        if !may_be_deleted(self, own, &user).await {
            // The pod will refuse.
            return Vec::new();
        }
        let forgotten = others.iter().map(|pod| async {
            let is_alive = pod.status().is_alive();
            // A pod that is away reads the database when it comes back.
            let outcome = if is_alive { forget(self, pod, &user).await } else { Outcome::Away };
            PodOutcome { pod: pod.clone(), outcome }
        });
        join_all(forgotten).await
    }
}

/// Whether the server lets a user go whom an administrator deletes
/// (`UserManager.DeleteUserAsync`): it keeps one user, and one administrator.
async fn may_be_deleted(carrier: &Carrier<'_>, own: &Arc<Pod>, user: &str) -> bool {
    match carrier.call(own, users::one(user, carrier.key)).await {
        // The list of all users is long, and only an administrator may be the last one.
        Ok(Some(victim)) if victim.is_administrator => {
            let users = carrier.call(own, users::list(carrier.key)).await;
            users.is_ok_and(|users| users.iter().filter(|user| user.is_administrator).count() > 1)
        }
        Ok(Some(_)) => true,
        Ok(None) | Err(_) => false,
    }
}

async fn forget(carrier: &Carrier<'_>, pod: &Arc<Pod>, user: &str) -> Outcome {
    let rows = match carrier.call(pod, devices::list(carrier.key)).await {
        Ok(rows) => rows,
        Err(failure) => return Outcome::of(Err(failure)),
    };
    let (own, is_shared) = devices_of(&rows, user);
    let mut outcome = if is_shared { Outcome::Skipped(Skip::SharedDevice) } else { Outcome::InStep };
    for device in own {
        let call = devices::remove(device).with_token(carrier.key);
        let answered = carrier.call(pod, call).await.map(|response| response.status);
        let this = Outcome::of(answered);
        if !matches!(outcome, Outcome::Skipped(_)) {
            outcome = this;
        }
        if this.is_behind() {
            return this;
        }
    }
    outcome
}

/// The devices that are the user's alone, and whether there are others. A deletion ends all
/// sessions of a device, also those of another user.
fn devices_of<'a>(rows: &'a [DeviceRow], user: &str) -> (Vec<&'a str>, bool) {
    let is_users = |row: &DeviceRow| row.user.as_deref().is_some_and(|of| plain_id(of) == user);
    let is_shared = |device: &str| rows.iter().any(|row| row.device == device && !is_users(row));
    let mut own: Vec<&str> = rows.iter().filter(|row| is_users(row)).map(|row| row.device.as_str()).collect();
    own.sort_unstable();
    own.dedup();
    let all = own.len();
    own.retain(|device| !is_shared(device));
    let some_are_shared = own.len() < all;
    (own, some_are_shared)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_of_two_users_is_left_alone() {
        let row = |device: &str, user: &str| DeviceRow { device: device.to_owned(), user: Some(user.to_owned()) };
        let rows = [row("tv", "B"), row("tv", "c"), row("phone", "b"), row("phone", "b"), row("pc", "c")];
        assert_eq!(devices_of(&rows, "b"), (vec!["phone"], true));
        assert_eq!(devices_of(&rows[2..], "b"), (vec!["phone"], false));
        assert_eq!(devices_of(&rows, "x"), (vec![], false));
    }
}
