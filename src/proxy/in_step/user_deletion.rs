//! A user's deletion: the other pods forget the user's devices first.
//!
//! A pod that has a device of a deleted user in memory answers `/Devices` with 404 until it
//! restarts, and cannot delete that device either. So the deletion of the devices must come before
//! that of the user, and it may come for nothing: if the caller's pod then refuses, the user is
//! signed out on the other pods. jellypin asks first what such a refusal would be for.

use std::sync::Arc;

use futures_util::future::join_all;

use super::{
    carrier::Carrier,
    outcome::{Outcome, PodOutcome, Skip},
};
use crate::{
    jellyfin::client::{
        devices::{self, DeviceRow},
        users::{self, ListedUser},
    },
    pod::Pod,
    sessions::plain_id,
};

impl Carrier<'_> {
    /// Deletes a user's devices on all pods but the caller's. Only for an administrator.
    pub(super) async fn forget_devices(&self, own: &Arc<Pod>, others: &[Arc<Pod>], user: &str) -> Vec<PodOutcome> {
        let user = plain_id(user);
        match self.call(own, users::list(self.key)).await {
            Ok(users) if may_be_deleted(&users, &user) => {}
            // The pod will refuse.
            _ => return Vec::new(),
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

/// Whether the server lets this user go (`UserManager.DeleteUserAsync`): it keeps one user, and one
/// administrator.
fn may_be_deleted(users: &[ListedUser], user: &str) -> bool {
    let is_meant = |listed: &&ListedUser| plain_id(&listed.id) == user;
    let Some(victim) = users.iter().find(is_meant) else { return false };
    let administrators = users.iter().filter(|listed| listed.is_administrator).count();
    users.len() > 1 && (!victim.is_administrator || administrators > 1)
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
    fn only_what_the_server_would_delete_begins() {
        let user = |id: &str, is_administrator| ListedUser { id: id.to_owned(), is_administrator };
        let users = [user("A-1", true), user("b", false), user("c", false)];
        assert!(may_be_deleted(&users, "b"));
        assert!(!may_be_deleted(&users, "a1"), "the only administrator");
        assert!(!may_be_deleted(&users, "x"), "no such user");
        assert!(!may_be_deleted(&[user("b", false)], "b"), "the only user");
        assert!(may_be_deleted(&[user("a", true), user("b", true)], "a"));
    }

    #[test]
    fn a_device_of_two_users_is_left_alone() {
        let row = |device: &str, user: &str| DeviceRow { device: device.to_owned(), user: Some(user.to_owned()) };
        let rows = [row("tv", "B"), row("tv", "c"), row("phone", "b"), row("phone", "b"), row("pc", "c")];
        assert_eq!(devices_of(&rows, "b"), (vec!["phone"], true));
        assert_eq!(devices_of(&rows[2..], "b"), (vec!["phone"], false));
        assert_eq!(devices_of(&rows, "x"), (vec![], false));
    }
}
